"""One answer's metrics."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Self

from prometheus_client import Histogram

from service.telemetry import series
from service.telemetry.gen_ai import Operation, counts_of
from service.telemetry.usage import Usage, cached_tokens, reasoning_tokens

OTHER = "other"
"""The label of a model outside the list: a label must not hold a client's input."""


class AnswerMetrics:
    """The metrics of one answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._series = _series_of(model)
        self._operation = Operation.of(model)
        self._between_chunks = _Batch(self._series.between_chunks, self._operation.chunks if self._operation else None)
        self.chunks_arrived = self._between_chunks.observe
        """Observe the time since the last arrival of chunks, in seconds."""

    @classmethod
    def of(cls, model: str, allowed_models: Collection[str]) -> Self:
        """Return the metrics for an answer of the model; a model outside the list is counted as `other`."""
        return cls(model if model in allowed_models else OTHER)

    def started(self) -> None:
        """Count a started answer."""
        self._series.started.inc()
        series.IN_FLIGHT.inc()

    def taken_over(self, outcome: str) -> None:
        """Count an orphan claimed by this worker. `outcome` is the way of the take-over."""
        series.TAKEOVERS.labels(outcome).inc()
        series.IN_FLIGHT.inc()

    def upstream_first_chunk(self, seconds: float) -> None:
        """Observe the time from the upstream request to its first chunk."""
        self._series.upstream_first_chunk.observe(seconds)
        if self._operation is not None:
            self._operation.first_chunk(seconds)

    def answered(self, endpoint: str) -> None:
        """Count a request to the upstream that brought a first chunk. `endpoint` is one of `series.ENDPOINTS`."""
        self._series.answered[endpoint].inc()
        if self._operation is not None:
            self._between_chunks.flush()  # They were the last endpoint's.
            self._operation.answered(endpoint)

    def generated(self, endpoint: str, tokens: int, seconds: float) -> None:
        """Observe the time that each of the tokens took that came in the seconds after the first chunk."""
        self._series.time_per_token[endpoint].observe(seconds / tokens)

    def stopped(self, by: str) -> None:
        """Count a stopped answer by its cause."""
        series.STOPPED.labels(self._model, by).inc()

    def first_chunk_sent(self, seconds: float) -> None:
        """Observe the time from the request to the first chunk sent to its client."""
        self._series.first_chunk.observe(seconds)

    def upstream_failed(self, reason: str) -> None:
        """Count a failure of the upstream."""
        series.UPSTREAM_ERRORS.labels(self._model, reason).inc()

    def break_ended(self, reason: str, outcome: str, seconds: float) -> None:
        """Count an upstream's failure in the middle, by what became of it, and the time for which nothing came."""
        series.BREAKS.labels(reason, outcome).inc()
        if outcome in series.MENDED:
            series.BREAK.observe(seconds)

    def finished(
        self,
        outcome: str,
        seconds: float,
        usage: Usage | None,
        *,
        usage_complete: bool = True,
        error: str | None = None,
    ) -> None:
        """Count an ended answer, its duration and its tokens as far as they are known. `error` is a failure's code."""
        self._between_chunks.flush()
        self._series.finished[outcome].inc()
        self._series.duration[outcome].observe(seconds)
        series.IN_FLIGHT.dec()
        if self._operation is not None:
            self._operation.ended(seconds, error, usage)
        if not usage_complete:
            series.USAGE_INCOMPLETE.labels(self._model, outcome).inc()
        if usage is not None:
            self._series.prompt_tokens.inc(usage.prompt_tokens)
            self._series.completion_tokens.inc(usage.completion_tokens)
            if cached := cached_tokens(usage):
                self._series.cached_tokens.inc(cached)
            if reasoning := reasoning_tokens(usage):
                self._series.reasoning_tokens.inc(reasoning)

    def handed_over(self) -> None:
        """Count out an answer that this worker leaves to another, unfinished."""
        self._between_chunks.flush()
        series.IN_FLIGHT.dec()


class _Series:
    """One model's series. Their labels are resolved once, which costs as much as counting does."""

    def __init__(self, model: str) -> None:
        self.started = series.STARTED.labels(model)
        self.first_chunk = series.FIRST_CHUNK.labels(model)
        self.upstream_first_chunk = series.UPSTREAM_FIRST_CHUNK.labels(model)
        self.between_chunks = series.BETWEEN_CHUNKS.labels(model)
        self.finished = {outcome: series.FINISHED.labels(model, outcome) for outcome in series.OUTCOMES}
        self.duration = {outcome: series.DURATION.labels(model, outcome) for outcome in series.OUTCOMES}
        self.prompt_tokens = series.TOKENS.labels(model, "prompt")
        self.completion_tokens = series.TOKENS.labels(model, "completion")
        self.cached_tokens = series.TOKEN_DETAILS.labels(model, "cached")
        self.answered = {endpoint: series.UPSTREAM_ANSWERS.labels(model, endpoint) for endpoint in series.ENDPOINTS}
        self.time_per_token = {endpoint: series.TIME_PER_TOKEN.labels(model, endpoint) for endpoint in series.ENDPOINTS}
        self.reasoning_tokens = series.TOKEN_DETAILS.labels(model, "reasoning")


_series_of = cache(_Series)  # `AnswerMetrics.of` limits the models to the settings' and `other`.


class _Batch:
    """Observations of a histogram, kept here and added to it every `SIZE` observations.

    Observing each chunk would cost 4 µs, a tenth of a chunk's whole cost. prometheus_client has no public way to
    observe many at once. `tests/test_metrics.py` checks that the private one used here counts the same.
    `also` gets the same observations, in order of size.
    """

    SIZE = 64

    def __init__(self, histogram: Histogram, also: Callable[[Sequence[float]], None] | None) -> None:
        self._histogram = histogram
        self._also = also
        self._values: list[float] = []

    def observe(self, value: float) -> None:
        values = self._values
        values.append(value)
        if len(values) == self.SIZE:
            self.flush()

    def flush(self) -> None:
        values = self._values
        if not values:
            return
        values.sort()
        bounds = self._histogram._upper_bounds[:-1]  # noqa: SLF001 # the last is infinite
        for bucket, count in zip(self._histogram._buckets, counts_of(values, bounds), strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(sum(values))  # noqa: SLF001
        if self._also is not None:
            self._also(values)
        values.clear()
