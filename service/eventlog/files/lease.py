"""The producer's claim on a log's file."""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.eventlog.base import Claims
from service.eventlog.files import claims, stops, unwatched
from service.eventlog.files.failures import as_unavailable, unavailable
from service.eventlog.files.locks import WATCH, is_locked_by_another
from service.events import Event, StoppedBy, encode_lines

if TYPE_CHECKING:
    from service.eventlog.files.log import FileEventLog


class FileLease:
    """An exclusive kernel lock on a log's file. See `service.eventlog.base.Lease`."""

    def __init__(self, log: "FileEventLog", answer_id: str, descriptor: int, last_seq: int, counted: Claims) -> None:
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
