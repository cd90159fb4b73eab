"""What stays in the directory and for how long."""

import asyncio
import fcntl
import heapq
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.eventlog.base import Retention
from service.eventlog.files.locks import LEASE, is_locked_by_another
from service.eventlog.files.records import last_line
from service.events import Terminal, decode, is_answer_id
from service.telemetry import metrics

STEP = 256
"""Files opened or erased before a pause: some 3 ms of the event loop.

On a busy worker each pause lasts for as long as everything else that waits for the loop. With an eighth of this step, a
new worker's first sweep over 3,000 logs took up to 2.4 s, and orphans that arose meanwhile waited for the next one.
"""
STEP_OF_UNKNOWN = 1024
"""Files whose age and size are asked for before a pause: as long."""
STEP_OF_KNOWN = 4096
"""Files recognised by their names before a pause: as long."""
PAUSE_SECONDS = 0.005
LEFT_OVER_SECONDS = 60.0
"""After this long, a file that is no log (a log whose worker died before it began, a stop that nobody read) goes."""


@dataclass(slots=True)
class Sweep:
    """Sweeps over one directory, remembering which logs were seen to have ended so as not to open them again.

    It goes in small steps on the event loop. In a thread it held up every stream: between two of its steps the thread
    keeps the interpreter for itself, for up to five milliseconds each time a stream's system call lets go of it.
    """

    directory: Path
    retention: Retention
    _ended: dict[str, tuple[float, int]] = field(default_factory=dict)
    """A log's file name: the time it was last written to, and its length."""
    _failure: OSError | None = None
    """The first of the present sweep."""

    async def run(self, on_orphan: Callable[[str], None]) -> None:
        """Tell of each orphan, and erase what has expired, unless another worker is erasing.

        Raises:
            OSError: something could not be read or erased; everything else was.
        """
        self._failure = None
        descriptor = self.open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The other may be new and look at thousands of logs for the first time, or stand still.
            await self._look(on_orphan)
        else:
            answers, size = await self._look(on_orphan)
            answers, size = await self._erase(answers, size)
            disk = os.statvfs(self.directory)
            metrics.log_swept(
                answers, size, disk_free=disk.f_bavail * disk.f_frsize, disk_size=disk.f_blocks * disk.f_frsize
            )
        finally:
            os.close(descriptor)
        if self._failure is not None:
            raise self._failure

    def open_lock(self) -> int:
        """Return a descriptor of the file that the erasing worker locks. It is made if it is missing."""
        return os.open(f"{self.directory}/.sweep", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def _look(self, on_orphan: Callable[[str], None]) -> tuple[int, int]:
        """Tell of each orphan as it is found; return the number and bytes of all logs.

        The logs written last are opened first. A killed worker wrote to its answers until it died, so they are found
        within the first steps of a new worker's sweep, too. In the directory's order, behind thousands of ended logs,
        some waited for 4.6 seconds.
        """
        unknown = await self._list()
        answers = len(self._ended) + len(unknown)
        size = sum(length for _, length in self._ended.values())
        heapq.heapify(unknown)  # Sorting them all would be one long step.
        opened = 0
        while unknown:
            opened += 1
            if opened % STEP == 0:
                await asyncio.sleep(PAUSE_SECONDS)
            name = heapq.heappop(unknown)[1]
            state, modified, length = self._look_at(f"{self.directory}/{name}")
            size += length
            if state == "gone":
                answers -= 1
            elif state == "ended":
                self._ended[name] = (modified, length)
            elif state == "orphan":
                on_orphan(name.removesuffix(".jsonl"))
        return answers, size

    async def _list(self) -> list[tuple[float, str]]:
        """Return the logs that are not known to have ended: minus the time of the last write, and the name."""
        known, self._ended = self._ended, {}
        unknown: list[tuple[float, str]] = []
        work = 0.0
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if work >= 1:
                    work = 0.0
                    await asyncio.sleep(PAUSE_SECONDS)
                if seen := known.get(entry.name):
                    # It changes no more. With thousands of them, a second look at each would cost more than streaming.
                    self._ended[entry.name] = seen
                    work += 1 / STEP_OF_KNOWN
                    continue
                work += 1 / STEP_OF_UNKNOWN
                name, _, kind = entry.name.partition(".")
                if not is_answer_id(name):
                    continue
                try:
                    modified = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._failed(error)
                    continue
                if kind == "jsonl":
                    unknown.append((-modified, entry.name))
                elif time.time() - modified > LEFT_OVER_SECONDS:
                    work += 1 / STEP
                    # Not a log that is just being begun, however old a clock that was set makes it look.
                    if self._look_at(entry.path)[0] in ("ended", "orphan"):
                        self._unlink(entry.path)
        return unknown

    async def _erase(self, answers: int, size: int) -> tuple[int, int]:
        """Erase what has expired; return the number and bytes of what is left."""
        before = time.time() - self.retention.seconds
        crowded = answers > self.retention.answers or size > self.retention.bytes
        oldest = min(self._ended.values(), default=(before, 0))
        if not crowded and oldest[0] >= before:
            return answers, size
        for number, (name, (modified, length)) in enumerate(sorted(self._ended.items(), key=lambda item: item[1])):
            if modified >= before and answers <= self.retention.answers and size <= self.retention.bytes:
                break
            if number % STEP == STEP - 1:
                await asyncio.sleep(PAUSE_SECONDS)
            self._unlink(f"{self.directory}/{name}")
            del self._ended[name]
            answers -= 1
            size -= length
        return answers, size

    def _look_at(self, path: str) -> tuple[str, float, int]:
        """Return `running`, `ended`, `orphan`, `gone` or `unreadable`; the time of the last write; and the size."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return "gone", 0.0, 0
        except OSError as error:
            self._failed(error)
            return "unreadable", 0.0, 0
        try:
            running = is_locked_by_another(descriptor, LEASE)
            # Only now: the lock's last holder may have written the end just before it let go.
            stat = os.fstat(descriptor)
            return "running" if running else _unheld(descriptor), stat.st_mtime, stat.st_size
        except OSError as error:
            self._failed(error)
            return "unreadable", 0.0, 0
        finally:
            os.close(descriptor)

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)  # noqa: PTH108 (a path for each of thousands of names costs more than this does)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        # One file that cannot be read or erased must not keep the sweep from the others.
        if self._failure is None:
            self._failure = error


def _unheld(descriptor: int) -> str:
    line, _ = last_line(descriptor)
    try:
        event = decode(line)
    except ValueError:
        return "ended"  # Unreadable: it can neither be taken over nor be sent.
    return "ended" if isinstance(event, Terminal) else "orphan"
