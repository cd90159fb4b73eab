"""Workers of the service for the harness: with a clock that jumps, or with a deliberate defect."""

import asyncio
import os
import time
from pathlib import Path

from service.worker import FolyamWorker

CLOCK = "FOLYAM_TEST_CLOCK"
"""Environment variable: the path of the file with the offset of the workers' wall clock in seconds."""
SABOTAGE = "FOLYAM_TEST_SABOTAGE"
"""Environment variable: the defect, one of `tests.faults.sabotage.SABOTAGES`."""

MOVES = "moves"
"""The file, in the harness's directory, to which the workers write each move of each producer."""

TELL_SECONDS = 0.1


class HarnessWorker(FolyamWorker):
    """A worker with a wall clock that jumps. It keeps reporting its number of tasks.

    The kernel's clock, which dates files, is unchanged.
    """

    def init_process(self) -> None:
        """Set the clock, then run the usual initialization."""
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
            os.write(
                descriptor, f"{self.answer_id}\t{source}\t{cause}\t{self._state}\t{os.getpid()}.{id(self)}\n".encode()
            )

    Producer._move = recorded  # type: ignore[method-assign]


class SabotagedWorker(HarnessWorker):
    """A worker with a defect, which is added before the application is created."""

    def init_process(self) -> None:
        """Add the defect, then run the usual initialization."""
        # Not sooner: the master imports this module, and must not import the service.
        from tests.faults import sabotage  # noqa: PLC0415
        from tests.faults.hosts import sabotage as of_hosts  # noqa: PLC0415

        (sabotage.SABOTAGES | of_hosts.SABOTAGES)[os.environ[SABOTAGE]]()
        super().init_process()
