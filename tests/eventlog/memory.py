"""An event log in this process's memory, for tests: `memory://<name>`. Logs with the same URL share their answers.

It shows the part of a backend beside `service.eventlog.channel`. It misbehaves on command: see `MemoryEventLog.lose`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import UnknownAnswer
from service.eventlog import AheadOfLogError, Claims, DamagedLogError, EventLog, LeaseLostError, Retention
from service.eventlog.channel import Channel, ChannelReader, Channels
from service.events import Event, Start, StoppedBy, Terminal, encode_lines

MAX_READ = 64
"""Limit on the events of one read."""


@dataclass
class Stored:
    """One answer's log."""

    events: list[Event]
    bytes: int
    written_at: float = field(default_factory=time.monotonic)
    holder: object = None
    """The lease; None for an orphan."""
    followers: set[object] = field(default_factory=set)
    listeners: list[Callable[[], None]] = field(default_factory=list)
    """Called after an append, and when the holder leaves."""
    stop: StoppedBy | None = None
    grown: list[bool] = field(default_factory=list)
    """Whether the answer grew, by claim."""
    unwatched_until: float | None = None

    @property
    def ended(self) -> bool:
        return isinstance(self.events[-1], Terminal)

    def tell(self) -> None:
        """Wake the readers of other workers."""
        for wake in list(self.listeners):
            wake()


_STORES: dict[str, dict[str, Stored]] = {}
"""Stores by URL, answers by id."""


def open_event_log(url: str, retention: Retention) -> EventLog:
    return MemoryEventLog(_STORES.setdefault(url, {}), retention)


def prepare_event_log(_: str) -> list[Path]:
    return []


class MemoryEventLog:
    """One worker's view of a store. See `service.eventlog.base.EventLog`."""

    def __init__(self, store: dict[str, Stored], retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self.turns = 0
        """Turns of the event loop that an append takes, as over a network."""
        self._channels: Channels[MemoryLease] = Channels()

    async def create(self, start: Start) -> "MemoryLease":
        stored = self._store[start.answer] = Stored([start], len(encode_lines([start])))
        return MemoryLease(self._channels.of(start.answer), stored, Claims(), self.turns)

    async def claim(self, answer_id: str) -> "MemoryLease | None":
        stored = self._store.get(answer_id)
        if stored is None or stored.holder is not None or stored.ended:
            return None
        stored.grown.append(False)
        since = stored.grown[::-1].index(True) if any(stored.grown) else len(stored.grown)
        lease = MemoryLease(self._channels.of(answer_id), stored, Claims(len(stored.grown), since), self.turns)
        if stored.unwatched_until is not None:
            lease.unwatched_seconds_left = max(0.0, stored.unwatched_until - stored.written_at)
        return lease

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> "MemoryReader":
        stored = self._stored(answer_id)
        last = stored.events[-1].seq
        if after > last and not stored.ended:
            raise AheadOfLogError
        return MemoryReader(self._channels.of(answer_id), stored, after, watch=watch)

    async def last(self, answer_id: str) -> Event:
        return self._stored(answer_id).events[-1]

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        stored = self._stored(answer_id)
        stored.stop = by
        if isinstance(stored.holder, MemoryLease) and stored.holder.on_change is not None:
            stored.holder.on_change()

    async def erase(self, answer_id: str) -> None:
        self._store.pop(answer_id, None)

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        for answer_id, stored in list(self._store.items()):
            if stored.holder is None and not stored.ended:
                on_orphan(answer_id)
        bounds, before = self._retention, time.monotonic() - self._retention.seconds
        ended = [(stored.written_at, answer_id) for answer_id, stored in self._store.items() if stored.ended]
        for written_at, answer_id in sorted(ended):
            size = sum(stored.bytes for stored in self._store.values())
            if written_at < before or len(self._store) > bounds.answers or size > bounds.bytes:
                del self._store[answer_id]

    async def check(self) -> None:
        pass

    def lost(self) -> bool:
        return False

    async def aclose(self) -> None:
        for lease in self._channels.leases():
            lease.release()

    def lose(self, answer_id: str) -> None:
        """Give the lease to a fictitious worker, as a server does when the holder seems dead."""
        self._stored(answer_id).holder = object()

    def _stored(self, answer_id: str) -> Stored:
        try:
            return self._store[answer_id]
        except KeyError:
            raise UnknownAnswer from None


class MemoryLease:
    """See `service.eventlog.base.Lease`."""

    def __init__(self, channel: "Channel[MemoryLease]", stored: Stored, claims: Claims, turns: int) -> None:
        self.answer_id = channel.answer_id
        self.last_seq = stored.events[-1].seq
        self.size = stored.bytes
        self.claims = claims
        self.unwatched_seconds_left: float | None = None
        self.on_change: Callable[[], None] | None = None
        self._turns = turns
        self._channel = channel
        self._stored = stored
        stored.holder = self
        channel.hold(self, self.last_seq, self.last_seq)

    async def append(self, events: Sequence[Event]) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)
        self._append(events)

    def append_now(self, events: Sequence[Event]) -> bool:
        if self._turns:
            return False
        self._append(events)
        return True

    def _append(self, events: Sequence[Event]) -> None:
        if self._stored.holder is not self:
            self._channel.release(self)
            raise LeaseLostError
        self._stored.events += events
        self._stored.bytes += len(encode_lines(events))
        self._stored.written_at = time.monotonic()
        self.last_seq, self.size = events[-1].seq, self._stored.bytes
        self._channel.appended(events, self.last_seq, self.last_seq)
        self._stored.tell()

    def grew(self) -> None:
        if self._stored.grown:
            self._stored.grown[-1] = True

    def watched(self) -> bool:
        return bool(self._stored.followers)

    def mark_unwatched(self, seconds: float) -> None:
        self._stored.unwatched_until = time.monotonic() + seconds

    def clear_unwatched(self) -> None:
        self._stored.unwatched_until = None

    def stop_requested(self) -> StoppedBy | None:
        by, self._stored.stop = self._stored.stop, None
        return by

    def release(self) -> None:
        if self._stored.holder is self:
            self._stored.holder = None
            self._channel.release(self)
            self._stored.tell()

    def hand_over(self) -> None:
        if self._stored.holder is self:
            self._stored.grown.clear()
        self.release()


class MemoryReader(ChannelReader[MemoryLease]):
    """See `service.eventlog.base.Reader`. Its place is the seq."""

    def __init__(self, channel: Channel[MemoryLease], stored: Stored, after: int, *, watch: bool) -> None:
        self._stored = stored
        if watch:
            stored.followers.add(self)
        at_end = stored.ended and after >= stored.events[-1].seq
        super().__init__(channel, after, after, at_end=at_end, watch=watch)

    async def start(self) -> Start:
        start = self._stored.events[0]
        if not isinstance(start, Start):
            raise DamagedLogError
        return start

    def orphaned(self) -> bool:
        return self._stored.holder is None

    async def _fetch(self) -> Sequence[Event]:
        events = self._stored.events[self._seq : self._seq + MAX_READ]
        self._seq += len(events)
        self._place = self._seq
        return events

    def _listen(self) -> float:
        self._stored.listeners.append(self.wake)
        self._listening = True
        return 0.0 if self._stored.events[-1].seq > self._place else math.inf

    def _watch(self) -> None:
        self._stored.followers.add(self)

    def _close(self) -> None:
        self._stored.followers.discard(self)
        if self._listening:
            self._stored.listeners.remove(self.wake)
