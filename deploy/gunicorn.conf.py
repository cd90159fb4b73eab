# ruff: noqa: N999 - gunicorn's default name for this file
"""gunicorn's configuration. Each setting: https://gunicorn.org/reference/settings/.

The master reads this file at its start and at each reload (HUP). Of the service it imports only the worker class:
workers inherit the master's imports, and a reload would continue with the old code of these.
"""

import ctypes
import math
import os
import re
import resource
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from gunicorn.arbiter import Arbiter

PR_SET_PDEATHSIG = 1
START_SECONDS = 60
"""Maximum time from a worker's fork to its first heartbeat, also on slow and shared processors."""

ADDRESS = re.compile(r"unix:.+|fd://\d+|(?:tcp://)?(?:\[[0-9a-f:.]+\]|[^][:/\s]*):(\d{1,5})", re.IGNORECASE | re.ASCII)
"""An address to listen at. gunicorn itself would parse `8000` as a host."""
MAX_WORKERS = 1024
"""Upper bound on the workers, beyond any machine's cores. Each takes 70 MB."""


def _refuse(variable: str, sentence: str) -> NoReturn:
    print(f"Folyam cannot start: {variable}: {sentence}", file=sys.stderr)
    raise SystemExit(Arbiter.APP_LOAD_ERROR)


def _given(variable: str, default: str) -> str:
    """Return a variable's value, without the blanks and line ends around it; the default if that is empty."""
    return os.environ.get(variable, "").strip() or default


def _number(variable: str, default: float, least: float, most: float, kind: type[int] | type[float]) -> float:
    try:
        value = kind(_given(variable, str(default)))
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        _refuse(variable, f"Should be {what} from {least} to {most}")
    return value


def _bind() -> str:
    addresses = _given("FOLYAM_BIND", "127.0.0.1:8000")
    for address in addresses.split(","):
        match = ADDRESS.fullmatch(address)
        if not match or (match[1] and not 0 < int(match[1]) < 65536):  # noqa: PLR2004 - the highest port
            _refuse("FOLYAM_BIND", "Should be host:port, such as 127.0.0.1:8000, with a port from 1 to 65535")
    return addresses


_root = Path(__file__).resolve().parent.parent
# A file system in memory, where the machine has one.
_memory = Path("/dev/shm")  # noqa: S108 - only the directory, not a fixed name in it

wsgi_app = "service.main:app"
chdir = str(_root)
proc_name = "folyam"

# For nginx and Prometheus only: uvicorn has no timeout for slow headers, so nginx must be the only way in.
bind = _bind()
# Any worker follows, stops or takes over any answer, so only the number of cores matters here.
workers = _number("FOLYAM_WORKERS", 2, 1, MAX_WORKERS, int)
# uvicorn's worker, with a drain in which answers run to their end.
worker_class = "service.worker.FolyamWorker"

# A worker touches a file in this directory as its heartbeat. On a disk that could block (default: /tmp).
worker_tmp_dir = str(_memory) if os.access(_memory, os.W_OK) else None

# A worker whose event loop has not run for this long is killed, because its answers wait for another worker meanwhile
# (default: 30). A worker sends two heartbeats in that time. Its start has START_SECONDS.
timeout = 10

# Maximum time a worker has to end, before it is killed: the drain of its answers, and ten seconds.
# The default and the bounds of FOLYAM_DRAIN_SECONDS are the same as in service/config/settings.py.
graceful_timeout = math.ceil(_number("FOLYAM_DRAIN_SECONDS", 30, 0, 86_400, float)) + 10

# Longer than nginx keeps an idle connection, so that nginx closes it (default: 2).
keepalive = 75

# 0, the default: a worker that reaches its limit stops listening before its replacement listens.
max_requests = 0

# Trust X-Forwarded-For and -Proto from nginx on this machine only (the default).
forwarded_allow_ips = _given("FORWARDED_ALLOW_IPS", "127.0.0.1")

# No socket for gunicornc: there may be no writable directory for it, and signals suffice.
control_socket_disable = True

# The service logs one line for each request itself.
accesslog = None
errorlog = "-"
loglevel = "info"


def _metrics_directory() -> Path:
    """Return the directory for the workers' metrics. A master that replaces this one computes the same name."""
    if given := _given("PROMETHEUS_MULTIPROC_DIR", ""):
        return Path(given)
    place = _memory if os.access(_memory, os.W_OK) else Path(tempfile.gettempdir())
    return place / f"folyam-metrics-{os.getuid()}-{bind.replace('/', '_').replace(':', '_')}"


# Set before any worker imports prometheus_client, which reads it at its import.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_directory())


def on_starting(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Disable core dumps, raise the limit of open files, and empty the metrics directory.

    The memory of a crashed process holds keys and people's words. The counters of an earlier service's workers would be
    added to this one's.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the workers inherit it
    # A follower takes a connection and maybe a file. The usual limit of 1024 is less than FOLYAM_MAX_FOLLOWERS.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        # In a directory that everyone may write to, another user may have taken the name.
        raise SystemExit(f"{directory} is not a directory of this user's: set PROMETHEUS_MULTIPROC_DIR to one.")
    # If this master replaces another (USR2), the other's workers still count in the directory.
    if server.master_pid:
        return
    for entry in directory.iterdir():
        if entry.suffix in {".db", ".slot"}:
            entry.unlink()


def when_ready(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Tell old workers of a stop during a reload. gunicorn itself handles the signal only after they are gone."""

    def stop(number: int, frame: Any) -> None:  # noqa: ANN401
        if os.getpid() == server.pid:  # not in a worker that was just forked
            server.worker_class.succession.stop()
        server.signal(number, frame)

    signal.signal(signal.SIGTERM, stop)


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Set a deadline for a worker's start. gunicorn itself watches a worker only from its first heartbeat on."""
    heartbeat = time.monotonic() + START_SECONDS - server.cfg.timeout
    os.utime(worker.tmp.fileno(), (heartbeat, heartbeat))


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401, ARG001 - gunicorn has no types
    """End the worker if the master is killed. uvicorn's worker does not notice, and would keep the port for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != server.pid:
        raise SystemExit(1)


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Warn of misspelt variables and of a slow interpreter, in the first worker only. The master imports no more."""
    if worker.age == 1:
        from service.config.variables import log_unknown  # noqa: PLC0415 - not in the master
        from service.interpreter import log_shortcoming  # noqa: PLC0415 - not in the master

        log_unknown()
        log_shortcoming()
