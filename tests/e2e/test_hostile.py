"""One hostile client does everything at once, and others are served as before."""

import json
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.web import ClientLimits
from tests.bench.percentiles import percentile
from tests.e2e import hostile
from tests.e2e.client import Client, script
from tests.e2e.conftest import Stack
from tests.e2e.stack import ROOT, Nginx, Service, eventually
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

OTHERS = 6
CHUNKS = 20
PACE_SECONDS = 0.02
BEFORE_SECONDS = 5.0
DURING_SECONDS = 8.0
ATTACK_SECONDS = 600.0
"""Timeout of the attack, whose last requests a busy machine answers late."""
MEMORY_BYTES = 128 << 20
"""Of both workers together."""
QUICK_SECONDS = 0.05
MUCH_SLOWER = 20
"""The hostile client needs a core of this machine's two for itself, so others wait longer; they are not shut out."""


@dataclass
class Served:
    """The other clients' measurements."""

    first_chunks: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)

    def figures(self) -> tuple[str, ...]:
        """For the table."""
        first, whole = ([1000 * percentile(values, share) for share in (0.5, 0.99)]
                        for values in (self.first_chunks, self.durations))  # fmt: skip
        return (
            f"{len(self.durations)} answers",
            f"first chunk {first[0]:.0f} ms, p99 {first[1]:.0f} ms",
            f"whole {whole[0]:.0f} ms, p99 {whole[1]:.0f} ms",
            f"{len(self.unserved)} not served",
        )


def serve_others(client: Client, until: threading.Event) -> tuple[Served, list[threading.Thread]]:
    """Ask one question after the other, each of the others for itself."""
    served = Served()

    def ask() -> None:
        while not until.is_set():
            began_at = time.monotonic()
            try:
                with client.ask(script(chunks=CHUNKS, pace=PACE_SECONDS)) as stream:
                    events: list[dict[str, Any]] = []
                    for event in stream.events():
                        if event["type"] == "delta" and len(events) == 1:
                            served.first_chunks.append(time.monotonic() - began_at)
                        events.append(event)
                if events[-1].get("type") != "done":
                    served.unserved.append(f"{stream.status} {events[-1]}")
            except OSError as error:
                served.unserved.append(repr(error))
            served.durations.append(time.monotonic() - began_at)

    threads = [threading.Thread(target=ask) for _ in range(OTHERS)]
    for thread in threads:
        thread.start()
    return served, threads


@pytest.fixture
def guarded(tmp_path: Path, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    """With the limits as they are by default."""
    settings = {"FOLYAM_UNWATCHED_SECONDS": "2"}  # What it has begun ends soon after it has gone.
    with (
        Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service,
        Nginx(tmp_path, service.address, web_root, ClientLimits()) as nginx,
    ):
        yield Stack(upstream, service, nginx)


@pytest.fixture
def many_files() -> Iterator[None]:
    """The hostile client holds thousands of connections."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def measured(client: Client, seconds: float) -> Served:
    """Measure for so many seconds how the other clients are served."""
    until = threading.Event()
    served, threads = serve_others(client, until)
    time.sleep(seconds)
    until.set()
    for thread in threads:
        thread.join()
    return served


def descriptors(stack: Stack) -> int:
    return sum(psutil.Process(pid).num_fds() for pid in stack.service.workers())


@pytest.mark.usefixtures("many_files")
def test_others_are_served_while_one_client_does_its_worst(guarded: Stack, report: Report) -> None:
    before = measured(guarded.client, BEFORE_SECONDS)
    memory, files = guarded.service.memory(), descriptors(guarded)

    host, port = guarded.nginx.address.host, guarded.nginx.address.port
    command = [sys.executable, "-m", "tests.e2e.hostile", host, str(port), str(DURING_SECONDS)]
    until = threading.Event()
    began_at = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as attacker:
        during, threads = serve_others(guarded.client, until)
        told, _ = attacker.communicate(timeout=ATTACK_SECONDS)
        lasted = time.monotonic() - began_at
        grown = guarded.service.memory() - memory
        until.set()
        for thread in threads:
            thread.join()
    met = Counter(json.loads(told))

    report.add("before", *before.figures())
    report.add("during", *during.figures())
    report.add("memory of both workers", f"{grown / (1 << 20):+.1f} MiB", "", "", "")
    for what in sorted(met):
        report.add(f"  it met {what}", met[what], "", "", "")

    assert during.unserved == []
    assert len(during.durations) > OTHERS, "each got several answers"
    for name in ("first_chunks", "durations"):
        quiet, attacked = (percentile(getattr(served, name), 0.5) for served in (before, during))
        assert attacked < MUCH_SLOWER * max(quiet, QUICK_SECONDS), name
    assert grown < MEMORY_BYTES
    # The attack took place, and its excess was rejected. The amount depends on the machine's speed.
    kinds = ("unknown id: ", "flood: ")
    taken = sum(number for what, number in met.items() if what.startswith(kinds) and not what.endswith(": 429"))
    assert taken <= ClientLimits().requests * (lasted + 1) + 1, "so many a second, and a second's worth at once"
    assert met["connections held at the end"] >= hostile.OPENED
    assert met["asked for unknown ids"] > 0
    assert met["unknown id: 404"] > 0
    assert met["ask: 200"] > 0
    assert met["huge body: 413"] > 0
    assert not [what for what in met if what.endswith((": 500", ": 502", ": 504"))]
    # The hostile client leaves nothing behind, and its next request is served like any other.
    eventually(lambda: guarded.direct.metrics()["folyam_followers"] == 0, 30)
    eventually(lambda: descriptors(guarded) <= files + 2 * OTHERS, 60)
    after = measured(guarded.client, BEFORE_SECONDS / 2)
    report.add("after", *after.figures())
    assert after.unserved == []
