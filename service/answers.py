"""The use cases: ask for, follow, read, stop and erase an answer, with the check of its owner.

The routes' only way to the answers.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial

from service.answer import AnswerState
from service.errors import BadInput, FolyamError, Unavailable, UnknownAnswer
from service.eventlog import AheadOfLogError, EventLog, NameTakenError, Reader
from service.events import StoppedBy, Terminal
from service.follower import Follower, Portion, encoder_at
from service.joining import Joining
from service.keys import Caller
from service.names import Naming, Same, namings
from service.producer import Producer
from service.renderings import Rendering
from service.request import Request
from service.supervisor import Supervisor
from service.telemetry import metrics

STOP_TIMEOUT_SECONDS = 5.0
"""Time limit for a stop. The terminal event comes within a second unless the producer hangs."""
ORPHAN_POLL_SECONDS = 0.25
"""Poll interval of a stop for detecting that the answer has no producer."""
LATE_FOLLOWER_SECONDS = 2.0
"""Minimum time a follower is served after it connects, even when the worker has drained."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and timeouts of one worker's followers and of its drain."""

    followers: int
    heartbeat_seconds: float
    status_wait_seconds: float
    drain_seconds: float
    unwatched_seconds: float
    """Time for which an answer that is not to be kept is kept, if it was not delivered."""


class Answers:
    """One worker's access to all answers. Created and closed on its event loop."""

    def __init__(self, log: EventLog, supervisor: Supervisor, policy: Policy) -> None:
        self._log = log
        self._supervisor = supervisor
        self._policy = policy
        self._followers = 0
        self._drain: asyncio.Task[None] | None = None
        self._joining = Joining(log)
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(
        self,
        request: Request,
        answer_id: str,
        rendering: Rendering,
        *,
        caller: Caller,
        address: str,
        arrived_at: float,
        status_wait_seconds: float | None = None,
        same: Same | None = None,
    ) -> Follower:
        """Begin an answer; return its first follower after the upstream's status, or after `status_wait_seconds`.

        Without `status_wait_seconds` the policy's is taken. `address` is the client's IP address. `arrived_at` is the
        request's arrival by the event loop's clock.

        With `same`, the request may be the same as an earlier one, on any worker. The follower then follows that one's
        answer from its start, whether it runs or has ended: see `Follower.answer_id`. Call `Follower.delivered` when
        the response is written to its end.

        Raises:
            BadInput: the key of `same` was sent with another request.
            UpstreamError: the upstream refused, or could not be asked, within `status_wait_seconds`. The answer is
                erased. Later failures are events.
            TooMany: the client has too many answers under way.
            Unavailable: the worker has too many answers or followers, or the log cannot be written.
        """
        if status_wait_seconds is None:
            status_wait_seconds = self._policy.status_wait_seconds
        names: Sequence[Naming] = ()
        if same is not None:
            joined = await self._join(same, rendering, caller, status_wait_seconds)
            if joined is not None:
                return joined
            names = namings(same, caller.client(""))
        try:
            producer = await self._supervisor.start(
                request,
                answer_id,
                client=caller.client(address),
                begun_at=arrived_at,
                owner=caller.mark(answer_id),
                names=names,
            )
        except NameTakenError:  # Another worker was faster. If its answer is refused at once, this request is the next.
            return await self.ask(
                request,
                answer_id,
                rendering,
                caller=caller,
                address=address,
                arrived_at=arrived_at,
                status_wait_seconds=status_wait_seconds,
                same=same,
            )
        is_kept = request.via is None or request.via.kept
        return await self._first_follower(producer, rendering, names, status_wait_seconds, is_kept=is_kept)

    async def _first_follower(
        self,
        producer: Producer,
        rendering: Rendering,
        names: Sequence[Naming],
        status_wait_seconds: float,
        *,
        is_kept: bool,
    ) -> Follower:
        """Return the first follower of an answer that has begun, after the upstream's status. Raises as `ask` does."""
        try:
            reader = await self._log.open(producer.answer_id)
            follower = await self._follower(reader, 0, rendering, producer.first_chunk_sent, is_new=True, names=names)
        except FolyamError:
            producer.stop("unwatched")
            raise
        if not is_kept:
            self._forget(producer, follower)
        try:
            error = await producer.status(status_wait_seconds)
        except BaseException:
            follower.close()
            if names:
                self._spawn(self._free_if_refused(producer, status_wait_seconds))
            raise
        if error is not None:
            follower.close()
            with suppress(Unavailable):  # It expires all the same, and its id was never sent.
                await self._log.erase(producer.answer_id)
            try:
                raise error
            finally:
                # Its traceback has this frame: a cycle, in which the request would stay until it is collected.
                del error
        return follower

    def _forget(self, producer: Producer, follower: Follower) -> None:
        """Erase the answer once the follower's response is delivered; if it never is, some time after it has left.

        If this worker leaves or dies before, the answer expires like any other.
        """
        left, is_delivered = asyncio.Event(), asyncio.Event()
        note = follower.on_delivered

        def delivered() -> None:
            is_delivered.set()
            if note is not None:
                note()

        async def erase() -> None:
            await asyncio.wait([producer.task])
            await left.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(is_delivered.wait(), self._policy.unwatched_seconds)
            with suppress(FolyamError):
                if isinstance(await self._log.last(producer.answer_id), Terminal):
                    await self._log.erase(producer.answer_id)

        follower.on_delivered = delivered
        follower.on_left = left.set
        self._spawn(erase())

    async def _join(
        self, same: Same, rendering: Rendering, caller: Caller, status_wait_seconds: float
    ) -> Follower | None:
        """Return a follower of the answer that the request joins; None if it is to begin one.

        Raises:
            BadInput, Unavailable: see `ask`.
        """
        owner = caller.client("")
        while (answer_id := await self._joining.find(same, owner)) is not None:
            try:
                reader = await self._open(answer_id, caller)
                follower = await self._follower(reader, 0, rendering, names=namings(same, owner))
            except UnknownAnswer:
                continue
            try:
                if await self._joining.is_accepted(answer_id, status_wait_seconds):
                    return follower
            except BaseException:
                follower.close()
                raise
            follower.close()
        return None

    async def _free_if_refused(self, producer: Producer, seconds: float) -> None:
        """Erase the answer, whose first follower has left, if the upstream refuses it within this time."""
        await asyncio.wait([producer.task], timeout=seconds)
        with suppress(FolyamError):
            if producer.task.done() and await self._joining.was_refused(producer.answer_id):
                await self._log.erase(producer.answer_id)

    async def follow_chat(self, chat: str, rendering: Rendering, caller: Caller) -> Follower | None:
        """Return a follower of the chat's newest answer, from its start; None if it has ended and was delivered.

        Raises:
            UnknownAnswer: the chat has no answer, or it has expired or is not the caller's.
            Unavailable: the worker has too many followers, or the log cannot be read.
        """
        named = await self._joining.newest(chat, caller.client(""))
        if named is None:
            raise UnknownAnswer
        if named.delivered and isinstance(await self._log.last(named.answer), Terminal):
            return None
        reader = await self._open(named.answer, caller)
        names = namings(Same(named.digest, chat=chat), caller.client(""))
        return await self._follower(reader, 0, rendering, names=names)

    async def newest(self, chat: str, caller: Caller) -> str:
        """Return the id of the chat's newest answer, to stop it, say.

        Raises:
            UnknownAnswer: the chat has none.
            Unavailable: the log cannot be read.
        """
        named = await self._joining.newest(chat, caller.client(""))
        if named is None:
            raise UnknownAnswer
        return named.answer

    async def follow(self, answer_id: str, after: int, rendering: Rendering, caller: Caller) -> Follower | None:
        """Return a follower placed behind the event `after`; None if the answer has ended and no event follows.

        Raises:
            UnknownAnswer: the answer is unknown, expired or not the caller's.
            BadInput: the answer has no event `after` yet.
            Unavailable: the worker has too many followers, or the log cannot be read.
        """
        follower = await self._placed(answer_id, after, rendering, caller)
        if follower is not None and after:
            metrics.resumed(rendering.name)
        return follower

    async def portion(
        self, answer_id: str, after: int, rendering: Rendering, caller: Caller, *, wait: bool = False
    ) -> Portion:
        """Return the answer's next events behind the event `after`, up to some hundreds of kilobytes of them.

        With `wait`, an answer that has none yet is waited for, for as long as a follower of it would wait for a
        heartbeat. Meanwhile, and while it is read, the answer has a follower.

        Raises:
            UnknownAnswer, BadInput, Unavailable: see `follow`.
        """
        follower = await self._placed(answer_id, after, rendering, caller)
        if follower is None:
            return Portion((), is_all=True, has_ended=True)
        try:
            return await follower.portion(self._policy.heartbeat_seconds if wait else 0.0)
        finally:
            follower.close()

    async def tail(self, answer_id: str, caller: Caller) -> tuple[int, bool]:
        """Return the seq of the answer's last event, and whether the answer has ended.

        Raises:
            UnknownAnswer: the answer is unknown, expired or not the caller's.
            Unavailable: the log cannot be read.
        """
        (await self._open(answer_id, caller)).close()
        last = await self._log.last(answer_id)
        return last.seq, isinstance(last, Terminal)

    async def read(self, answer_id: str, caller: Caller, *, with_request: bool = False) -> AnswerState:
        """Return the answer's current state; `with_request` also where the log keeps the request beside it.

        Raises:
            UnknownAnswer: the answer is unknown, expired or not the caller's.
            Unavailable: the log cannot be read.
        """
        state = AnswerState()
        with closing(await self._open(answer_id, caller)) as reader:
            while events := await reader.read():
                state.advance(events)
        if with_request and state.start is not None:
            state.start = await self._log.with_request(state.start)
        return state

    async def stop(self, answer_id: str, caller: Caller, by: StoppedBy = "user") -> None:
        """Stop the answer of any worker; return once its terminal event is in the log.

        Raises:
            UnknownAnswer: the answer is unknown, expired or not the caller's.
            Unavailable: the producer did not end it within STOP_TIMEOUT_SECONDS, or the log cannot be used.
        """
        (await self._open(answer_id, caller)).close()
        last = await self._log.last(answer_id)
        if isinstance(last, Terminal):
            return
        reader = await self._log.open(answer_id, last.seq, watch=False)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                if not self._supervisor.stop(answer_id, by):
                    await self._log.request_stop(answer_id, by)
                while True:
                    # Asked before the read: the terminal event comes before the lease is released.
                    orphaned = reader.orphaned()
                    events = await reader.read()
                    if any(isinstance(event, Terminal) for event in events):
                        return
                    if events:
                        continue  # A long log is read in pieces, of which none is waited for.
                    if orphaned:
                        self._supervisor.adopt(answer_id)
                    await reader.wait(ORPHAN_POLL_SECONDS)
        except TimeoutError:
            raise Unavailable("stop_pending") from None
        finally:
            reader.close()

    async def erase(self, answer_id: str, caller: Caller) -> None:
        """Stop the answer if it is running, and remove it.

        Raises:
            UnknownAnswer: the answer is unknown, expired or not the caller's.
            Unavailable: the producer did not end it within STOP_TIMEOUT_SECONDS, or the log cannot be used.
        """
        await self.stop(answer_id, caller)
        await self._log.erase(answer_id)

    async def check(self) -> None:
        """Check readiness for new requests.

        Raises:
            Unavailable: the log cannot be used, or this worker is draining.
        """
        if self._drain is not None:
            raise Unavailable("draining")
        await self._log.check()

    @property
    def needs_replacing(self) -> bool:
        """Whether only a new process can serve: the directory of the logs was removed or replaced."""
        return self._log.lost()

    def leave(self) -> None:
        """Start the drain: running answers have `drain_seconds` to end, then other workers take them over.

        Returns at once.
        """
        if self._drain is None:
            self._drain = asyncio.create_task(self._leave())

    async def aclose(self) -> None:
        """Leave unfinished answers to other workers."""
        for task in self._tasks:
            task.cancel()
        if self._drain is not None:
            self._drain.cancel()
        await self._supervisor.aclose()

    async def _open(self, answer_id: str, caller: Caller, after: int = 0) -> Reader:
        """Return a reader that does not count as a follower: the caller's access is checked first.

        Raises:
            UnknownAnswer: the answer is unknown, expired or not the caller's. These look the same.
            AheadOfLogError: the answer has no event `after` yet.
            Unavailable: the log cannot be read.
        """
        try:
            reader = await self._log.open(answer_id, after, watch=False)
        except AheadOfLogError:
            if after and not caller.anybody:
                # That the answer is running, and how far it is, only its owner may learn.
                (await self._open(answer_id, caller)).close()
            raise
        with ExitStack() as undo:
            undo.callback(reader.close)
            if not caller.anybody and not caller.owns(answer_id, (await reader.start()).owner):
                raise UnknownAnswer
            undo.pop_all()
        return reader

    async def _placed(self, answer_id: str, after: int, rendering: Rendering, caller: Caller) -> Follower | None:
        try:
            reader = await self._open(answer_id, caller, after)
        except AheadOfLogError:
            raise BadInput("bad_last_event_id", "ahead", field="Last-Event-ID") from None
        if reader.at_end:
            reader.close()
            return None
        return await self._follower(reader, after, rendering)

    async def _follower(
        self,
        reader: Reader,
        after: int,
        rendering: Rendering,
        on_first_chunk: Callable[[], None] | None = None,
        *,
        is_new: bool = False,
        names: Sequence[Naming] = (),
    ) -> Follower:
        if self._followers >= self._policy.followers:
            reader.close()
            raise Unavailable("too_many_followers")
        self._followers += 1
        try:
            reader.watch()
            encoder = await encoder_at(self._log, reader.answer_id, after, rendering, is_new=is_new)
        except BaseException:
            self._follower_left()
            reader.close()
            raise
        came_at = asyncio.get_running_loop().time()
        follower = Follower(
            reader,
            rendering,
            encoder,
            heartbeat_seconds=self._policy.heartbeat_seconds,
            on_orphan=self._supervisor.adopt,
            has_left=partial(self._has_left, came_at),
            on_first_chunk=on_first_chunk,
            on_close=self._follower_left,
        )
        if names:
            follower.on_delivered = partial(self._delivered, names, reader.answer_id)
        return follower

    def _delivered(self, names: Sequence[Naming], answer_id: str) -> None:
        for naming in names:
            if naming.how != "only":  # A key is joined all the same.
                self._log.mark_delivered(naming.name, answer_id)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # The loop itself keeps no task alive.
        task.add_done_callback(self._tasks.discard)

    def _follower_left(self) -> None:
        self._followers -= 1

    def _has_left(self, came_at: float) -> bool:
        # After the drain other workers have the answers, and a follower should reconnect to one of them.
        left = self._drain is not None and self._drain.done()
        return left and asyncio.get_running_loop().time() - came_at >= LATE_FOLLOWER_SECONDS

    async def _leave(self) -> None:
        begun_at = asyncio.get_running_loop().time()
        await self._supervisor.drain(self._policy.drain_seconds)
        # Followers of other workers' answers have the same time.
        await asyncio.sleep(begun_at + self._policy.drain_seconds - asyncio.get_running_loop().time())
