"""A gunicorn worker of the service whose start a test controls.

The file that TRIAL_GATE names decides at the moment a worker imports the application: while it says `shut` the worker
waits, if it says `broken` the import fails, and if there is none the worker starts as always.
"""

import importlib.abc
import os
import sys
import time
from pathlib import Path

from service.worker import FolyamWorker

GATE = "TRIAL_GATE"
"""Environment variable: the path of the file."""
POLL_SECONDS = 0.01


class Gate(importlib.abc.MetaPathFinder):
    """An import hook that can wait or fail, and finds no module."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def find_spec(self, name: str, *_: object) -> None:
        """Wait or fail at the application's import; return None, so that other finders find it."""
        if name != "service.main":
            return
        self._gate.with_name(f"{self._gate.name}-{os.getpid()}").touch()
        while (said := self._gate.read_text() if self._gate.exists() else "") == "shut":
            time.sleep(POLL_SECONDS)
        if said == "broken":
            raise ImportError("a new version that is broken")


class GatedWorker(FolyamWorker):
    """Stops at the gate before it imports the application."""

    def init_process(self) -> None:
        """Set the gate up, then run the usual initialization."""
        sys.meta_path.insert(0, Gate(Path(os.environ[GATE])))
        super().init_process()
