"""The lease on a log's file."""

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

    The lock belongs to the open file, and is lost only with the descriptor, which `release` and `aclose` close.
    If the file is erased, the lock stays, and without a name the file cannot be claimed. If another file
    is put in its place, that is another log under the same name, which another worker can claim. The lock cannot
    prevent that.
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
        is_new: bool,
    ) -> None:
        """`path` is the log's path without its suffix, `size` its length in bytes."""
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
        self._torn = False  # Whether a partial line at the end could not be cut off yet.
        # One may have been requested before a claim. The id of a new answer is known to no client.
        self._look_for_stop = not (is_new and wakeups.working)
        channel.hold(self, size, last_seq)

    async def append(self, events: Sequence[Event], *, anew: bool = False) -> None:  # noqa: ARG002 (never requested)
        self.append_now(events)

    def append_now(self, events: Sequence[Event]) -> bool:
        data = encode_lines(events)
        try:
            if self._torn:
                self._cut()
            written = os.write(self._descriptor, data)
        except OSError as error:
            if self._descriptor < 0:  # Checked only here, to save the check for each chunk.
                raise LeaseLostError from error
            raise unavailable(error) from error
        if written != len(data):
            self._wrote_in_part(data[:written])
        self.last_seq += len(events)
        self.size += written
        self._channel.appended(events, self.size, self.last_seq)
        return True

    def _wrote_in_part(self, data: bytes) -> NoReturn:
        # The disk filled up. Whole lines stay, because followers may have read them already.
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

    async def renew(self) -> None:
        if self._descriptor < 0:
            raise LeaseLostError

    def anew_requested(self) -> bool:
        return False  # A file forgets nothing.

    def lost(self) -> bool:
        return self._descriptor < 0

    def grew(self) -> None:
        if self.claims.total:
            claims.grew(self._claims_path, self.claims.total)

    def watched(self) -> bool:
        if self._channel.watched():
            return True
        with as_unavailable():
            return is_locked_by_another(self._descriptor, WATCH)

    async def still_unwatched(self) -> bool:
        return not self.watched()

    def mark_unwatched(self, seconds: float) -> None:
        unwatched.mark(self._unwatched_path, seconds)

    def clear_unwatched(self) -> None:
        unwatched.clear(self._unwatched_path)

    def stop_requested(self) -> StoppedBy | None:
        # Called four times a second for each running answer. The file is looked for only after a notification by the
        # kernel, or each time where there are no notifications.
        if not self._look_for_stop:
            return None
        with as_unavailable():
            by = stops.take(self._stop_path)
        self._look_for_stop = not self._wakeups.working
        return by

    def stop_written(self) -> None:
        """Handle a notification by the kernel that a stop's file was written."""
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
