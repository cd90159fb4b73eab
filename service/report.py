"""Report one producer's work to the metrics, the traces and the service's log."""

import asyncio

import structlog

from service.errors import FolyamError
from service.events import Done, Failed, Stopped, StoppedBy, Terminal, Timing, Usage
from service.logging import bound_logger
from service.request import Request, decoded
from service.telemetry import metrics, tracing
from service.telemetry.answer_metrics import AnswerMetrics
from service.telemetry.usage import reasoning_tokens

_logger = structlog.get_logger()


class Report:
    """One producer's part of an answer. `begun_at` is when it was asked for, by the event loop's clock."""

    def __init__(
        self,
        counted: AnswerMetrics,
        answer_id: str,
        request: Request,
        *,
        begun_at: float,
        taken_over: str | None,
    ) -> None:
        self._metrics = counted
        self._answer_id = answer_id
        self._request = request
        self._begun_at = begun_at
        self._taken_over = taken_over
        self._time = asyncio.get_running_loop().time
        self._span = tracing.NO_SPAN
        self._stopped_by: StoppedBy | None = None
        self._cause: dict[str, object] = {}
        self._endpoint = ""
        self._interrupted_at = 0.0
        self._done_as = "done"
        self._first_chunk_seconds: float | None = None
        self._upstream_first_chunk_seconds: float | None = None
        self._broken_at: float | None = None
        self._broken_by = ""
        self._breaks = 0

    def begin(self) -> None:
        """Begin the trace's span."""
        self._span = tracing.start_generation(
            self._answer_id,
            model=self._request.model,
            temperature=decoded(self._request.parameters.get("temperature")),
            max_tokens=decoded(self._request.parameters.get("max_tokens")),
            traceparent=self._request.traceparent,
            taken_over=self._taken_over,
        )

    def first_chunk(self, now: float, asked_at: float) -> None:
        """Note when a request's first chunk came, and when the upstream had been asked. The first request counts."""
        if self._first_chunk_seconds is not None:
            return
        self._first_chunk_seconds = now - self._begun_at
        self._upstream_first_chunk_seconds = now - asked_at
        self._metrics.upstream_first_chunk(now - asked_at)
        self._span.add_event("folyam.first_chunk")

    def broke(self, why: str, reason: str, *, how: str) -> None:
        """Note a failure of the upstream that is to be mended. `why` is the break's reason, `reason` this attempt's."""
        if self._broken_at is None:
            self._broken_at = self._time()
            self._broken_by = why
            self._breaks += 1
        self._span.add_event("folyam.break", {"folyam.break.reason": reason})
        _logger.info("upstream_broke", answer=self._answer_id, reason=reason, how=how, **tracing.log_fields(self._span))

    def mended(self, how: str) -> None:
        """Note that the answer goes on behind a seam."""
        self._span.add_event("folyam.seam", {"folyam.seam.how": how})
        self._count_break(how)

    def _count_break(self, outcome: str) -> None:
        if self._broken_at is not None:
            self._metrics.break_ended(self._broken_by, outcome, self._time() - self._broken_at)
            self._broken_at = None

    def answered(self, endpoint: str) -> None:
        """Note which endpoint the first chunk of a request came from."""
        self._endpoint = endpoint
        self._metrics.answered(endpoint)

    def generated(self, usage: Usage, seconds: float, *, shows_reasoning: bool) -> None:
        """Note the usage of one request, and the time from its first chunk to its last."""
        # Reasoning that is not shown was generated before the first chunk.
        tokens = usage.completion_tokens - 1 - (0 if shows_reasoning else reasoning_tokens(usage) or 0)
        if tokens > 0 and seconds > 0:
            self._metrics.generated(self._endpoint, tokens, seconds)

    def first_chunk_sent(self) -> None:
        """Note that the client that asked has been sent the first chunk."""
        self._metrics.first_chunk_sent(self._time() - self._begun_at)

    def stop(self, by: StoppedBy) -> None:
        """Note that the answer is being stopped."""
        self._stopped_by = by
        self._interrupted_at = self._time()
        self._span.add_event("folyam.stop")

    def stop_took_effect(self) -> None:
        """Note that the upstream's connection is closed."""
        metrics.stop_took(self._time() - self._interrupted_at)

    def leave(self) -> None:
        """Note that the answer is being left to another worker."""
        self._span.add_event("folyam.hand_over")

    def count_as(self, outcome: str) -> None:
        """Note the outcome of `done`, if the model said nothing (`empty`) or gave an unknown reason (`unknown`)."""
        self._done_as = outcome

    def timing(self) -> Timing:
        """Return how long the answer has taken so far."""
        first = self._first_chunk_seconds
        return Timing(None if first is None else round(first, 4), round(self._time() - self._begun_at, 4))

    def fail(self, error: FolyamError) -> None:
        """Note why the answer failed."""
        self._cause = error.log_fields()

    def end(self, terminal: Terminal, size: int) -> None:
        """Note how the answer ended. `size` is its log's length in bytes."""
        timing = terminal.timing or self.timing()
        outcome = self._done_as if isinstance(terminal, Done) else type(terminal).__name__.lower()
        usage = terminal.usage or None
        error = terminal.code if isinstance(terminal, Failed) else None
        is_complete = usage is not None and terminal.usage_complete is not False
        # An answer that was whole but for its end goes on without a further chunk.
        self._count_break("continued" if isinstance(terminal, Done) else outcome)
        if isinstance(terminal, Stopped):
            self._metrics.stopped(terminal.by)
        self._metrics.finished(outcome, timing.duration_seconds, usage, usage_complete=is_complete, error=error)
        bound_logger().info(
            "answer",
            answer=self._answer_id,
            model=self._request.model,
            outcome=outcome,
            code=getattr(terminal, "code", None),
            by=self._stopped_by,
            events=terminal.seq,
            bytes=size,
            tokens=usage.completion_tokens if usage else None,
            usage_complete=is_complete,
            endpoint=self._endpoint or None,
            first_chunk_seconds=timing.first_chunk_seconds,
            duration_seconds=timing.duration_seconds,
            taken_over=self._taken_over,
            breaks=self._breaks,
            **self._cause,
            **tracing.log_fields(self._span),
        )
        self._trace(outcome, terminal)

    def hand_over(self, last_seq: int) -> None:
        """Note that the answer was left to another worker, with its last event."""
        _logger.info("answer_handed_over", answer=self._answer_id, events=last_seq, **tracing.log_fields(self._span))
        self._go_on_elsewhere("handed_over")

    def lose(self, last_seq: int) -> None:
        """Note that another worker has the answer's lease. This worker knows no end of the answer, and counts none."""
        _logger.info("lease_lost", answer=self._answer_id, events=last_seq, **tracing.log_fields(self._span))
        metrics.lease_lost()
        self._go_on_elsewhere("lost")

    def not_logged(self, code: str, last_seq: int) -> None:
        """Note that the log did not take the answer's end. The worker that takes the answer over counts its end."""
        _logger.warning(
            "end_not_logged", answer=self._answer_id, code=code, events=last_seq, **tracing.log_fields(self._span)
        )
        self._go_on_elsewhere("not_logged")

    def _go_on_elsewhere(self, outcome: str) -> None:
        self._metrics.handed_over()
        self._trace(outcome, None)

    def _trace(self, outcome: str, terminal: Terminal | None) -> None:
        done = terminal if isinstance(terminal, Done) else None
        tracing.end_generation(
            self._span,
            outcome,
            stopped_by=self._stopped_by,
            first_chunk_seconds=self._upstream_first_chunk_seconds,
            finish_reason=done.finish_reason if done else None,
            usage=(terminal.usage or None) if terminal else None,
            endpoint=self._endpoint or None,
            error=terminal.code if isinstance(terminal, Failed) else None,
        )
