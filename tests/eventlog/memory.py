"""An event log in this process's memory, for tests: `memory://<name>`. Logs with the same URL share their answers.

It shows the part of a backend beside `service.eventlog.channel`. Like a log on a server it may forget what was written,
so each claim has a number of its own. It misbehaves on command: see the methods at the end of `MemoryEventLog`.
"""

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from service.errors import Unavailable, UnknownAnswer
from service.eventlog import Claims, DamagedLogError, EventLog, LeaseLostError, NameTakenError, Retention
from service.eventlog.channel import Channel, ChannelReader, Channels
from service.eventlog.completion import completed
from service.eventlog.large import joined, written
from service.events import Event, Start, StoppedBy, Terminal, encode_lines
from service.names import Named, Naming

MAX_READ = 64
"""Number of events that end a read."""


@dataclass(frozen=True)
class Entry:
    """What one append or claim wrote."""

    seq: int
    """The seq of the last event, or the claim's number."""
    events: Sequence[Event] = ()
    """None in a claim."""
    anew: bool = False
    """Whether only readers that have lost their place read it."""


@dataclass
class Stored:
    """One answer's log."""

    entries: list[Entry]
    bytes: int
    written_at: float = field(default_factory=time.monotonic)
    holder: object = None
    """The lease; None for an orphan."""
    followers: set[object] = field(default_factory=set)
    listeners: list[Callable[[], None]] = field(default_factory=list)
    """Called after an append, and when the holder leaves."""
    stop: StoppedBy | None = None
    anew: bool = False
    """Whether a reader has lost its place since text was last given anew."""
    grown: list[bool] = field(default_factory=list)
    """Whether the answer grew, by claim."""
    unwatched_until: float | None = None

    @property
    def last(self) -> Event:
        return next(entry.events[-1] for entry in reversed(self.entries) if entry.events)

    @property
    def ended(self) -> bool:
        return isinstance(self.last, Terminal)

    def has(self, seq: int) -> bool:
        """Return whether the log has an event of the seq. 0 is the place before the first one."""
        at = bisect_left(self.entries, seq, key=lambda entry: entry.seq)
        return not seq or (at < len(self.entries) and any(event.seq == seq for event in self.entries[at].events))

    def claim(self) -> None:
        """Add a claim's entry. Its number is the time in microseconds, or greater."""
        self.entries.append(Entry(max(time.time_ns() // 1000, self.entries[-1].seq + 1)))

    def tell(self) -> None:
        """Wake the readers of other workers."""
        for wake in list(self.listeners):
            wake()

    def tell_holder(self) -> None:
        """Have the producer look at what is requested of it."""
        if isinstance(self.holder, MemoryLease):
            self.holder.tell()


class Store(dict[str, Stored]):
    """Logs by the answer's id."""

    def __init__(self, logs: Mapping[str, Stored] = MappingProxyType({})) -> None:
        super().__init__(logs)
        self.names: dict[str, dict[str, Named]] = {}
        """By name, then by the answer's id."""
        self.requests: dict[str, bytes] = {}
        """Large requests by the answer's id."""


_STORES: dict[str, Store] = {}
"""Stores by URL."""


def open_event_log(url: str, retention: Retention) -> EventLog:
    return MemoryEventLog(_STORES.setdefault(url, Store()), retention)


def prepare_event_log(_: str) -> list[Path]:
    return []


class MemoryEventLog:
    """One worker's view of a store. See `service.eventlog.base.EventLog`."""

    def __init__(self, store: Store, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self.turns = 0
        """Turns of the event loop that an append takes, as over a network."""
        self.deaf = False
        """Whether this worker hears no news of followers, stops and producers."""
        self.away = False
        """Whether the store cannot be reached."""
        self.full = False
        """Whether the store takes nothing but terminal events."""
        self._channels: Channels[MemoryLease] = Channels()

    async def create(self, start: Start, names: Sequence[Naming] = ()) -> "MemoryLease":
        self._reach()
        self.make_room()
        if any(naming.how == "only" and self._answers(naming.name) for naming in names):
            raise NameTakenError
        start, _, request = written(start)
        if request:
            self._store.requests[start.answer] = request
        for naming in names:
            self._store.names.setdefault(naming.name, {})[start.answer] = Named(start.answer, naming.digest)
        stored = self._store[start.answer] = Stored([Entry(start.seq, [start])], len(encode_lines([start])))
        return MemoryLease(self, self._channels.of(start.answer), stored, Claims())

    async def claim(self, answer_id: str) -> "MemoryLease | None":
        self._reach()
        stored = self._store.get(answer_id)
        if stored is None or stored.holder is not None or stored.ended:
            return None
        stored.claim()
        stored.grown.append(False)
        since = stored.grown[::-1].index(True) if any(stored.grown) else len(stored.grown)
        lease = MemoryLease(self, self._channels.of(answer_id), stored, Claims(len(stored.grown), since))
        if stored.unwatched_until is not None:
            lease.unwatched_seconds_left = max(0.0, stored.unwatched_until - stored.written_at)
        return lease

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> "MemoryReader":
        stored = self._stored(answer_id)
        if stored.ended and not stored.has(after):
            raise DamagedLogError
        return MemoryReader(self, self._channels.of(answer_id), stored, after, watch=watch)

    async def last(self, answer_id: str) -> Event:
        return self._stored(answer_id).last

    async def with_request(self, start: Start) -> Start:
        self._reach()
        return joined(start, self._store.requests.get(start.answer, b"")) if start.request_bytes else start

    async def named(self, name: str) -> Sequence[Named]:
        self._reach()
        return self._answers(name)

    def _answers(self, name: str) -> list[Named]:
        return [named for named in self._store.names.get(name, {}).values() if named.answer in self._store]

    def mark_delivered(self, name: str, answer_id: str) -> None:
        if (named := self._store.names.get(name, {}).get(answer_id)) is not None:
            self._store.names[name][answer_id] = replace(named, delivered=True)

    async def followed(self, answer_id: str) -> bool:
        self._reach()
        return answer_id in self._store and bool(self._store[answer_id].followers)

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        stored = self._stored(answer_id)
        stored.stop = by
        stored.tell_holder()

    async def erase(self, answer_id: str) -> None:
        self._reach()
        self._store.pop(answer_id, None)
        self._store.requests.pop(answer_id, None)

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        self._reach()
        for answer_id, stored in list(self._store.items()):
            if stored.holder is None and not stored.ended:
                on_orphan(answer_id)
        bounds, before = self._retention, time.monotonic() - self._retention.seconds
        ended = [(stored.written_at, answer_id) for answer_id, stored in self._store.items() if stored.ended]
        for written_at, answer_id in sorted(ended):
            size = sum(stored.bytes for stored in self._store.values()) + sum(map(len, self._store.requests.values()))
            if written_at < before or len(self._store) > bounds.answers or size > bounds.bytes:
                await self.erase(answer_id)

    async def check(self) -> None:
        self._reach()

    def lost(self) -> bool:
        return False

    async def aclose(self) -> None:
        for lease in self._channels.leases():
            lease.release()

    def lose(self, answer_id: str, *, tell: bool = False) -> None:
        """Give the lease to a fictitious worker, as when the holder seems dead. The holder is told, or finds out."""
        stored = self._stored(answer_id)
        lease, stored.holder = stored.holder, object()
        if tell and isinstance(lease, MemoryLease):
            lease.lose()

    def forget(self, answer_id: str, entries: int) -> None:
        """Drop the last entries but the start, as a server does that loses acknowledged writes."""
        stored = self._stored(answer_id)
        del stored.entries[max(1, len(stored.entries) - entries) :]
        if channel := self._channels.get(answer_id):
            channel.wake()
        stored.tell()

    def hear(self) -> None:
        """Hear the news that a deaf worker has missed."""
        self.deaf = False
        for lease in self._channels.leases():
            lease.tell()

    def make_room(self) -> None:
        if self.full:
            raise Unavailable("log_full")

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("log_unavailable")

    def _stored(self, answer_id: str) -> Stored:
        self._reach()
        try:
            return self._store[answer_id]
        except KeyError:
            raise UnknownAnswer from None


class MemoryLease:
    """See `service.eventlog.base.Lease`."""

    def __init__(self, log: MemoryEventLog, channel: "Channel[MemoryLease]", stored: Stored, claims: Claims) -> None:
        self.answer_id = channel.answer_id
        self.last_seq = stored.entries[-1].seq
        self.size = stored.bytes
        self.claims = claims
        self.unwatched_seconds_left: float | None = None
        self.on_change: Callable[[], None] | None = None
        self._log = log
        self._channel = channel
        self._stored = stored
        self._kept = stored.entries[-1:]
        """What this lease wrote, to put back what the store forgot."""
        self._heard_of_followers = False
        self._lost = False
        stored.holder = self
        channel.hold(self, self.last_seq, self.last_seq)

    async def append(self, events: Sequence[Event], *, anew: bool = False) -> None:
        if self._log.turns:
            await completed(asyncio.ensure_future(self._append_over_turns(events, anew=anew)))
        else:
            self._append(events, anew=anew)

    def append_now(self, events: Sequence[Event]) -> bool:
        if self._log.turns:
            return False
        self._append(events, anew=False)
        return True

    async def _append_over_turns(self, events: Sequence[Event], *, anew: bool) -> None:
        for _ in range(self._log.turns):
            await asyncio.sleep(0)
        self._append(events, anew=anew)

    def _append(self, events: Sequence[Event], *, anew: bool) -> None:
        self._check()
        if not isinstance(events[-1], Terminal):
            self._log.make_room()
        assert [event.seq for event in events] == list(range(self.last_seq + 1, self.last_seq + 1 + len(events)))
        entry = Entry(events[-1].seq, events, anew)
        self._stored.entries.append(entry)
        self._kept.append(entry)
        self._stored.written_at = time.monotonic()
        self.last_seq = entry.seq
        if anew:
            self._stored.anew = False
            self._channel.appended_in_part(self.last_seq, self.last_seq)  # Its readers differ in what they read.
        else:
            self._stored.bytes += len(encode_lines(events))
            self.size = self._stored.bytes
            self._channel.appended(events, self.last_seq, self.last_seq)
        self._stored.tell()

    def _check(self) -> None:
        """Put back what the store forgot.

        Raises:
            LeaseLostError: the store has another history, or another worker has the lease.
        """
        self._log._reach()
        last = self._stored.entries[-1]
        if self._stored.holder is not self or last not in self._kept:
            self.release()
            self._channel.release(self)
            raise LeaseLostError
        self._stored.entries += self._kept[self._kept.index(last) + 1 :]

    async def renew(self) -> None:
        self._check()
        self._stored.claim()
        self._kept.append(self._stored.entries[-1])
        self.last_seq = self._stored.entries[-1].seq
        self._channel.appended_in_part(self.last_seq, self.last_seq)

    def anew_requested(self) -> bool:
        return self._stored.anew

    def lost(self) -> bool:
        return self._lost

    def lose(self) -> None:
        self._lost = True
        self._channel.release(self)
        self.tell()

    def grew(self) -> None:
        if self._stored.grown:
            self._stored.grown[-1] = True

    def watched(self) -> bool:
        if not self._log.deaf:
            self._heard_of_followers = bool(self._stored.followers)
        return self._heard_of_followers or self._channel.watched()

    async def still_unwatched(self) -> bool:
        self._log._reach()
        return not self._stored.followers

    def mark_unwatched(self, seconds: float) -> None:
        self._stored.unwatched_until = time.monotonic() + seconds

    def clear_unwatched(self) -> None:
        self._stored.unwatched_until = None

    def stop_requested(self) -> StoppedBy | None:
        if self._log.deaf:
            return None
        by, self._stored.stop = self._stored.stop, None
        return by

    def tell(self) -> None:
        if self.on_change is not None and not self._log.deaf:
            self.on_change()

    def release(self) -> None:
        self._lost = True
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

    def __init__(
        self, log: MemoryEventLog, channel: Channel[MemoryLease], stored: Stored, after: int, *, watch: bool
    ) -> None:
        self._log = log
        self._stored = stored
        self._orphaned = False
        self._has_asked = False
        if watch:
            stored.followers.add(self)
        at_end = stored.ended and after == stored.last.seq
        super().__init__(channel, after, after, at_end=at_end, watch=watch)

    async def start(self) -> Start:
        start = self._stored.entries[0].events[0]
        if not isinstance(start, Start):
            raise DamagedLogError
        return start

    async def read(self) -> Sequence[Event]:
        # The store may have forgotten the place, which the channel does not know.
        return await super().read() if self._stored.has(self._seq) else await self._fetch()

    def orphaned(self) -> bool:
        if not self._log.deaf:
            self._orphaned = self._stored.holder is None
        return self._orphaned

    async def _fetch(self) -> Sequence[Event]:
        entries = self._stored.entries
        if not self._stored.has(self._seq):
            return self._anew(entries)
        at = bisect_left(entries, self._place + 1, key=lambda entry: entry.seq)
        events: list[Event] = []
        for entry in entries[at:]:
            rest = [event for event in entry.events if event.seq > self._seq]
            if not entry.anew or len(rest) < len(entry.events):  # or it was placed among them
                events += rest
            self._take(entry)
            if len(events) >= MAX_READ:
                break
        return events

    def _anew(self, entries: Sequence[Entry]) -> Sequence[Event]:
        """Return the first text that was given anew behind the place, which is not in the log."""
        for entry in entries:
            if entry.anew and entry.seq > self._seq:
                self._take(entry)
                return entry.events
        if self._stored.ended:
            raise DamagedLogError
        if not self._has_asked:  # Once: its place may be a number that a client made up.
            self._has_asked = self._stored.anew = True
            self._stored.tell_holder()
        return ()

    def _take(self, entry: Entry) -> None:
        self._place = entry.seq
        if entry.events:
            self._seq = entry.events[-1].seq

    def _listen(self) -> float:
        self._stored.listeners.append(self.wake)
        self._listening = True
        return 0.0 if self._stored.entries[-1].seq > self._place else math.inf

    def _watch(self) -> None:
        self._stored.followers.add(self)

    def _close(self) -> None:
        self._stored.followers.discard(self)
        if self._listening:
            self._stored.listeners.remove(self.wake)
