"""The event log on a Valkey server. See `service.eventlog.valkey.keys` for what it keeps there."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from service.errors import Unavailable
from service.eventlog.base import Claims, NameTakenError, Retention
from service.eventlog.large import joined, written
from service.eventlog.valkey.address import Address
from service.eventlog.valkey.connection import Connection
from service.eventlog.valkey.entries import CLAIM as CLAIM_KIND
from service.eventlog.valkey.entries import EVENTS, Entry
from service.eventlog.valkey.failures import soon, unavailable
from service.eventlog.valkey.heartbeat import Heartbeat
from service.eventlog.valkey.keys import NOBODY, Keys
from service.eventlog.valkey.lease import ValkeyLease
from service.eventlog.valkey.memory import Memory
from service.eventlog.valkey.names import Names
from service.eventlog.valkey.orphans import Orphans
from service.eventlog.valkey.pipeline import ErrorReply
from service.eventlog.valkey.reader import ValkeyReader
from service.eventlog.valkey.requests import Requests
from service.eventlog.valkey.retention import Retainer
from service.eventlog.valkey.scripts import CREATE, SCRIPTS
from service.eventlog.valkey.store import Store
from service.eventlog.valkey.tail import Tail, Tails
from service.eventlog.valkey.workers import Workers, new_worker
from service.events import Event, Start, StoppedBy, UnknownEvent
from service.names import Named, Naming

PUT_BACK_END_SECONDS = 15.0
"""Time for which an end that the server forgot is put back."""


class ValkeyEventLog:
    """The logs on one server. See `service.eventlog.base.EventLog`."""

    def __init__(self, address: Address, retention: Retention) -> None:
        keys = Keys(address.prefix)
        workers = Workers(new_worker())
        connection = Connection(
            address, name=workers.me, scripts=SCRIPTS, on_connect=self._connected, on_push=self._pushed
        )
        self._store = Store(connection, keys, workers)
        self._tails = Tails(self._store)
        self._orphans = Orphans(self._store, self._tails)
        self._keep_milliseconds = max(1, int(retention.seconds * 1000))
        self._names = Names(self._store, self._keep_milliseconds)
        self._requests = Requests(self._store, self._keep_milliseconds)
        self._retainer = Retainer(self._store, retention, self._tails, self._names)
        self._memory = Memory(self._store)
        self._heartbeat = Heartbeat(self._store, self._tails, self._orphans)
        self._ended: dict[str, ValkeyLease] = {}
        """Leases of answers that ended within `PUT_BACK_END_SECONDS`, the oldest first."""
        self._claiming: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    async def create(self, start: Start, names: Sequence[Naming] = ()) -> ValkeyLease:
        store, answer_id = self._store, start.answer
        start, lines, request = written(start)
        if request:
            await self._requests.write(answer_id, request)
        if names:
            await self._take_names(answer_id, names, has_request=request != b"")
        store.send("SADD", store.keys.leases(store.me), answer_id)
        reply = store.connection.run(CREATE, [store.keys.log(answer_id), store.keys.lease(answer_id)], store.me, lines)
        kept = self._names.has(answer_id, names) if names else None
        try:
            status = await soon(asyncio.shield(reply))
            is_named = kept is None or None not in await soon(kept)
        except BaseException:
            self._names.forget(answer_id, start.names)
            if request:
                self._requests.forget(answer_id)
            reply.add_done_callback(lambda reply: self._undo_create(answer_id, reply))
            raise
        if status[0] != b"ok":
            raise Unavailable("log_unavailable")
        if not is_named:  # This worker was held up for so long that another one took a name.
            self._undo_create(answer_id, reply)
            raise NameTakenError
        tail = self._tails.of(answer_id)
        tail.chain.add(0, Entry(start.seq, EVENTS, lines, start.seq, [start]))
        lease = self._hold(tail, last_seq=start.seq, size=len(lines), claims=Claims())
        lease.names, lease.request_bytes = start.names, len(request)
        return lease

    async def _take_names(self, answer_id: str, names: Sequence[Naming], *, has_request: bool) -> None:
        try:
            await self._names.take(answer_id, names)
        except BaseException:
            if has_request:
                self._requests.forget(answer_id)
            raise

    async def with_request(self, start: Start) -> Start:
        if not start.request_bytes:
            return start
        channel = self._tails.channels.get(start.answer)
        if channel is not None and channel.lease is not None:
            channel.lease.request_bytes = start.request_bytes
        return joined(start, await self._requests.read(start.answer, start.request_bytes))

    def _undo_create(self, answer_id: str, reply: "asyncio.Future[Any]") -> None:
        """Remove a log that was created too late for the caller."""
        if not reply.cancelled() and not reply.exception() and not self._closed:
            self._remove(answer_id)
            self._store.send("SREM", self._store.keys.leases(self._store.me), answer_id)

    async def claim(self, answer_id: str) -> ValkeyLease | None:
        channel = self._tails.channels.get(answer_id)
        if (channel is not None and channel.lease is not None) or answer_id in self._claiming:
            return None
        self._forget_ended()
        if answer_id in self._ended:  # If the server forgot the end, it is put back.
            return None
        self._claiming.add(answer_id)
        try:
            return await self._claim(answer_id)
        except BaseException:
            self._orphans.look_soon()  # The claim may have been made, or may yet be.
            raise
        finally:
            self._claiming.discard(answer_id)

    async def _claim(self, answer_id: str) -> ValkeyLease | None:
        store, workers = self._store, self._store.workers
        told = await soon(store.owner(answer_id))
        owner = None if told is None else told.decode()
        if owner is None or not (owner in (NOBODY, store.me) or workers.is_dead(owner)):
            if owner is None or workers.is_alive(owner):
                self._orphans.settled(answer_id, owner)
            else:
                self._orphans.look_soon()
            return None
        # The index before the log: a crash in between leaves a name without a lease, never a lease without a name.
        store.send("SADD", store.keys.leases(store.me), answer_id)
        away = int(workers.silent_seconds(owner) * 1000)
        claimed = store.claim(answer_id, owner, silent_milliseconds=away)
        replies = asyncio.gather(claimed, store.watchers(answer_id))
        (status, *rest), watchers = await soon(replies)
        if status != b"ok":
            store.send("SREM", store.keys.leases(store.me), answer_id)
            self._orphans.settled(answer_id, rest[0].decode() if status == b"other" else None)
            return None
        if owner != store.me:
            store.send("SREM", store.keys.leases(owner), answer_id)
        self._orphans.settled(answer_id, store.me)
        number, _, claims, without_growth, left, stop, size, given_anew = rest
        tail = self._tails.of(answer_id)
        # What came before was another's: it is not put back.
        tail.chain.clear()
        tail.chain.add(-1, Entry(int(number), CLAIM_KIND, store.me.encode(), int(number), ()))
        lease = self._hold(
            tail,
            last_seq=int(number),
            size=int(size),
            claims=Claims(int(claims), int(without_growth)),
            given_anew=int(given_anew),
        )
        lease.unwatched_seconds_left = int(left) / 1000 if left else None
        lease.heard_watchers(watchers)
        if stop:
            lease.stop(stop.decode())
        return lease

    def _hold(self, tail: Tail, *, last_seq: int, size: int, claims: Claims, given_anew: int = 0) -> ValkeyLease:
        lease = ValkeyLease(
            self._store,
            tail,
            last_seq=last_seq,
            size=size,
            claims=claims,
            given_anew=given_anew,
            keep_milliseconds=self._keep_milliseconds,
            on_end=self._lease_ended,
        )
        tail.hold(lease)
        return lease

    def _lease_ended(self, lease: ValkeyLease, *, given_up: bool) -> None:
        store, answer_id = self._store, lease.answer_id
        if lease.ended_at is not None:
            store.send("SREM", store.keys.leases(store.me), answer_id)
            store.record(answer_id, lease.size + lease.request_bytes)
            if lease.request_bytes:
                self._requests.ended(answer_id)
            if lease.names is None or lease.names:
                self._names.ended(answer_id, lease.names)
            self._ended[answer_id] = lease
            self._forget_ended()
        elif given_up:
            store.send("SMOVE", store.keys.leases(store.me), store.keys.leases(NOBODY), answer_id)
            store.send("SPUBLISH", store.keys.orphans, f"{answer_id} {store.me}")
        else:
            self._orphans.look_soon()
        self._loop.call_soon(self._tails.tidy, answer_id)

    def _forget_ended(self) -> None:
        before = self._loop.time() - PUT_BACK_END_SECONDS
        for answer_id, lease in list(self._ended.items()):
            if lease.ended_at is not None and lease.ended_at >= before:
                break
            del self._ended[answer_id]

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> ValkeyReader:
        reader = ValkeyReader(self._store, self._tails.of(answer_id), after, watch=watch, on_close=self._tails.tidy)
        try:
            await reader.find()
        except BaseException:
            reader.close()
            raise
        return reader

    async def last(self, answer_id: str) -> Event | UnknownEvent:
        return await self._store.last_event(answer_id)

    async def named(self, name: str) -> Sequence[Named]:
        return await self._names.read(name)

    def mark_delivered(self, name: str, answer_id: str) -> None:
        self._names.mark_delivered(name, answer_id)

    async def followed(self, answer_id: str) -> bool:
        channel = self._tails.channels.get(answer_id)
        if channel is not None and channel.lease is not None:
            return channel.lease.watched()
        store, workers = self._store, self._store.workers
        lease = store.connection.call("HMGET", store.keys.lease(answer_id), "owner", "unwatched")
        (owner, unwatched), watchers = await soon(asyncio.gather(lease, store.watchers(answer_id)))
        if owner is None:
            return False
        if any(not workers.is_dead(worker.decode()) for worker in watchers):
            return True
        # Its producer's own followers are in no set. It notes when there is none at all.
        return owner != NOBODY.encode() and not workers.is_dead(owner.decode()) and unwatched is None

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        channel = self._tails.channels.get(answer_id)
        if channel is not None and channel.lease is not None:
            channel.lease.stop(by)
        status, *rest = await soon(self._store.note(answer_id, "stop", by))
        if status == b"ok" and rest[0] not in (NOBODY.encode(), self._store.me.encode()):
            self._store.send("SPUBLISH", self._store.keys.worker(rest[0].decode()), f"stop {answer_id} {by}")

    async def erase(self, answer_id: str) -> None:
        await soon(self._remove(answer_id))

    def _remove(self, answer_id: str) -> "asyncio.Future[Any]":
        return self._retainer.remove(answer_id)

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        self._forget_ended()
        try:
            self._memory.look()
            await self._orphans.find(on_orphan)
            await self._retainer.run()
        except ErrorReply as error:
            raise unavailable(error) from error

    async def check(self) -> None:
        await soon(self._store.connection.call("PING"))

    def lost(self) -> bool:
        return False

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._heartbeat.aclose()
        for lease in self._tails.channels.leases():
            lease.release()
        store = self._store
        if store.connection.connected:
            store.send("HDEL", store.keys.workers, store.me)
            store.send("HDEL", store.keys.running, store.me)
        await store.connection.aclose()

    # The connection

    def _connected(self) -> None:
        store = self._store
        store.send(b"SSUBSCRIBE", store.keys.worker(store.me))
        store.send(b"SSUBSCRIBE", store.keys.orphans)
        self._heartbeat.beat_soon()
        self._tails.each(Tail.connected)
        self._forget_ended()
        for lease in (*self._tails.channels.leases(), *self._ended.values()):
            lease.check()
        self._orphans.look_soon()

    def _pushed(self, push: list[Any]) -> None:
        kind, name, message = push
        if kind != b"smessage":
            return
        channel = name.decode()
        answer_id = self._store.keys.answer_of(channel)
        if answer_id is not None:
            if tail := self._tails.get(answer_id):
                tail.pushed(message)
        elif channel == self._store.keys.orphans:
            self._orphans.handed_over(*message.decode().split(" "))
        elif channel == self._store.keys.worker(self._store.me):
            self._requested(*message.decode().split(" "))

    def _requested(self, what: str, answer_id: str, by: Any = None) -> None:  # noqa: ANN401 (a StoppedBy)
        channel = self._tails.channels.get(answer_id)
        if channel is None or channel.lease is None:
            return
        if what == "stop":
            channel.lease.stop(by)
        elif what == "anew":
            channel.lease.request_anew()
