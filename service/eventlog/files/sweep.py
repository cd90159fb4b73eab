"""Find orphans, and erase expired logs and left-over files."""

import fcntl
import os
from collections.abc import Callable

from service.eventlog.base import Retention
from service.eventlog.files.inventory import Inventory
from service.eventlog.files.retention import Eraser
from service.eventlog.files.steps import Steps
from service.telemetry import metrics


class Sweep:
    """Sweeps over one directory: every worker finds orphans, and one of all workers erases.

    That worker holds a lock until it leaves or dies. Then the next one that asks has it.
    """

    def __init__(self, directory: str, retention: Retention, catch_up: Callable[[], bool]) -> None:
        """`catch_up` handles the kernel's notifications so far, and returns whether it sends any."""
        self._directory = directory
        self._failures: list[OSError] = []
        self._lock = -1
        self.inventory = Inventory(directory, catch_up, self._failures.append)
        self._eraser = Eraser(directory, self.inventory, retention, self._failures.append)

    async def run(self, on_orphan: Callable[[str], None]) -> None:
        """Call `on_orphan` for each orphan. Erase expired answers, unless another worker does so.

        Raises:
            OSError: a file could not be read or erased. All others were.
        """
        self._failures.clear()
        try:
            await self._run(on_orphan)
        except OSError:
            # The directory may be away for a while, and its logs were taken for erased ones.
            self.inventory.list_soon()
            raise
        if self._failures:
            raise self._failures[0]

    def check(self) -> None:
        """Open the lock's file for writing.

        Raises:
            OSError: that failed.
        """
        os.close(self._open_lock(os.O_RDWR))

    def close(self) -> None:
        """Leave the erasing to another worker."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _run(self, on_orphan: Callable[[str], None]) -> None:
        steps = Steps()
        await self.inventory.look(on_orphan, steps)
        erases = self._is_elected()
        if erases:
            await self._eraser.run(steps)
        if erases or self.inventory.is_listed:
            self._tell()

    def _is_elected(self) -> bool:
        if self._lock >= 0:
            return True
        # Not for writing: the disk of a file that is open for writing cannot be made read-only.
        descriptor = self._open_lock(os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        self._lock = descriptor
        return True

    def _open_lock(self, mode: int) -> int:
        return os.open(f"{self._directory}/.sweep", mode | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _tell(self) -> None:
        disk = os.statvfs(self._directory)
        metrics.log_swept(self.inventory.answers, self.inventory.bytes)
        metrics.disk(free=disk.f_bavail * disk.f_frsize, size=disk.f_blocks * disk.f_frsize)
