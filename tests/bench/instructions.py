"""`python -m tests.bench.instructions [TREE …]`: the service's user instructions for an answer and for a chunk.

valgrind's callgrind counts them. They hardly depend on the machine's other work, so two trees can be compared on a busy
one; the trees take turns. The upstream sends a chunk when the reader has the one before, so that none are merged.

`/generate` is measured, and with `--doors` each endpoint family of another protocol beside it.
"""

import argparse
import http.client
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from service import interpreter
from tests.bench.percentiles import median
from tests.bench.stacks import free_port, upstream_settings
from tests.upstream.process import ROOT, UpstreamProcess
from tests.upstream.script import command
from tests.upstream.server import MODEL

SHORT, LONG = 12, 2
"""Answers of a count: so many of one chunk, and so many of `CHUNKS`."""
CHUNKS = 151
READY_SECONDS = 600.0
REQUEST_SECONDS = 120.0
IDLE_SECONDS = 5.0
TEXT = b"zebra"


@dataclass(frozen=True)
class Way:
    """A way to an answer."""

    path: str
    body: Callable[[str, str], dict[str, object]]
    """From the question and a key of its own, the request's body."""
    accept: str = "text/event-stream"
    is_apart: bool = False
    """Whether the answer is asked for in the background. Then a durable stream of it is read."""


def _messages(query: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": query}]


SSE = "SSE"
NATIVE = {
    "JSON lines": Way("/generate", lambda query, _: {"query": query}, "application/json"),
    SSE: Way("/generate", lambda query, _: {"query": query}),
}
DOORS = {
    "chat": Way(
        "/v1/chat/completions", lambda query, _: {"model": MODEL, "stream": True, "messages": _messages(query)}
    ),
    "responses": Way("/v1/responses", lambda query, _: {"model": MODEL, "stream": True, "input": query}),
    "ui": Way(
        "/api/chat",
        lambda query, key: {
            "id": f"{key}-0123456789abcdef",
            "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": query}]}],
        },
    ),
    "ag-ui": Way(
        "/ag-ui",
        lambda query, key: {
            "threadId": key,
            "runId": key,
            "messages": [{"id": "u", "role": "user", "content": query}],
        },
    ),
    "streams": Way(
        "/v1/responses", lambda query, _: {"model": MODEL, "background": True, "input": query}, is_apart=True
    ),
}


@dataclass
class Counts:
    """Instructions, one of each a round."""

    answer: list[float] = field(default_factory=list)
    """An answer of one chunk."""
    chunk: list[float] = field(default_factory=list)
    """A chunk more."""


class Tree:
    """A checkout's service under callgrind, on one process without gunicorn."""

    def __init__(self, path: Path, port: int, process: subprocess.Popen[bytes], counts: Path) -> None:
        self.path = path
        self._port = port
        self._process = process
        self._counts = counts
        self._idle = 0.0
        """Instructions a second of a service that is left alone."""

    @classmethod
    @contextmanager
    def running(cls, path: Path, folder: Path, upstream: UpstreamProcess) -> Iterator["Tree"]:
        """Start the service, and wait until it answers."""
        for name in ("log", "metrics"):
            (folder / name).mkdir(parents=True, mode=0o700)
        port = free_port()
        settings = {
            **upstream_settings(upstream),
            "FOLYAM_LOG_URL": f"file://{folder}/log",
            "PROMETHEUS_MULTIPROC_DIR": f"{folder}/metrics",
            "FOLYAM_DRAIN_SECONDS": "0",
            # Under callgrind, everything takes fifty times as long.
            "FOLYAM_STATUS_SECONDS": str(READY_SECONDS),
            "PYTHONHASHSEED": "0",
        }
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-line=no"]
        # In the log's directory, because the service confines itself to that one.
        server = ["uvicorn", "service.main:app", "--port", str(port), "--loop", "uvloop"]
        # As `service.worker.FolyamWorker` configures it.
        server += ["--http", "service.worker:ThriftyProtocol", "--no-server-header", "--no-date-header"]
        with (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [*tool, f"--callgrind-out-file={folder}/log/out", sys.executable, "-m", *server, "--no-access-log"],
                cwd=path,
                env={**os.environ, **settings},
                stdout=output,
                stderr=output,
            )
        try:
            tree = cls(path, port, process, folder / "log")
            tree._wait_until_ready()
            yield tree
        finally:
            process.kill()
            process.wait()

    def warm_up(self, upstream: UpstreamProcess, ways: Sequence[Way]) -> None:
        """Fill caches, begin to count, and see what the service takes when it is left alone."""
        for way in ways:
            self._ask(upstream, 3, 3, way)
        self._control("--instr=on")
        for way in ways:
            self._ask(upstream, 3, 3, way)
        self._dump()
        time.sleep(IDLE_SECONDS)
        self._idle = self._dump() / IDLE_SECONDS

    def count(self, upstream: UpstreamProcess, way: Way, into: Counts) -> None:
        """Count once."""
        answer = self._counted(upstream, SHORT, 1, way) / SHORT
        into.answer.append(answer)
        into.chunk.append((self._counted(upstream, LONG, CHUNKS, way) / LONG - answer) / (CHUNKS - 1))

    def _counted(self, upstream: UpstreamProcess, answers: int, chunks: int, way: Way) -> float:
        self._dump()
        began = time.monotonic()
        self._ask(upstream, answers, chunks, way)
        return self._dump() - self._idle * (time.monotonic() - began)

    def _ask(self, upstream: UpstreamProcess, answers: int, chunks: int, way: Way) -> None:
        for _ in range(answers):
            key = f"{id(self)}-{next(_numbers)}"
            query = command(key=key, chunks=chunks, text=f" {TEXT.decode()}", on_demand=True)
            upstream.step(key)
            connection, response = self._begin(way, query, key)
            seen = 0
            while line := response.readline():
                if TEXT in line and seen < chunks:  # Some protocols say the whole text again at the end.
                    seen += 1
                    upstream.step(key)
                    if seen == chunks:
                        upstream.step(key)
            connection.close()
            if seen != chunks:
                raise RuntimeError(f"{response.status}, and {seen} chunks came of {chunks}")

    def _begin(self, way: Way, query: str, key: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=REQUEST_SECONDS)
        headers = {"Accept": way.accept, "Content-Type": "application/json"}
        connection.request("POST", way.path, msgspec.json.encode(way.body(query, key)), headers)
        response = connection.getresponse()
        if way.is_apart:
            response.read()
            connection.request("GET", f"/v1/stream/{response.headers['X-Answer-Id']}?offset=-1&live=sse")
            response = connection.getresponse()
        return connection, response

    def _dump(self) -> int:
        """Return the instructions since the dump before."""
        self._control("--dump")
        newest = max(self._counts.glob("out.*"), key=lambda path: int(path.name.rpartition(".")[2]))
        found = re.search(r"^(?:summary|totals): (\d+)", newest.read_text(errors="replace"), re.MULTILINE)
        assert found
        return int(found[1])

    def _control(self, what: str) -> None:
        subprocess.run(["callgrind_control", what, str(self._process.pid)], check=True, capture_output=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=REQUEST_SECONDS)
            try:
                connection.request("GET", "/livez")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                if self._process.poll() is not None or time.monotonic() >= deadline:
                    raise RuntimeError(f"the service of {self.path} does not start under callgrind") from None
                time.sleep(0.5)
            else:
                return
            finally:
                connection.close()


_numbers = itertools.count()


def measure(paths: Sequence[Path], rounds: int, ways: Mapping[str, Way]) -> dict[Path, dict[str, Counts]]:
    """Count in each tree, in turns; return the counts by tree and way."""
    counts = {path: {name: Counts() for name in ways} for path in paths}
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder, ExitStack() as running:
        upstream = running.enter_context(UpstreamProcess.start())
        trees = [
            running.enter_context(Tree.running(path, Path(folder) / str(number), upstream))
            for number, path in enumerate(paths)
        ]
        for tree in trees:
            tree.warm_up(upstream, tuple(ways.values()))
        for _ in range(rounds):
            for name, way in ways.items():
                for tree in trees:
                    tree.count(upstream, way, counts[tree.path][name])
    return counts


def _row(path: Path, name: str, counts: Counts, beside: Counts) -> str:
    ratio = median(counts.chunk) / median(beside.chunk)
    return f"| {path.name}, {name} | {_thousands(counts.answer)} | {_thousands(counts.chunk)} | {ratio:.2f} |\n"


def _thousands(some: list[float]) -> str:
    return f"{median(some) / 1000:,.1f} ({min(some) / 1000:,.1f} to {max(some) / 1000:,.1f})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.instructions", description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path, default=[ROOT], metavar="TREE", help="checkouts (this one)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--doors", action="store_true", help="also the doors; each tree must have them")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        parser.error("valgrind is missing; on Debian: apt install valgrind")
    ways = {**NATIVE, **DOORS} if options.doors else NATIVE
    counts = measure([tree.resolve() for tree in options.trees], options.rounds, ways)
    sys.stdout.write(f"Python {interpreter.description()}\n\n")
    sys.stdout.write(
        "| thousand instructions, median (range) | an answer of one chunk | a chunk more | x SSE |\n"
        "| --- | ---: | ---: | ---: |\n"
    )
    for path, by_name in counts.items():
        for name, some in by_name.items():
            sys.stdout.write(_row(path, name, some, by_name[SSE]))


if __name__ == "__main__":
    main()
