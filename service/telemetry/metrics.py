"""Every metric, behind a verb. Labels never hold a user, a key or an id.

With several workers, `PROMETHEUS_MULTIPROC_DIR` is set before Python starts, and each worker answers for all.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

from service import __version__
from service.errors import CODES, UPSTREAM_REASONS
from service.events import Usage
from service.telemetry import worker_slots
from service.telemetry.allocation import AllocatedValues

_logger = structlog.get_logger()

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"

_directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
_refusals: list[OSError] = []
"""Errors that left a metric in memory, where no scrape sees it. The first is logged."""


def _claim(directory: Path) -> worker_slots.Slot | None:
    # Before the first metric is made: each takes its files' names from the value class, and would take the process id.
    try:
        slot = worker_slots.claim(directory)
    except OSError as error:  # A full disk, above all. The service is worth more than its metrics.
        _refusals.append(error)
        values.ValueClass = values.MutexValue
        return None
    values.ValueClass = AllocatedValues(directory, slot.number, _refusals.append)
    return slot


_slot = _claim(Path(_directory)) if _directory else None


def _doubling(first: float, last: float) -> tuple[float, ...]:
    buckets = [first]
    while buckets[-1] < last:
        buckets.append(round(buckets[-1] * 2, 6))
    return tuple(buckets)


_first_chunk = Histogram(
    "folyam_time_to_first_chunk_seconds",
    "From an answer's request to the first chunk sent to whoever asked.",
    ["model"],
    buckets=_doubling(0.01, 81.92),
)
_upstream_first_chunk = Histogram(
    "folyam_upstream_time_to_first_chunk_seconds",
    "From the request to the upstream to its first chunk.",
    ["model"],
    buckets=_doubling(0.01, 81.92),
)
_duration = Histogram(
    "folyam_stream_duration_seconds",
    "From an answer's request to its terminal event.",
    ["model", "outcome"],
    buckets=_doubling(0.01, 655.36),
)
_between_chunks = Histogram(
    "folyam_time_between_chunks_seconds",
    "Between one arrival of chunks from the upstream and the next.",
    ["model"],
    buckets=_doubling(0.0025, 10.24),
)
_in_flight = Gauge("folyam_streams_in_flight", "Answers being generated.", multiprocess_mode="livesum")
_followers = Gauge("folyam_followers", "Responses that follow an answer.", multiprocess_mode="livesum")
_started = Counter("folyam_streams_started", "Answers begun.", ["model"])
_finished = Counter("folyam_streams_finished", "Answers ended.", ["model", "outcome"])
_tokens = Counter("folyam_tokens", "Tokens, as the upstream counted them.", ["model", "type"])
_rejected = Counter("folyam_requests_rejected", "Requests refused before a generation began.", ["reason"])
_upstream_errors = Counter("folyam_upstream_errors", "Upstreams' failures.", ["model", "reason"])
_resumes = Counter("folyam_resumes", "Answers followed on from an offset.", ["rendering"])
_takeovers = Counter("folyam_takeovers", "Orphaned answers claimed by another worker.", ["outcome"])
_unwatched_chunks = Counter("folyam_unwatched_chunks", "Chunks that came while nobody followed.")
_stop = Histogram(
    "folyam_stop_seconds",
    "From a stop to the upstream's connection closed.",
    buckets=_doubling(0.001, 8.192),
)
_overdue = Gauge(
    "folyam_streams_overdue",
    "Answers still being generated well after the time-out that should have ended them.",
    multiprocess_mode="livesum",
)
_streams_limit = Gauge("folyam_streams_limit", "Answers that may be generated at once.", multiprocess_mode="livesum")
_followers_limit = Gauge("folyam_followers_limit", "Responses that may be sent at once.", multiprocess_mode="livesum")
_worker_deaths = Counter("folyam_worker_deaths", "Workers that ended without leaving: killed, or crashed.")
if _slot is not None:
    _worker_deaths.inc(_slot.lost)
_log_answers = Gauge("folyam_log_answers", "Answers that are kept.", multiprocess_mode="livemostrecent")
_log_bytes = Gauge("folyam_log_bytes", "Bytes of their logs.", multiprocess_mode="livemostrecent")
_log_limit = Gauge(
    "folyam_log_limit_bytes", "Bytes of logs above which ended answers are erased.", multiprocess_mode="livemax"
)
_disk_free = Gauge(
    "folyam_log_disk_free_bytes", "Free bytes of the disk that has the logs.", multiprocess_mode="livemostrecent"
)
_disk_size = Gauge(
    "folyam_log_disk_size_bytes", "Bytes of the disk that has the logs.", multiprocess_mode="livemostrecent"
)
_build_info = Gauge("folyam_build_info", "1, with the version.", ["version"], multiprocess_mode="livemax")
_build_info.labels(__version__).set(1)


class _Gathered:
    """Observations for a histogram, counted here and handed over now and then.

    Observing each chunk would cost 4 µs, a tenth of what a chunk costs in all. prometheus_client has no public way to
    observe many at once; `tests/test_metrics.py` holds it to the one used here.
    """

    HANDED_OVER_EVERY = 64

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds = histogram._upper_bounds  # noqa: SLF001
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._gathered = 0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        self._gathered += 1
        if self._gathered == self.HANDED_OVER_EVERY:
            self.hand_over()

    def hand_over(self) -> None:
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(self._sum)  # noqa: SLF001
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._gathered = 0


class AnswerMetrics:
    """One answer's metrics, their labels resolved once: that costs as much as counting does."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._first_chunk = _first_chunk.labels(model)
        self._between_chunks = _Gathered(_between_chunks.labels(model))

    def started(self) -> None:
        """Count an answer begun."""
        _started.labels(self._model).inc()
        _in_flight.inc()

    def taken_over(self, outcome: str) -> None:
        """Count an orphan claimed by this worker: `outcome` is what it does with it."""
        _takeovers.labels(outcome).inc()
        _in_flight.inc()

    def upstream_first_chunk(self, seconds: float) -> None:
        """Note how long the upstream took to begin."""
        _upstream_first_chunk.labels(self._model).observe(seconds)

    def first_chunk_sent(self, seconds: float) -> None:
        """Note how long whoever asked waited for a first chunk."""
        self._first_chunk.observe(seconds)

    def chunks_arrived(self, seconds: float) -> None:
        """Note the time since chunks arrived before."""
        self._between_chunks.observe(seconds)

    def upstream_failed(self, reason: str) -> None:
        """Count a failure of the upstream."""
        _upstream_errors.labels(self._model, reason).inc()

    def finished(self, outcome: str, seconds: float, usage: Usage | None) -> None:
        """Count an answer ended."""
        self._between_chunks.hand_over()
        _finished.labels(self._model, outcome).inc()
        _duration.labels(self._model, outcome).observe(seconds)
        _in_flight.dec()
        if usage is not None:
            _tokens.labels(self._model, "prompt").inc(usage.prompt_tokens)
            _tokens.labels(self._model, "completion").inc(usage.completion_tokens)

    def handed_over(self) -> None:
        """Count an answer that this worker leaves to another, unfinished."""
        self._between_chunks.hand_over()
        _in_flight.dec()


def answer_metrics(model: str, allowed_models: Sequence[str]) -> AnswerMetrics:
    """Return the metrics for an answer of the model; a model outside the list is counted as `other`."""
    return AnswerMetrics(model if model in allowed_models else OTHER)


def follower_came() -> None:
    """Count a follower more."""
    _followers.inc()


def follower_left() -> None:
    """Count a follower fewer."""
    _followers.dec()


def resumed(rendering: str) -> None:
    """Count an answer followed on from an offset."""
    _resumes.labels(rendering).inc()


def rejected(reason: str) -> None:
    """Count a request refused; `reason` is an error's code."""
    _rejected.labels(reason).inc()


def chunks_unwatched(count: int) -> None:
    """Count chunks that came while nobody followed."""
    _unwatched_chunks.inc(count)


def stop_took(seconds: float) -> None:
    """Note how long a stop took to close the upstream's connection."""
    _stop.observe(seconds)


def overdue(count: int) -> None:
    """Note how many of this worker's answers go on although their time is over."""
    _overdue.set(count)


def bounds(*, streams: int, followers: int, log_bytes: int) -> None:
    """Note this worker's bounds, which what is there can be held against."""
    _streams_limit.set(streams)
    _followers_limit.set(followers)
    _log_limit.set(log_bytes)


def begin(models: Sequence[str], renderings: Iterable[str]) -> None:
    """Create every series that can be counted, at zero, so that `rate()` and `increase()` see its first event.

    Prometheus sees no increase in a counter that it first scrapes at 1.
    """
    for model in models:
        _started.labels(model)
        _first_chunk.labels(model)
        _upstream_first_chunk.labels(model)
        _between_chunks.labels(model)
        for outcome in ("done", "stopped", "failed"):
            _finished.labels(model, outcome)
            _duration.labels(model, outcome)
        for kind in ("prompt", "completion"):
            _tokens.labels(model, kind)
        for reason in UPSTREAM_REASONS:
            _upstream_errors.labels(model, reason)
    for outcome in ("continue", "restart", "fail"):
        _takeovers.labels(outcome)
    for code in CODES:
        _rejected.labels(code)
    for rendering in renderings:
        _resumes.labels(rendering)


def log_swept(answers: int, size: int, *, disk_free: int, disk_size: int) -> None:
    """Note what the logs take up, in bytes, and how much room their disk has."""
    _log_answers.set(answers)
    _log_bytes.set(size)
    _disk_free.set(disk_free)
    _disk_size.set(disk_size)


def serve() -> None:
    """Say that this worker serves from now on."""
    _log_refusals()
    if _slot is not None:
        _slot.serve()


def leave() -> None:
    """Say that this worker ends in order."""
    if _slot is not None:
        _slot.leave()


def exposition() -> bytes:
    """Return all workers' metrics in Prometheus' text format."""
    _log_refusals()
    if _directory is None:
        return generate_latest(REGISTRY)
    if lost := worker_slots.sweep(Path(_directory)):
        _worker_deaths.inc(lost)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _log_refusals() -> None:
    if _refusals:
        _logger.warning("metrics_not_counted", reason=_refusals[0].strerror)
        _refusals.clear()
