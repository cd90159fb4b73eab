"""Starts of the service that are to fail, without a server."""

import importlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.forked import Forked
from tests.e2e.stack import KEPT, READY_SECONDS


@dataclass(frozen=True)
class Ended:
    """How a start ended."""

    status: int | None
    """The exit status, by which gunicorn's master decides whether to try again."""
    said: str
    """Everything on standard output and standard error."""


def _import_main() -> None:
    importlib.import_module("service.main")


def start(directory: Path, **environment: str) -> Ended:
    """Import the service as gunicorn's workers do, with these variables, in a new process; return how it ended.

    Args:
        directory: where its output goes.
        environment: its variables, beside those that each service under test inherits.
    """
    given = {name: os.environ[name] for name in KEPT if name in os.environ} | environment
    output = directory / "output"
    process = Forked(_import_main, environment=given, output=output)
    try:
        status = process.wait(READY_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        status = None
    return Ended(status, output.read_text())
