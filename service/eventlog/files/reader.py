"""A reader's place in a log's file."""

import asyncio
import fcntl
import math
import os
from collections.abc import Sequence

from service.eventlog.base import DamagedLogError
from service.eventlog.channel import Channel, ChannelReader
from service.eventlog.files.failures import as_unavailable, unavailable
from service.eventlog.files.inotify import Wakeups
from service.eventlog.files.lease import FileLease
from service.eventlog.files.locks import LEASE, WATCH, is_locked_by_another, lock
from service.eventlog.files.logfile import decode_lines, first_event
from service.events import Event, Start

READ_BYTES = 1 << 14
"""Bytes read at once: about the memory that a slow follower costs."""
POLL_SECONDS = 0.05
"""Poll interval of a reader that the kernel cannot wake."""


class FileReader(ChannelReader[FileLease]):
    """An offset in a log's file. See `service.eventlog.base.Reader`."""

    def __init__(
        self,
        channel: Channel[FileLease],
        wakeups: Wakeups,
        path: str,
        descriptor: int,
        place: tuple[int, int],
        *,
        at_end: bool,
        watch: bool,
    ) -> None:
        self._wakeups = wakeups
        self._path = path
        self._descriptor = descriptor
        super().__init__(channel, *place, at_end=at_end, watch=watch)

    async def start(self) -> Start:
        with as_unavailable():
            return first_event(self._descriptor)

    async def _fetch(self) -> Sequence[Event]:
        reach = READ_BYTES
        try:
            while True:
                block = os.pread(self._descriptor, reach, self._place)
                if len(block) == reach:
                    # There is more to read. While the network's buffers take it, nothing on the way waits: without a
                    # pause here, one long replay would hold up every other stream of the worker.
                    await asyncio.sleep(0)
                end = block.rfind(b"\n") + 1
                if end:
                    before = self._seq
                    events, self._seq = decode_lines(block[:end], before)
                    self._place += end
                    if len(events) < self._seq - before:
                        self._note_unknown(events, before)
                    if events:
                        return events
                elif len(block) < reach:
                    if os.fstat(self._descriptor).st_size < self._place:
                        raise DamagedLogError  # Truncated below what was read: nothing valid can follow.
                    return ()
                else:
                    reach *= 8  # An event longer than a read: a start with a long request, say.
        except OSError as error:
            raise unavailable(error) from error

    def _note_unknown(self, events: Sequence[Event], before: int) -> None:
        known = {event.seq for event in events}
        self.unknown_seq = max(seq for seq in range(before + 1, self._seq + 1) if seq not in known)

    def orphaned(self) -> bool:
        if self._channel.lease is not None:
            return False
        with as_unavailable():
            return not is_locked_by_another(self._descriptor, LEASE)

    def _listen(self) -> float:
        self._listening = self._wakeups.watch(self.answer_id, self._path)
        if not self._listening:
            # Never 0: a torn line stays until the log is claimed, and the task that claims it must get its turn.
            return POLL_SECONDS
        # A write may have come before the watch was set: look once more.
        with as_unavailable():
            if os.fstat(self._descriptor).st_size > self._place:
                return 0.0
        return math.inf

    def _watch(self) -> None:
        with as_unavailable():
            lock(self._descriptor, WATCH, fcntl.F_RDLCK)

    def _close(self) -> None:
        os.close(self._descriptor)  # and with it the lock
        if self._listening:
            self._wakeups.unwatch(self.answer_id)
