"""Metrics by OTLP of the whole service. tests/test_otlp_metrics.py has what is sent."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.e2e.client import Client, script
from tests.e2e.stack import READY_SECONDS, Service, eventually
from tests.otlp_receiver import Export, Receiver, receiving
from tests.upstream.process import UpstreamProcess

NEVER = "3600000"
OFTEN = "100"
DURATION = "gen_ai.client.operation.duration"
FINISHED = "folyam_streams_finished_total"
DONE = {"model": "test-model", "outcome": "done"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def last_of_each(receiver: Receiver) -> dict[str, Export]:
    """The last export of each worker."""
    return {str(export.resource["service.instance.id"]): export for export in receiver.exports}


def finished(export: Export) -> float:
    """How many answers. The first export may come before the worker has a metric."""
    return export.number(FINISHED, **DONE) if FINISHED in export.metrics else 0


def test_workers_that_leave_send_their_last_figures_each_under_its_own_id(
    tmp_path: Path, upstream: UpstreamProcess, receiver: Receiver
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.endpoint}/v1/metrics",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=one",
        "OTEL_METRIC_EXPORT_INTERVAL": NEVER,
        "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-1,deployment.environment.name=test",
    }
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=2, settings=settings) as service:
        eventually(lambda: service.started() == 2, READY_SECONDS)
        client = Client(service.address)
        for _ in range(6):
            assert client.generate(script(chunks=5)).events[-1]["type"] == "done"
        client.generate(script(status=401))
        assert not receiver.exports
    assert set(receiver.paths) == {"/v1/metrics"}
    exports = last_of_each(receiver)
    assert len(exports) == 2
    assert all(instance.startswith("pod-1-") for instance in exports)
    assert sum(export.number(FINISHED, **DONE) for export in exports.values()) == 6
    points = [point for export in exports.values() for point in export.distributions(DURATION)]
    url = urlsplit(upstream.base_url)
    asked = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "test-model"}
    answered = {**asked, "server.address": url.hostname, "server.port": url.port}
    assert sum(point.count for attributes, point in points if attributes == answered) == 6
    assert [attributes for attributes, _ in points if attributes != answered] == [
        {**asked, "error.type": "upstream_credentials"}
    ]
    for export in exports.values():
        assert export.resource["service.name"] == "folyam"
        assert export.resource["deployment.environment.name"] == "test"
        assert export.headers["x-tenant"] == "one"


def test_a_worker_after_a_killed_one_sends_what_it_counted_itself(
    tmp_path: Path, upstream: UpstreamProcess, receiver: Receiver
) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": OFTEN}
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as service:
        client = Client(service.address)
        client.generate(script())
        [first] = eventually(lambda: [name for name, export in last_of_each(receiver).items() if finished(export)])
        [worker] = service.workers()
        psutil.Process(worker).kill()
        eventually(lambda: service.started() == 2, READY_SECONDS)
        client.generate(script())
    exports = last_of_each(receiver)
    assert [finished(export) for export in exports.values()] == [1, 1]
    [second] = exports.keys() - {first}
    assert exports[second].number("folyam_worker_deaths_total") == 1
    started = [export.numbers(FINISHED)[0][1].start_time_unix_nano for export in exports.values()]
    assert started[0] < started[1]


def test_the_metrics_can_be_left_out(tmp_path: Path, upstream: UpstreamProcess, receiver: Receiver) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service:
        Client(service.address).generate(script())
    assert set(receiver.paths) == {"/v1/traces"}
