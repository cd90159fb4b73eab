"""The event log as files: `<directory>/<answer id>.jsonl`, one event a line, readable with `cat` and `jq`.

It works for the workers of one machine, and for containers that share a volume on it, without a server. Writing a line
to the page cache takes about two microseconds, and reading it back less, so both are done on the event loop.
A line survives the death of every process, but not a crash of the machine: nothing is fsync'ed.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from service.errors import UnknownAnswer
from service.eventlog.base import Claims, DamagedLogError, Retention
from service.eventlog.channel import Channels
from service.eventlog.files import claims, requests, stops, unwatched
from service.eventlog.files.directory import can_make_private, make_private
from service.eventlog.files.failures import as_unavailable, unavailable
from service.eventlog.files.inotify import Wakeups
from service.eventlog.files.lease import FileLease
from service.eventlog.files.locks import LEASE, WATCH, is_locked_by_another, lock
from service.eventlog.files.logfile import begin, first_event, last_whole_event, place
from service.eventlog.files.names import NameFiles
from service.eventlog.files.reader import FileReader
from service.eventlog.files.sweep import Sweep
from service.eventlog.large import joined, written
from service.events import Event, Start, StoppedBy, Terminal, UnknownEvent
from service.names import Named, Naming


class FileEventLog:
    """The logs in one directory. See `service.eventlog.base.EventLog`."""

    def __init__(self, directory: str, retention: Retention) -> None:
        self._directory = Path(directory)
        self._name = str(self._directory)
        with as_unavailable():
            make_private(self._directory)
            # Held open so that a directory that replaces it cannot get the same inode number.
            self._opened = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._channels: Channels[FileLease] = Channels()
        self.wakeups = Wakeups(
            self._directory,
            on_log=self._wake,
            on_stop=self._stop_written,
            on_file=self._appeared,
            on_overflow=self._wake_all,
        )
        self._names = NameFiles(self._name)
        self._sweep = Sweep(self._name, retention, self.wakeups.catch_up)

    async def create(self, start: Start, names: Sequence[Naming] = ()) -> FileLease:
        start, line, request = written(start)
        with as_unavailable():
            if not names and not request:
                descriptor = begin(self.name(start.answer), self.name(start.answer, "new"), line)
            else:
                descriptor = await self._create(start.answer, names, line, request)
        return self._hold(start.answer, descriptor, last_seq=start.seq, size=len(line), counted=Claims(), is_new=True)

    async def _create(self, answer_id: str, names: Sequence[Naming], line: bytes, request: bytes) -> int:
        beside = self.name(answer_id, "request")
        with contextlib.ExitStack() as undo:
            if request:
                await requests.write(beside, request)
                undo.callback(os.unlink, beside)
            async with self._names.creating(answer_id, names):
                descriptor = begin(self.name(answer_id), self.name(answer_id, "new"), line)
            undo.pop_all()
        return descriptor

    async def with_request(self, start: Start) -> Start:
        if not start.request_bytes:
            return start
        with as_unavailable():
            return joined(start, await requests.read(self.name(start.answer, "request"), start.request_bytes))

    async def claim(self, answer_id: str) -> FileLease | None:
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
                # A partial last line was torn when its writer died. No follower was sent it.
                os.ftruncate(descriptor, end)
                left = unwatched.left(self.name(answer_id, "unwatched"), stat.st_mtime)
                counted = claims.count(self.name(answer_id, "claims"))
                lease = self._hold(answer_id, descriptor, last_seq=event.seq, size=end, counted=counted)
                held = True
            finally:
                if not held:
                    os.close(descriptor)
        lease.unwatched_seconds_left = left
        return lease

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> FileReader:
        with as_unavailable():
            descriptor = self._open(answer_id)
            try:
                # A log that this worker writes has its first event, and has not ended.
                offset, at_end = place(descriptor, after) if after or not self._holds(answer_id) else (0, False)
                if watch:
                    lock(descriptor, WATCH, fcntl.F_RDLCK)
            except BaseException:
                os.close(descriptor)
                raise
        return FileReader(
            self._channels.of(answer_id),
            self.wakeups,
            self.name(answer_id),
            descriptor,
            (after, offset),
            at_end=at_end,
            watch=watch,
        )

    async def last(self, answer_id: str) -> Event | UnknownEvent:
        with as_unavailable():
            descriptor = self._open(answer_id)
            try:
                event, _ = last_whole_event(descriptor)
            finally:
                os.close(descriptor)
        if event is None:
            raise UnknownAnswer
        return event

    async def named(self, name: str) -> Sequence[Named]:
        with as_unavailable():
            return self._names.read(name)

    def mark_delivered(self, name: str, answer_id: str) -> None:
        with contextlib.suppress(OSError):
            self._names.mark_delivered(name, answer_id)

    async def followed(self, answer_id: str) -> bool:
        with as_unavailable():
            try:
                descriptor = self._open(answer_id)
            except UnknownAnswer:
                return False
            try:
                return is_locked_by_another(descriptor, WATCH)
            finally:
                os.close(descriptor)

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        with as_unavailable():
            stops.ask(self.name(answer_id, "stop"), by)

    async def erase(self, answer_id: str) -> None:
        with as_unavailable():
            names = self._names_of(answer_id)
            for kind in ("jsonl", "request", "stop", "claims", "unwatched"):
                self.path(answer_id).with_suffix(f".{kind}").unlink(missing_ok=True)
            for name in names:
                self._names.forget(name, answer_id)

    def _names_of(self, answer_id: str) -> Sequence[str]:
        try:
            descriptor = self._open(answer_id)
        except UnknownAnswer:
            return ()
        try:
            return first_event(descriptor).names
        except DamagedLogError:
            return ()
        finally:
            os.close(descriptor)

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        with as_unavailable():
            await self._sweep.run(on_orphan)

    async def check(self) -> None:
        # Opens a file for writing, which fails on a read-only disk and under Landlock; os.access() does not know of
        # Landlock. Writes nothing: on a full disk, answers can still be read, and expire.
        with as_unavailable():
            self._sweep.check()
        if self._is_replaced():
            raise unavailable(FileNotFoundError())

    def lost(self) -> bool:
        return self._is_replaced() and can_make_private(self._directory)

    def _is_replaced(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._name), os.fstat(self._opened))  # noqa: PTH116 (see `name`)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # unknown

    async def aclose(self) -> None:
        self.wakeups.close()
        self._sweep.close()
        for lease in self._channels.leases():
            lease.release()
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    def name(self, answer_id: str, kind: str = "jsonl") -> str:
        # Not with pathlib, which would take a tenth of the time to begin an answer.
        return f"{self._name}/{answer_id}.{kind}"

    def path(self, answer_id: str) -> Path:
        return Path(self.name(answer_id))

    def _open(self, answer_id: str) -> int:
        try:
            return os.open(self.name(answer_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UnknownAnswer from None

    def _hold(
        self, answer_id: str, descriptor: int, *, last_seq: int, size: int, counted: Claims, is_new: bool = False
    ) -> FileLease:
        return FileLease(
            self._channels.of(answer_id),
            self.wakeups,
            f"{self._name}/{answer_id}",
            descriptor,
            last_seq=last_seq,
            size=size,
            counted=counted,
            is_new=is_new,
        )

    def _holds(self, answer_id: str) -> bool:
        channel = self._channels.get(answer_id)
        return channel is not None and channel.lease is not None

    def _wake(self, answer_id: str) -> None:
        if channel := self._channels.get(answer_id):
            channel.wake()

    def _appeared(self, file_name: str) -> None:
        self._sweep.inventory.appeared(file_name)

    def _wake_all(self) -> None:
        self._sweep.inventory.list_soon()
        for channel in self._channels:
            channel.wake()
        for lease in self._channels.leases():
            lease.stop_written()

    def _stop_written(self, answer_id: str) -> None:
        if (channel := self._channels.get(answer_id)) and channel.lease is not None:
            channel.lease.stop_written()
