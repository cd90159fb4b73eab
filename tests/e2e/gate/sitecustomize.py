"""Control the start of the service's workers. Python runs this file if PYTHONPATH has its directory.

The file that TRIAL_GATE names decides at the moment a worker imports the application: while it says `shut` the worker
waits, if it says `broken` the import fails, and if there is none the worker starts as always.
"""

import importlib.abc
import os
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.01

_gate = Path(os.environ["TRIAL_GATE"])


class Gate(importlib.abc.MetaPathFinder):
    """An import hook that can wait or fail, and finds no module."""

    def find_spec(self, name: str, *_: object) -> None:
        """Wait or fail at the application's import; return None, so that other finders find it."""
        if name != "service.main":
            return
        _gate.with_name(f"{_gate.name}-{os.getpid()}").touch()
        while (said := _gate.read_text() if _gate.exists() else "") == "shut":
            time.sleep(POLL_SECONDS)
        if said == "broken":
            raise ImportError("a new version that is broken")


sys.meta_path.insert(0, Gate())
