"""The event log as files: `<directory>/<answer id>.jsonl`, one event a line, readable with `cat` and `jq`.

It works across the workers of one machine, and across containers that share a volume on it, with no server. Writing a
line to the page cache takes about two microseconds, and reading it back less, so neither leaves the event loop.
A line survives the death of every process; it does not survive the machine's (nothing is fsync'ed).
"""

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from service.errors import UnknownAnswer
from service.eventlog.base import Claims, DamagedLogError
from service.eventlog.files import claims, stops, unwatched
from service.eventlog.files.directory import make_private
from service.eventlog.files.failures import as_unavailable, unavailable
from service.eventlog.files.inotify import Wakeups
from service.eventlog.files.locks import LEASE, WATCH, is_locked_by_another, lock
from service.eventlog.files.logfile import begin, decode_lines, first_event, last_whole_event, place
from service.eventlog.files.sweep import Retention, Sweep
from service.events import Event, Start, StoppedBy, Terminal, encode_lines

READ_BYTES = 1 << 14
"""How much a reader takes at once, and so about what a slow follower costs in memory."""
POLL_SECONDS = 0.05
"""How often a reader looks by itself where the kernel cannot wake it."""


class FileEventLog:
    """All the logs of one directory. See `service.eventlog.base.EventLog`."""

    def __init__(self, directory: str, retention: Retention) -> None:
        self._directory = Path(directory)
        self._name = str(self._directory)
        with as_unavailable():
            make_private(self._directory)
            # Held open so that no directory that replaces it can have its inode's number.
            self._opened = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.leases: dict[str, FileLease] = {}
        self.readers: dict[str, set[FileReader]] = {}
        self._sweep = Sweep(self._directory, retention)
        self.wakeups = Wakeups(
            self._directory, on_log=self._wake, on_stop=self._stop_written, on_overflow=self._wake_all
        )

    async def create(self, start: Start) -> "FileLease":
        with as_unavailable():
            descriptor = begin(self.name(start.answer), self.name(start.answer, "new"), encode_lines([start]))
            return self._hold(start.answer, descriptor, start.seq, Claims())

    async def claim(self, answer_id: str) -> "FileLease | None":
        with as_unavailable():
            try:
                descriptor = os.open(self.name(answer_id), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            held = False
            try:
                if not lock(descriptor, LEASE, fcntl.F_WRLCK):
                    return None
                event, end = last_whole_event(descriptor)
                stat = os.fstat(descriptor)
                if event is None or isinstance(event, Terminal) or not stat.st_nlink:
                    return None
                # What follows the last whole line was torn when its writer died, and was not sent to a follower.
                os.ftruncate(descriptor, end)
                left = unwatched.left(self.name(answer_id, "unwatched"), stat.st_mtime)
                counted = claims.count(self.name(answer_id, "claims"))
                lease = self._hold(answer_id, descriptor, event.seq, counted)
                held = True
            finally:
                if not held:
                    os.close(descriptor)
        lease.unwatched_seconds_left = left
        return lease

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> "FileReader":
        with as_unavailable():
            descriptor = self._open(answer_id)
            try:
                offset, at_end = place(descriptor, after)
                if watch:
                    lock(descriptor, WATCH, fcntl.F_RDLCK)
            except BaseException:
                os.close(descriptor)
                raise
        return FileReader(self, answer_id, descriptor, (after, offset), at_end=at_end, watch=watch)

    async def last(self, answer_id: str) -> Event:
        with as_unavailable():
            descriptor = self._open(answer_id)
            try:
                event, _ = last_whole_event(descriptor)
            finally:
                os.close(descriptor)
        if event is None:
            raise UnknownAnswer
        return event

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        with as_unavailable():
            stops.ask(self.name(answer_id, "stop"), by)

    async def erase(self, answer_id: str) -> None:
        with as_unavailable():
            for kind in ("jsonl", "stop", "claims", "unwatched"):
                self.path(answer_id).with_suffix(f".{kind}").unlink(missing_ok=True)

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        with as_unavailable():
            await self._sweep.run(on_orphan)

    async def check(self) -> None:
        # A file is opened for writing, which a read-only disk refuses, and so does Landlock, of which os.access() knows
        # nothing. Nothing is written: on a full disk, answers can still be read, and expire.
        with as_unavailable():
            os.close(self._sweep.open_lock())
        if self.lost():
            raise unavailable(FileNotFoundError())

    def lost(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._name), os.fstat(self._opened))  # noqa: PTH116 (see `name`)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # unknown

    async def aclose(self) -> None:
        self.wakeups.close()
        for lease in list(self.leases.values()):
            lease.release()
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    def name(self, answer_id: str, kind: str = "jsonl") -> str:
        # Not of pathlib: it would take a tenth of an answer's set-up.
        return f"{self._name}/{answer_id}.{kind}"

    def path(self, answer_id: str) -> Path:
        return Path(self.name(answer_id))

    def _open(self, answer_id: str) -> int:
        try:
            return os.open(self.name(answer_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UnknownAnswer from None

    def _hold(self, answer_id: str, descriptor: int, last_seq: int, counted: Claims) -> "FileLease":
        lease = self.leases[answer_id] = FileLease(self, answer_id, descriptor, last_seq, counted)
        return lease

    def _wake(self, answer_id: str) -> None:
        for reader in self.readers.get(answer_id, ()):
            reader.wake()

    def _wake_all(self) -> None:
        for answer_id in list(self.readers):
            self._wake(answer_id)
        for lease in list(self.leases.values()):
            lease.stop_written()

    def _stop_written(self, answer_id: str) -> None:
        if lease := self.leases.get(answer_id):
            lease.stop_written()


class FileLease:
    """An exclusive kernel lock on a log's file. See `service.eventlog.base.Lease`."""

    def __init__(self, log: FileEventLog, answer_id: str, descriptor: int, last_seq: int, counted: Claims) -> None:
        self.answer_id = answer_id
        self.last_seq = last_seq
        self.size = os.fstat(descriptor).st_size
        self.claims = counted
        self.unwatched_seconds_left: float | None = None
        self.tail: Sequence[Event] = ()
        self.tail_at = -1
        self.on_change: Callable[[], None] | None = None
        self._log = log
        self._descriptor = descriptor
        self._readers = log.readers.setdefault(answer_id, set())
        self._stop_path = log.name(answer_id, "stop")
        self._claims_path = log.name(answer_id, "claims")
        self._unwatched_path = log.name(answer_id, "unwatched")
        self._torn = False  # Whether a part of a line is behind the last whole one, and could not be cut off yet.
        self._look_for_stop = True  # One may have been asked for before the answer was claimed.

    async def append(self, events: Sequence[Event]) -> None:
        data = encode_lines(events)
        try:
            if self._torn:
                self._cut()
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise unavailable(error) from error
        whole = written == len(data)
        if not whole:
            # The disk filled up in the middle. Whole lines may have been sent to somebody already, so they stay.
            data = data[: data.rfind(b"\n", 0, written) + 1]
            self._torn = True
        self.last_seq += len(events) if whole else data.count(b"\n")
        self.tail_at, self.tail = (self.size, events) if whole else (-1, ())
        self.size += len(data)
        for reader in self._readers:
            reader.wake()
        if not whole:
            with as_unavailable():
                self._cut()
            raise unavailable(OSError(errno.ENOSPC, ""))

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self.size)
        self._torn = False

    def grew(self) -> None:
        if self.claims.total:
            claims.grew(self._claims_path, self.claims.total)

    def watched(self) -> bool:
        if any(reader.watches for reader in self._readers):
            return True
        with as_unavailable():
            return is_locked_by_another(self._descriptor, WATCH)

    def mark_unwatched(self, seconds: float) -> None:
        unwatched.mark(self._unwatched_path, seconds)

    def clear_unwatched(self) -> None:
        unwatched.clear(self._unwatched_path)

    def stop_requested(self) -> StoppedBy | None:
        # Asked of each running answer four times a second. The kernel is asked only where it does not tell by itself.
        if not self._look_for_stop:
            return None
        with as_unavailable():
            by = stops.take(self._stop_path)
        self._look_for_stop = not self._log.wakeups.working
        return by

    def stop_written(self) -> None:
        self._look_for_stop = True
        self.changed()

    def changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)  # and with it the lock
            self._descriptor = -1
            del self._log.leases[self.answer_id]
            for reader in self._readers:
                reader.wake()
            if not self._readers:
                self._log.readers.pop(self.answer_id, None)

    def hand_over(self) -> None:
        if self.claims.total:
            with contextlib.suppress(OSError):
                Path(self._claims_path).unlink()
        self.release()


class FileReader:
    """An offset in a log's file. See `service.eventlog.base.Reader`."""

    def __init__(
        self,
        log: FileEventLog,
        answer_id: str,
        descriptor: int,
        place: tuple[int, int],
        *,
        at_end: bool,
        watch: bool,
    ) -> None:
        self.answer_id = answer_id
        self.at_end = at_end
        self.watches = watch
        self._log = log
        self._descriptor = descriptor
        self._seq, self._offset = place
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's handles for less than half a millisecond have no `when()`.
        self._wake_at = 0.0
        self._notified = False
        log.readers.setdefault(answer_id, set()).add(self)
        if watch:
            self._watch_changed()

    async def start(self) -> Start:
        with as_unavailable():
            return first_event(self._descriptor)

    def watch(self) -> None:
        if not self.watches:
            with as_unavailable():
                lock(self._descriptor, WATCH, fcntl.F_RDLCK)
            self.watches = True
            self._watch_changed()

    def _watch_changed(self) -> None:
        if lease := self._log.leases.get(self.answer_id):
            lease.changed()

    async def read(self) -> Sequence[Event]:
        lease = self._log.leases.get(self.answer_id)
        if lease is not None:
            # The producer is on this worker. It knows how long the log is, and what it wrote last: both save a system
            # call for each chunk of each follower that keeps up.
            if self._offset == lease.tail_at:
                self._offset = lease.size
                self._seq = lease.last_seq
                return lease.tail
            if self._offset >= lease.size:
                return ()
        reach = READ_BYTES
        try:
            while True:
                block = os.pread(self._descriptor, reach, self._offset)
                if len(block) == reach:
                    # There is more behind it, and no wait on the way to the network either while its buffers take it:
                    # without a pause, one long replay would hold up every other stream of the worker.
                    await asyncio.sleep(0)
                end = block.rfind(b"\n") + 1
                if end:
                    self._offset += end
                    return self._in_order(decode_lines(block[:end]))
                if len(block) < reach:
                    if os.fstat(self._descriptor).st_size < self._offset:
                        raise DamagedLogError  # It was cut: what was read is gone, and more never comes.
                    return ()
                reach *= 8  # One event longer than a read: a start with a long request, say.
        except OSError as error:
            raise unavailable(error) from error

    def _in_order(self, events: Sequence[Event]) -> Sequence[Event]:
        if events[0].seq != self._seq + 1:
            raise DamagedLogError  # Somebody cut it, and its producer wrote on.
        self._seq = events[-1].seq
        return events

    async def wait(self, seconds: float) -> None:
        if not self._notified and self.answer_id not in self._log.leases:
            # Another worker writes this log. Having asked the kernel to tell of its writes, look once more for one
            # that came before the asking.
            self._notified = self._log.wakeups.watch(self.answer_id, self._log.name(self.answer_id))
            with as_unavailable():
                if os.fstat(self._descriptor).st_size > self._offset:
                    return
            if not self._notified:
                seconds = min(seconds, POLL_SECONDS)
        self._wake_at = self._loop.time() + seconds
        if self._timer is None or self._wake_at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def orphaned(self) -> bool:
        if self.answer_id in self._log.leases:
            return False
        with as_unavailable():
            return not is_locked_by_another(self._descriptor, LEASE)

    def close(self) -> None:
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._timer is not None:
            self._timer.cancel()
        log = self._log
        if self._notified:
            log.wakeups.unwatch(self.answer_id)
        readers = log.readers[self.answer_id]
        readers.discard(self)
        lease = log.leases.get(self.answer_id)
        if lease is None:
            if not readers:
                del log.readers[self.answer_id]
        elif self.watches:
            lease.changed()

    def wake(self) -> None:
        """End the wait, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _time_out(self) -> None:
        # A timer for each wait would cost as much as the wait: this one is set once and, when it fires too early,
        # set again for when it is wanted.
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._wake_at:
            self._set_timer()
        else:
            self.wake()

    def _set_timer(self) -> None:
        self._timer_at = self._wake_at
        self._timer = self._loop.call_at(self._timer_at, self._time_out)
