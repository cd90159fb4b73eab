"""The service's worker with a clock that jumps, or with one thing in it broken, for gunicorn to start in its place."""

import os
import time
from pathlib import Path

from service.worker import FolyamWorker

CLOCK = "FOLYAM_TEST_CLOCK"
"""Names the file that holds by how many seconds the workers' time of day is off."""
SABOTAGE = "FOLYAM_TEST_SABOTAGE"
"""Names what is broken: one of `tests.faults.sabotage.SABOTAGES`."""


class ClockedWorker(FolyamWorker):
    """Lives by a time of day that jumps. The kernel's own, by which files are dated, stays as it is."""

    def init_process(self) -> None:
        """Set the clock, then go on as usual."""
        file, true_time = Path(os.environ[CLOCK]), time.time
        time.time = lambda: true_time() + float(file.read_text())
        super().init_process()


class SabotagedWorker(FolyamWorker):
    """Breaks it before the application is made."""

    def init_process(self) -> None:
        """Break it, then go on as usual."""
        # Not sooner: the master imports this module, and must not import the service.
        from tests.faults.sabotage import SABOTAGES  # noqa: PLC0415

        SABOTAGES[os.environ[SABOTAGE]]()
        super().init_process()
