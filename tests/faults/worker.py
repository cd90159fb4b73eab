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

MOVES = "moves"
"""The file, in the harness's directory, to which the workers write each move of each producer."""

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
        _record_moves(file.with_name(MOVES))
        super().init_process()

    async def _serve(self) -> None:
        self._tell()
        await super()._serve()

    def _tell(self) -> None:
        os.pwrite(self._told, f"{len(asyncio.all_tasks()):8}".encode(), 0)
        asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)


def _record_moves(file: Path) -> None:
    # Not sooner: the master imports this module, and must not import the service.
    from service.lifecycle import Cause  # noqa: PLC0415
    from service.producer import Producer  # noqa: PLC0415

    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    move = Producer._move

    def recorded(self: Producer, cause: Cause) -> None:
        source = self._state
        try:
            move(self, cause)
        finally:
            os.write(descriptor, f"{self.answer_id}\t{source}\t{cause}\t{self._state}\n".encode())

    Producer._move = recorded  # type: ignore[method-assign]


class SabotagedWorker(HarnessWorker):
    """Breaks it before the application is made."""

    def init_process(self) -> None:
        """Break it, then go on as usual."""
        # Not sooner: the master imports this module, and must not import the service.
        from tests.faults.sabotage import SABOTAGES  # noqa: PLC0415

        SABOTAGES[os.environ[SABOTAGE]]()
        super().init_process()
