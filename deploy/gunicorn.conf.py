# ruff: noqa: N999 - the name gunicorn gives this file
"""gunicorn's configuration. Each setting: https://gunicorn.org/reference/settings/.

The master reads this file at its start and at each reload (HUP). It imports nothing of the service but the class of its
workers: what the master has imported they inherit, and a reload would go on with the old code.
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
"""How long a worker may take to give its first sign of life, also where processors are slow and shared."""

ADDRESS = re.compile(r"unix:.+|fd://\d+|(?:tcp://)?(?:\[[0-9a-f:.]+\]|[^][:/\s]*):(\d{1,5})", re.IGNORECASE | re.ASCII)
"""Where gunicorn can listen. By itself it takes `8000` for a host."""
MOST_WORKERS = 1024
"""More than any machine has cores for; each takes 70 MB."""


def _refuse(variable: str, sentence: str) -> NoReturn:
    print(f"Folyam cannot start: {variable}: {sentence}", file=sys.stderr)
    raise SystemExit(Arbiter.APP_LOAD_ERROR)


def _number(variable: str, default: float, least: float, most: float, kind: type[int] | type[float]) -> float:
    try:
        value = kind(os.environ.get(variable) or default)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        _refuse(variable, f"Should be {what} from {least} to {most}")
    return value


def _bind() -> str:
    addresses = os.environ.get("FOLYAM_BIND") or "127.0.0.1:8000"
    for address in addresses.split(","):
        match = ADDRESS.fullmatch(address)
        if not match or (match[1] and not 0 < int(match[1]) < 65536):  # noqa: PLR2004 - the highest port
            _refuse("FOLYAM_BIND", "Should be host:port, such as 127.0.0.1:8000, with a port from 1 to 65535")
    return addresses


_root = Path(__file__).resolve().parent.parent
# Memory that looks like files, where the machine has it.
_memory = Path("/dev/shm")  # noqa: S108 - not a fixed name in a shared place, only the place

wsgi_app = "service.main:app"
chdir = str(_root)
proc_name = "folyam"

# Only for nginx and Prometheus: the service has no time-outs for slow headers, so nginx must be the only door.
bind = _bind()
# Any worker follows, stops or takes over any answer, so their number is a question of cores only.
workers = _number("FOLYAM_WORKERS", 2, 1, MOST_WORKERS, int)
# uvicorn's worker, with a drain that carries answers to their end.
worker_class = "service.worker.FolyamWorker"

# A worker touches a file in here as its sign of life; on a disk that could block it (default: /tmp).
worker_tmp_dir = str(_memory) if os.access(_memory, os.W_OK) else None

# A worker whose event loop has stood still this long is beyond help, and its answers wait for another one meanwhile
# (default: 30). A worker gives two signs of life in that time; its start has START_SECONDS.
timeout = 10

# How long a worker may take to end: what its answers may take, and some seconds to wind up. Only then is it killed.
# The default and the bounds of FOLYAM_DRAIN_SECONDS are the same as in service/config/settings.py.
graceful_timeout = math.ceil(_number("FOLYAM_DRAIN_SECONDS", 30, 0, 86_400, float)) + 10

# Longer than nginx keeps a connection that idles, so that nginx is the one to close it (default: 2).
keepalive = 75

# 0, the default: a worker that reaches its number stops listening before its replacement is there.
max_requests = 0

# Whose X-Forwarded-For and -Proto to believe (the default): nginx on this machine.
forwarded_allow_ips = os.environ.get("FORWARDED_ALLOW_IPS") or "127.0.0.1"

# No socket for gunicornc: there may be no directory to write it to, and signals do.
control_socket_disable = True

# The service writes one line of its own for each request.
accesslog = None
errorlog = "-"
loglevel = "info"


def _metrics_directory() -> Path:
    """Choose where the workers' counters meet. The name depends on nothing that a new master would see otherwise."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return Path(given)
    place = _memory if os.access(_memory, os.W_OK) else Path(tempfile.gettempdir())
    return place / f"folyam-metrics-{os.getuid()}-{bind.replace('/', '_').replace(':', '_')}"


# Before any worker imports prometheus_client, which decides by it at its import.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_directory())


def on_starting(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Leave no core dumps, and begin the counters at nothing.

    The memory of a process that crashes holds keys and what people wrote. A dead worker's counters would be counted
    with ours, above all if its id returns.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the workers inherit it
    # A follower is a connection and may be a file, and the usual limit is 1024, short of FOLYAM_MAX_FOLLOWERS.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        # In a place that all may write to, somebody else may have taken the name.
        raise SystemExit(f"{directory} is not a directory of this user's: set PROMETHEUS_MULTIPROC_DIR to one.")
    # A master that replaces another (USR2) has that one's workers still counting in there.
    if server.master_pid:
        return
    for entry in directory.iterdir():
        if entry.suffix in {".db", ".slot"}:
            entry.unlink()


def when_ready(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Let old workers know of a stop during a reload: gunicorn looks at the signal only when they are gone."""

    def stop(number: int, frame: Any) -> None:  # noqa: ANN401
        if os.getpid() == server.pid:  # and not a worker that was just forked
            server.worker_class.succession.stop()
        server.signal(number, frame)

    signal.signal(signal.SIGTERM, stop)


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """End a worker that stands still in its start, too: gunicorn does so only from the first sign of life on."""
    sign_of_life = time.monotonic() + START_SECONDS - server.cfg.timeout
    os.utime(worker.tmp.fileno(), (sign_of_life, sign_of_life))


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401, ARG001 - gunicorn has no types
    """End with the master, if that is killed: uvicorn's worker does not notice, and would keep the port for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != server.pid:
        raise SystemExit(1)


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Warn of misspelt variables, in the first worker only: the master cannot, as it does not import their list."""
    if worker.age == 1:
        from service.config.variables import log_unknown  # noqa: PLC0415 - not in the master

        log_unknown()
