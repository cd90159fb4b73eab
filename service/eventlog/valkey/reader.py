"""A reader's place in a log. Its place is a seq.

A reader takes entries from the worker's memory if they are there, or else from the server, from its place on and with
the entry of its place. So it finds out if its place is not in the log: the server may have forgotten it.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from service.errors import Unavailable
from service.eventlog.base import DamagedLogError, Push
from service.eventlog.channel import UNKNOWN, ChannelReader
from service.eventlog.valkey.entries import ANEW, EVENTS, Entry, decode_reply
from service.eventlog.valkey.failures import soon, unavailable
from service.eventlog.valkey.lease import ValkeyLease
from service.eventlog.valkey.pipeline import ErrorReply
from service.eventlog.valkey.store import READ_ENTRIES, Store
from service.eventlog.valkey.tail import Tail
from service.events import Event, Start, Terminal

READ_BYTES = 1 << 15
"""Bytes of events that end a read."""
ANSWER_SECONDS = 0.5
"""Longest wait for the server within a read. After that it reads nothing, and the follower sends its heartbeats."""
PUT_BACK_SECONDS = 1.0
"""Time for a living producer to put back what the server forgot, before the text is requested anew."""
LOST_POLL_SECONDS = 0.5
"""Interval at which a reader without a place looks for it, and one without a server for whether that is given up."""
LOST_SECONDS = 30.0
"""Time after which a reader without a place is cut: nobody gives the text anew."""
LOST_PLACE = -2
"""The place of a reader whose place is not in the log: nothing in memory begins there."""


class ValkeyReader(ChannelReader[ValkeyLease]):
    """See `service.eventlog.base.Reader`."""

    def __init__(self, store: Store, tail: Tail, place: int, *, watch: bool, on_close: Callable[[str], None]) -> None:
        self._store = store
        self._tail = tail
        self._on_close = on_close
        self._time = asyncio.get_running_loop().time
        self._entries: list[Entry] = []
        """Entries that were read from the server too early."""
        self._asked: asyncio.Future[Any] | None = None
        self._asked_place = place
        self._lost_at: float | None = None
        super().__init__(tail.channel, place, place, at_end=False, watch=watch)
        tail.join()

    async def find(self) -> None:
        """Look for the reader's place. One that is not in a running answer's log is waited for.

        Raises:
            UnknownAnswer: there is no log.
            DamagedLogError: the place is not in the log, and the answer has ended; or the log cannot be read.
            Unavailable: the log cannot be read.
        """
        place, lease = self._place, self._channel.lease
        if lease is not None and self._tail.chain.behind(place) is not None:
            self.at_end = lease.ended_at is not None and place == lease.last_seq
            return
        # The owner first: where there is none, nothing more can be put back behind what is then read.
        replies = asyncio.gather(self._store.owner(self.answer_id), self._store.entries_from(self.answer_id, place))
        owner, first = await soon(replies)
        entries = decode_reply(first)
        self._tail.told_owner(owner)
        if entries and (not place or entries[0].has(place)):
            self._entries = entries
            self.at_end = ends(entries, place)
            if len(first) < READ_ENTRIES:
                self._tail.reached(entries[-1].seq)
            return
        if not entries:
            await self._store.last_entry(self.answer_id)
        if owner is None:
            raise DamagedLogError
        self._lose_place()

    async def start(self) -> Start:
        kept = self._tail.chain.behind(0) or self._entries[:1]
        if not kept or kept[0].seq != 1:
            log = self._store.keys.log(self.answer_id)
            kept = decode_reply(await soon(self._store.connection.call("XRANGE", log, "-", "+", "COUNT", 1)))
        if not kept or not kept[0].events or not isinstance(kept[0].events[0], Start):
            raise DamagedLogError
        return kept[0].events[0]

    def orphaned(self) -> bool:
        return self._tail.orphaned()

    async def read(self) -> Sequence[Event]:
        """See `service.eventlog.base.Reader.read`.

        Raises:
            Unavailable: the server has been away for long. Those who read an answer of this worker do not ask the
                server before the lease is lost, and would wait as long again: 31 s in all. Those who read another's
                answer hear nothing, and do not ask.
        """
        if self._channel.lease is None and self._store.connection.is_given_up:
            raise Unavailable("log_unavailable")
        return await super().read()

    async def _fetch(self) -> Sequence[Event]:
        while True:
            if self._lost_at is not None and not await self._find_place():
                return ()
            entries: list[Entry] | None
            entries, self._entries = self._entries, []
            if not entries or entries[-1].seq <= self._place:
                # Whether anything follows the last entry in memory, only the server knows.
                entries = self._tail.chain.behind(self._place) or None
            if entries is None:
                reply = await self._ask()
                if reply is None:
                    return ()
                entries = decode_reply(reply)
                if not entries or (self._place and not entries[0].has(self._place)):
                    self._lose_place()
                    continue
                if len(reply) < READ_ENTRIES:
                    self._tail.reached(entries[-1].seq)
            is_at_end = not entries or entries[-1].seq <= self._place
            events = self._take(entries)
            if events or is_at_end:
                return events

    async def _ask(self) -> Any:  # noqa: ANN401 (the reply)
        """Return the entries from the place on; None if the server takes its time. The next call takes the reply.

        Raises:
            Unavailable: the server cannot tell.
        """
        reply = self._asked
        if reply is None or self._asked_place != self._place:
            reply = self._asked = self._store.entries_from(self.answer_id, self._place)
            self._asked_place = self._place
        if not reply.done():
            await asyncio.wait([reply], timeout=ANSWER_SECONDS)
            if not reply.done():
                reply.add_done_callback(lambda _: self.wake())
                return None
        self._asked = None
        try:
            return reply.result()
        except (ErrorReply, Unavailable) as error:
            raise unavailable(error) from error

    def _take(self, entries: list[Entry]) -> Sequence[Event]:
        """Move over the next entries, and return their events that this reader reads. Keep what is too much."""
        taken: list[Event] = []
        size = 0
        index = 0
        for index, entry in enumerate(entries, 1):  # noqa: B007 (used behind the loop)
            if entry.seq <= self._place:
                continue
            is_among = entry.first <= self._place
            if entry.kind != ANEW or is_among:
                taken += [event for event in entry.events if event.seq > self._place] if is_among else entry.events
                self.unknown_seq = entry.unknown_seq or self.unknown_seq
            self._place = self._seq = entry.seq
            size += len(entry.value)
            if size >= READ_BYTES:
                break
        self._entries = entries[index:]
        return taken

    # A place that is not in the log

    def _lose_place(self) -> None:
        self._lost_at = self._time()
        self._entries = []
        self._place = LOST_PLACE

    async def _find_place(self) -> bool:
        """Return whether the reader can go on: its place is back, or the text was given anew behind it.

        Raises:
            DamagedLogError: the answer has ended, or is gone.
        """
        lease = self._store.keys.lease(self.answer_id)
        replies = asyncio.gather(  # in this order: see `find`
            self._store.connection.call("HGET", lease, "owner"),
            self._store.connection.call("HGET", lease, "anew"),
            self._store.entries_from(self.answer_id, self._seq),
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                owner, anew, first = await replies
        except TimeoutError:
            return False
        except (ErrorReply, Unavailable) as error:
            raise unavailable(error) from error
        entries = decode_reply(first)
        if entries and entries[0].has(self._seq):
            self._place, self._lost_at = self._seq, None
            self._entries = entries
            return True
        if owner is None:
            raise DamagedLogError
        self._tail.told_owner(owner)
        if anew is not None and int(anew) > self._seq:
            entries = decode_reply(await self._store.entries_from(self.answer_id, int(anew)))
            if entries and entries[0].kind == ANEW and entries[0].seq == int(anew):
                # Among what was given anew, before its first event.
                self._place = self._seq = entries[0].first - 1
                self._entries, self._lost_at = [replace(entries[0], kind=EVENTS), *entries[1:]], None
                return True
        lost_for = 0.0 if self._lost_at is None else self._time() - self._lost_at
        if lost_for >= LOST_SECONDS:
            raise DamagedLogError
        if lost_for >= PUT_BACK_SECONDS:
            self._tail.request_anew()
        return False

    def wait(self, seconds: float, push: Push | None = None) -> Awaitable[None]:
        if self._lost_at is not None or (self._channel.lease is None and not self._store.connection.connected):
            seconds = min(seconds, LOST_POLL_SECONDS)
        elif self._place < self._channel.end != UNKNOWN:
            seconds = 0.0  # An entry came between the server's reply and this wait.
        return super().wait(seconds, push)

    def _listen(self) -> float:
        self._listening = True  # The tail listens for all readers.
        return math.inf

    def _watch(self) -> None:
        pass  # `watch` calls `update` when it counts as a follower.

    def watch(self) -> None:
        super().watch()
        self._tail.update()

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._tail.leave()
            self._on_close(self.answer_id)

    def _close(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.cancel()


def ends(entries: Sequence[Entry], place: int) -> bool:
    """Return whether the place is behind the terminal event, which these entries end with."""
    if not entries or entries[-1].seq != place or not entries[-1].events:
        return False
    return isinstance(entries[-1].events[-1], Terminal)
