"""A reload (HUP) has no gap: the old workers serve until the new ones do, however long these take to start."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.client import Client, script
from tests.e2e.gated import GATE
from tests.e2e.stack import READY_SECONDS, Service, eventually
from tests.upstream.process import UpstreamProcess

LONG_DRAIN_SECONDS = 1000


@dataclass(frozen=True)
class Reloaded:
    """A service of two workers; those that it starts from now on come as far as the gate."""

    service: Service
    gate: Path

    @property
    def client(self) -> Client:
        return Client(self.service.address)

    def reload(self, gate: str = "") -> set[int]:
        """Send HUP; return the old workers once the new ones are at the gate."""
        if gate:
            self.gate.write_text(gate)
        old = set(self.service.workers())
        came = self.came()
        self.service.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(self.came() - came) >= 2, READY_SECONDS)
        return old

    def came(self) -> set[str]:
        """The workers that have come to the gate so far."""
        return {path.name for path in self.gate.parent.glob(f"{self.gate.name}-*")}

    def open(self) -> None:
        self.gate.unlink()

    def are_replaced(self, old: set[int]) -> bool:
        workers = set(self.service.workers())
        return len(workers) == 2 and not workers & old

    def ask_until_replaced(self, old: set[int]) -> None:
        """Ask one question after the other, each of which has to be answered, until only other workers are there."""

        def look() -> bool:
            assert asked(self.client) == "done"
            return self.are_replaced(old)

        eventually(look, READY_SECONDS)


@pytest.fixture(params=["1"])
def reloaded(tmp_path: Path, upstream: UpstreamProcess, request: pytest.FixtureRequest) -> Iterator[Reloaded]:
    gate = tmp_path / "gate"
    settings = {
        "FOLYAM_DRAIN_SECONDS": request.param,
        "GUNICORN_CMD_ARGS": "--worker-class tests.e2e.gated.GatedWorker",
        GATE: str(gate),
    }
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service:
        both = Reloaded(service, gate)
        eventually(lambda: service.started() == 2, READY_SECONDS)
        yield both


def asked(client: Client) -> str:
    """Ask a question; return the type of its terminal event."""
    reply = client.generate(script(chunks=2))
    assert reply.status == 200, reply.body
    return str(reply.events[-1]["type"])


def test_new_questions_are_answered_while_the_new_workers_start(reloaded: Reloaded) -> None:
    with reloaded.client.ask(script(key="across", endless=True, pace=0.02)) as stream:
        events = stream.events()
        next(events)
        old = reloaded.reload("shut")
        # As many as both workers could have left in their queues, or more: each is served by an old one.
        assert [asked(reloaded.client) for _ in range(20)] == ["done"] * 20
        assert old <= set(reloaded.service.workers())
        assert next(events)["type"] == "delta", "it goes on"
        reloaded.open()
        reloaded.ask_until_replaced(old)
        answer = stream.answer
    assert asked(reloaded.client) == "done"
    assert reloaded.client.stop(answer).json["state"] == "stopped"
    assert reloaded.client.metrics()["folyam_worker_deaths_total"] == 0


def test_a_new_version_that_cannot_start_leaves_the_old_workers_to_serve_until_one_can(reloaded: Reloaded) -> None:
    old = reloaded.reload("broken")
    eventually(lambda: set(reloaded.service.workers()) == old, READY_SECONDS)
    assert "This worker cannot start." in reloaded.service.log.read_text()
    assert [asked(reloaded.client) for _ in range(5)] == ["done"] * 5
    assert set(reloaded.service.workers()) == old
    reloaded.open()
    reloaded.reload()
    eventually(lambda: reloaded.are_replaced(old), READY_SECONDS)
    assert asked(reloaded.client) == "done"


def test_a_worker_that_cannot_be_replaced_does_not_end_the_others(reloaded: Reloaded) -> None:
    reloaded.gate.write_text("broken")
    victim, other = reloaded.service.workers()
    psutil.Process(victim).kill()
    eventually(lambda: "This worker cannot start." in reloaded.service.log.read_text(), READY_SECONDS)
    assert asked(reloaded.client) == "done"
    reloaded.open()
    eventually(lambda: reloaded.client.metrics()["folyam_streams_limit"] == 800, READY_SECONDS)
    assert other in reloaded.service.workers()


def test_a_second_reload_waits_for_the_newest_workers(reloaded: Reloaded) -> None:
    old = reloaded.reload("shut")
    reloaded.service.process.send_signal(signal.SIGHUP)  # gunicorn looks at it when it has done with the first
    assert asked(reloaded.client) == "done"
    came = reloaded.came()
    reloaded.open()
    eventually(lambda: len(reloaded.came() - came) == 2, READY_SECONDS)
    first = {int(name.rpartition("-")[2]) for name in came}
    reloaded.ask_until_replaced(old | first)
    assert asked(reloaded.client) == "done"


@pytest.mark.parametrize("reloaded", [str(LONG_DRAIN_SECONDS)], indirect=True)
@pytest.mark.parametrize("gate", ["shut", "broken"])
def test_a_stop_during_a_reload_waits_for_no_new_worker(reloaded: Reloaded, gate: str) -> None:
    old = reloaded.reload(gate)
    if gate == "broken":
        eventually(lambda: set(reloaded.service.workers()) == old, READY_SECONDS)
    # Nothing is under way, so nothing is drained: a worker that waited would wait as long as the drain may take.
    reloaded.service.process.send_signal(signal.SIGTERM)
    assert reloaded.service.process.wait(READY_SECONDS) == 0


@pytest.mark.parametrize("reloaded", [str(LONG_DRAIN_SECONDS)], indirect=True)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_outside_a_reload_waits_for_no_new_worker(reloaded: Reloaded, how: signal.Signals) -> None:
    reloaded.service.process.send_signal(how)
    assert reloaded.service.process.wait(READY_SECONDS) == 0


def test_the_old_workers_end_with_their_master_during_a_reload(reloaded: Reloaded) -> None:
    workers = [psutil.Process(pid) for pid in reloaded.reload("shut")]
    reloaded.service.process.kill()
    eventually(lambda: not any(worker.is_running() for worker in workers), READY_SECONDS)
    reloaded.open()
