"""A reader's place in a log's file."""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.eventlog.base import DamagedLogError
from service.eventlog.files.failures import as_unavailable, unavailable
from service.eventlog.files.locks import LEASE, WATCH, is_locked_by_another, lock
from service.eventlog.files.logfile import decode_lines, first_event
from service.events import Event, Start

if TYPE_CHECKING:
    from service.eventlog.files.log import FileEventLog

READ_BYTES = 1 << 14
"""How much a reader takes at once, and so about what a slow follower costs in memory."""
POLL_SECONDS = 0.05
"""How often a reader looks by itself where the kernel cannot wake it."""


class FileReader:
    """An offset in a log's file. See `service.eventlog.base.Reader`."""

    def __init__(
        self,
        log: "FileEventLog",
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
