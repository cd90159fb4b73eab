"""deploy/gunicorn.conf.py, in gunicorn."""

import http.client
import os
import re
import resource
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import ports

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "deploy" / "gunicorn.conf.py"
PATIENCE_SECONDS = 15


@dataclass(frozen=True)
class Gunicorn:
    master: subprocess.Popen[bytes]
    address: ports.Address
    metrics: Path

    def workers(self) -> set[int]:
        try:
            return {child.pid for child in psutil.Process(self.master.pid).children()}
        except psutil.NoSuchProcess:
            return set()

    def answers(self) -> bool:
        try:
            connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=PATIENCE_SECONDS)
            connection.request("GET", "/")
            return int(connection.getresponse().read()) in self.workers()
        except OSError:
            return False
        finally:
            connection.close()

    def living(self) -> set[int]:
        files = " ".join(path.name for path in self.metrics.iterdir())
        return {int(pid) for pid in re.findall(r"gauge_livesum_(\d+)\.db", files)}

    def is_complete(self) -> bool:
        return len(self.workers()) == 2 and self.living() == self.workers() and self.answers()


def eventually(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _allow_core_dumps() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    (metrics / "counter_1.db").write_bytes(b"of a worker long dead")
    address = ports.free()
    environment = os.environ | {"FOLYAM_BIND": str(address), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    # Not `python -m gunicorn`, which a new master (USR2) would start anew as a file, with gunicorn's http for Python's.
    program = Path(sys.executable).with_name("gunicorn")
    command: list[str | Path] = [program, "-c", CONFIGURATION, "-k", "uvicorn_worker.UvicornWorker"]
    with (tmp_path / "gunicorn.log").open("wb") as log:
        master = subprocess.Popen(
            [*command, "tests.deploy.app:app"],
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=_allow_core_dumps,  # noqa: PLW1509 (this process has one thread)
        )
    server = Gunicorn(master, address, metrics)
    try:
        assert eventually(server.is_complete), (tmp_path / "gunicorn.log").read_text()
        yield server
    finally:
        master.terminate()
        master.wait(PATIENCE_SECONDS)


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Any]:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], **environment})
    return runpy.run_path(str(CONFIGURATION))


def test_the_defaults_are_those_that_are_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(monkeypatch)
    assert config["bind"] == "127.0.0.1:8000"
    assert config["workers"] == 2
    assert config["graceful_timeout"] == 40


def test_a_longer_drain_makes_the_master_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, FOLYAM_DRAIN_SECONDS="99.5")["graceful_timeout"] == 110


def test_the_counters_meet_in_a_place_that_a_new_master_finds_again(monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    for _ in range(2):
        settings(monkeypatch)
        places.add(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    assert len(places) == 1


def test_two_workers_count_together_and_begin_at_nothing(gunicorn: Gunicorn) -> None:
    assert len(gunicorn.workers()) == 2
    assert not (gunicorn.metrics / "counter_1.db").exists()


def test_a_dead_worker_is_taken_out_of_the_live_gauges(gunicorn: Gunicorn) -> None:
    victim = min(gunicorn.workers())
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: victim not in gunicorn.living() and gunicorn.is_complete())


def test_a_reload_brings_new_workers_and_keeps_what_was_counted(gunicorn: Gunicorn) -> None:
    old = gunicorn.workers()
    gunicorn.master.send_signal(signal.SIGHUP)
    assert eventually(lambda: len(gunicorn.workers()) == 2 and not gunicorn.workers() & old)
    assert eventually(gunicorn.answers)
    assert {f"counter_{pid}.db" for pid in old} <= {path.name for path in gunicorn.metrics.iterdir()}


def test_a_master_that_replaces_another_keeps_what_that_one_counts(gunicorn: Gunicorn) -> None:
    old = gunicorn.workers()
    gunicorn.master.send_signal(signal.SIGUSR2)

    def new_master() -> psutil.Process | None:
        children = psutil.Process(gunicorn.master.pid).children()
        return next((child for child in children if len(child.children()) == 2), None)

    assert eventually(new_master)
    master = new_master()
    assert master
    try:
        everyone = old | {child.pid for child in master.children()}
        assert eventually(lambda: gunicorn.living() == everyone)
    finally:
        master.terminate()
        assert eventually(lambda: not master.is_running() or master.status() == psutil.STATUS_ZOMBIE)


def test_the_workers_end_when_the_master_is_killed(gunicorn: Gunicorn) -> None:
    workers = gunicorn.workers()
    gunicorn.master.kill()
    assert eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    assert ports.refusal(gunicorn.address) is None


def test_no_process_of_it_leaves_a_core_dump(gunicorn: Gunicorn) -> None:
    for pid in (gunicorn.master.pid, *gunicorn.workers()):
        limits = (Path("/proc") / str(pid) / "limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
