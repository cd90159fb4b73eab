"""The service's worker as the harness wants it: with a clock that jumps, or with one thing in it broken."""

import asyncio
import os
import time
from pathlib import Path

from service.worker import FolyamWorker

CLOCK = "FOLYAM_TEST_CLOCK"
"""Names the file that holds by how many seconds the workers' time of day is off."""
SABOTAGE = "FOLYAM_TEST_SABOTAGE"
"""Names what is broken: one of `tests.faults.sabotage.SABOTAGES`."""

TELL_SECONDS = 0.1


class HarnessWorker(FolyamWorker):
    """Lives by a time of day that jumps, and tells its number of tasks all the time.

    The kernel's time of day, by which files are dated, stays as it is.
    """

    def init_process(self) -> None:
        """Set the clock, then go on as usual."""
        file, true_time = Path(os.environ[CLOCK]), time.time
        time.time = lambda: true_time() + float(file.read_text())
        # Opened before the service gives up the right to write anywhere but its log.
        self._told = os.open(file.with_name(f"tasks-{os.getpid()}"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        super().init_process()

    async def _serve(self) -> None:
        self._tell()
        await super()._serve()

    def _tell(self) -> None:
        os.pwrite(self._told, f"{len(asyncio.all_tasks()):8}".encode(), 0)
        asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)


class SabotagedWorker(FolyamWorker):
    """Breaks it before the application is made."""

    def init_process(self) -> None:
        """Break it, then go on as usual."""
        # Not sooner: the master imports this module, and must not import the service.
        from tests.faults.sabotage import SABOTAGES  # noqa: PLC0415

        SABOTAGES[os.environ[SABOTAGE]]()
        super().init_process()
