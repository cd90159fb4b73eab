"""What is counted for many at once is what would have been counted one by one."""

import bisect
import uuid
from itertools import pairwise

import pytest
from prometheus_client import REGISTRY

from service import metrics

GAPS = [0.0, 0.001, 0.0025, 0.0026, 0.02, 0.02, 5.0, 50.0] * 20


def sample(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None
    return value


@pytest.mark.parametrize("last", ["finished", "handed_over"])
def test_gaps_between_chunks_fall_into_their_buckets(last: str) -> None:
    model = uuid.uuid4().hex
    counted = metrics.AnswerMetrics(model)
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


def test_a_model_outside_the_list_is_counted_as_other() -> None:
    before = REGISTRY.get_sample_value("folyam_streams_started_total", {"model": "other"}) or 0
    counted = metrics.answer_metrics("somebody's own words", ["known"])
    counted.started()
    counted.finished("done", 1.0, None)
    assert sample("folyam_streams_started_total", model="other") == before + 1
    assert "somebody" not in metrics.exposition().decode()


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("time_to_first_chunk_seconds", 0.01, 81.92),
        ("upstream_time_to_first_chunk_seconds", 0.01, 81.92),
        ("stream_duration_seconds", 0.01, 655.36),
        ("time_between_chunks_seconds", 0.0025, 10.24),
    ],
)
def test_buckets_double_from_the_first_to_the_last(name: str, first: float, last: float) -> None:
    counted = metrics.AnswerMetrics("buckets")
    counted.started()
    counted.upstream_first_chunk(1)
    counted.finished("done", 1.0, None)
    [family] = [family for family in REGISTRY.collect() if family.name == f"folyam_{name}"]
    bounds = sorted({float(each.labels["le"]) for each in family.samples if each.name.endswith("_bucket")})[:-1]
    assert (bounds[0], bounds[-1]) == (first, last)
    assert all(later == pytest.approx(2 * earlier) for earlier, later in pairwise(bounds))
