"""The backends of the suites, with their abilities, which decide which tests run on them."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.eventlog import BACKENDS, Backend
from service.events import new_answer_id
from tests.valkey import DEBIANS_REDIS, ValkeyServer

MEMORY = Backend("tests.eventlog.memory", re.compile(r"memory://.+"), "memory://<name>")
BACKENDS_OF_TESTS = {**BACKENDS, "memory": MEMORY}


@dataclass(frozen=True)
class Tested:
    """A backend and its abilities."""

    __test__ = False  # pytest's: its name begins like a test's.

    name: str
    serve: Callable[[Path], AbstractContextManager[Callable[[Path], str]]]
    """Starts what the logs need, in a directory of its own. The result makes the URL of a log that holds nothing yet,
    by a directory of the log's own."""
    shared: bool
    """Whether two processes can share a log. Tests that need `another` worker are left out where they cannot."""
    forgets: bool
    """Whether it may forget what was written. Claims then have numbers, and lost places get the text anew. Tests that
    need a `forgetful_log` are left out where nothing is forgotten."""
    at_once: bool = True
    """Whether an append takes no turn of the event loop. Tests that need an `immediate_log` are left out elsewhere."""
    is_server: bool = False
    """Whether it is a server. Its tests are not among the quick ones."""


@contextmanager
def serve_files(_: Path) -> Iterator[Callable[[Path], str]]:
    yield lambda directory: f"file://{directory}/answers"


@contextmanager
def serve_memory(_: Path) -> Iterator[Callable[[Path], str]]:
    yield lambda directory: f"memory://{directory}"


@contextmanager
def serve_valkey(directory: Path) -> Iterator[Callable[[Path], str]]:
    with ValkeyServer(directory) as server:
        yield lambda _: f"{server.url}?prefix={new_answer_id()}"


@contextmanager
def serve_redis(directory: Path) -> Iterator[Callable[[Path], str]]:
    with ValkeyServer(directory, program=DEBIANS_REDIS) as server:
        yield lambda _: f"{server.url}?prefix={new_answer_id()}"


TESTED = (
    Tested("file", serve_files, shared=True, forgets=False),
    Tested("memory", serve_memory, shared=False, forgets=True),
    Tested("valkey", serve_valkey, shared=True, forgets=True, at_once=False, is_server=True),
)
REDIS = Tested("redis 7.0", serve_redis, shared=True, forgets=True, at_once=False)
"""The oldest server that is supported. Only the contract's suite runs on it, with the tests of Valkey."""


def marks_of(backend: Tested) -> list[pytest.MarkDecorator]:
    """Return the marks of the backend's tests: which part they are in."""
    return [pytest.mark.servers] if backend.is_server else []


def can_run(item: pytest.Item) -> bool:
    """Return whether the test's backend can do what the test needs."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    backend = parameters.get("backend")
    needs = getattr(item, "fixturenames", ())
    return backend is None or (
        (backend.shared or "another" not in needs)
        and (backend.forgets or "forgetful_log" not in needs)
        and (backend.at_once or "immediate_log" not in needs)
    )
