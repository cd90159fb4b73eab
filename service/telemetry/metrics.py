"""A worker's metrics, with a verb for each event. `answer_metrics` counts one answer."""

from collections.abc import Iterable, Sequence

from service.telemetry import series
from service.telemetry.direct import Observations, adding_to

_add_follower = adding_to(series.FOLLOWERS)
_observe_append = Observations(series.APPEND).observe


def follower_came() -> None:
    """Count a follower in."""
    _add_follower(1)


def follower_left() -> None:
    """Count a follower out."""
    _add_follower(-1)


def resumed(rendering: str) -> None:
    """Count an answer followed on from an offset."""
    series.RESUMES.labels(rendering).inc()


def rejected(reason: str) -> None:
    """Count a rejected request. `reason` is an error's code."""
    series.REJECTED.labels(reason).inc()


def chunks_unwatched(count: int) -> None:
    """Count chunks that arrived while the answer had no follower."""
    series.UNWATCHED_CHUNKS.inc(count)


def stop_took(seconds: float) -> None:
    """Observe the time from a stop to the upstream's connection closed."""
    series.STOP.observe(seconds)


def append_took(seconds: float) -> None:
    """Observe the time from an append to the log to its completion."""
    _observe_append(seconds)


def lease_lost() -> None:
    """Count an answer that another worker has."""
    series.LEASES_LOST.inc()


def text_given_anew() -> None:
    """Count a text that was given anew."""
    series.GIVEN_ANEW.inc()


def log_connection(*, up: bool) -> None:
    """Set whether this worker has its connection to the log's server."""
    series.LOG_DISCONNECTED.set(not up)


def log_reconnected() -> None:
    """Count a connection to the log's server that took the place of a lost one."""
    series.RECONNECTS.inc()


def entry_put_back() -> None:
    """Count an append that the log's server had forgotten, and that was written again."""
    series.PUT_BACK.inc()


def log_workers(count: int) -> None:
    """Set the number of workers that use the log's server, as last heard."""
    series.LOG_WORKERS.set(count)


def log_memory(*, used: int, limit: int) -> None:
    """Set the memory that the log's server uses, and may use, in bytes. 0 is no limit."""
    series.LOG_MEMORY_USED.set(used)
    series.LOG_MEMORY_LIMIT.set(limit)


def overdue(count: int) -> None:
    """Set how many of this worker's answers are still generated well after their timeout."""
    series.OVERDUE.set(count)


def bounds(*, streams: int, followers: int, log_bytes: int) -> None:
    """Set this worker's limits, for comparison with the current numbers."""
    series.STREAMS_LIMIT.set(streams)
    series.FOLLOWERS_LIMIT.set(followers)
    series.LOG_LIMIT.set(log_bytes)


def log_swept(answers: int, size: int) -> None:
    """Set the number of kept answers, and the bytes of their logs."""
    series.LOG_ANSWERS.set(answers)
    series.LOG_BYTES.set(size)


def disk(*, free: int, size: int) -> None:
    """Set the free and the total bytes of the disk that has the logs' files."""
    series.DISK_FREE.set(free)
    series.DISK_SIZE.set(size)


def begin(
    models: Sequence[str],
    renderings: Iterable[str],
    *,
    error_codes: Iterable[str],
    upstream_reasons: Sequence[str],
    break_reasons: Iterable[str],
) -> None:
    """Create every series that can be counted, at zero, so that `rate()` and `increase()` see its first event.

    Prometheus sees no increase in a counter that it first scrapes at 1.
    """
    for model in models:
        _begin_model(model, upstream_reasons)
    for reason in break_reasons:
        for outcome in (*series.MENDED, "stopped", "failed"):
            series.BREAKS.labels(reason, outcome)
    for outcome in ("attach", "continue", "restart", "fail"):
        series.TAKEOVERS.labels(outcome)
    for code in error_codes:
        series.REJECTED.labels(code)
    for rendering in renderings:
        series.RESUMES.labels(rendering)


def _begin_model(model: str, upstream_reasons: Sequence[str]) -> None:
    series.STARTED.labels(model)
    series.FIRST_CHUNK.labels(model)
    series.UPSTREAM_FIRST_CHUNK.labels(model)
    series.BETWEEN_CHUNKS.labels(model)
    for outcome in series.OUTCOMES:
        series.FINISHED.labels(model, outcome)
        series.DURATION.labels(model, outcome)
        series.USAGE_INCOMPLETE.labels(model, outcome)
    for kind in ("prompt", "completion"):
        series.TOKENS.labels(model, kind)
    for kind in ("cached", "reasoning"):
        series.TOKEN_DETAILS.labels(model, kind)
    for by in series.STOPPED_BY:
        series.STOPPED.labels(model, by)
    for endpoint in series.ENDPOINTS:
        series.UPSTREAM_ANSWERS.labels(model, endpoint)
        series.TIME_PER_TOKEN.labels(model, endpoint)
    for reason in upstream_reasons:
        series.UPSTREAM_ERRORS.labels(model, reason)
