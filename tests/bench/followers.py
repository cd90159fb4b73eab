"""Many followers of few answers: what a delivered chunk costs, and what a follower costs that waits."""

import asyncio
from dataclasses import dataclass

from tests.bench.load import Client, Reading, connect_all
from tests.bench.measurements import CHUNKS, PACE_SECONDS, Meter, Surroundings, check
from tests.bench.percentiles import median
from tests.bench.stacks import Stack
from tests.bench.usage import cpu_seconds, resident_bytes
from tests.upstream.script import command

RESPONSES = 100
"""In all, whether of one answer or of as many."""
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 10.0


@dataclass(frozen=True)
class Followers:
    """So many answers at once, each with so many responses."""

    responses_each: int
    serving_us_a_chunk: float
    """CPU time for each chunk delivered to a response."""
    lag_median: float
    """Milliseconds. The chunks that a follower missed before it came are among them, a few of each answer's."""
    others_share: float


@dataclass(frozen=True)
class Idle:
    """Followers of answers that are silent."""

    followers: int
    kilobytes: float
    """For each."""
    serving_us_a_second: float
    """CPU time for each."""


async def followers(stack: Stack, around: Surroundings, responses_each: int) -> Followers:
    """Ask for answers, follow each with the rest of its responses, and read all of them to the end."""
    assert stack.follow
    follow = stack.follow
    clients = await connect_all(stack.address, RESPONSES)
    groups = [clients[at : at + responses_each] for at in range(0, RESPONSES, responses_each)]
    request = stack.ask(command(chunks=CHUNKS, pace=PACE_SECONDS, stamp=True))

    async def read(first: Client, *others: Client) -> list[Reading]:
        await first.start(request)
        path = f"/answers/{first.reading.header('x-answer-id')}"
        return await asyncio.gather(first.end(), *(other.ask(follow(path)) for other in others))

    meter = Meter(stack.pids, around)
    readings = [reading for some in await asyncio.gather(*(read(*group) for group in groups)) for reading in some]
    meter.stop()
    for client in clients:
        client.close()
    check(readings, CHUNKS)
    lags = [lag / 1000 for reading in readings for lag in reading.lags]
    return Followers(responses_each, meter.serving_seconds * 1e6 / len(lags), median(lags), meter.others_share)


async def idle_followers(stack: Stack, answers: int, each: int) -> Idle:
    """Let many followers wait for answers that are silent; see what they take."""
    assert stack.follow
    follow = stack.follow
    producing = await connect_all(stack.address, answers)
    for client in producing:
        await client.start(stack.ask(command(chunks=CHUNKS, stall_after=1, stamp=True)))
    await asyncio.sleep(SETTLE_SECONDS)
    memory = _memory(stack)
    cpu = await _idle_cpu(stack)
    waiting = await connect_all(stack.address, answers * each)
    for number, client in enumerate(waiting):
        await client.start(follow(f"/answers/{producing[number % answers].reading.header('x-answer-id')}"))
    await asyncio.sleep(SETTLE_SECONDS)
    memory = _memory(stack) - memory
    cpu = await _idle_cpu(stack) - cpu
    for client in (*producing, *waiting):
        client.close()
    return Idle(len(waiting), memory / len(waiting) / 1024, cpu * 1e6 / len(waiting))


def _memory(stack: Stack) -> int:
    return sum(resident_bytes(pid) for pid in stack.pids)


async def _idle_cpu(stack: Stack) -> float:
    """Return the CPU seconds a second of a stack that is left alone."""
    before = sum(cpu_seconds(pid) for pid in stack.pids)
    await asyncio.sleep(IDLE_SECONDS)
    return (sum(cpu_seconds(pid) for pid in stack.pids) - before) / IDLE_SECONDS
