"""New connections to a stack that is busy with streams."""

import asyncio
from dataclasses import dataclass

from tests.bench.load import Client, Reading
from tests.bench.measurements import CHUNKS, PACE_SECONDS, Surroundings, check, paced
from tests.bench.percentiles import median
from tests.bench.stacks import Stack
from tests.upstream.script import command

ARRIVALS = 50
BUSY_SECONDS = CHUNKS * PACE_SECONDS * 1.25
"""By then each of the streams has begun, and none has read its second answer to the end."""


@dataclass(frozen=True)
class Arrivals:
    """Milliseconds from opening a connection to the first text of the answer that is asked for on it."""

    streams: int
    median: float
    last: float


async def arrivals(stack: Stack, around: Surroundings, streams: int) -> Arrivals:
    """Open many connections at once beside so many streams, and ask on each for an answer of one chunk."""
    request = stack.ask(command(chunks=1, stamp=True))
    busy = asyncio.ensure_future(paced(stack, around, streams, answers=2))
    await asyncio.sleep(BUSY_SECONDS)
    loop = asyncio.get_running_loop()

    async def arrive() -> tuple[Reading, float]:
        opened_at = loop.time()
        client = await Client.connect(stack.address)
        reading = await client.ask(request)
        client.close()
        return reading, reading.first_at / 1000 - opened_at * 1000

    arrived = await asyncio.gather(*(arrive() for _ in range(ARRIVALS)))
    await busy
    check([reading for reading, _ in arrived], 1)
    times = [milliseconds for _, milliseconds in arrived]
    return Arrivals(streams, median(times), max(times))
