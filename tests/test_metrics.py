"""Metrics counted in batches equal those counted one by one."""

import bisect
import uuid
from itertools import pairwise
from typing import get_args

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from service.error_codes import TABLE, response_codes, upstream_reasons
from service.events import StoppedBy, Usage
from service.recovery import BREAKS
from service.renderings import NAMES
from service.telemetry import metrics
from service.telemetry.answer_metrics import AnswerMetrics
from service.telemetry.direct import Observations, adding_to
from service.telemetry.exposition import exposition
from service.upstream.endpoint import Role

GAPS = [0.0, 0.001, 0.0025, 0.0026, 0.02, 0.02, 5.0, 50.0] * 20


def sample(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None
    return value


@pytest.mark.parametrize("last", ["finished", "handed_over"])
def test_gaps_between_chunks_fall_into_their_buckets(last: str) -> None:
    model = uuid.uuid4().hex
    counted = AnswerMetrics(model)
    counted.started()
    for gap in GAPS:
        counted.chunks_arrived(gap)
    counted.finished("done", 1.0, None) if last == "finished" else counted.handed_over()
    name = "folyam_time_between_chunks_seconds"
    ordered = sorted(GAPS)
    for bound in ("0.0025", "0.005", "0.02", "0.04", "5.12", "10.24"):
        assert sample(f"{name}_bucket", model=model, le=bound) == bisect.bisect_right(ordered, float(bound))
    assert sample(f"{name}_bucket", model=model, le="+Inf") == len(GAPS)
    assert sample(f"{name}_count", model=model) == len(GAPS)
    assert sample(f"{name}_sum", model=model) == pytest.approx(sum(GAPS))


@pytest.mark.parametrize("number", [1, 7, 8, 160])
def test_values_are_observed_as_by_the_librarys_own_method(number: int) -> None:
    registry = CollectorRegistry()
    ours, its = (Histogram(name, "x", registry=registry, buckets=(0.0025, 0.02, 5)) for name in ("ours", "its"))
    observed = Observations(ours)
    for value in GAPS[:number]:
        its.observe(value)
        observed.observe(value)
    observed.observe_all(sorted(GAPS[:number]))
    for value in GAPS[:number]:
        its.observe(value)
    for bound in ("0.0025", "0.02", "5.0", "+Inf"):
        count = registry.get_sample_value("its_bucket", {"le": bound})
        assert count is not None
        assert registry.get_sample_value("ours_bucket", {"le": bound}) == count
    assert registry.get_sample_value("ours_sum") == pytest.approx(registry.get_sample_value("its_sum"))


def test_counts_are_added_as_by_the_librarys_own_methods() -> None:
    registry = CollectorRegistry()
    counter, gauge = Counter("a", "x", ["l"], registry=registry), Gauge("b", "x", registry=registry)
    adding_to(counter.labels("v"))(3)
    adding_to(gauge)(1)
    adding_to(gauge)(-1.5)
    assert registry.get_sample_value("a_total", {"l": "v"}) == 3
    assert registry.get_sample_value("b") == -0.5


def counted_series() -> set[tuple[str, str]]:
    """The name and labels of every sample of a counter or a histogram."""
    return {
        (each.name, str(sorted(each.labels.items())))
        for family in REGISTRY.collect()
        if family.type in {"counter", "histogram"}
        for each in family.samples
    }


def count_labels(counted: AnswerMetrics) -> None:
    """Count each endpoint and each cause of a stop."""
    for endpoint in get_args(Role):
        counted.answered(endpoint)
        counted.generated(endpoint, 1, 0.1)
    for by in get_args(StoppedBy):
        counted.stopped(by)


def test_a_series_is_there_before_its_first_event() -> None:
    model = uuid.uuid4().hex
    metrics.begin(
        [model],
        NAMES,
        error_codes=response_codes(),
        upstream_reasons=upstream_reasons(),
        break_reasons=BREAKS,
    )
    from_the_start = counted_series()
    counted = AnswerMetrics(model)
    for takeover in ("attach", "continue", "restart", "fail"):
        counted.taken_over(takeover)
        counted.handed_over()
    for outcome in ("done", "stopped", "failed"):
        counted.started()
        counted.upstream_first_chunk(0.1)
        counted.first_chunk_sent(0.1)
        counted.chunks_arrived(0.1)
        counted.finished(
            outcome, 1.0, Usage(1, 2, 3, {"cached_tokens": 1}, {"reasoning_tokens": 1}), usage_complete=False
        )
    for reason in BREAKS:
        for outcome in ("continued", "reattached", "restarted", "stopped", "failed"):
            counted.break_ended(reason, outcome, 0.1)
    count_labels(counted)
    for row in TABLE.values():
        for reason in row.reasons:
            counted.upstream_failed(reason)
        if row.status is not None or row.code == "http_error":
            metrics.rejected(row.code)
    for rendering in NAMES:
        metrics.resumed(rendering)
    metrics.chunks_unwatched(1)
    metrics.stop_took(0.1)
    assert counted_series() == from_the_start


def test_a_model_outside_the_list_is_counted_as_other() -> None:
    before = REGISTRY.get_sample_value("folyam_streams_started_total", {"model": "other"}) or 0
    counted = AnswerMetrics.of("somebody's own words", ["known"])
    counted.started()
    counted.finished("done", 1.0, None)
    assert sample("folyam_streams_started_total", model="other") == before + 1
    assert "somebody" not in exposition().decode()


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("time_to_first_chunk_seconds", 0.01, 81.92),
        ("upstream_time_to_first_chunk_seconds", 0.01, 81.92),
        ("stream_duration_seconds", 0.01, 655.36),
        ("time_between_chunks_seconds", 0.0025, 10.24),
        ("time_per_output_token_seconds", 0.00125, 2.56),
    ],
)
def test_buckets_double_from_the_first_to_the_last(name: str, first: float, last: float) -> None:
    counted = AnswerMetrics("buckets")
    counted.started()
    counted.upstream_first_chunk(1)
    counted.generated("primary", 1, 1)
    counted.finished("done", 1.0, None)
    [family] = [family for family in REGISTRY.collect() if family.name == f"folyam_{name}"]
    bounds = sorted({float(each.labels["le"]) for each in family.samples if each.name.endswith("_bucket")})[:-1]
    assert (bounds[0], bounds[-1]) == (first, last)
    assert all(later == pytest.approx(2 * earlier) for earlier, later in pairwise(bounds))
