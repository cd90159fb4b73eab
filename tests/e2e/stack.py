"""The real stack for tests: gunicorn with its workers, and nginx in front of it, as processes."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import psutil

from deploy.local import ports, web
from tests.e2e.forked import Forked
from tests.namespaces import join_namespace

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
NODE = Path(sys.executable).with_name("node")
"""Node.js, which setup.sh puts beside Python."""
READY_SECONDS = 180.0
DEADLINE_SECONDS = 20.0
"""Long enough for a busy machine, and less than FOLYAM_UNWATCHED_SECONDS, which would hide that a stop has failed."""
POLL_SECONDS = 0.01

ROOMY = web.ClientLimits(connections=20_000, requests=20_000)

READ_AT_IMPORT = ("OTEL_", "PYTHON")
"""Prefixes of the variables that the interpreter, or a package when it is imported, reads."""
KEPT = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE")
"""Variables that a service under test inherits. A developer's settings are not among them."""


def import_service(
    environment: Mapping[str, str], program: str = "import service.main"
) -> subprocess.CompletedProcess[str]:
    """Run `program`, which imports the service as gunicorn's workers do, in a new process to its end."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={name: os.environ[name] for name in KEPT if name in os.environ} | dict(environment),
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )


def eventually(look: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    """Return the first true result of `look`.

    Raises:
        AssertionError: there is none in time.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {look}, which last saw {seen!r}"
        time.sleep(POLL_SECONDS)
    return seen


class Process(Protocol):
    """The methods of `subprocess.Popen` that a `Forked` has, too."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: signal.Signals, /) -> None: ...
    def kill(self) -> None: ...


class Program:
    """One process with a log. It ends with its `with` block."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path, directory: Path = ROOT) -> None:
        self._directory = directory
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.log = log
        self.command = command
        self._environment = {**kept, **environment}
        self.process = self._start()

    def _start(self) -> Process:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self.command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> None:
        """End the process and its children."""
        everything: list[psutil.Process] = []
        if self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                everything = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in everything:
            if process.is_running():
                process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Gunicorn(Program):
    """gunicorn with the project's own configuration.

    It is forked (`tests.e2e.forked`), or executed, as by people. It is also executed if it is given a variable that the
    interpreter or a package reads only when it starts. It is put into the network namespace, if one is given, and runs
    the version of the service that `tree` has.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        is_forked: bool = True,
        namespace: Path | None = None,
        tree: Path = ROOT,
    ) -> None:
        self._arguments = ["-c", "deploy/gunicorn.conf.py", *arguments]
        self._namespace = namespace
        is_read_at_import = any(name.startswith(READ_AT_IMPORT) for name in environment)
        self._is_forked = is_forked and tree == ROOT and not is_read_at_import
        prefix = [] if namespace is None else ["nsenter", f"--net={namespace}", "--"]
        command = [*prefix, str(Path(sys.executable).with_name("gunicorn")), *self._arguments]
        super().__init__(command, environment, log, tree)

    def _start(self) -> Process:
        if not self._is_forked:
            return super()._start()
        namespace = self._namespace and str(self._namespace)
        return Forked(_run_gunicorn, self._arguments, namespace, environment=self._environment, output=self.log)


def _run_gunicorn(arguments: list[str], namespace: str | None) -> None:
    if namespace is not None:
        join_namespace(namespace)
    sys.argv = ["gunicorn", *arguments]
    import_module("gunicorn.app.wsgiapp").run()


class Service(Gunicorn):
    """The service at an address of its own, with its settings."""

    def __init__(
        self,
        directory: Path,
        log_directory: Path,
        base_url: str,
        *,
        workers: int = 2,
        settings: Mapping[str, str] | None = None,
        is_forked: bool = True,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.address = ports.free()
        self.log_directory = log_directory
        environment = {
            "FOLYAM_BIND": str(self.address),
            "FOLYAM_WORKERS": str(workers),
            "FOLYAM_LOG_URL": log_directory.as_uri(),
            "FOLYAM_MODEL": "test-model",
            "FOLYAM_DRAIN_SECONDS": "1",
            # The default directory is in /dev/shm and would remain there.
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "a-key-that-must-not-be-seen",
            **(settings or {}),
        }
        super().__init__([], environment, directory / "service.log", is_forked=is_forked)
        eventually(self._ready, READY_SECONDS)

    def restart(self) -> None:
        """Stop gunicorn, and start it again at the same address."""
        self.stop()
        self.process = self._start()
        eventually(self._ready, READY_SECONDS)

    def workers(self) -> list[int]:
        """The workers' process ids."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def started(self) -> int:
        """The number of workers that have begun to serve so far, including those that have ended."""
        return self.log.read_text().count("Application startup complete")

    def memory(self) -> int:
        """Bytes of the workers' private memory."""
        return sum(psutil.Process(pid).memory_full_info().uss for pid in self.workers())

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return is_ready(self.address)


class Nginx(Program):
    """nginx with the project's own configuration; by default with high limits, because all clients have one address."""

    def __init__(
        self,
        directory: Path,
        service: ports.Address,
        web_root: Path,
        limits: web.ClientLimits = ROOMY,
        template: str | None = None,
    ) -> None:
        template = template or (ROOT / "nginx.conf").read_text()
        work = directory / "nginx"
        work.mkdir(parents=True, exist_ok=True)
        self.address = ports.free()
        configuration = directory / "nginx.conf"
        configuration.write_text(
            web.configuration(
                template,
                listen=self.address,
                service=service,
                web_root=web_root,
                directory=work,
                limits=limits,
            )
        )
        command = [str(web.program()), "-p", str(work), "-c", str(configuration)]
        super().__init__(command, {}, directory / "nginx.log")
        eventually(self._ready, READY_SECONDS)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return is_ready(self.address)


def is_ready(address: ports.Address) -> bool:
    """Return whether the service responds at the address."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
