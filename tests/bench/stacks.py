"""The compared stacks: start, request and accounting of each."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local import web
from deploy.local.ports import Address
from tests.bench.machine import SERVING_CORE, UPSTREAM_CORE, pinned
from tests.bench.usage import children
from tests.upstream.process import ROOT, UpstreamProcess
from tests.upstream.server import MODEL
from tests.valkey import ValkeyServer

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
BIN = Path(sys.executable).parent

UNLIMITED = "1000000"
PR_SET_PDEATHSIG = 1

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream behind {{ server {behind}; keepalive 1024; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Stack:
    """One way from the upstream to the reader, running."""

    name: str
    address: tuple[str, int]
    ask: Callable[[str], bytes]
    """The bytes of a request for a query's answer."""
    pids: tuple[int, ...]
    """The processes that carry the answers. Masters, which only wait, are not among them."""
    follow: Callable[[str], bytes] | None = None
    """The bytes of a request for a path under `/answers/`. None: the stack keeps no answers."""


NAMES = ("upstream", "nginx", "textbook", "folyam", "folyam-valkey", "folyam-sse", "folyam+nginx")
SHARED = ("folyam-sse", "folyam+nginx")
"""Stacks that are other ways to the processes of `folyam`."""


@contextmanager
def all_stacks(
    folder: Path, workers: int = 1, wanted: Collection[str] = NAMES
) -> Iterator[tuple[UpstreamProcess, list[Stack]]]:
    """The stacks over one upstream; the upstream itself is always among them."""
    with ExitStack() as running:
        with pinned(UPSTREAM_CORE):
            upstream = running.enter_context(UpstreamProcess.start())
        address = _address(upstream.address)
        stacks = [Stack("upstream", address, ask_openai, (upstream.pid,))]
        if "nginx" in wanted:
            stacks.append(running.enter_context(nginx("nginx", folder / "nginx", address, ask_openai)))
        if "textbook" in wanted:
            stacks.append(running.enter_context(textbook(folder / "textbook", upstream)))
        if "folyam-valkey" in wanted:
            stacks.append(running.enter_context(on_valkey(folder / "valkey", upstream, workers)))
        if "folyam" in wanted:
            alone = running.enter_context(service(folder / "folyam", upstream, workers))
            stacks.append(alone)
            if "folyam-sse" in wanted:
                stacks.append(replace(alone, name="folyam-sse", ask=ask_service_sse, follow=follow_sse))
            if "folyam+nginx" in wanted:
                stacks.append(running.enter_context(front(folder / "front" / "nginx", alone)))
        yield upstream, stacks


@contextmanager
def nginx(name: str, folder: Path, behind: tuple[str, int], ask: Callable[[str], bytes]) -> Iterator[Stack]:
    """nginx as a plain proxy: one worker, no buffering, connections kept on both sides."""
    port = free_port()
    configuration = NGINX.format(folder=folder, port=port, behind=f"{behind[0]}:{behind[1]}")
    with _nginx(folder, configuration, port) as pids:
        yield Stack(name, ("127.0.0.1", port), ask, pids)


@contextmanager
def front(folder: Path, behind: Stack) -> Iterator[Stack]:
    """The shipped nginx.conf in front of the service, with Server-Sent Events as the page reads them.

    It opens a connection to the service for each request, writes an access log, and counts requests against limits.
    """
    port = free_port()
    configuration = web.configuration(
        (ROOT / "nginx.conf").read_text(),
        listen=Address("127.0.0.1", port),
        service=Address(*behind.address),
        web_root=folder,
        directory=folder,
        # The whole load is one client's, and held against no limit.
        limits=web.ClientLimits(web.MAX_NUMBER, web.MAX_NUMBER),
    )
    with _nginx(folder, configuration, port) as pids:
        yield Stack("folyam+nginx", ("127.0.0.1", port), ask_service_sse, (*pids, *behind.pids), follow_sse)


@contextmanager
def _nginx(folder: Path, configuration: str, port: int) -> Iterator[tuple[int, ...]]:
    """Run nginx; yield its one worker: `worker_processes auto` counts the cores that it may use."""
    folder.mkdir(parents=True)
    (folder / "nginx.conf").write_text(configuration)
    command = [str(web.program()), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with process_of(command, {}, folder) as process:
        wait_until_open(port, process)
        yield _workers(process)


@contextmanager
def textbook(folder: Path, upstream: UpstreamProcess) -> Iterator[Stack]:
    """The textbook application on one gunicorn worker."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [
        str(BIN / "gunicorn"),
        *("--workers", "1", "--worker-class", "uvicorn_worker.UvicornWorker"),
        *("--bind", f"127.0.0.1:{port}", "--backlog", "1024", "--keep-alive", "75", "--timeout", "120"),
        "tests.bench.textbook:app",
    ]
    with process_of(command, upstream_settings(upstream), folder) as process:
        wait_until_open(port, process)
        yield Stack("textbook", ("127.0.0.1", port), ask_textbook, _workers(process))


@contextmanager
def on_valkey(folder: Path, upstream: UpstreamProcess, workers: int) -> Iterator[Stack]:
    """The service with its log on a Valkey server of its own, which shares the upstream's core.

    The server's time is not counted: it is another machine's.
    """
    folder.mkdir(parents=True)
    with ExitStack() as running:
        with pinned(UPSTREAM_CORE):
            server = running.enter_context(ValkeyServer(folder / "server"))
        yield running.enter_context(service(folder, upstream, workers, server.url, "folyam-valkey"))


@contextmanager
def service(
    folder: Path, upstream: UpstreamProcess, workers: int, log_url: str = "", name: str = "folyam"
) -> Iterator[Stack]:
    """The service on so many gunicorn workers, its log in files unless it is given."""
    (folder / "log").mkdir(parents=True, exist_ok=True)  # There may be kept answers.
    port = free_port()
    settings = {
        **upstream_settings(upstream),
        "FOLYAM_LOG_URL": log_url or f"file://{folder}/log",
        "PROMETHEUS_MULTIPROC_DIR": f"{folder}/metrics",
        "FOLYAM_BIND": f"127.0.0.1:{port}",
        "FOLYAM_WORKERS": str(workers),
        # The whole load is one client's, and held against no limit.
        "FOLYAM_MAX_ANSWERS": UNLIMITED,
        "FOLYAM_MAX_ANSWERS_PER_CLIENT": UNLIMITED,
    }
    command = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "service.main:app"]
    with process_of(command, settings, folder) as process:
        wait_until_open(port, process)
        yield Stack(name, ("127.0.0.1", port), ask_service, _workers(process, workers), follow)


def ask_openai(query: str) -> bytes:
    """A chat completion, as clients of the upstream and of the plain proxy ask for it."""
    messages = [{"role": "user", "content": query}]
    return post("/v1/chat/completions", {"model": MODEL, "stream": True, "messages": messages}, "text/event-stream")


def ask_textbook(query: str) -> bytes:
    """The textbook application's request."""
    return post("/generate", {"query": query}, "text/plain")


def ask_service(query: str) -> bytes:
    """The service's request: JSON lines, the default rendering."""
    return post("/generate", {"query": query}, "application/json")


def ask_service_sse(query: str) -> bytes:
    """The service's request: Server-Sent Events, which the page reads."""
    return post("/generate", {"query": query}, "text/event-stream")


def follow(path: str) -> bytes:
    """A request for a kept answer, in JSON lines."""
    return get(path, "application/json")


def follow_sse(path: str) -> bytes:
    """A request for a kept answer, in Server-Sent Events."""
    return get(path, "text/event-stream")


def post(path: str, value: Mapping[str, object], accept: str) -> bytes:
    """A request's bytes."""
    body = json.dumps(value).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Accept: {accept}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, accept: str) -> bytes:
    """A request's bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=READY_SECONDS).close()
        except OSError:
            if process.poll() is not None or time.monotonic() >= deadline:
                raise RuntimeError(f"{process.args!r} does not listen") from None
            time.sleep(POLL_SECONDS)
        else:
            return


def upstream_settings(upstream: UpstreamProcess) -> dict[str, str]:
    """The settings of a service over this upstream."""
    return {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "none", "FOLYAM_MODEL": MODEL}


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def _workers(process: subprocess.Popen[bytes], wanted: int = 1) -> tuple[int, ...]:
    """Wait for the processes that a master starts, and return them."""
    deadline = time.monotonic() + READY_SECONDS
    while len(workers := children(process.pid)) < wanted:
        if time.monotonic() >= deadline:
            raise RuntimeError(f"{process.args!r} started fewer than {wanted} workers")
        time.sleep(POLL_SECONDS)
    return tuple(workers)


def _end_with_parent() -> None:
    """Make the kernel end this process when the benchmark is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def process_of(command: list[str], settings: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on the core of those that are measured. If it fails, the error has the end of its output."""
    # Nothing set for the shell we were started from changes what is measured.
    inherited = {name: value for name, value in os.environ.items() if not re.match("FOLYAM_|OPENAI_", name)}
    output = folder / "output.txt"
    with output.open("wb") as file, pinned(SERVING_CORE):
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, **settings},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # there are no threads yet that it could disturb
        )
    try:
        yield process
    except RuntimeError as error:
        error.add_note(output.read_text(errors="replace")[-3000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
