"""Starts of the service that are to fail, without a server."""

import importlib
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack import KEPT, READY_SECONDS, ROOT

# An import of the service takes a second, almost all of it for the packages. Each start is forked from a process that
# has imported these. What reads its environment when it is imported is not among them.
_PACKAGES = ["fastapi", "openai", "pydantic_settings", "structlog"]
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(_PACKAGES)


@dataclass(frozen=True)
class Ended:
    """How a start ended."""

    status: int | None
    """The exit status, by which gunicorn's master decides whether to try again."""
    said: str
    """Everything on standard output and standard error."""


def _import_main(environment: Mapping[str, str], output: Path) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    importlib.import_module("service.main")


def start(directory: Path, **environment: str) -> Ended:
    """Import the service as gunicorn's workers do, with these variables, in a new process; return how it ended.

    Args:
        directory: where its output goes.
        environment: its variables, beside those that each service under test inherits.
    """
    given = {name: os.environ[name] for name in KEPT if name in os.environ} | environment
    output = directory / "output"
    process = _FORKING.Process(target=_import_main, args=(given, output))
    process.start()
    process.join(READY_SECONDS)
    status = process.exitcode
    process.kill()
    return Ended(status, output.read_text())
