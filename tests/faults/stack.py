"""The stack under attack: nginx, gunicorn and the upstream, each of which can be killed and started again in place."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from deploy.local import ports
from deploy.local.model import NAME
from tests.disk import small_disk
from tests.e2e.client import Client
from tests.e2e.stack import READY_SECONDS, ROOT, Gunicorn, Nginx, Program, eventually, is_ready
from tests.faults.questions import SILENCE_SECONDS
from tests.faults.worker import CLOCK, MOVES, HarnessWorker
from tests.upstream.process import UpstreamProcess

UNWATCHED_SECONDS = 8.0
DRAIN_SECONDS = 2.0
HUNG_SECONDS = 5
"""gunicorn's timeout for a worker that hangs. The project's configuration has 10, which is too long for a run."""
HARNESS_WORKER = f"{HarnessWorker.__module__}.{HarnessWorker.__name__}"
POLL_SECONDS = 0.02
SMALL_DISK_BYTES = 12 << 20
SMALL_DISK = {"FOLYAM_RETENTION_BYTES": str(SMALL_DISK_BYTES // 2)}
"""A short retention, so that only a fault fills a small disk, and not the answers of a long run."""
STARTED = re.compile(rb"\[[^]]*\] \[(\d+)\] \[INFO\] Application startup complete")
"""uvicorn's log line of a worker that serves."""


async def until(look: Callable[[], object], seconds: float, what: str) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it does not in time.
    """
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


class Stack:
    """The stack. A `with` block starts and ends all of its processes."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 4,
        recovery: str = "continue",
        settings: Mapping[str, str] | None = None,
        worker_class: str = HARNESS_WORKER,
        small_disk: bool = False,
        keeps_runs: bool = False,
        is_forked: bool = False,
    ) -> None:
        """With `keeps_runs` the upstream is a llama.cpp server with resumable streams, in front of the tests'."""
        self.directory = directory
        self.logs = directory / "answers"
        self.clock = directory / "clock"
        self.moves = directory / MOVES
        self.recovery = recovery
        self.workers_wanted = workers
        self.small_disk = small_disk
        self.keeps_runs = keeps_runs
        self.address = ports.free()
        self.lock = asyncio.Lock()
        """Held while a process is down on purpose, so that no other fault needs that process."""
        self.hung: set[int] = set()
        """Workers that are stopped until gunicorn ends them. Faults that stop workers briefly do not resume them."""
        self.upstream: UpstreamProcess
        self._settings = dict(settings or {})
        self._worker_class = worker_class
        self._is_forked = is_forked
        self._service: Program
        self._nginx: Program
        self._nginx_address: ports.Address
        self._ending = ExitStack()
        self._log_read = 0
        self._started: set[int] = set()

    @property
    def door(self) -> ports.Address:
        """nginx's."""
        return self._nginx_address

    @property
    def master(self) -> int:
        """gunicorn's master process."""
        return self._service.process.pid

    @property
    def nginx_master(self) -> int:
        """nginx's."""
        return self._nginx.process.pid

    def workers(self) -> list[int]:
        """The processes of the current workers."""
        try:
            return sorted(child.pid for child in psutil.Process(self.master).children())
        except psutil.NoSuchProcess:
            return []

    def serving(self) -> list[int]:
        """The workers that serve."""
        with (self.directory / "service.log").open("rb") as log:
            log.seek(self._log_read)
            *lines, tail = log.read().split(b"\n")
            self._log_read = log.tell() - len(tail)
        self._started.update(int(match[1]) for line in lines if (match := STARTED.match(line)))
        return [pid for pid in self.workers() if pid in self._started]

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.set_clock(0)
            if self.small_disk:
                starting.enter_context(small_disk(self.logs, SMALL_DISK_BYTES))
            self.upstream = starting.enter_context(UpstreamProcess.start())
            if self.keeps_runs:
                self._settings |= starting.enter_context(_llama_cpp(self.directory, self.upstream.base_url))
            starting.callback(self._end_service)
            self._service = self._start_service()
            self._wait_ready()
            nginx = Nginx(self.directory, self.address, self._web_root())
            self._nginx, self._nginx_address = nginx, nginx.address
            starting.callback(self._end_nginx)
            self._ending = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def busy(self) -> list[int]:
        """Return the workers that have the log of an answer open."""
        return [pid for pid in self.workers() if any(Path(name).parent == self.logs for name in _open_files(pid))]

    async def start_service(self) -> None:
        """Start gunicorn again, and wait until it serves."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            self._service = await asyncio.to_thread(self._start_service)
            while self._service.process.poll() is None and time.monotonic() < deadline:
                # Workers of a killed master may also serve at the address while they drain.
                serves = await asyncio.to_thread(_serves, self.address)
                if serves and self.workers():
                    return
                await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"the service did not start: {self._service.log}")

    async def end_service(self, how: signal.Signals) -> None:
        """End gunicorn's master, and wait for its end."""
        self._service.process.send_signal(how)
        await until(lambda: self._service.process.poll() is not None, READY_SECONDS, "the master ended")

    async def start_nginx(self) -> None:
        """Start nginx again at its address."""
        self._nginx = Program(self._nginx.command, {}, self._nginx.log)
        await until(lambda: _listens(self._nginx_address), READY_SECONDS, "nginx listens")

    async def kill_nginx(self) -> None:
        """Kill nginx, its workers too: they would go on serving, and keep the port."""
        master = psutil.Process(self.nginx_master)
        for process in (master, *master.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await until(lambda: self._nginx.process.poll() is not None, READY_SECONDS, "nginx ended")

    def set_clock(self, seconds: float) -> None:
        """Set the offset of the workers' wall clock."""
        new = self.clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.clock)  # whole at any time

    def tasks(self, pid: int) -> int:
        """Return the number of a worker's tasks now."""
        (self.directory / f"tasks-{pid}").write_text("")
        deadline = time.monotonic() + READY_SECONDS
        while not (tasks := self.last_tasks(pid)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {pid} does not tell its tasks")
            time.sleep(POLL_SECONDS)
        return tasks

    def last_tasks(self, pid: int) -> int:
        """Return how many tasks a worker had when it last told; 0 if it never did."""
        try:
            return int((self.directory / f"tasks-{pid}").read_text() or 0)
        except FileNotFoundError:
            return 0

    def metrics(self) -> dict[str, float]:
        """Return the service's metrics, over all its workers."""
        return Client(self.address).metrics()

    def go_on(self) -> None:
        """Resume all stopped processes."""
        for pid in (self.master, *self.workers()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _start_service(self) -> Program:
        arguments = ["--timeout", str(HUNG_SECONDS), "--worker-class", self._worker_class]
        environment = {
            CLOCK: str(self.clock),
            "FOLYAM_BIND": str(self.address),
            "FOLYAM_WORKERS": str(self.workers_wanted),
            "FOLYAM_LOG_URL": self.logs.as_uri(),
            "FOLYAM_MODEL": "test-model",
            "FOLYAM_CONTINUE": "assistant",
            "FOLYAM_RECOVERY": self.recovery,
            "FOLYAM_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "FOLYAM_UNWATCHED_SECONDS": str(UNWATCHED_SECONDS),
            "FOLYAM_SILENCE_SECONDS": str(SILENCE_SECONDS),
            "FOLYAM_FIRST_CHUNK_SECONDS": str(SILENCE_SECONDS),
            "FOLYAM_HEARTBEAT_SECONDS": "1",
            "FOLYAM_STATUS_WAIT_SECONDS": "1",
            "FOLYAM_MAX_ANSWERS_PER_CLIENT": "1000",  # All clients have one address.
            "OPENAI_BASE_URL": self.upstream.base_url,
            "OPENAI_API_KEY": "a-key-that-must-not-be-seen",
            "PROMETHEUS_MULTIPROC_DIR": str(self.directory / "metrics"),
            **self._settings,
        }
        return Gunicorn(arguments, environment, self.directory / "service.log", is_forked=self._is_forked)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready(self.address) or len(self.serving()) < self.workers_wanted:
            if self._service.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start:\n{self._service.log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def _web_root(self) -> Path:
        root = self.directory / "page"
        root.mkdir(exist_ok=True)
        (root / "index.html").write_text("<!doctype html><title>Folyam</title>\n")
        return root

    def _end_service(self) -> None:
        if hasattr(self, "_service"):
            self.go_on()
            workers = self.workers()
            self._service.stop(seconds=DRAIN_SECONDS + 15)
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _end_nginx(self) -> None:
        self._nginx.stop(seconds=10)


def _open_files(pid: int) -> list[str]:
    try:
        return [file.path for file in psutil.Process(pid).open_files()]
    except psutil.NoSuchProcess:
        return []


@contextlib.contextmanager
def _llama_cpp(directory: Path, upstream: str) -> Iterator[dict[str, str]]:
    """Start a llama.cpp server in front of the upstream; yield the settings with which the service asks it."""
    address = ports.free()
    command = [sys.executable, "-m", "tests.upstream.llama_cpp", "--upstream", upstream, "--port", str(address.port)]
    with Program(command, {}, directory / "llama_cpp.log"):
        eventually(lambda: _listens(address), READY_SECONDS)
        yield {"OPENAI_BASE_URL": f"http://{address}/v1", "FOLYAM_UPSTREAM": "llama.cpp"}


@contextlib.contextmanager
def local_model(directory: Path) -> Iterator[dict[str, str]]:
    """Start the local model; yield the settings with which the service asks it instead of the tests' upstream."""
    directory.mkdir(parents=True, exist_ok=True)
    address = ports.free()
    command = [sys.executable, "-m", "deploy.local.model", "--port", str(address.port)]
    libraries = f"{ROOT / 'build' / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    with Program(command, {"LD_LIBRARY_PATH": libraries}, directory / "model.log") as model:
        eventually(lambda: NAME in model.log.read_text(), READY_SECONDS)
        yield {
            "OPENAI_BASE_URL": f"http://{address}/v1",
            "FOLYAM_MODEL": NAME,
            "FOLYAM_STATUS_SECONDS": "300",
            "FOLYAM_FIRST_CHUNK_SECONDS": "300",
            "FOLYAM_SILENCE_SECONDS": "300",
        }


def _serves(address: ports.Address) -> bool:
    return is_ready(address)


def _listens(address: ports.Address) -> bool:
    return ports.refusal(address) is not None
