"""Stalled readers, and their effect on the service and on other readers."""

import asyncio
from collections.abc import Sequence
from itertools import chain

import psutil

from tests.bench.load import connect_all
from tests.bench.percentiles import percentile
from tests.bench.stacks import ask_openai, ask_service
from tests.e2e.client import question
from tests.faults.findings import Findings
from tests.faults.stack import Stack, until
from tests.faults.wire import Connection, exchange
from tests.upstream.script import command

TEXT = "x" * 4000
STALLED_BYTES = 32 << 20
"""Size of the answer that they do not read: many times the buffers on the way."""
SETTINGS = {"FOLYAM_MAX_ANSWER_BYTES": str(2 * STALLED_BYTES)}
MAX_MEMORY_MIB = 0.1
"""Limit on the memory of one stalled reader. With more, five hundred of them would exceed the service's limit."""
NOISE_MIB = 10.0
MAX_SLOWDOWN = 3.0
"""Limit on the healthy readers' p99 lag beside stalled ones, as a multiple of the lag without them, or of that of
streams that come from the upstream directly at the same time, if this is longer: the machine may be busy."""
NOISE_MS = 200.0
HEALTHY = 40
DIRECT = 10
CHUNKS = 100
PACE_SECONDS = 0.05
TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 1.0
QUIET_SECONDS = 0.1
"""Limit on the CPU time of idle workers between two polls."""


async def stalls(stack: Stack, findings: Findings, readers: int) -> None:
    """Measure healthy streams without and then with stalled readers of a long answer."""
    door = stack.door
    body, headers = question(command(chunks=STALLED_BYTES // len(TEXT), text=TEXT))
    long = await exchange(door, "POST", "/generate", headers, body, timeout_seconds=TIMEOUT_SECONDS)
    where = long.headers["location"]
    await _lags(stack)  # warm-up
    memory = _memory_mib(stack)
    lags, _ = await _lags(stack)
    stalled = [
        await Connection.send(door, "GET", where, {}, timeout_seconds=TIMEOUT_SECONDS, narrow=True)
        for _ in range(readers)
    ]
    try:
        what = "all stalled readers are followers"
        await until(lambda: stack.metrics()["folyam_followers"] >= readers, TIMEOUT_SECONDS, what)
        await _quiet(stack)
        beside, direct = await _lags(stack)
        grown = _memory_mib(stack) - memory
        if stack.metrics()["folyam_followers"] < readers:
            findings.violate("stalled readers were given all", "nginx, or a buffer")
    finally:
        for connection in stalled:
            connection.reset()
    p99, p99_beside, p99_direct = (percentile(each, 0.99) for each in (lags, beside, direct))
    findings.clients += readers
    findings.notes += [
        f"{'stalled readers':36}{readers:9}   of {len(long.body)} bytes",
        f"{'memory grew by, MiB':36}{grown:9.1f}",
        f"{'p99 lag of healthy streams, ms':36}{p99:9.2f}   without",
        f"{'':36}{p99_beside:9.2f}   beside them",
        f"{'':36}{p99_direct:9.2f}   beside them, from the upstream directly",
    ]
    if grown > readers * MAX_MEMORY_MIB + NOISE_MIB:
        findings.violate("memory grows with stalled readers", f"{grown:.1f} MiB")
    if p99_beside > MAX_SLOWDOWN * max(p99, p99_direct) + NOISE_MS:
        findings.violate("stalled readers slow others down", f"p99 {p99:.2f} and then {p99_beside:.2f} ms")


async def _lags(stack: Stack) -> tuple[Sequence[float], Sequence[float]]:
    """Return the lags of all chunks of some regular streams, in milliseconds: through the stack, and past it."""
    host, _, port = stack.upstream.address.removeprefix("http://").partition(":")
    through = await connect_all((stack.door.host, stack.door.port), HEALTHY)
    past = await connect_all((host, int(port)), DIRECT)
    query = command(chunks=CHUNKS, pace=PACE_SECONDS, stamp=True)
    asks = [(client, ask_service(query)) for client in through] + [(client, ask_openai(query)) for client in past]
    try:
        readings = await asyncio.gather(*(client.ask(request) for client, request in asks))
    finally:
        for client, _ in asks:
            client.close()
    lags = [[lag / 1000 for lag in reading.lags] for reading in readings]
    return [*chain(*lags[:HEALTHY])], [*chain(*lags[HEALTHY:])]


async def _quiet(stack: Stack) -> None:
    """Wait until the buffers on the way to the stalled readers are full and the workers are idle."""
    workers = [psutil.Process(pid) for pid in stack.workers()]
    used, before = _cpu_seconds(workers), -QUIET_SECONDS
    while used - before >= QUIET_SECONDS:
        await asyncio.sleep(POLL_SECONDS)
        used, before = _cpu_seconds(workers), used


def _cpu_seconds(workers: Sequence[psutil.Process]) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in workers)


def _memory_mib(stack: Stack) -> float:
    return sum(float(psutil.Process(pid).memory_full_info().uss) for pid in stack.workers()) / 2**20
