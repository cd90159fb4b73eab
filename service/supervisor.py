"""Start, limit, stop and drain this worker's producers, and take over other workers' orphans."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import structlog

from service.answer import AnswerState
from service.errors import FolyamError, TooMany, Unavailable
from service.eventlog import DamagedLogError, EventLog, Lease
from service.events import Start, StoppedBy
from service.names import Naming
from service.producer import Limits, Producer
from service.recovery import TAKEOVER, Mending, Policy, Recoverer, Recovery, is_given_up
from service.request import Request
from service.telemetry import metrics
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.stream import Upstream

POLL_SECONDS = 0.25
"""Poll interval for followers and requested stops, for producers that the log did not wake"""
TEND_INTERVAL_SECONDS = 1.0
"""Interval from one search for orphans and expired answers to the next, from start to start"""
TEND_PAUSE_SECONDS = 0.25
"""Minimum pause between the end of a search and the start of the next"""
LOG_AWAY_SECONDS = 15.0
"""Time for which a producer waits for a log that cannot be read, before its answer fails"""
LOG_POLL_SECONDS = 0.25
CLAIMS_WITHOUT_GROWTH_LIMIT = 3
"""Limit on take-overs after deaths in a row without growth of the answer. Beyond it, the answer is given up.

The claim counts them before anything of the answer is read, since reading it may be what kills. What the upstream was
asked, after deaths, hand-overs and breaks, is counted in the log, with limits of its own (`service.recovery`)."""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on the answers that one worker generates at once."""

    answers: int
    answers_per_client: int


class Supervisor:
    """This worker's producers."""

    def __init__(
        self,
        log: EventLog,
        upstream: Upstream,
        limits: Limits,
        bounds: Bounds,
        *,
        recovery: Recovery | None,
        models: Sequence[str],
    ) -> None:
        self._log = log
        self._upstream = upstream
        self._limits = limits
        self._recovery = Policy(recovery, upstream.continues, upstream.keeps, keeps_runs=upstream.keeps_runs)
        self._models = models
        self._bounds = bounds
        self._clients: dict[str, int] = {}
        self._running: dict[str, Producer] = {}
        self._producing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopting: set[str] = set()
        self._handing_over = False
        self._watchman = asyncio.create_task(self._watch())
        self._tender = asyncio.create_task(self._tend())

    async def start(
        self,
        request: Request,
        answer_id: str,
        *,
        client: str,
        begun_at: float,
        owner: str = "",
        names: Sequence[Naming] = (),
    ) -> Producer:
        """Begin the answer. Its log exists when this returns; the upstream is asked soon after.

        `client` identifies who asked, in any form. `begun_at` is when they asked, by the event loop's clock. `owner` is
        the key that the answer belongs to. `names` are those that the answer is to have.

        Raises:
            NameTakenError: another answer has one of the names, which may stand for one only.
            TooMany: the client is at its limit of running answers.
            Unavailable: the worker is at its limit, or the log cannot take the answer.
        """
        # Reject instead of queueing: a user who sees nothing reloads, which doubles the load.
        if len(self._running) >= self._bounds.answers:
            raise Unavailable("too_many_answers")
        if self._clients.get(client, 0) >= self._bounds.answers_per_client:
            raise TooMany("too_many_answers_of_yours")
        start = Start.asking(
            answer_id,
            request,
            at=round(time.time(), 3),
            owner=owner,
            names=tuple([naming.name for naming in names]) if names else (),
        )
        lease = await self._log.create(start, names)
        counted = AnswerMetrics.of(request.model, self._models)
        counted.started()
        recoverer = Recoverer(self._recovery, lambda: self._awaited_state(answer_id))
        producer = self._run(
            Producer(lease, request, self._upstream, self._limits, counted, recoverer, begun_at=begun_at), client
        )
        self._clients[client] = self._clients.get(client, 0) + 1
        return producer

    def stop(self, answer_id: str, by: StoppedBy) -> bool:
        """Stop the answer if this worker produces it. Return whether it does."""
        producer = self._running.get(answer_id)
        if producer is None:
            return False
        producer.stop(by)
        return True

    def adopt(self, answer_id: str) -> None:
        """Claim the answer if it is an orphan, and carry it to its terminal event. Returns at once."""
        if answer_id not in self._adopting and answer_id not in self._running and not self._handing_over:
            self._adopting.add(answer_id)
            self._spawn(self._adopt(answer_id))

    async def drain(self, seconds: float) -> None:
        """Let producers run for up to `seconds`, then leave unfinished answers to other workers."""
        if self._running:
            await asyncio.wait([producer.task for producer in self._running.values()], timeout=seconds)
        self._handing_over = True
        for producer in list(self._running.values()):
            producer.hand_over()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Leave unfinished answers to other workers, and end."""
        self._watchman.cancel()
        self._tender.cancel()
        await self.drain(0)

    def _run(self, producer: Producer, client: str | None = None) -> Producer:
        self._running[producer.answer_id] = producer
        self._producing.set()
        producer.task = asyncio.create_task(producer.run())
        self._tasks.add(producer.task)
        producer.task.add_done_callback(partial(self._ended, producer.answer_id, client))
        return producer

    def _ended(self, answer_id: str, client: str | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._running.pop(answer_id, None)
        if client is None:
            return
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # The loop itself keeps no task alive.
        task.add_done_callback(self._tasks.discard)
        return task

    async def _adopt(self, answer_id: str) -> None:
        try:
            lease = await self._log.claim(answer_id)
            if lease is None:
                return
            try:
                await self._take_over(lease)
            except BaseException:
                lease.release()
                raise
        except FolyamError as error:
            _logger.warning("takeover_failed", answer=answer_id, code=error.code)
        finally:
            self._adopting.discard(answer_id)

    async def _take_over(self, lease: Lease) -> None:
        state = await self._state(lease.answer_id)
        start = state.start or Start(1, lease.answer_id, "")
        request = start.asked()
        mending = self._recovery.after_death(state, all_known=not state.has_unknown_events)
        kills = lease.claims.without_growth > CLAIMS_WITHOUT_GROWTH_LIMIT
        if kills or is_given_up(state.attempt) or request is None:
            mending = Mending("fail", TAKEOVER)
        mending = replace(mending, run=state.run)
        if request is None:
            request = Request(start.model, ())
        counted = AnswerMetrics.of(start.model, self._models)
        counted.taken_over(mending.how)
        # Two machines share only the time of day, and it may have been set in between.
        age = min(max(time.time() - start.at, 0.0), self._limits.answer_seconds)
        begun_at = asyncio.get_running_loop().time() - age
        recoverer = Recoverer(
            self._recovery, lambda: self._awaited_state(lease.answer_id), taken_over=mending, before=state.attempt
        )
        producer = Producer(
            lease, request, self._upstream, self._limits, counted, recoverer, begun_at=begun_at, taken_over=mending
        )
        self._run(producer)

    async def _awaited_state(self, answer_id: str) -> AnswerState:
        """Return the answer's state as `_state`, and wait for a log that is away as an append does.

        A request has less patience, because its client asks again. Here the upstream broke off while the log was away
        or slow, and the answer can be mended when it is back. Of 10,000 answers on a busy machine, 129 failed instead.
        """
        deadline = time.monotonic() + LOG_AWAY_SECONDS
        while True:
            try:
                return await self._state(answer_id)
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(LOG_POLL_SECONDS)

    async def _state(self, answer_id: str) -> AnswerState:
        """Return the answer's state with its request, folded from its log; an empty state if the log is damaged."""
        state = AnswerState()
        try:
            with closing(await self._log.open(answer_id, watch=False)) as reader:
                while events := await reader.read():
                    state.advance(events)
                state.unknown_seq = reader.unknown_seq
            if state.start is not None:
                state.start = await self._log.with_request(state.start)
        except DamagedLogError:
            return AnswerState()
        return state

    async def _watch(self) -> None:
        while True:
            await self._producing.wait()  # An idle worker wakes up less often.
            await asyncio.sleep(POLL_SECONDS)
            self._look()
            if not self._running:
                self._producing.clear()

    def _look(self) -> None:  # A function of its own: `_watch` would hold the last producer while it waits.
        producers = list(self._running.values())
        for producer in producers:
            producer.look()
        metrics.overdue(sum(producer.is_overdue() for producer in producers))

    async def _tend(self) -> None:
        time_of_loop = asyncio.get_running_loop().time
        logged = ""
        while True:
            begun_at = time_of_loop()
            failed = ""
            try:
                await self._log.tend(self.adopt)
            except FolyamError as error:
                failed = error.code
            if failed and failed != logged:  # once, not each second while it lasts
                _logger.warning("log_not_tended", code=failed)
            logged = failed
            await asyncio.sleep(max(TEND_PAUSE_SECONDS, begun_at + TEND_INTERVAL_SECONDS - time_of_loop()))
