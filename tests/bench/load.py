"""The reader of streams: raw sockets, so that measuring costs far less than the measured service."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Self, cast

from tests.upstream.stamp import SIGN, WIDTH

END_OF_BODY = b"\r\n0\r\n\r\n"
CHUNK_BOUNDARY = re.compile(rb"\r\n[0-9a-f]+\r\n")
ANSWER_SECONDS = 120.0
"""An answer that takes longer than this is a broken measurement."""


class BrokenAnswer(Exception):
    """A response that cannot be measured."""


@dataclass(slots=True)
class Reading:
    """One answer as its reader saw it. Times are microseconds of CLOCK_MONOTONIC."""

    asked_at: int
    first_at: int = 0
    """The arrival of the first text, which is later than the headers."""
    ended_at: int = 0
    chunks: int = 0
    """Number of the upstream's chunks, even if the stack has merged them."""
    largest_gap: int = 0
    """Between two arrivals of text."""
    lags: list[int] = field(default_factory=list)
    """Arrival after sending, of each chunk."""
    head: bytes = b""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str:
        """A header's value."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        raise BrokenAnswer(f"no header {name}")


class Client(asyncio.Protocol):
    """One connection, on which answers are read one after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._reading = Reading(0)
        self._ended: asyncio.Future[Reading] | None = None
        self._started: asyncio.Future[None] | None = None
        self._rest = b""
        self._tail = b""
        self._last_at = 0
        self._timed = True

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Self:
        """Open one."""
        _, client = await asyncio.get_running_loop().create_connection(cls, *address)
        return client

    async def ask(self, request: bytes, *, timed: bool = True) -> Reading:
        """Send a request and read its response to the end.

        Untimed, chunks are only counted: an upstream that does not pace sends more of them than can be timed
        without slowing it down.
        """
        self._begin(request, timed=timed)
        return await self.end()

    async def end(self) -> Reading:
        """Read the response that `start` began to its end."""
        assert self._ended is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._ended

    async def start(self, request: bytes) -> None:
        """Send a request and wait for its first text only."""
        self._begin(request, timed=True)
        self._started = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._started

    @property
    def reading(self) -> Reading:
        """The response so far."""
        return self._reading

    def close(self) -> None:
        """Close the connection, also before the response's end."""
        self._ended = None
        self._transport.abort()

    def _begin(self, request: bytes, *, timed: bool) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._timed = timed
        self._rest = self._tail = b""
        self._last_at = 0
        self._reading = Reading(time.monotonic_ns() // 1000)
        self._transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(BrokenAnswer(f"the connection was lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns() // 1000
        reading = self._reading
        if not reading.head:
            data = self._rest + data
            head, blank, body = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = data
                return
            self._rest = b""
            reading.head = head
            if reading.status not in (200, 204):
                self._fail(f"status {reading.status}: {body[:300]!r}")
                return
            # With the blank line's own newline, so that an empty body is found to end, too.
            data = b"\r\n" + body
        if self._timed:
            self._time(data, now)
        elif count := data.count(SIGN):
            reading.chunks += count
            if not reading.first_at:
                reading.first_at = now
        self._tail = data if len(data) >= len(END_OF_BODY) else self._tail[-len(END_OF_BODY) :] + data
        if self._tail.endswith(END_OF_BODY) or reading.status == 204:
            reading.ended_at = now
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(reading)

    def _time(self, data: bytes, now: int) -> None:
        reading = self._reading
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at = data.find(SIGN)
        if at < 0:
            return
        if self._last_at:
            gap = now - self._last_at
            reading.largest_gap = max(gap, reading.largest_gap)
        else:
            reading.first_at = now
            if self._started is not None:
                self._started.set_result(None)
                self._started = None
        self._last_at = now
        while at >= 0:
            stop = at + WIDTH
            if stop > len(data):
                self._rest = data[at:]
                return
            try:
                sent_at = int(data[at + 1 : stop])
            except ValueError:
                # A proxy that reads by the buffer writes its own chunk boundaries, sometimes into a stamp.
                sent_at = int(CHUNK_BOUNDARY.sub(b"", data[at + 1 : stop + 12])[: WIDTH - 1])
            reading.lags.append(now - sent_at)
            reading.chunks += 1
            at = data.find(SIGN, stop)

    def _fail(self, why: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(BrokenAnswer(why))
        self._transport.abort()


async def connect_all(address: tuple[str, int], number: int) -> list[Client]:
    """Open `count` connections, a few at a time: a burst can overflow the backlog of a listening socket."""
    clients: list[Client] = []
    while len(clients) < number:
        some = min(32, number - len(clients))
        clients += await asyncio.gather(*(Client.connect(address) for _ in range(some)))
    return clients
