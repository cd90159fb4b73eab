"""Kept answers: the cost of resuming a long one, and of an idle worker beside thousands of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.events import Delta, Done, Event, Start, Timing, encode_lines, new_answer_id
from tests.bench.load import BrokenAnswer, Client
from tests.bench.measurements import BEFORE_THE_END, Followed
from tests.bench.percentiles import median
from tests.bench.stacks import Stack, get, service
from tests.bench.usage import cpu_seconds
from tests.upstream.process import UpstreamProcess
from tests.upstream.stamp import stamp

KEPT = (0, 10_000)
"""The second is the default limit on the number of kept answers."""
LENGTHS = (100, 10_000, 100_000, 400_000)
SHORT_CHUNKS = 50
SETTLE_SECONDS = 5.0
"""Time for a new worker's first sweep."""


@dataclass(frozen=True)
class Kept:
    """A worker without a request, beside kept answers."""

    core_share: float
    """CPU time of a worker, as a share of one core: the largest of all workers."""


def write_answer(log: Path, chunks: int) -> str:
    """Write the log of a finished answer into the directory. Return its id."""
    answer = new_answer_id()
    events: list[Event] = [Start(1, answer, "bench")]
    events += [Delta(seq, text=stamp()) for seq in range(2, chunks + 2)]
    events.append(Done(chunks + 2, "stop", None, Timing(0.1, 1.0)))
    (log / f"{answer}.jsonl").write_bytes(encode_lines(events))
    return answer


async def kept(
    folder: Path, upstream: UpstreamProcess, workers: int, *, idle_seconds: float, follows: int
) -> tuple[dict[int, Kept], dict[int, Followed]]:
    """Measure a service's idle workers by their kept answers, and its resumes by the answers' length in chunks."""
    idle: dict[int, Kept] = {}
    resumed: dict[int, Followed] = {}
    for answers in KEPT:
        log = folder / str(answers) / "log"
        log.mkdir(parents=True)
        long = {chunks: write_answer(log, chunks) for chunks in LENGTHS if answers}
        for _ in range(answers - len(long)):
            write_answer(log, SHORT_CHUNKS)
        with service(log.parent, upstream, workers) as stack:
            await asyncio.sleep(SETTLE_SECONDS)
            idle[answers] = await _idle(stack.pids, idle_seconds)
            for chunks, answer in long.items():
                resumed[chunks] = await _resume(stack, answer, chunks, follows)
    return idle, resumed


async def _idle(pids: Sequence[int], seconds: float) -> Kept:
    began = time.monotonic()
    before = [cpu_seconds(pid) for pid in pids]
    await asyncio.sleep(seconds)
    after = [cpu_seconds(pid) for pid in pids]
    wall = time.monotonic() - began
    return Kept(max((end - begin) / wall for begin, end in zip(before, after, strict=True)))


async def _resume(stack: Stack, answer: str, chunks: int, times: int) -> Followed:
    client = await Client.connect(stack.address)
    request = get(f"/answers/{answer}?after={chunks + 2 - BEFORE_THE_END}", "application/json")
    milliseconds, cpu_milliseconds = [], []
    for _ in range(times):
        cpu = sum(cpu_seconds(pid) for pid in stack.pids)
        reading = await client.ask(request, timed=False)
        cpu_milliseconds.append((sum(cpu_seconds(pid) for pid in stack.pids) - cpu) * 1000)
        milliseconds.append((reading.ended_at - reading.asked_at) / 1000)
        if reading.chunks != BEFORE_THE_END - 1:
            raise BrokenAnswer(f"{reading.chunks} chunks came of {BEFORE_THE_END - 1}")
    client.close()
    return Followed(median(milliseconds), median(cpu_milliseconds), BEFORE_THE_END - 1)
