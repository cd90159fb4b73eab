"""A worker's producers, and what becomes of other workers' orphans."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass

import structlog

from service.answer import AnswerState
from service.errors import FolyamError, TooMany, Unavailable
from service.eventlog import DamagedLogError, EventLog, Lease
from service.events import Start, StoppedBy
from service.producer import Limits, Producer, Recovery
from service.request import Request
from service.telemetry import metrics
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.stream import Upstream

LOOK_SECONDS = 0.25
"""How often a producer looks whether it is watched and was asked to stop, where nothing told it before."""
TEND_SECONDS = 1.0
"""How often a worker looks for orphans and for what has expired, from start to start."""
TEND_PAUSE_SECONDS = 0.25
"""Least pause between two looks, where one takes long."""
MOST_CLAIMS_WITHOUT_GROWTH = 3
"""Take-overs in a row after which the answer did not grow before its worker died. After more, it is given up."""
MOST_CLAIMS = 20
"""Take-overs in all. An answer that kills each worker after its first words grows each time, and has to end, too."""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many answers one worker generates at once."""

    answers: int
    answers_per_client: int


class Supervisor:
    """This worker's producers, and what becomes of other workers' orphans."""

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
        self._recovery: Recovery = recovery or ("continue" if upstream.continues else "restart")
        self._models = models
        self._bounds = bounds
        self._clients: Counter[str] = Counter()
        self._running: dict[str, Producer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopting: set[str] = set()
        self._handing_over = False
        self._watchman = asyncio.create_task(self._watch())
        self._tender = asyncio.create_task(self._tend())

    async def start(
        self, request: Request, answer_id: str, *, client: str, begun_at: float, owner: str = ""
    ) -> Producer:
        """Begin the answer: its log is there when this returns, the upstream is asked soon after.

        `client` is who asked, of whatever form; `begun_at` is when, by the event loop's clock; `owner` is whose it is.

        Raises:
            TooMany: the client has as many answers under way as it may.
            Unavailable: so has the worker, or the log cannot take it.
        """
        # Told at once, in place of a queue: who waits unseen reloads, and asks again.
        if len(self._running) >= self._bounds.answers:
            raise Unavailable("too_many_answers")
        if self._clients[client] >= self._bounds.answers_per_client:
            raise TooMany("too_many_answers_of_yours")
        lease = await self._log.create(Start.asking(answer_id, request, at=round(time.time(), 3), owner=owner))
        counted = AnswerMetrics.of(request.model, self._models)
        counted.started()
        producer = self._run(Producer(lease, request, self._upstream, self._limits, counted, begun_at=begun_at))
        self._clients[client] += 1
        producer.task.add_done_callback(lambda _: self._let_go(client))
        return producer

    def _let_go(self, client: str) -> None:
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    def stop(self, answer_id: str, by: StoppedBy) -> bool:
        """Stop the answer if this worker produces it; tell whether it does."""
        producer = self._running.get(answer_id)
        if producer is None:
            return False
        producer.stop(by)
        return True

    def adopt(self, answer_id: str) -> None:
        """Claim an orphan, if it still is one, and carry it to its terminal event."""
        if answer_id not in self._adopting and answer_id not in self._running and not self._handing_over:
            self._adopting.add(answer_id)
            self._spawn(self._adopt(answer_id))

    async def drain(self, seconds: float) -> None:
        """Let producers go on for so long; then leave what is unfinished to other workers."""
        if self._running:
            await asyncio.wait([producer.task for producer in self._running.values()], timeout=seconds)
        self._handing_over = True
        for producer in list(self._running.values()):
            producer.hand_over()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Hand over what is still running and end."""
        self._watchman.cancel()
        self._tender.cancel()
        await self.drain(0)

    def _run(self, producer: Producer) -> Producer:
        answer_id = producer.answer_id
        self._running[answer_id] = producer
        producer.task = self._spawn(producer.run())
        producer.task.add_done_callback(lambda _: self._running.pop(answer_id, None))
        return producer

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
        how: Recovery = self._recovery
        all_known = not state.has_unknown_events and state.last_seq == lease.last_seq
        if how == "continue" and not (state.text and state.only_text and all_known):
            # Reasoning cannot be handed back to a model in mid-thought, nor can events that only a newer version knows.
            # A restart takes both back from the followers, and asks again with all that was asked.
            how = "restart"
        claims = lease.claims
        if claims.without_growth > MOST_CLAIMS_WITHOUT_GROWTH or claims.total > MOST_CLAIMS or request is None:
            how = "fail"
        if request is None:
            request = Request(start.model, ())
        counted = AnswerMetrics.of(start.model, self._models)
        counted.taken_over(how)
        # The clocks of two processes agree only on the time of day, and that may have been set in between.
        age = min(max(time.time() - start.at, 0.0), self._limits.answer_seconds)
        begun_at = asyncio.get_running_loop().time() - age
        producer = Producer(lease, request, self._upstream, self._limits, counted, begun_at=begun_at, taken_over=how)
        if how == "continue":
            producer.said = state.text
        self._run(producer)

    async def _state(self, answer_id: str) -> AnswerState:
        """Return what the answer's log makes of it; nothing, where the log is damaged."""
        state = AnswerState()
        with closing(await self._log.open(answer_id, watch=False)) as reader:
            try:
                while events := await reader.read():
                    state.advance(events)
            except DamagedLogError:
                return AnswerState()
        return state

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
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
            if failed and failed != logged:  # Once, and not each second for as long as it lasts.
                _logger.warning("log_not_tended", code=failed)
            logged = failed
            await asyncio.sleep(max(TEND_PAUSE_SECONDS, begun_at + TEND_SECONDS - time_of_loop()))
