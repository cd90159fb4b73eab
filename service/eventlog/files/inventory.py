"""A worker's knowledge of the directory's logs: which have ended, and which are orphans."""

import asyncio
import contextlib
import heapq
import os
import time
from collections.abc import Callable

import msgspec

from service.eventlog.files.locks import LEASE, is_locked_by_another
from service.eventlog.files.logfile import last_whole_event
from service.eventlog.files.names import SUFFIX as NAME
from service.eventlog.files.names import is_name
from service.eventlog.files.steps import STEP, STEP_OF_KNOWN, STEP_OF_UNKNOWN, Steps
from service.events import Terminal, is_answer_id

LIST_SECONDS = 60.0
"""Interval between two listings of the directory, where the kernel tells of each new log.

A listing also finds what the kernel does not tell of: logs that were copied into the directory or erased by another
worker, and left-over files.
"""
LOOK_SECONDS = 1.0
"""Time after which logs that have not ended are looked at again, if a look at thousands of other logs takes longer."""
LEFT_OVER_SECONDS = 60.0
"""Age of a left-over file, which is not a log: an unfinished new log, a stop request that was not read. Also the age at
which a log without an event counts as ended."""


class Ended(msgspec.Struct, frozen=True, order=True, gc=False):
    """A log that has ended. It does not change any more. Of two, the lesser is the older one."""

    written_at: float
    """The time of its last write."""
    size: int


class Inventory:
    """The logs in one directory, as far as this worker knows them.

    A log that has ended is looked at once. The others are looked at each time, because their producer may be dead.
    New logs are known from the kernel's notifications: listing ten thousand names once a second took more than one per
    cent of a core in each worker.
    """

    def __init__(self, directory: str, catch_up: Callable[[], bool], on_error: Callable[[OSError], None]) -> None:
        """`catch_up` handles the kernel's notifications so far, and returns whether it sends any.

        `on_error` is called with the error of a file that cannot be read, which is left out.
        """
        self.ended: dict[str, Ended] = {}
        """By file name."""
        self.ended_bytes = 0
        self.left_over: list[str] = []
        """Paths of left-over files, from the latest listing."""
        self.names: list[tuple[float, str]] = []
        """Names from the latest listing: the time of the last write, and the name."""
        self.is_listed = False
        """Whether the latest look began with a listing."""
        self._directory = directory
        self._catch_up = catch_up
        self._on_error = on_error
        self._unended: dict[str, int] = {}
        """By file name: the size."""
        self._unended_bytes = 0
        self._names_bytes = 0
        self._requests: dict[str, int] = {}
        """Large requests that are kept beside their logs. By answer: the size."""
        self._requests_bytes = 0
        self._found: list[tuple[float, str]] = []
        """A heap of logs that were listed and not looked at yet: the negated time of the last write, and the name."""
        self._list_at = 0.0

    @property
    def answers(self) -> int:
        """The number of logs."""
        return len(self.ended) + len(self._unended) + len(self._found)

    @property
    def bytes(self) -> int:
        """The bytes of all logs that were looked at, of large requests, and of the names that were listed."""
        return self.ended_bytes + self._unended_bytes + self._requests_bytes + self._names_bytes

    def appeared(self, name: str) -> None:
        """Note that a file was moved into the directory under this name."""
        kind = _kind(name)
        if kind == "jsonl":
            self._unended.setdefault(name, 0)
        elif kind == "request":
            with contextlib.suppress(OSError):
                self._add_request(name.removesuffix(".request"), os.stat(f"{self._directory}/{name}").st_size)  # noqa: PTH116 (the path is a string)

    def _add_request(self, answer_id: str, size: int) -> None:
        self._requests_bytes += size - self._requests.get(answer_id, 0)
        self._requests[answer_id] = size

    def forget_request(self, answer_id: str) -> bool:
        """Remove the answer's large request. Return whether there was one."""
        size = self._requests.pop(answer_id, None)
        self._requests_bytes -= size or 0
        return size is not None

    def list_soon(self) -> None:
        """List the directory at the next look: notifications were lost, or logs looked gone that may come back."""
        self._list_at = 0.0

    def forget(self, name: str) -> None:
        """Remove an ended log."""
        if ended := self.ended.pop(name, None):
            self.ended_bytes -= ended.size

    async def look(self, on_orphan: Callable[[str], None], steps: Steps) -> None:
        """Call `on_orphan` for each orphan as it is found.

        Of the logs that were not looked at yet, those written last come first. A killed worker wrote to its answers
        until it died, so even a new worker finds them in its first steps. In the directory's order, behind thousands of
        ended logs, some waited for 4.6 seconds.
        """
        clock = asyncio.get_running_loop().time
        self.is_listed = not self._catch_up() or clock() >= self._list_at
        if self.is_listed:
            await self.list_logs(steps)
        await self._look_at_unended(on_orphan, steps)
        looked_at = clock()
        while self._found:
            self._look_at(heapq.heappop(self._found)[1], on_orphan)
            if steps.full(STEP):
                await steps.pause()
                if clock() - looked_at >= LOOK_SECONDS:
                    # Answers that became orphans meanwhile do not wait for thousands of ended logs.
                    self._catch_up()
                    await self._look_at_unended(on_orphan, steps)
                    looked_at = clock()

    async def list_logs(self, steps: Steps) -> None:
        """Read the directory: find logs that are not known, forget those that are gone, and find left-over files."""
        # Before the listing: if notifications are lost during it, the next look lists again.
        self._list_at = asyncio.get_running_loop().time() + LIST_SECONDS
        listed: dict[str, Ended] = {}
        size = 0
        found: list[tuple[float, str]] = []
        left_over: list[str] = []
        names: list[tuple[float, str]] = []
        self._names_bytes = self._requests_bytes = 0
        self._requests = {}
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if ended := self.ended.get(entry.name):
                        listed[entry.name] = ended
                        size += ended.size
                        full = steps.full(STEP_OF_KNOWN)
                    else:
                        self._sort(entry, found, left_over, names)
                        full = steps.full(STEP_OF_UNKNOWN)
                    if full:
                        await steps.pause()
        except OSError as error:
            self._list_at = 0.0
            self._on_error(error)
            return
        self.ended, self.ended_bytes = listed, size
        self._found, self.left_over, self.names = found, left_over, names

    def _sort(
        self,
        entry: "os.DirEntry[str]",
        found: list[tuple[float, str]],
        left_over: list[str],
        names: list[tuple[float, str]],
    ) -> None:
        kind = NAME if is_name(entry.name) else _kind(entry.name)
        if not kind or entry.name in self._unended:
            return
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._on_error(error)
            return
        if kind == "jsonl":
            heapq.heappush(found, (-stat.st_mtime, entry.name))
        elif kind == NAME:
            names.append((stat.st_mtime, entry.name.removesuffix(f".{NAME}")))
            self._names_bytes += stat.st_size
        elif kind == "request" and os.path.exists(f"{entry.path.removesuffix(kind)}jsonl"):  # noqa: PTH110 (see above)
            self._add_request(entry.name.removesuffix(f".{kind}"), stat.st_size)
        elif is_left_over(stat.st_mtime):
            left_over.append(entry.path)

    async def _look_at_unended(self, on_orphan: Callable[[str], None], steps: Steps) -> None:
        for name in list(self._unended):
            self._look_at(name, on_orphan)
            if steps.full(STEP):
                await steps.pause()

    def _look_at(self, name: str, on_orphan: Callable[[str], None]) -> None:
        try:
            state, seen = look_at(f"{self._directory}/{name}")
        except FileNotFoundError:
            self._forget_unended(name)
            self.forget(name)
            return
        except OSError as error:
            self._unended.setdefault(name, 0)  # It may be readable the next time.
            self._on_error(error)
            return
        self._forget_unended(name)
        self.forget(name)  # Another log may have been moved to the place of one that had ended.
        if state == "ended":
            self.ended[name] = seen
            self.ended_bytes += seen.size
            return
        self._unended[name] = seen.size
        self._unended_bytes += seen.size
        if state == "orphan":
            on_orphan(name.removesuffix(".jsonl"))

    def _forget_unended(self, name: str) -> None:
        self._unended_bytes -= self._unended.pop(name, 0)


def look_at(path: str) -> tuple[str, Ended]:
    """Return `running`, `ended` or `orphan`, and the time of the last write and the size.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        running = is_locked_by_another(descriptor, LEASE)
        # After the lock: its last holder may have written the end just before it released it.
        stat = os.fstat(descriptor)
        if running:
            state = "running"
        else:
            event, _ = last_whole_event(descriptor)
            if event is not None:
                state = "ended" if isinstance(event, Terminal) else "orphan"
            else:
                # It can neither be taken over nor sent, unless its first line is still being copied into the directory.
                state = "ended" if is_left_over(stat.st_mtime) else "running"
        return state, Ended(stat.st_mtime, stat.st_size)
    finally:
        os.close(descriptor)


def is_left_over(written_at: float) -> bool:
    """Return whether a file that is not a log, and was last written to at that time, has been left over."""
    return time.time() - written_at > LEFT_OVER_SECONDS


def _kind(file_name: str) -> str:
    """Return the suffix of a file of an answer; empty for any other file."""
    name, _, kind = file_name.partition(".")
    return kind if is_answer_id(name) else ""
