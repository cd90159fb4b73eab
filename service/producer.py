"""The producer: the one task that reads the upstream into an answer's log, until a terminal event is there.

It outlives the request that began it. It ends by itself, by a stop from any worker, by nobody's following, or by its
worker's end, in which case another worker carries the answer on.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

import structlog

from service.errors import FolyamError, Unavailable, UpstreamError
from service.eventlog import Lease, LeaseLostError
from service.events import Done, Failed, Restart, Stopped, StoppedBy, Terminal, Timing
from service.request import Request
from service.telemetry import metrics, tracing
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.stream import Upstream

Recovery = Literal["continue", "restart", "fail"]
"""What a take-over does: ask the upstream to go on from the text so far, or anew, or not at all."""

OVERDUE_SECONDS = 15.0
"""How long after its time-out an answer may still be ending, on a busy machine, before it counts as stuck."""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one answer."""

    answer_seconds: float
    answer_bytes: int
    unwatched_seconds: float


class Producer:
    """The making of one answer by this worker."""

    task: asyncio.Task[None]
    said = ""

    def __init__(
        self,
        lease: Lease,
        request: Request,
        upstream: Upstream,
        limits: Limits,
        counted: AnswerMetrics,
        *,
        begun_at: float,
        taken_over: Recovery | None = None,
    ) -> None:
        self.answer_id = lease.answer_id
        self.metrics = counted
        self.begun_at = begun_at
        self._lease = lease
        self._span = tracing.NO_SPAN
        self._request = request
        self._upstream = upstream
        self._limits = limits
        self._taken_over = taken_over
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[UpstreamError | None] = self._loop.create_future()
        self._first_chunk_seconds: float | None = None
        self._upstream_first_chunk_seconds: float | None = None
        self._stopped_by: StoppedBy | None = None
        self._stop_at = 0.0
        self._unwatched_until: float | None = None
        self._running = False
        self._handing_over = False
        self._ending = False
        if lease.unwatched_seconds_left is not None:
            self._begin_unwatched(min(lease.unwatched_seconds_left, limits.unwatched_seconds))
        lease.on_change = self.look

    async def status(self, seconds: float) -> UpstreamError | None:
        """Wait for the upstream's status, up to so many seconds; return what went wrong, if that is known by then."""
        if not self._status.done():
            await asyncio.wait([self._status], timeout=seconds)
        return self._status.result() if self._status.done() else None

    def first_chunk_sent(self) -> None:
        """Note that whoever asked has been sent the first chunk."""
        self.metrics.first_chunk_sent(self._loop.time() - self.begun_at)

    def stop(self, by: StoppedBy) -> None:
        """End the answer, unless it is ending."""
        if not self._ending and self._stopped_by is None:
            self._stopped_by = by
            self._stop_at = self._loop.time()
            self._span.add_event("folyam.stop")
            self._interrupt()

    def hand_over(self) -> None:
        """Leave the answer to another worker, unless it is ending."""
        if not self._ending and self._stopped_by is None:
            self._handing_over = True
            self._span.add_event("folyam.hand_over")
            self._interrupt()

    def _interrupt(self) -> None:
        # A task that is cancelled before its first step takes none, and could not log the end.
        if self._running:
            self.task.cancel()

    def look(self) -> None:
        """Stop if somebody asked for it on another worker, or if nobody has followed for too long."""
        if self._ending:
            return
        try:
            if by := self._lease.stop_requested():
                self.stop(by)
                return
            watched = self._lease.watched()
        except Unavailable:
            return  # A broken disk, or no descriptor left: the next look may tell.
        if watched:
            self._end_unwatched()
            return
        until = self._unwatched_until
        if until is None:
            until = self._begin_unwatched(self._limits.unwatched_seconds)
        if self._loop.time() >= until:
            self.stop("unwatched")

    def _begin_unwatched(self, seconds: float) -> float:
        self._unwatched_until = self._loop.time() + seconds
        self._lease.mark_unwatched(seconds)
        return self._unwatched_until

    def _end_unwatched(self) -> None:
        if self._unwatched_until is not None:
            self._unwatched_until = None
            self._lease.clear_unwatched()

    def is_overdue(self) -> bool:
        """Tell whether it goes on although its time-out should have ended it some time ago."""
        return self._loop.time() > self.begun_at + self._limits.answer_seconds + OVERDUE_SECONDS

    async def run(self) -> None:
        """Produce, and put what came of it into the log."""
        self._running = True
        self._span = tracing.start_generation(
            self.answer_id,
            model=self._request.model,
            temperature=self._request.parameters.get("temperature"),
            max_tokens=self._request.parameters.get("max_tokens"),
            traceparent=self._request.traceparent,
            taken_over=self._taken_over,
        )
        try:
            if self._stopped_by is not None or self._handing_over:
                raise asyncio.CancelledError  # noqa: TRY301 (interrupted before it began)
            terminal = await self._produce()
        except asyncio.CancelledError:
            if self._stopped_by is None:
                self._leave()
                return
            metrics.stop_took(self._loop.time() - self._stop_at)
            terminal = Stopped(self._lease.last_seq + 1, self._stopped_by)
        except LeaseLostError:
            self._lose()
            return
        except FolyamError as error:
            terminal = self._failed(error)
        except Exception:  # Whatever it is, the answer's followers are told.
            _logger.exception("answer_broke", answer=self.answer_id)
            terminal = self._failed(FolyamError("internal"))
        self._ending = True
        try:
            await self._end(terminal)
        except LeaseLostError:
            self._lose()

    async def _produce(self) -> Terminal:
        if self._taken_over == "fail":
            return self._failed(FolyamError("interrupted"))
        if self._taken_over == "restart":
            await self._lease.append([Restart(self._lease.last_seq + 1)])
        asked_at = arrived_at = self._loop.time()
        stream = self._upstream.stream(
            self._request,
            last_seq=self._lease.last_seq,
            said=self.said,
            taken_over=bool(self._taken_over),
            on_status=self._status_came,
        )
        try:
            async with asyncio.timeout_at(self.begun_at + self._limits.answer_seconds):
                while deltas := await stream.read():
                    now = self._loop.time()
                    await self._lease.append(deltas)
                    if self._first_chunk_seconds is None:
                        self._lease.grew()
                        self._first_chunk_seconds = now - self.begun_at
                        self.metrics.upstream_first_chunk(now - asked_at)
                        self._upstream_first_chunk_seconds = now - asked_at
                        self._span.add_event("folyam.first_chunk")
                    else:
                        self.metrics.chunks_arrived(now - arrived_at)
                    arrived_at = now
                    if self._unwatched_until is not None:
                        metrics.chunks_unwatched(len(deltas))
                    if self._lease.size > self._limits.answer_bytes:
                        raise UpstreamError("answer_too_long")
        except TimeoutError:
            raise UpstreamError("answer_timeout") from None
        finally:
            stream.close()
        return Done(self._lease.last_seq + 1, stream.finish_reason or "", stream.usage, self._timing())

    def _status_came(self) -> None:
        if not self._status.done():
            self._status.set_result(None)

    def _failed(self, error: FolyamError) -> Failed:
        if isinstance(error, UpstreamError):
            self.metrics.upstream_failed(error.reason)
            if not self._status.done():
                self._status.set_result(error)
        return Failed(self._lease.last_seq + 1, error.code, error.message, error.retryable)

    async def _end(self, terminal: Terminal) -> None:
        try:
            await self._lease.append([terminal])
        except FolyamError as error:
            # The log cannot take the end either. Released, the answer is an orphan, and ends when the log works again.
            _logger.warning("end_not_logged", answer=self.answer_id, code=error.code)
        self._end_unwatched()
        self._lease.release()
        self._status_came()
        timing = self._timing()
        outcome = type(terminal).__name__.lower()
        usage = terminal.usage if isinstance(terminal, Done) else None
        self.metrics.finished(outcome, timing.duration_seconds, usage)
        _logger.info(
            "answer",
            answer=self.answer_id,
            model=self._request.model,
            outcome=outcome,
            code=getattr(terminal, "code", None),
            by=self._stopped_by,
            events=terminal.seq,
            bytes=self._lease.size,
            tokens=usage.completion_tokens if usage else None,
            first_chunk_seconds=timing.first_chunk_seconds,
            duration_seconds=timing.duration_seconds,
            taken_over=self._taken_over,
            **tracing.log_fields(self._span),
        )
        self._trace(outcome, terminal)

    def _trace(self, outcome: str, terminal: Terminal | None) -> None:
        done = terminal if isinstance(terminal, Done) else None
        tracing.end_generation(
            self._span,
            outcome,
            stopped_by=self._stopped_by,
            first_chunk_seconds=self._upstream_first_chunk_seconds,
            finish_reason=done.finish_reason if done else None,
            usage=done.usage if done else None,
            error=terminal.code if isinstance(terminal, Failed) else None,
        )

    def _lose(self) -> None:
        # The lease, its notes and the answer's end are another producer's, which counts the answer as taken over.
        self._ending = True
        self._status_came()
        self.metrics.handed_over()
        _logger.info("lease_lost", answer=self.answer_id, events=self._lease.last_seq, **tracing.log_fields(self._span))
        self._trace("lost", None)

    def _leave(self) -> None:
        self._ending = True
        self._lease.hand_over()
        self._status_came()
        self.metrics.handed_over()
        _logger.info(
            "answer_handed_over", answer=self.answer_id, events=self._lease.last_seq, **tracing.log_fields(self._span)
        )
        self._trace("handed_over", None)

    def _timing(self) -> Timing:
        first = self._first_chunk_seconds
        return Timing(None if first is None else round(first, 4), round(self._loop.time() - self.begun_at, 4))
