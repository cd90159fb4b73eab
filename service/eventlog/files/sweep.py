"""Find orphans, and erase expired logs and left-over files."""

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
from service.events import Terminal, decode_any, is_answer_id
from service.telemetry import metrics

STEP = 256
"""Files opened or erased between pauses: some 3 ms of the event loop.

On a busy worker, a pause lasts as long as everything else that waits for the loop. With an eighth of this step, a new
worker's first sweep over 3,000 logs took up to 2.4 s, and orphans that arose meanwhile waited for the next sweep.
"""
STEP_OF_UNKNOWN = 1024
"""Files whose age and size are read between pauses: as long."""
STEP_OF_KNOWN = 4096
"""Files recognised by their names between pauses: as long."""
PAUSE_SECONDS = 0.005
LEFT_OVER_SECONDS = 60.0
"""Age at which a file that is not a log is erased: an unfinished new log, a stop request that was not read."""


@dataclass(slots=True)
class Sweep:
    """Sweeps over one directory. Remembers the logs that have ended, so as not to open them again.

    It runs in small steps on the event loop. In a thread it held up every stream: whenever a stream's system call
    released the interpreter, the thread kept it for up to five milliseconds.
    """

    directory: Path
    retention: Retention
    _ended: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By file name: the time of the log's last write, and its length."""
    _failure: OSError | None = None
    """The first error of the current sweep."""

    async def run(self, on_orphan: Callable[[str], None]) -> None:
        """Call `on_orphan` for each orphan. Erase expired answers, unless another worker is erasing.

        Raises:
            OSError: a file could not be read or erased. All others were.
        """
        self._failure = None
        descriptor = self.open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The other worker may be at its first sweep, over thousands of logs, or hang: find orphans all the same.
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
        """Return a descriptor of the file that the erasing worker locks. It is created if it is missing."""
        return os.open(f"{self.directory}/.sweep", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def _look(self, on_orphan: Callable[[str], None]) -> tuple[int, int]:
        """Call `on_orphan` for each orphan as it is found. Return the number and bytes of all logs.

        The logs written last are opened first. A killed worker wrote to its answers until it died, so even a new
        worker's sweep finds them in its first steps. In the directory's order, behind thousands of ended logs, some
        waited for 4.6 seconds.
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
        """Return the logs not known to have ended: the negated time of the last write, and the name."""
        known, self._ended = self._ended, {}
        unknown: list[tuple[float, str]] = []
        work = 0.0
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if work >= 1:
                    work = 0.0
                    await asyncio.sleep(PAUSE_SECONDS)
                if seen := known.get(entry.name):
                    # It does not change any more. Looking at thousands of them again would cost more than streaming.
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
                    # A log that is being created is locked, and stays, however old a clock that jumped makes it look.
                    if self._look_at(entry.path)[0] in ("ended", "orphan"):
                        self._unlink(entry.path)
        return unknown

    async def _erase(self, answers: int, size: int) -> tuple[int, int]:
        """Erase expired answers. Return the number and bytes of the logs left."""
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
            # After the lock: its last holder may have written the end just before it released it.
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
        # A file that cannot be read or erased must not stop the sweep.
        if self._failure is None:
            self._failure = error


def _unheld(descriptor: int) -> str:
    line, _ = last_line(descriptor)
    try:
        event = decode_any(line)
    except ValueError:
        return "ended"  # Unreadable: it can neither be taken over nor sent.
    return "ended" if isinstance(event, Terminal) else "orphan"
