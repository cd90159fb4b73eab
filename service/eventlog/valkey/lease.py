"""The lease on a log: the right to append, which lasts until another worker's claim is in the log."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from service.errors import Unavailable
from service.eventlog.base import Claims, LeaseLostError
from service.eventlog.completion import completed
from service.eventlog.valkey.entries import ANEW, CLAIM, EVENTS, Entry
from service.eventlog.valkey.failures import unavailable
from service.eventlog.valkey.keys import NOBODY
from service.eventlog.valkey.lease_ports import Ended, Heard
from service.eventlog.valkey.pipeline import ErrorReply
from service.eventlog.valkey.put_back import PutBack, seq_of
from service.eventlog.valkey.scripts import APPEND, END, RELEASE
from service.eventlog.valkey.store import Store
from service.events import TERMINAL, Delta, Event, StoppedBy, encode_lines
from service.telemetry import metrics

ANEW_PAUSE_SECONDS = 10.0
"""Shortest time between two texts given anew: the number in a request is the client's word."""
ANEW_LIMIT = 3
"""Limit on the texts given anew for one answer."""


class ValkeyLease:
    """See `service.eventlog.base.Lease`. One append at a time is under way."""

    def __init__(
        self,
        store: Store,
        tail: "Heard[ValkeyLease]",
        *,
        last_seq: int,
        size: int,
        claims: Claims,
        given_anew: int = 0,
        keep_milliseconds: int,
        on_end: "Ended[ValkeyLease]",
    ) -> None:
        """`given_anew` counts the texts given anew so far. `keep_milliseconds` is how long an ended log is kept."""
        self.answer_id = answer_id = tail.answer_id
        self.last_seq = last_seq
        self.size = size
        self.claims = claims
        self.unwatched_seconds_left: float | None = None
        self.on_change: Callable[[], None] | None = None
        self.watchers: set[str] = set()
        """The workers with followers, other than this one, as last heard."""
        self.ended_at: float | None = None
        """When the terminal event was written, by the event loop's clock."""
        self.names: Sequence[str] | None = None
        """The answer's names; None if they are not known, as after a claim."""
        self.request_bytes = 0
        """The length of a large request, which is kept beside the log; 0 if it is not known."""
        self.put_back = 0
        """Entries that the server forgot and was given back."""
        self._store = store
        self._tail = tail
        self._keep_milliseconds = keep_milliseconds
        self._on_end = on_end
        keys = store.keys
        self._keys = [keys.log(answer_id), keys.lease(answer_id), keys.watch(answer_id), keys.channel(answer_id)]
        self._loop = asyncio.get_running_loop()
        self._busy: asyncio.Future[None] | None = None
        self._over = False
        self._marked = False
        self._has_grown = False
        """Whether growth under this claim is noted."""
        self._stop: StoppedBy | None = None
        self._told_stop = False
        self._put_back_at_renewal = 0
        self._anew = False
        self._anew_at = -ANEW_PAUSE_SECONDS
        self._given_anew = given_anew
        self._tasks: set[asyncio.Task[None]] = set()

    # Appending

    async def append(self, events: Sequence[Event], *, anew: bool = False) -> None:
        await self._free()
        if anew and self.put_back != self._put_back_at_renewal:
            raise Unavailable("log_unavailable")  # The text may have been read while the server lacked some of it.
        value = encode_lines(events)
        entry = Entry(events[-1].seq, ANEW if anew else EVENTS, value, events[0].seq, events)
        await completed(self._send(entry))

    def append_now(self, events: Sequence[Event]) -> bool:  # noqa: ARG002 (over a network, each append waits)
        if self._over:
            raise LeaseLostError
        return False

    async def renew(self) -> None:
        await self._free()
        self._busy = busy = self._loop.create_future()
        self._renew()
        await completed(busy)

    def _renew(self) -> None:
        reply = self._store.claim(self.answer_id, self._store.me, last_seq=self.last_seq)
        reply.add_done_callback(self._renewed)

    async def _free(self) -> None:
        while self._busy is not None:  # What is under way belongs to a caller that was cancelled, or to a check.
            await asyncio.wait([self._busy])
        if self._over:
            raise LeaseLostError

    def _send(self, entry: Entry) -> "asyncio.Future[None]":
        self._busy = busy = self._loop.create_future()
        self._append(entry, self.last_seq).add_done_callback(partial(self._replied, entry))
        return busy

    def _append(self, entry: Entry, before: int) -> "asyncio.Future[Any]":
        run = self._store.connection.run
        grew = self.claims.total if self._grows(entry) else ""
        if entry.events and type(entry.events[-1]) in TERMINAL:
            return run(END, self._keys, before, entry.seq, entry.kind, entry.value, grew, self._keep_milliseconds)
        return run(APPEND, self._keys, before, entry.seq, entry.kind, entry.value, grew)

    def _grows(self, entry: Entry) -> bool:
        """Return whether this is the first text under this claim. It is noted with the append, not behind it.

        A worker that is cut off between the two has written a word, and its claim would count as one without any: of
        1,000 answers whose hosts were cut off in turn, 24 were given up too early.
        """
        if self._has_grown or not self.claims.total or entry.kind != EVENTS:
            return False
        return any(isinstance(event, Delta) and event.has_voice for event in entry.events)

    def _replied(self, entry: Entry, reply: "asyncio.Future[Any]") -> None:
        """Take in the reply, in its turn of the event loop, whether or not the caller still waits."""
        error = reply.exception()
        if error is not None:
            self._failed(error)
            return
        status, *rest = reply.result()
        if status == b"ok":
            self._wrote(entry)
            self._settle()
            self._heard_stop(rest[0])
        elif status == b"other":
            self._spawn(self._put_back_and_append(seq_of(rest[0]), entry))
        else:
            self._lose()

    def _failed(self, error: BaseException) -> None:
        """Handle an append that was refused, or that has no reply."""
        if isinstance(error, ErrorReply):
            self._settle(unavailable(error))
            return
        # It may have been written, or may yet be. Its number must not be used again, so the answer is left to others.
        self.release()
        self._tell_change()
        self._settle(unavailable(error) if isinstance(error, Unavailable) else Unavailable("log_unavailable"))

    def _wrote(self, entry: Entry) -> None:
        before, self.last_seq = self.last_seq, entry.seq
        if entry.kind == EVENTS:
            self.size += len(entry.value)
            self._has_grown = self._has_grown or self._grows(entry)
        else:
            self._anew, self._anew_at = False, self._loop.time()
            self._given_anew += 1
        if entry.events and type(entry.events[-1]) in TERMINAL:
            self.ended_at = self._loop.time()
        self._tail.wrote(before, entry)

    def _renewed(self, reply: "asyncio.Future[Any]") -> None:
        error = reply.exception()
        if error is not None:
            self._failed(error)
            return
        status, *rest = reply.result()
        if status == b"behind":
            self._spawn(self._put_back_and_renew(seq_of(rest[0])))
        elif status == b"ok":
            self._is_renewed(int(rest[0]), int(rest[1]))
        else:
            self._lose()

    def _is_renewed(self, number: int, before: int) -> None:
        self._put_back_at_renewal = self.put_back
        self.last_seq = number
        self._tail.wrote(before, Entry(number, CLAIM, self._store.me.encode(), number, ()))
        self._settle()

    def _settle(self, error: Exception | None = None) -> None:
        """Complete what is under way."""
        busy, self._busy = self._busy, None
        if busy is None or busy.done():
            return
        if error is None:
            busy.set_result(None)
        else:
            busy.set_exception(error)
            busy.exception()  # Retrieved: the caller may have been cancelled.

    # What the server forgot

    def check(self) -> None:
        """Ask whether the log ends as this lease knows it, after a reconnect. What is under way finds out by itself."""
        if self._busy is None and (not self._over or self.ended_at is not None):
            self._store.confirm(self.answer_id, self.last_seq).add_done_callback(partial(self._checked, self.last_seq))

    def _checked(self, seq: int, reply: "asyncio.Future[Any]") -> None:
        if reply.exception() or seq != self.last_seq or self._busy or (self._over and self.ended_at is None):
            return
        status, *rest = reply.result()
        if status == b"ok":
            self._heard_stop(rest[0])
        elif status == b"other":
            self._busy = self._loop.create_future()
            self._spawn(self._put_back_and_settle(seq_of(rest[0])))
        else:
            self._lose()

    async def _put_back_and_append(self, last: int, entry: Entry) -> None:
        if entry.kind == ANEW:  # See `append`.
            if await self._put_back(last):
                self._settle(Unavailable("log_unavailable"))
        elif await self._put_back(last, entry):
            self._wrote(entry)
            self._settle()

    async def _put_back_and_renew(self, last: int) -> None:
        if await self._put_back(last):
            if self._over:
                self._lose()
            else:
                self._renew()

    async def _put_back_and_settle(self, last: int) -> None:
        if await self._put_back(last):
            self._settle()

    async def _put_back(self, last: int, entry: Entry | None = None) -> bool:
        """Put back what the server forgot behind the entry `last`, then write the entry. Return whether that is done.

        If not, what is under way has failed, or the lease is lost.
        """
        missing = PutBack(self._append, self._tail.chain, self._wrote_again)
        try:
            await missing.run(last, None if entry is None else (self.last_seq, entry))
        except LeaseLostError:
            self._lose()
        except (ErrorReply, Unavailable) as error:
            self._failed(error)
        else:
            return True
        return False

    def _wrote_again(self) -> None:
        self.put_back += 1
        metrics.entry_put_back()

    # The end of the lease

    def _lose(self) -> None:
        self._tail.chain.clear()  # It may have what is not in the log any more, even an end.
        if not self._over:
            self._over = True
            self._on_end(self, given_up=False)
            self._tail.release(self, None)
            self._tell_change()
        self._settle(LeaseLostError())

    def _tell_change(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def lost(self) -> bool:
        return self._over

    def release(self) -> None:
        self._give_up(forget_claims=False)

    def hand_over(self) -> None:
        self._give_up(forget_claims=True)

    def _give_up(self, *, forget_claims: bool) -> None:
        if self._over:
            return
        self._over = True
        if self.ended_at is None:
            _, lease, _, channel = self._keys
            self._store.run(RELEASE, [lease, channel], self._store.me, int(forget_claims))
        self._on_end(self, given_up=True)
        self._tail.release(self, NOBODY)

    # What is noted and heard

    def grew(self) -> None:
        if self.claims.total and not self._over and not self._has_grown:
            self._store.note(self.answer_id, "grew", self.claims.total, owner=self._store.me)

    def watched(self) -> bool:
        if self._tail.watched_here():
            return True
        is_dead, me = self._store.workers.is_dead, self._store.me
        return any(worker != me and not is_dead(worker) for worker in self.watchers)

    async def still_unwatched(self) -> bool:
        if self._tail.watched_here():
            return False
        try:
            reply = await self._store.watchers(self.answer_id)
        except ErrorReply as error:
            raise unavailable(error) from error
        self.heard_watchers(reply)
        return not self.watched()

    def heard_watchers(self, reply: Sequence[bytes] | set[bytes]) -> None:
        """Take in which workers have followers."""
        was = self.watched()
        self.watchers = {worker.decode() for worker in reply}
        for worker in self.watchers:
            if self._store.workers.is_dead(worker):
                self._store.send("SREM", self._keys[2], worker)
        if self.watched() != was:
            self._tell_change()

    def needs_watchers(self) -> bool:
        """Whether only other workers can have a follower."""
        return not self._over and not self._tail.watched_here()

    def mark_unwatched(self, seconds: float) -> None:
        if not self._over:
            self._marked = True
            self._store.note(self.answer_id, "unwatched", seconds, owner=self._store.me)

    def clear_unwatched(self) -> None:
        if not self._over and self.ended_at is None and (self._marked or self.unwatched_seconds_left is not None):
            self._marked = False
            self._store.note(self.answer_id, "unwatched", "", owner=self._store.me)

    def stop_requested(self) -> StoppedBy | None:
        by, self._stop = self._stop, None
        return by

    def stop(self, by: StoppedBy) -> None:
        """Take in that a stop was requested."""
        if not self._over and not self._told_stop:
            self._told_stop = True
            self._stop = by
            self._tell_change()

    def _heard_stop(self, by: bytes | None) -> None:
        if by:
            self.stop(by.decode())  # type: ignore[arg-type]

    def anew_requested(self) -> bool:
        return self._anew and not self._over

    def request_anew(self) -> None:
        """Take in that a reader has lost its place."""
        if self._over or self._anew or self._given_anew >= ANEW_LIMIT:
            return
        if self._loop.time() - self._anew_at >= ANEW_PAUSE_SECONDS:
            self._anew = True
            self._tell_change()

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 (a coroutine)
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
