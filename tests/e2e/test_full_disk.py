"""Where the disk with the metrics or the service's log is full, workers start and serve all the same, and none dies."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk import can_mount, filled, small_disk
from tests.e2e.client import Client, script
from tests.e2e.stack import READY_SECONDS, Service, eventually
from tests.upstream.process import UpstreamProcess

DISK_BYTES = 4 << 20
DONE = 'folyam_streams_finished_total{model="test-model",outcome="done"}'

pytestmark = pytest.mark.skipif(not can_mount(), reason="only root can make a small disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_BYTES):
        yield tmp_path / "disk"


def service_on(disk: Path, upstream: UpstreamProcess) -> Service:
    """A service whose metrics are on that disk, and nothing else."""
    metrics = disk / "metrics"
    metrics.mkdir()
    directory = disk.parent / "service"
    settings = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    return Service(directory, directory / "answers", upstream.base_url, settings=settings)


def test_a_worker_that_is_started_while_the_disk_is_full_serves_and_its_successor_counts(
    disk: Path, upstream: UpstreamProcess
) -> None:
    with service_on(disk, upstream) as service:
        client = Client(service.address)
        assert client.generate(script()).status == 200
        with filled(disk):
            service.process.send_signal(signal.SIGTTIN)  # gunicorn's word for a worker more
            eventually(lambda: service.started() == 3, READY_SECONDS)
            for _ in range(10):
                assert client.generate(script()).events[-1]["type"] == "done"
            assert client.request("GET", "/metrics").status == 200
        assert service.log.read_text().count('"event":"metrics_not_counted"') == 1
        service.process.send_signal(signal.SIGHUP)
        # The old workers, one of which counts nothing, serve until the two new ones do.
        eventually(lambda: service.started() == 5 and len(service.workers()) == 2, READY_SECONDS)
        assert client.metrics()["folyam_streams_limit"] == 800
        counted = client.metrics()[DONE]
        assert client.generate(script()).status == 200
        eventually(lambda: client.metrics()[DONE] == counted + 1, READY_SECONDS)
        log = service.log.read_text()
        assert "SIGBUS" not in log
        assert "Traceback" not in log


def test_a_disk_that_is_full_at_the_start_keeps_no_worker_from_serving(disk: Path, upstream: UpstreamProcess) -> None:
    with filled(disk), service_on(disk, upstream) as service:
        assert Client(service.address).generate(script()).events[-1]["type"] == "done"
        eventually(lambda: service.started() == 2, READY_SECONDS)
        assert service.log.read_text().count('"event":"metrics_not_counted"') == 2


def test_workers_that_count_go_on_counting_while_the_disk_is_full(disk: Path, upstream: UpstreamProcess) -> None:
    with service_on(disk, upstream) as service, filled(disk):
        client = Client(service.address)
        eventually(lambda: client.metrics().get("folyam_streams_limit") == 800, READY_SECONDS)
        assert "SIGBUS" not in service.log.read_text()
        for number in range(1, 4):
            assert client.generate(script()).events[-1]["type"] == "done"
            assert client.metrics()[DONE] == number
        # A label that a file has no entry for yet.
        assert client.generate("", accept="image/png").status == 406


def test_a_full_disk_that_has_the_services_log_keeps_no_worker_from_starting_and_serving(
    tmp_path: Path, disk: Path, upstream: UpstreamProcess
) -> None:
    settings = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    service = Service(disk / "service", tmp_path / "answers", upstream.base_url, settings=settings)
    with service, filled(disk):
        client = Client(service.address)
        for _ in range(30):  # their lines take what was left of the log's last block
            assert client.generate(script()).events[-1]["type"] == "done"
        old = service.workers()
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(new := service.workers()) == 2 and not set(new) & set(old), READY_SECONDS)
        assert client.generate(script()).events[-1]["type"] == "done"
        assert service.process.poll() is None
