"""Metrics by OTLP, as a receiver over a real socket decodes them. tests/e2e/test_otlp.py has the whole service."""

import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from prometheus_client import CollectorRegistry, Counter, Histogram, values

from service.error_codes import response_codes, upstream_reasons
from service.events import Usage
from service.recovery import BREAKS
from service.renderings import NAMES
from service.telemetry import gen_ai, metrics, own_slot, sending, series
from service.telemetry.allocation import AllocatedValues
from service.telemetry.answer_metrics import AnswerMetrics
from service.telemetry.exposition import exposition
from service.telemetry.gen_ai import Server
from service.telemetry.otlp_metrics import DEFAULT_INTERVAL_SECONDS, MetricSender, interval_seconds, wants_deltas
from tests.e2e.stack import eventually
from tests.otlp_receiver import PARTIAL, Export, Receiver, Reply, receiving

NEVER_SECONDS = 3600.0
SOON_SECONDS = 5.0
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
ASKED = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    gen_ai.begin({"primary": Server("one.example", 443), "fallback": Server("two.example", 8000)})
    yield
    gen_ai.end()


@pytest.fixture
def model() -> str:
    return uuid.uuid4().hex


def sender_to(receiver: Receiver, *, deltas: bool = False, timeout: float = SOON_SECONDS) -> MetricSender:
    exporter = OTLPMetricExporter(f"{receiver.endpoint}/v1/metrics", timeout=timeout)
    sender = MetricSender(exporter, Resource({"service.name": "folyam"}), interval=NEVER_SECONDS, deltas=deltas)
    sender.start()
    return sender


@pytest.fixture
def sender(receiver: Receiver) -> MetricSender:
    return sender_to(receiver)


def last(sender: MetricSender, receiver: Receiver) -> Export:
    """What the sender sends at the end."""
    sender.shutdown()
    return receiver.exports[-1]


def answer(model: str, endpoint: str = "primary", error: str | None = None) -> None:
    """One answer of a prompt of 20 tokens: 3 tokens, the first after 0.5 s and the others 0.03 s apart, in 1.5 s."""
    counted = AnswerMetrics(model)
    counted.started()
    counted.answered(endpoint)
    counted.upstream_first_chunk(0.5)
    for _ in range(2):
        counted.chunks_arrived(0.03)
    counted.finished("failed" if error else "done", 1.5, Usage(20, 3, 23), error=error)


# The conventions


def test_an_answer_is_counted_by_the_conventions(sender: MetricSender, receiver: Receiver, model: str) -> None:
    answer(model)
    export = last(sender, receiver)
    seconds = (
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION, 1, 1.5, 1.28),
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, 1, 0.5, 0.32),
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK, 2, 0.06, 0.02),
    )
    for name, count, total, above in seconds:
        metric, [(attributes, point)] = export.metrics[name], export.distributions(name)
        assert metric.unit == "s"
        assert metric.histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        assert point.count == count
        assert point.sum == pytest.approx(total)
        assert list(point.explicit_bounds) == SECONDS
        assert point.bucket_counts[SECONDS.index(above) + 1] == sum(point.bucket_counts) == count
        assert attributes == {
            **ASKED,
            gen_ai_attributes.GEN_AI_REQUEST_MODEL: model,
            "server.address": "one.example",
            "server.port": 443,
        }
    metric = export.metrics[gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE]
    assert metric.unit == "{token}"
    for kind, tokens in (("input", 20), ("output", 3)):
        point = export.distribution(metric.name, **{gen_ai_attributes.GEN_AI_TOKEN_TYPE: kind})
        assert (point.count, point.sum, list(point.explicit_bounds)) == (1, tokens, TOKENS)


def test_a_failure_has_its_code_and_each_endpoint_its_address(
    sender: MetricSender, receiver: Receiver, model: str
) -> None:
    answer(model, "fallback", "upstream_cut")
    answer(model)
    export = last(sender, receiver)
    name = gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION
    failed = export.distribution(name, **{"error.type": "upstream_cut"})
    assert failed.count == 1
    ports = {attributes["server.port"]: attributes.get("error.type") for attributes, _ in export.distributions(name)}
    assert ports == {443: None, 8000: "upstream_cut"}


def test_chunks_are_counted_at_the_endpoint_that_they_came_from(
    sender: MetricSender, receiver: Receiver, model: str
) -> None:
    counted = AnswerMetrics(model)
    counted.started()
    for endpoint, chunks in (("primary", 70), ("fallback", 3)):
        counted.answered(endpoint)
        for _ in range(chunks):
            counted.chunks_arrived(50.0)
    counted.handed_over()
    points = last(sender, receiver).distributions(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK)
    assert {attributes["server.address"]: point.count for attributes, point in points} == {
        "one.example": 70,
        "two.example": 3,
    }
    assert {point.bucket_counts[-2] for _, point in points} == {70, 3}


def test_an_answer_that_no_endpoint_began_has_no_address(sender: MetricSender, receiver: Receiver, model: str) -> None:
    counted = AnswerMetrics(model)
    counted.started()
    counted.finished("failed", 0.1, None, error="upstream_unreachable")
    export = last(sender, receiver)
    [(attributes, _)] = export.distributions(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    assert attributes == {**ASKED, "gen_ai.request.model": model, "error.type": "upstream_unreachable"}
    assert not export.distributions(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE)


def test_a_clients_own_word_for_a_model_is_in_no_metric(sender: MetricSender, receiver: Receiver) -> None:
    counted = AnswerMetrics.of("somebody's own words", ["known"])
    counted.started()
    counted.answered("primary")
    counted.finished("done", 1.0, Usage(1, 1, 2))
    export = last(sender, receiver)
    assert export.distribution("gen_ai.client.operation.duration", **{"gen_ai.request.model": "other"}).count == 1
    assert b"somebody" not in export.request.SerializeToString()


def test_without_otlp_nothing_is_counted_twice(sender: MetricSender, receiver: Receiver, model: str) -> None:
    gen_ai.end()
    answer(model)
    assert not [name for name in last(sender, receiver).metrics if name.startswith("gen_ai.")]


# The service's own


def test_the_services_own_metrics_have_prometheus_names_labels_and_values(
    sender: MetricSender, receiver: Receiver, model: str
) -> None:
    metrics.begin(
        [model],
        NAMES,
        error_codes=response_codes(),
        upstream_reasons=upstream_reasons(),
        break_reasons=BREAKS,
    )
    answer(model)
    export = last(sender, receiver)
    kinds = dict(re.findall(r"^# TYPE (folyam_\w+) (\w+)$", exposition().decode(), re.MULTILINE))
    kinds = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    fields = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}
    own = {name: metric.WhichOneof("data") for name, metric in export.metrics.items() if name.startswith("folyam_")}
    assert own == {name: fields[kind] for name, kind in kinds.items()}
    assert export.number("folyam_streams_finished_total", model=model, outcome="done") == 1
    assert export.number("folyam_streams_finished_total", model=model, outcome="failed") == 0
    assert export.number("folyam_tokens_total", model=model, type="prompt") == 20
    assert export.metrics["folyam_tokens_total"].sum.is_monotonic
    point = export.distribution("folyam_time_between_chunks_seconds", model=model)
    assert point.count == 2
    assert point.sum == pytest.approx(0.06)
    assert point.bucket_counts[list(point.explicit_bounds).index(0.04)] == 2
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert point.explicit_bounds[-1] == 10.24


def test_what_its_slots_last_worker_counted_is_not_a_workers_own(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last one has sent it under its own id.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    before = time.time_ns()
    for counts in (5, 1):
        slot = AllocatedValues(tmp_path, 0, lambda _: None)
        monkeypatch.setattr(values, "ValueClass", slot)
        monkeypatch.setattr(own_slot, "_values", slot)
        registry = CollectorRegistry()
        counter = Counter("folyam_things", "Things.", ["kind"], registry=registry)
        histogram = Histogram("folyam_times", "Times.", ["kind"], buckets=(1, 2), registry=registry)
        for _ in range(counts):
            counter.labels("one").inc()
            for seconds in (0.5, 1.5, 9.0):
                histogram.labels("one").observe(seconds)
    monkeypatch.setattr("service.telemetry.readings.REGISTRY", registry)
    export = last(sender_to(receiver), receiver)
    [(attributes, point)] = export.numbers("folyam_things_total")
    assert (attributes, point.as_double) == ({"kind": "one"}, 1)
    assert before <= point.start_time_unix_nano <= point.time_unix_nano
    times = export.distribution("folyam_times", kind="one")
    assert (times.count, times.sum, list(times.bucket_counts), list(times.explicit_bounds)) == (
        3,
        11,
        [1, 1, 1],
        [1, 2],
    )


# The collector


def test_figures_go_out_at_each_interval_and_at_the_end(receiver: Receiver, model: str) -> None:
    exporter = OTLPMetricExporter(f"{receiver.endpoint}/v1/metrics")
    sender = MetricSender(exporter, Resource({}), interval=0.01, deltas=False)
    sender.start()
    eventually(lambda: len(receiver.exports) >= 3)
    answer(model)
    sender.shutdown()
    counts = [export.distributions("gen_ai.client.operation.duration") for export in receiver.exports]
    assert len(counts) > 3
    assert counts[0] == []
    assert counts[-1][0][1].count == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_collector_that_is_busy_is_asked_again_as_it_says(
    sender: MetricSender, receiver: Receiver, model: str, status: int
) -> None:
    receiver.replies = [Reply(status, {"Retry-After": "0"})]
    answer(model)
    export = last(sender, receiver)
    assert [each.distribution("gen_ai.client.operation.duration").count for each in receiver.exports] == [1, 1]
    assert export.request == receiver.exports[0].request


@pytest.mark.parametrize(
    "reply", [Reply(503, {"Retry-After": "3600"}), Reply(400), Reply(404), Reply(500)], ids=["503", "400", "404", "500"]
)
@pytest.mark.parametrize("deltas", [False, True])
def test_what_a_collector_did_not_take_is_in_the_next_export(
    receiver: Receiver,
    model: str,
    reply: Reply,
    deltas: bool,  # noqa: FBT001
) -> None:
    receiver.replies = [reply]
    sender = sender_to(receiver, deltas=deltas)
    for _ in range(2):
        answer(model)
        sender._send()
    answer(model)
    sender.shutdown()
    for name in ("gen_ai.client.operation.duration", "folyam_stream_duration_seconds"):
        points = [each.distribution(name, **matching(name, model)) for each in receiver.exports]
        assert [point.count for point in points] == [1, 2, 1 if deltas else 3]
        assert [point.sum for point in points] == pytest.approx([1.5, 3.0, 1.5 if deltas else 4.5])
    started = [each.number("folyam_streams_started_total", model=model) for each in receiver.exports]
    assert started == [1, 2, 1 if deltas else 3]
    first, second, third = (each.numbers("folyam_streams_started_total")[0][1] for each in receiver.exports)
    assert first.start_time_unix_nano == second.start_time_unix_nano
    assert third.start_time_unix_nano == (second.time_unix_nano if deltas else first.start_time_unix_nano)
    temporalities = AggregationTemporality
    assert {each.metrics["folyam_tokens_total"].sum.aggregation_temporality for each in receiver.exports} == {
        temporalities.AGGREGATION_TEMPORALITY_DELTA if deltas else temporalities.AGGREGATION_TEMPORALITY_CUMULATIVE
    }
    # A gauge is no count.
    assert receiver.exports[-1].number("folyam_build_info", **dict(version())) == 1


def matching(name: str, model: str) -> dict[str, str]:
    return {"gen_ai.request.model": model} if name.startswith("gen_ai") else {"model": model, "outcome": "done"}


def version() -> list[tuple[str, Any]]:
    [family] = series.BUILD_INFO.collect()
    return list(family.samples[0].labels.items())


def test_what_a_collector_took_in_part_is_not_sent_again(receiver: Receiver, model: str) -> None:
    receiver.replies = [Reply(body=PARTIAL)]
    sender = sender_to(receiver, deltas=True)
    answer(model)
    sender._send()
    sender.shutdown()
    assert [each.number("folyam_streams_finished_total", model=model, outcome="done") for each in receiver.exports] == [
        1,
        0,
    ]


async def test_a_collector_that_is_slow_delays_a_leaving_worker_no_longer_than_the_limit(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FLUSH_SECONDS", 0.1)
    held = threading.Event()
    receiver.replies = [Reply(held=held)]
    sender = sender_to(receiver)
    try:
        sending.at_close(sender.shutdown)
        began = time.monotonic()
        await sending.aclose()
        assert time.monotonic() - began < SOON_SECONDS
        assert sender._thread.is_alive()
    finally:
        held.set()
    sender._thread.join()


def test_a_defect_ends_no_further_exports(
    receiver: Receiver, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = sender_to(receiver)
    with monkeypatch.context() as broken:
        broken.setattr("service.telemetry.otlp_metrics.read", lambda: 1 / 0)
        sender._send()
    answer(model)
    sender.shutdown()
    [export] = receiver.exports
    assert export.distribution("gen_ai.client.operation.duration").count == 1
    assert "metrics_not_sent" in capsys.readouterr().out


# The environment

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, set()),
        (ENDPOINT, {"traces", "metrics"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"}, {"metrics"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, {"traces"}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, set()),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, {"traces"}),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "prometheus"}, {"traces"}),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "prometheus, otlp"}, {"traces", "metrics"}),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, {"metrics"}),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "", "OTEL_METRICS_EXPORTER": "none"}, {"traces"}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, set()),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, {"traces", "metrics"}),
    ],
)
def test_the_environment_says_what_goes_out(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: set[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    signals: tuple[sending.Signal, ...] = ("traces", "metrics")
    assert {signal for signal in signals if sending.wanted(signal)} == wanted
    assert sending.is_any_wanted() is bool(wanted)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5000", 5.0),
        (" 100 ", 0.1),
        ("", DEFAULT_INTERVAL_SECONDS),
        ("0", DEFAULT_INTERVAL_SECONDS),
        ("-1", DEFAULT_INTERVAL_SECONDS),
        ("soon", DEFAULT_INTERVAL_SECONDS),
        ("inf", DEFAULT_INTERVAL_SECONDS),
        ("nan", DEFAULT_INTERVAL_SECONDS),
    ],
)
def test_the_interval_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch, value: str, seconds: float) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", value)
    assert interval_seconds() == seconds


@pytest.mark.parametrize(
    ("value", "deltas"), [("", False), ("cumulative", False), ("Delta", True), ("lowmemory", True)]
)
def test_deltas_are_sent_where_they_are_preferred(
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    deltas: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", value)
    assert wants_deltas() is deltas
