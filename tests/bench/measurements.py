"""The measurements: one function for each figure."""

import asyncio
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from tests.bench.load import BrokenAnswer, Client, Reading, connect_all
from tests.bench.percentiles import median, percentile
from tests.bench.stacks import Stack
from tests.bench.usage import cpu_seconds, machine_busy_seconds, resident_bytes
from tests.upstream.script import command

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHUNKS = 64
PACE_SECONDS = 0.02
ANSWERS = 3
"""Each reader of a paced run reads so many answers one after the other, so that for most of the run all of them
are reading, and answers begin and end meanwhile as they do in life."""
LONG_CHUNKS = 20_000
BEFORE_THE_END = 10
UNPACED_READERS = 8
LOOP_READERS = 32
LOOP_CHUNKS = 50
SHORT_READERS = 8
HELD = 400
WARM_UP = 20
REST_SECONDS = 0.003
POLL_SECONDS = 0.5
POLLS = 20
DISTURBED = 0.05
"""Share of the machine's CPU used by other processes, above which a run's figures are doubtful."""


@dataclass(frozen=True)
class FirstChunk:
    """One request at a time: milliseconds from sending it to receiving the first text."""

    requests: int
    median: float
    p99: float
    others_share: float
    """Of the whole machine, while all stacks took turns."""


@dataclass(frozen=True)
class Paced:
    """Many streams at once."""

    streams: int
    first_chunk_median: float
    """Milliseconds."""
    first_chunk_p99: float
    lag_median: float
    """Milliseconds from the upstream's sending a chunk to its arrival."""
    lag_p99: float
    answers: int
    stalled: int
    """Answers with a gap of more than twice the pace between two arrivals."""
    serving_us_a_chunk: float
    """CPU time of the processes that carry the answers."""
    serving_share: float
    """Of one core."""
    upstream_share: float
    load_share: float
    others_share: float
    """Of the whole machine, used by processes that have nothing to do with this."""


@dataclass(frozen=True)
class Short:
    """Measure answers of one chunk, one after the other on a few connections: an answer's cost without its chunks."""

    answers_a_second: float
    serving_ms_an_answer: float
    """CPU time."""
    serving_share: float
    upstream_share: float
    load_share: float
    others_share: float


@dataclass(frozen=True)
class Unpaced:
    """As fast as the stack can."""

    events_a_second: float
    serving_us_an_event: float
    serving_share: float
    upstream_share: float
    load_share: float
    others_share: float


@dataclass(frozen=True)
class Followed:
    """A request for an answer that exists."""

    milliseconds: float
    cpu_milliseconds: float
    events: int
    """Of the upstream's."""


@dataclass(frozen=True)
class Surroundings:
    """The processes of the benchmark that are not of a stack; the load is the one that measures."""

    upstream: int
    spinners: tuple[int, ...]


class Meter:
    """The CPU time between two moments, by group of processes."""

    def __init__(self, serving: Collection[int], around: Surroundings) -> None:
        self._groups = {
            "serving": serving,
            "upstream": (around.upstream,),
            "load": (os.getpid(),),
            "ours": {*serving, around.upstream, os.getpid(), *around.spinners},
        }
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        used = {name: sum(cpu_seconds(pid) for pid in pids) for name, pids in self._groups.items()}
        return {**used, "machine": machine_busy_seconds(), "wall": time.monotonic()}

    def stop(self) -> None:
        """The second moment."""
        after = self._read()
        used = {name: after[name] - before for name, before in self._before.items()}
        wall = used["wall"]
        self.serving_seconds = used["serving"]
        self.serving_share = used["serving"] / wall
        self.upstream_share = used["upstream"] / wall
        self.load_share = used["load"] / wall
        self.others_share = max(0.0, (used["machine"] - used["ours"]) / wall / (os.cpu_count() or 1))


class CalmWait:
    """Waits until the machine is calm: up to some seconds each time, and up to a limit in all."""

    def __init__(self, around: Surroundings, seconds: float) -> None:
        self._around = around
        self._seconds = seconds

    async def wait(self) -> None:
        """Return when the machine is calm, or after the time limit."""
        for _ in range(POLLS):
            if self._seconds <= 0:
                return
            self._seconds -= POLL_SECONDS
            meter = Meter((), self._around)
            await asyncio.sleep(POLL_SECONDS)
            meter.stop()
            if meter.others_share < DISTURBED:
                return


async def first_chunks(stacks: list[Stack], around: Surroundings, requests: int) -> dict[str, FirstChunk]:
    """One request at a time, of each stack in turn, on connections that are open."""
    request = {stack.name: stack.ask(command(chunks=1, stamp=True)) for stack in stacks}
    clients = {stack.name: await Client.connect(stack.address) for stack in stacks}
    times: dict[str, list[float]] = {stack.name: [] for stack in stacks}
    warm_up = max(WARM_UP, requests // 10)
    meter = Meter({pid for stack in stacks for pid in stack.pids}, around)
    for number in range(warm_up + requests):
        for name, client in clients.items():
            reading = await client.ask(request[name])
            check([reading], 1)
            if number >= warm_up:
                times[name].append((reading.first_at - reading.asked_at) / 1000)
            # A stack's work after its answer must not delay the next stack's answer.
            await asyncio.sleep(REST_SECONDS)
    for client in clients.values():
        client.close()
    meter.stop()
    return {
        name: FirstChunk(requests, median(some), percentile(some, 0.99), meter.others_share)
        for name, some in times.items()
    }


async def paced(stack: Stack, around: Surroundings, streams: int, answers: int = ANSWERS) -> Paced:
    """So many readers at once, their first requests spread evenly over one answer's length."""
    request = stack.ask(command(chunks=CHUNKS, pace=PACE_SECONDS, stamp=True))
    clients = await connect_all(stack.address, streams)
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.1
    spread = CHUNKS * PACE_SECONDS

    async def read(number: int, client: Client) -> list[Reading]:
        await asyncio.sleep(begin + number * spread / streams - loop.time())
        return [await client.ask(request) for _ in range(answers)]

    meter = Meter(stack.pids, around)
    readings = [
        reading
        for some in await asyncio.gather(*(read(number, client) for number, client in enumerate(clients)))
        for reading in some
    ]
    meter.stop()
    for client in clients:
        client.close()
    check(readings, CHUNKS)
    first = [(reading.first_at - reading.asked_at) / 1000 for reading in readings]
    lags = [lag / 1000 for reading in readings for lag in reading.lags]
    return Paced(
        streams=streams,
        first_chunk_median=median(first),
        first_chunk_p99=percentile(first, 0.99),
        lag_median=median(lags),
        lag_p99=percentile(lags, 0.99),
        answers=len(readings),
        stalled=sum(reading.largest_gap > 2 * PACE_SECONDS * 1e6 for reading in readings),
        serving_us_a_chunk=meter.serving_seconds * 1e6 / len(lags),
        serving_share=meter.serving_share,
        upstream_share=meter.upstream_share,
        load_share=meter.load_share,
        others_share=meter.others_share,
    )


async def short(stack: Stack, around: Surroundings, answers: int) -> Short:
    """So many answers of one chunk on each of a few connections."""
    request = stack.ask(command(chunks=1, stamp=True))
    clients = await connect_all(stack.address, SHORT_READERS)

    async def read(client: Client) -> list[Reading]:
        return [await client.ask(request) for _ in range(answers)]

    meter = Meter(stack.pids, around)
    readings = [reading for some in await asyncio.gather(*map(read, clients)) for reading in some]
    meter.stop()
    for client in clients:
        client.close()
    check(readings, 1)
    seconds = (max(r.ended_at for r in readings) - min(r.asked_at for r in readings)) / 1e6
    return Short(
        answers_a_second=len(readings) / seconds,
        serving_ms_an_answer=meter.serving_seconds * 1e3 / len(readings),
        serving_share=meter.serving_share,
        upstream_share=meter.upstream_share,
        load_share=meter.load_share,
        others_share=meter.others_share,
    )


async def unpaced(
    stack: Stack, around: Surroundings, chunks: int, readers: int = UNPACED_READERS, answers: int = 1
) -> Unpaced:
    """So many readers at once, each with answers one after the other, from an upstream that sends as it is read."""
    request = stack.ask(command(chunks=chunks, stamp=True))
    clients = await connect_all(stack.address, readers)

    async def read(client: Client) -> list[Reading]:
        return [await client.ask(request, timed=False) for _ in range(answers)]

    meter = Meter(stack.pids, around)
    readings = [reading for some in await asyncio.gather(*map(read, clients)) for reading in some]
    meter.stop()
    for client in clients:
        client.close()
    check(readings, chunks)
    events = chunks * len(readings)
    seconds = (max(r.ended_at for r in readings) - min(r.asked_at for r in readings)) / 1e6
    return Unpaced(
        events_a_second=events / seconds,
        serving_us_an_event=meter.serving_seconds * 1e6 / events,
        serving_share=meter.serving_share,
        upstream_share=meter.upstream_share,
        load_share=meter.load_share,
        others_share=meter.others_share,
    )


async def memory_a_stream(stack: Stack, held: int = HELD) -> float:
    """The kilobytes that one open stream takes: many of them, each with some text come and more awaited."""
    request = stack.ask(command(chunks=CHUNKS, stall_after=CHUNKS // 2, stamp=True))
    warm = await Client.connect(stack.address)
    for _ in range(WARM_UP):
        await warm.ask(stack.ask(command(chunks=CHUNKS, stamp=True)))
    warm.close()
    before = sum(resident_bytes(pid) for pid in stack.pids)
    clients = await connect_all(stack.address, held)
    for client in clients:
        await client.start(request)
    # The rest of each answer's first half is on its way: it has come when the memory no longer grows.
    after = 0
    while (now := sum(resident_bytes(pid) for pid in stack.pids)) > after:
        after = now
        await asyncio.sleep(0.5)
    for client in clients:
        client.close()
    return (after - before) / held / 1024


async def resume_and_replay(stack: Stack, times: int) -> dict[str, Followed]:
    """The end of a long finished answer, and the whole of it."""
    assert stack.follow
    client = await Client.connect(stack.address)
    long = await client.ask(stack.ask(command(chunks=LONG_CHUNKS, stamp=True)), timed=False)
    check([long], LONG_CHUNKS)
    answer = long.header("x-answer-id")
    last = LONG_CHUNKS + 2  # start, the deltas, done
    measured = {}
    for name, path, events in (
        ("resume", f"/answers/{answer}?after={last - BEFORE_THE_END}", BEFORE_THE_END - 1),
        ("replay", f"/answers/{answer}", LONG_CHUNKS),
    ):
        milliseconds = []
        cpu = sum(cpu_seconds(pid) for pid in stack.pids)
        for _ in range(times):
            reading = await client.ask(stack.follow(path), timed=False)
            check([reading], events)
            milliseconds.append((reading.ended_at - reading.asked_at) / 1000)
        cpu = sum(cpu_seconds(pid) for pid in stack.pids) - cpu
        measured[name] = Followed(median(milliseconds), cpu * 1000 / times, events)
    client.close()
    return measured


Figures = TypeVar("Figures", bound="DataclassInstance")


def middle(runs: list[Figures]) -> Figures:
    """The median of each figure over several runs."""
    figures = {name: median([asdict(run)[name] for run in runs]) for name in asdict(runs[0])}
    return msgspec.convert(figures, type(runs[0]))


def check(readings: Iterable[Reading], chunks: int) -> None:
    """Check that no chunk is lost: a stack must not gain speed by losing chunks."""
    for reading in readings:
        if reading.chunks != chunks:
            raise BrokenAnswer(f"{reading.chunks} chunks came of {chunks}")
