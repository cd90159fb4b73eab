"""The producer's claim on a log's file."""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from service.eventlog.base import Claims, LeaseLostError
from service.eventlog.channel import Channel
from service.eventlog.files import claims, stops, unwatched
from service.eventlog.files.failures import as_unavailable, unavailable
from service.eventlog.files.inotify import Wakeups
from service.eventlog.files.locks import WATCH, is_locked_by_another
from service.events import Event, StoppedBy, encode_lines


class FileLease:
    """An exclusive kernel lock on a log's file. See `service.eventlog.base.Lease`.

    The lock belongs to the open file, so it is lost only with the descriptor, which `release` and the log's `aclose`
    close. A file that is erased stays this lease's, and nobody can claim what has no name. A file put in its place by
    hand is another log, which another worker may claim: against that a kernel's lock is no help.
    """

    def __init__(
        self,
        channel: "Channel[FileLease]",
        wakeups: Wakeups,
        path: str,
        descriptor: int,
        *,
        last_seq: int,
        size: int,
        counted: Claims,
    ) -> None:
        """`path` is the log's without its ending, `size` its length in bytes."""
        self.answer_id = channel.answer_id
        self.last_seq = last_seq
        self.size = size
        self.claims = counted
        self.unwatched_seconds_left: float | None = None
        self.on_change: Callable[[], None] | None = None
        self._channel = channel
        self._wakeups = wakeups
        self._descriptor = descriptor
        self._stop_path = f"{path}.stop"
        self._claims_path = f"{path}.claims"
        self._unwatched_path = f"{path}.unwatched"
        self._torn = False  # Whether a part of a line is behind the last whole one, and could not be cut off yet.
        self._look_for_stop = True  # One may have been asked for before the answer was claimed.
        channel.hold(self, size, last_seq)

    async def append(self, events: Sequence[Event]) -> None:
        data = encode_lines(events)
        try:
            if self._torn:
                self._cut()
            written = os.write(self._descriptor, data)
        except OSError as error:
            if self._descriptor < 0:  # Asked only here, so that no chunk pays for it.
                raise LeaseLostError from error
            raise unavailable(error) from error
        if written != len(data):
            self._wrote_in_part(data[:written])
        self.last_seq += len(events)
        self.size += written
        self._channel.appended(events, self.size, self.last_seq)

    def _wrote_in_part(self, data: bytes) -> NoReturn:
        # The disk filled up in the middle. Whole lines may have been sent to somebody already, so they stay.
        self._torn = True
        self.last_seq += data.count(b"\n")
        self.size += data.rfind(b"\n") + 1
        self._channel.appended_in_part(self.size, self.last_seq)
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
        if self._channel.watched():
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
        self._look_for_stop = not self._wakeups.working
        return by

    def stop_written(self) -> None:
        """Look for a stop, of whose file the kernel has told."""
        self._look_for_stop = True
        self._channel.changed()

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)  # and with it the lock
            self._descriptor = -1
            self._channel.release(self)

    def hand_over(self) -> None:
        if self.claims.total and self._descriptor >= 0:
            with contextlib.suppress(OSError):
                Path(self._claims_path).unlink()
        self.release()
