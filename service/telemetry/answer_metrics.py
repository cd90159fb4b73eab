"""One answer's metrics."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Self

from service.telemetry import series
from service.telemetry.direct import Observations, adding_to
from service.telemetry.gen_ai import Operation
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
        self._series.started(1)
        _add_in_flight(1)

    def taken_over(self, outcome: str) -> None:
        """Count an orphan claimed by this worker. `outcome` is the way of the take-over."""
        series.TAKEOVERS.labels(outcome).inc()
        _add_in_flight(1)

    def upstream_first_chunk(self, seconds: float) -> None:
        """Observe the time from the upstream request to its first chunk."""
        self._series.upstream_first_chunk(seconds)
        if self._operation is not None:
            self._operation.first_chunk(seconds)

    def answered(self, endpoint: str) -> None:
        """Count a request to the upstream that brought a first chunk. `endpoint` is one of `series.ENDPOINTS`."""
        self._series.answered[endpoint](1)
        if self._operation is not None:
            self._between_chunks.flush()  # They were the last endpoint's.
            self._operation.answered(endpoint)

    def generated(self, endpoint: str, tokens: int, seconds: float) -> None:
        """Observe the time that each of the tokens took that came in the seconds after the first chunk."""
        self._series.time_per_token[endpoint](seconds / tokens)

    def stopped(self, by: str) -> None:
        """Count a stopped answer by its cause."""
        series.STOPPED.labels(self._model, by).inc()

    def first_chunk_sent(self, seconds: float) -> None:
        """Observe the time from the request to the first chunk sent to its client."""
        self._series.first_chunk(seconds)

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
        self._series.finished[outcome](1)
        self._series.duration[outcome](seconds)
        _add_in_flight(-1)
        if self._operation is not None:
            self._operation.ended(seconds, error, usage)
        if not usage_complete:
            series.USAGE_INCOMPLETE.labels(self._model, outcome).inc()
        if usage is not None:
            self._series.prompt_tokens(usage.prompt_tokens)
            self._series.completion_tokens(usage.completion_tokens)
            if cached := cached_tokens(usage):
                self._series.cached_tokens(cached)
            if reasoning := reasoning_tokens(usage):
                self._series.reasoning_tokens(reasoning)

    def handed_over(self) -> None:
        """Count out an answer that this worker leaves to another, unfinished."""
        self._between_chunks.flush()
        _add_in_flight(-1)


class _Series:
    """One model's series. Their labels are resolved once, which costs as much as counting does."""

    def __init__(self, model: str) -> None:
        self.started = adding_to(series.STARTED.labels(model))
        self.first_chunk = Observations(series.FIRST_CHUNK.labels(model)).observe
        self.upstream_first_chunk = Observations(series.UPSTREAM_FIRST_CHUNK.labels(model)).observe
        self.between_chunks = Observations(series.BETWEEN_CHUNKS.labels(model)).observe_all
        self.finished = {outcome: adding_to(series.FINISHED.labels(model, outcome)) for outcome in series.OUTCOMES}
        self.duration = {
            outcome: Observations(series.DURATION.labels(model, outcome)).observe for outcome in series.OUTCOMES
        }
        self.prompt_tokens = adding_to(series.TOKENS.labels(model, "prompt"))
        self.completion_tokens = adding_to(series.TOKENS.labels(model, "completion"))
        self.cached_tokens = adding_to(series.TOKEN_DETAILS.labels(model, "cached"))
        self.reasoning_tokens = adding_to(series.TOKEN_DETAILS.labels(model, "reasoning"))
        self.answered = {
            endpoint: adding_to(series.UPSTREAM_ANSWERS.labels(model, endpoint)) for endpoint in series.ENDPOINTS
        }
        self.time_per_token = {
            endpoint: Observations(series.TIME_PER_TOKEN.labels(model, endpoint)).observe
            for endpoint in series.ENDPOINTS
        }


_add_in_flight = adding_to(series.IN_FLIGHT)

_series_of = cache(_Series)  # `AnswerMetrics.of` limits the models to the settings' and `other`.


class _Batch:
    """Observations of a histogram, kept here and added to it every `SIZE` observations.

    Observing each chunk would cost a tenth of a chunk's whole cost. `add` gets the values in order of size, and `also`
    the same.
    """

    SIZE = 64

    def __init__(self, add: Callable[[Sequence[float]], None], also: Callable[[Sequence[float]], None] | None) -> None:
        self._add = add
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
        self._add(values)
        if self._also is not None:
            self._also(values)
        values.clear()
