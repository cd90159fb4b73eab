"""What a worker hears of one answer: its last entries, its owner, its followers elsewhere.

another worker produces the answer   a subscription to its channel, shared by this worker's readers
this worker produces it              no subscription: the lease adds what it wrote
"""

import asyncio
from collections.abc import Callable
from typing import Any

from service.eventlog.base import DamagedLogError
from service.eventlog.channel import UNKNOWN, Channel, Channels
from service.eventlog.valkey.entries import CLAIM, EVENTS, Chain, Entry, decode_entry
from service.eventlog.valkey.keys import NOBODY
from service.eventlog.valkey.lease import ValkeyLease
from service.eventlog.valkey.store import Store

SILENT_SECONDS = 1.0
"""Silence after which a worker looks who has an answer that it follows, and whether it missed an entry."""


class Tail:
    """One answer, as this worker hears of it. Exists for as long as the answer's channel."""

    def __init__(self, store: Store, channel: Channel[ValkeyLease]) -> None:
        self.answer_id = channel.answer_id
        self.channel = channel
        self.chain = Chain()
        self.owner: str | None = None
        """The owner of the lease as last heard. None if it is unknown."""
        self.readers = 0
        self._store = store
        self._time = asyncio.get_running_loop().time
        self._heard_at = self._time()
        self._subscribed = False
        self._is_live = False
        self._watches = False

    # Readers and leases of this worker

    def join(self) -> None:
        """Count a reader of this worker."""
        self.readers += 1
        self.update()

    def leave(self) -> None:
        """Drop a reader of this worker."""
        self.readers -= 1
        self.update()

    def hold(self, lease: ValkeyLease) -> None:
        """Note that this worker produces the answer from now on."""
        self.owner = self._store.me
        self.channel.hold(lease, lease.last_seq, lease.last_seq)
        self.update()
        self.channel.wake()

    def release(self, lease: ValkeyLease, owner: str | None) -> None:
        """Note that this worker's lease has ended, and who has the answer now, if that is known."""
        if self.channel.lease is lease:
            self.owner = owner
            self.channel.release(lease)
            self.update()

    def wrote(self, before: int, entry: Entry) -> None:
        """Take in an entry that this worker's lease wrote, and push it to this worker's readers."""
        self.chain.add(before, entry)
        self._show(entry)

    def watched_here(self) -> bool:
        """Return whether this worker has followers."""
        return self.channel.watched()

    def update(self) -> None:
        """Subscribe, and count as a follower for other workers, as far as this worker's readers need it."""
        store, here = self._store, self.channel.lease is not None
        follows = self.readers > 0 and not here
        if follows != self._subscribed:
            self._subscribed = follows
            if follows:
                self._subscribe()
            else:
                self._is_live = False
                store.send(b"SUNSUBSCRIBE", store.keys.channel(self.answer_id))
        watches = not here and self.watched_here()
        if watches != self._watches:
            self._watches = watches
            (store.watch if watches else store.unwatch)(self.answer_id)

    # What is heard

    def _subscribe(self) -> None:
        self._is_live = False
        reply = self._store.connection.call(b"SSUBSCRIBE", self._store.keys.channel(self.answer_id))
        reply.add_done_callback(self._confirmed)

    def _confirmed(self, reply: "asyncio.Future[Any]") -> None:
        if reply.cancelled() or reply.exception() or not self._subscribed or self._is_live:
            return
        # What came before is not known: it has to be read.
        self._is_live = True
        self._heard_at = self._time()
        self.channel.appended_in_part(UNKNOWN, 0)

    def connected(self) -> None:
        """Begin anew on a new connection."""
        if self._subscribed:
            self.chain.clear()  # The server may have forgotten some of it.
            self._subscribe()
            if self._watches:
                self._store.watch(self.answer_id)
            self.ask()

    def pushed(self, message: bytes) -> None:
        """Take in a message of the answer's channel."""
        if not self._subscribed:
            return
        self._is_live = True  # This may come before the turn in which the subscription is confirmed.
        self._heard_at = self._time()
        if message == b"released":
            self.owner = NOBODY
            self.channel.wake()
        elif message == b"erased":
            self.owner = NOBODY
            self.chain.clear()
            self.channel.appended_in_part(UNKNOWN, 0)
        else:
            before, seq, kind, value = message.split(b" ", 3)
            try:
                entry = decode_entry(int(seq), kind, value)
            except DamagedLogError:
                self.channel.appended_in_part(UNKNOWN, 0)  # A reader finds out that it cannot be read.
                return
            if kind == CLAIM:
                self.owner = value.decode()
            self.chain.add(int(before), entry)
            self.channel.end = int(before)
            self._show(entry)

    def reached(self, seq: int) -> None:
        """Note that a reader has read up to the log's last entry."""
        channel = self.channel
        if self._is_live and channel.lease is None and channel.end == UNKNOWN:
            channel.end = channel.last_seq = seq

    def _show(self, entry: Entry) -> None:
        """Push an entry to this worker's readers. Wake them if not all of them read it, or not all of it."""
        if entry.kind == EVENTS and not entry.unknown_seq:
            self.channel.appended(entry.events, entry.seq, entry.seq)
        else:
            self.channel.appended_in_part(entry.seq, entry.seq)

    def request_anew(self) -> None:
        """Request the text anew, for a reader whose place is not in the log."""
        if self.channel.lease is not None:
            self.channel.lease.request_anew()
        elif self.owner is not None and not self.orphaned():
            self._store.send("SPUBLISH", self._store.keys.worker(self.owner), f"anew {self.answer_id}")

    # Who has the answer

    def orphaned(self) -> bool:
        """Return whether the lease is free, as last heard."""
        if self.channel.lease is not None or self.owner is None:
            return False
        return self.owner == NOBODY or self._store.workers.is_dead(self.owner)

    def died(self, workers: set[str]) -> None:
        """Wake the readers if the producer is one of the dead workers."""
        if self.channel.lease is None and self.owner in workers:
            self.channel.wake()

    def ask_if_silent(self) -> None:
        """Ask who has the answer if nothing was heard of it for a while."""
        if self._is_live and self._time() - self._heard_at >= SILENT_SECONDS:
            self.ask()

    def ask(self) -> None:
        """Ask who has the answer, and for its last entry."""
        self._heard_at = self._time()
        self._store.owner(self.answer_id).add_done_callback(self._told_owner)
        log = self._store.keys.log(self.answer_id)
        last = self._store.connection.call("XREVRANGE", log, "+", "-", "COUNT", 1)
        last.add_done_callback(self._told_last)

    def told_owner(self, owner: bytes | None) -> None:
        """Take in who has the answer."""
        if self.channel.lease is None:
            was_orphan = self.orphaned()
            self.owner = NOBODY if owner is None else owner.decode()
            if owner is None and self._watches:
                self._store.unwatch(self.answer_id)  # It has ended, or its lease was forgotten.
            if self.orphaned() and not was_orphan:
                self.channel.wake()

    def _told_owner(self, reply: "asyncio.Future[Any]") -> None:
        if not reply.cancelled() and not reply.exception():
            self.told_owner(reply.result())

    def _told_last(self, reply: "asyncio.Future[Any]") -> None:
        if reply.cancelled() or reply.exception() or self.channel.lease is not None:
            return
        last = reply.result()
        if not last or int(last[0][0].partition(b"-")[0]) != self.channel.end:
            self.channel.appended_in_part(UNKNOWN, 0)


class Tails:
    """The tails of one worker, by answer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails: dict[str, Tail] = {}
        self.channels: Channels[ValkeyLease] = Channels()

    def of(self, answer_id: str) -> Tail:
        """Return the answer's tail, created if needed."""
        channel = self.channels.of(answer_id)
        tail = self._tails.get(answer_id)
        if tail is None or tail.channel is not channel:
            tail = self._tails[answer_id] = Tail(self._store, channel)
        return tail

    def get(self, answer_id: str) -> Tail | None:
        """Return the answer's tail; None if this worker neither produces nor reads the answer."""
        return self._tails.get(answer_id)

    def tidy(self, answer_id: str) -> None:
        """Drop the tail if its channel is dropped."""
        if self.channels.get(answer_id) is None:
            self._tails.pop(answer_id, None)

    def each(self, act: Callable[[Tail], None]) -> None:
        """Call the function with each tail."""
        for tail in list(self._tails.values()):
            act(tail)
