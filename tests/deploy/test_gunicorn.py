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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import psutil
import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.workers.workertmp import WorkerTmp

from deploy.local import ports
from service.config import Settings

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "deploy" / "gunicorn.conf.py"
TIMEOUT_SECONDS = 30


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

    def get(self, path: str) -> str:
        """Return the response's body; OSError without a server."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return int(self.get("/")) in self.workers()
        except OSError:
            return False

    def sample(self, name: str) -> float:
        """A metric's value, over all workers; 0 before any of them has written it."""
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines())
        return next((float(value) for found, value in lines if found == name), 0.0)

    def files(self) -> set[str]:
        """The names of the files that the metrics are kept in."""
        return {path.name for path in self.metrics.iterdir() if path.suffix == ".db"}

    def wait_for_others(self, than: set[int]) -> None:
        """Wait until there are two workers, and none of those."""
        assert eventually(lambda: len(self.workers()) == 2 and not self.workers() & than)
        assert eventually(lambda: self.sample("trial_live") == 2)

    def is_complete(self) -> bool:
        return len(self.workers()) == 2 and self.answers() and self.sample("trial_live") == 2


def eventually(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _set_limits() -> None:
    """Allow core dumps, and few files, as many platforms do."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    with started(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A server of which no process is killed or replaced."""
    with started(tmp_path_factory.mktemp("undisturbed")) as server:
        yield server


@contextmanager
def started(
    tmp_path: Path, configuration: Path = CONFIGURATION, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Gunicorn]:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    (metrics / "counter_9.db").write_bytes(b"of a worker long dead")
    (metrics / "9.slot").write_bytes(b"serves\n")
    address = ports.free()
    environment = os.environ | {"FOLYAM_BIND": str(address), "PROMETHEUS_MULTIPROC_DIR": str(metrics), **settings}
    # Not `python -m gunicorn`, which a new master (USR2) would start anew as a file, with gunicorn's http for Python's.
    program = Path(sys.executable).with_name("gunicorn")
    with (tmp_path / "gunicorn.log").open("wb") as log:
        master = subprocess.Popen(
            [program, "-c", configuration, "tests.deploy.app:app"],
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=_set_limits,  # noqa: PLW1509 (this process has one thread)
        )
    server = Gunicorn(master, address, metrics)
    try:
        assert eventually(server.is_complete), (tmp_path / "gunicorn.log").read_text()
        yield server
    finally:
        master.terminate()
        master.wait(TIMEOUT_SECONDS)


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


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("FOLYAM_WORKERS", ["zero", "0", "-1", "2.5", "100000", "nan", "1 2"]),
        ("FOLYAM_DRAIN_SECONDS", ["soon", "-1", "inf", "-inf", "nan", "86401", "1e309"]),
        ("FOLYAM_BIND", ["8000", "localhost", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:0", "127.0.0.1:99999"]),
        ("FOLYAM_BIND", ["::1:8000", "http://127.0.0.1:8000", "127.0.0.1:8000,", "127.0.0.1:80\n00", "127.0.0.1:٨"]),
    ],
)
def test_a_value_that_makes_no_sense_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, values: list[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as ended:
            settings(monkeypatch, **{variable: value})
        assert ended.value.code == Arbiter.APP_LOAD_ERROR
        assert re.fullmatch(rf"Folyam cannot start: {variable}: Should be [^\n]+\n", capsys.readouterr().err), value


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:80", "[::]:8000", ":8000", "my_host:65535", "unix:/run/folyam.sock", "a:1,[::1]:2", "tcp://a:1"]
)
def test_gunicorn_listens_wherever_it_can(monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    assert settings(monkeypatch, FOLYAM_BIND=bind)["bind"] == bind


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_variable_counts_as_unset_and_blanks_around_a_value_are_dropped(
    monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    names = ("FOLYAM_BIND", "FOLYAM_WORKERS", "FOLYAM_DRAIN_SECONDS", "FORWARDED_ALLOW_IPS", "PROMETHEUS_MULTIPROC_DIR")
    taken = ("bind", "workers", "graceful_timeout", "forwarded_allow_ips")
    unset = settings(monkeypatch)
    config = settings(monkeypatch, **dict.fromkeys(names, empty))
    assert [config[name] for name in taken] == [unset[name] for name in taken]
    values = dict(zip(names, ("0.0.0.0:80", "3", "5", "*", "/tmp/metrics"), strict=True))  # noqa: S108 (not opened)
    config = settings(monkeypatch, **{name: f" {value}\n" for name, value in values.items()})
    assert [config[name] for name in taken] == ["0.0.0.0:80", 3, 15, "*"]
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == "/tmp/metrics"  # noqa: S108


def test_the_drain_has_the_bounds_of_the_services_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    most = str(next(bound.le for bound in Settings.model_fields["drain_seconds"].metadata if hasattr(bound, "le")))
    assert Settings(drain_seconds=float(most))
    assert settings(monkeypatch, FOLYAM_DRAIN_SECONDS=most)["graceful_timeout"] == int(most) + 10


def test_the_counters_meet_in_a_place_that_a_new_master_finds_again(monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    for _ in range(2):
        settings(monkeypatch)
        places.add(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    assert len(places) == 1


def test_two_workers_count_together_and_begin_at_nothing(undisturbed: Gunicorn) -> None:
    assert not (undisturbed.metrics / "counter_9.db").exists()
    assert undisturbed.sample("folyam_worker_deaths_total") == 0
    before = undisturbed.sample("trial_requests_total")
    for _ in range(40):
        undisturbed.get("/")
    assert undisturbed.sample("trial_requests_total") == before + 40


def test_a_killed_worker_is_counted_once_and_taken_out_of_the_gauges_and_keeps_its_counts(gunicorn: Gunicorn) -> None:
    counted = [gunicorn.get("/") for _ in range(20)] and gunicorn.sample("trial_requests_total")
    files = gunicorn.files()
    for deaths in range(1, 4):
        victim = min(gunicorn.workers())
        os.kill(victim, signal.SIGKILL)
        gunicorn.wait_for_others({victim})
        assert gunicorn.sample("folyam_worker_deaths_total") == deaths
    assert gunicorn.sample("trial_requests_total") == counted
    # However many die: no files more than two workers and a moment's overlap have.
    slots = {re.sub(r".*_(\d+)\.db", r"\1", name) for name in gunicorn.files()}
    assert files <= gunicorn.files()
    assert len(slots) <= 3


def test_a_reload_counts_no_death_and_keeps_the_counters(gunicorn: Gunicorn) -> None:
    counted = [gunicorn.get("/") for _ in range(20)] and gunicorn.sample("trial_requests_total")
    for _ in range(3):
        old = gunicorn.workers()
        gunicorn.master.send_signal(signal.SIGHUP)
        gunicorn.wait_for_others(old)
    assert gunicorn.sample("trial_requests_total") == counted
    assert gunicorn.sample("folyam_worker_deaths_total") == 0
    # During a reload there are the old workers and the new ones.
    slots = {re.sub(r".*_(\d+)\.db", r"\1", name) for name in gunicorn.files()}
    assert len(slots) <= 5


def test_a_master_that_replaces_another_counts_with_it(gunicorn: Gunicorn) -> None:
    counted = [gunicorn.get("/") for _ in range(20)] and gunicorn.sample("trial_requests_total")
    gunicorn.master.send_signal(signal.SIGUSR2)

    def new_master() -> psutil.Process | None:
        children = psutil.Process(gunicorn.master.pid).children()
        return next((child for child in children if len(child.children()) == 2), None)

    assert eventually(new_master)
    master = new_master()
    assert master
    try:
        assert eventually(lambda: gunicorn.sample("trial_live") == 4)
        assert gunicorn.sample("trial_requests_total") == counted
    finally:
        master.terminate()
        assert eventually(lambda: not master.is_running() or master.status() == psutil.STATUS_ZOMBIE)
    assert eventually(lambda: gunicorn.sample("trial_live") == 2)


def test_the_workers_end_when_the_master_is_killed(gunicorn: Gunicorn) -> None:
    workers = gunicorn.workers()
    gunicorn.master.kill()
    assert eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    assert ports.refusal(gunicorn.address) is None


def test_workers_that_missed_the_signal_of_the_masters_death_end_too(tmp_path: Path) -> None:
    unsignalled = tmp_path / "unsignalled.conf.py"
    unsignalled.write_text(f"import runpy\nglobals().update(runpy.run_path({str(CONFIGURATION)!r}))\ndel post_fork\n")
    with started(tmp_path, unsignalled) as gunicorn:
        workers = gunicorn.workers()
        gunicorn.master.kill()
        assert eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))
        assert ports.refusal(gunicorn.address) is None


def test_a_worker_that_stands_still_in_its_start_is_replaced(tmp_path: Path) -> None:
    impatient = tmp_path / "impatient.conf.py"
    impatient.write_text(
        "import runpy\n"
        f"globals().update(runpy.run_path({str(CONFIGURATION)!r}))\n"
        "pre_fork.__globals__['START_SECONDS'] = 5\n"
    )
    stands_still = tmp_path / "one-stands-still"
    stands_still.touch()
    with started(tmp_path, impatient, {"TRIAL_STANDS_STILL": str(stands_still)}) as gunicorn:  # and both serve
        assert not stands_still.exists()
        assert gunicorn.is_complete()


def test_a_worker_that_is_slow_and_serves_is_not_killed(tmp_path: Path) -> None:
    hasty = tmp_path / "hasty.conf.py"
    hasty.write_text(f"import runpy\nglobals().update(runpy.run_path({str(CONFIGURATION)!r}))\ntimeout = 4\n")
    with started(tmp_path, hasty) as gunicorn:
        workers = gunicorn.workers()
        assert int(gunicorn.get("/slow")) in workers
        assert gunicorn.workers() == workers


def test_a_slow_interpreter_is_told_once_however_many_workers_there_are(tmp_path: Path) -> None:
    slow = tmp_path / "slow.conf.py"
    slow.write_text(
        "import runpy\n"
        f"globals().update(runpy.run_path({str(CONFIGURATION)!r}))\n"
        "from service import interpreter\n"
        "interpreter.is_optimized = lambda: False\n"
    )
    with started(tmp_path, slow):
        assert (tmp_path / "gunicorn.log").read_text().count("built without profile-guided optimization") == 1


def test_a_start_may_take_longer_than_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(monkeypatch)
    worker, server = SimpleNamespace(tmp=WorkerTmp(Config())), SimpleNamespace(cfg=SimpleNamespace(timeout=10))
    begun_at = time.monotonic()
    config["pre_fork"](server, worker)
    with closing(worker.tmp):
        assert worker.tmp.last_update() + 10 >= begun_at + config["START_SECONDS"] >= begun_at + 60


def test_its_workers_may_open_as_many_files_as_the_machine_allows(undisturbed: Gunicorn) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for pid in undisturbed.workers():
        assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE) == (most, most)


def test_no_process_of_it_leaves_a_core_dump(undisturbed: Gunicorn) -> None:
    for pid in (undisturbed.master.pid, *undisturbed.workers()):
        limits = (Path("/proc") / str(pid) / "limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
