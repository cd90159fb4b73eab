"""The backends of the suites, with their abilities, which decide which tests run on them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.eventlog import BACKENDS, Backend

MEMORY = Backend("tests.eventlog.memory", re.compile(r"memory://.+"), "memory://<name>")
BACKENDS_OF_TESTS = {**BACKENDS, "memory": MEMORY}


@dataclass(frozen=True)
class Tested:
    """A backend and its abilities."""

    name: str
    url: Callable[[Path], str]
    """The URL of a log that holds nothing yet, by a directory of its own."""
    shared: bool
    """Whether two processes can share a log. Tests that need `another` worker are left out where they cannot."""


TESTED = (
    Tested("file", lambda directory: f"file://{directory}/answers", shared=True),
    Tested("memory", lambda directory: f"memory://{directory}", shared=False),
)


def can_run(item: pytest.Item) -> bool:
    """Return whether the test's backend can do what the test needs."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    backend = parameters.get("backend")
    return backend is None or backend.shared or "another" not in getattr(item, "fixturenames", ())
