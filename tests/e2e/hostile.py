"""One hostile client, from another address of this machine: `python -m tests.e2e.hostile <host> <port> <seconds>`.

It runs all of its attacks at once and as fast as it can, within limits of count and time. Then it prints the responses
that it got, as one line of JSON.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from tests.upstream.script import command

ADDRESS = "127.0.0.2"
OPENED = 1000
"""Number of silent connections, and of connections whose headers come a byte at a time."""
SLOW_BODIES = 50
GREEDY_SECONDS = 4.0
GREEDY_A_SECOND = 80
FLOODING = 24
UNKNOWN_IDS = 10_000
MAX_SECONDS = 60.0
"""Limit on the whole attack, if the unknown ids take so long."""
TRICKLE_SECONDS = 0.5
TIMEOUT_SECONDS = 20.0
STATUS_BYTES = len(b"HTTP/1.1 200")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Attack:
    """The attacks, and their results counted by attack and status."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.met: Counter[str] = Counter()
        self.held: list[Streams] = []

    async def _connect(self) -> Streams:
        streams = await asyncio.open_connection(self.host, self.port, local_addr=(ADDRESS, 0))
        self.held.append(streams)
        return streams

    @contextlib.asynccontextmanager
    async def _counted(self, what: str) -> AsyncIterator[None]:
        """Count errors of the block. No error ends this client."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                yield
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.met[f"{what}: {type(error).__name__}"] += 1

    async def _respond(self, what: str, reader: asyncio.StreamReader) -> bytes:
        """Count the status; return the headers."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.met[f"{what}: {head[STATUS_BYTES - 3 : STATUS_BYTES].decode()}"] += 1
        return head

    async def ask_for_much(self) -> None:
        """Begin endless answers and read nothing of them."""
        body = json.dumps({"query": command(endless=True, pace=0.05)}).encode()
        ask = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        answer = b""
        for number in range(int(GREEDY_SECONDS * GREEDY_A_SECOND)):
            what = "follow" if answer and number % 2 else "ask"
            async with self._counted(what):
                reader, writer = await self._connect()
                if what == "follow":
                    writer.write(b"GET /answers/%b HTTP/1.1\r\nHost: x\r\n\r\n" % answer)
                else:
                    writer.write(ask % (len(body), body))
                head = (await self._respond(what, reader)).lower()
                if b"x-answer-id: " in head:
                    answer = head.partition(b"x-answer-id: ")[2][:32]
            await asyncio.sleep(1 / GREEDY_A_SECOND)

    async def open_connections(self) -> None:
        """Open connections and send nothing."""
        for _ in range(OPENED):
            async with self._counted("open"):
                await self._connect()

    async def send_headers_slowly(self) -> None:
        """Send a request on each of many connections, one byte at a time."""
        slow = []
        for _ in range(OPENED):
            async with self._counted("slow header"):
                slow.append(await self._connect())
        for byte in iter(lambda: b"x", None):
            for _, writer in slow:
                writer.write(byte)
            await asyncio.sleep(TRICKLE_SECONDS)

    async def send_bodies_slowly(self) -> None:
        """Announce a body on each of some connections, and send it one byte at a time."""
        slow = []
        for _ in range(SLOW_BODIES):
            async with self._counted("slow body"):
                _, writer = await self._connect()
                writer.write(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                slow.append(writer)
        while True:
            for writer in slow:
                writer.write(b" ")
            await asyncio.sleep(TRICKLE_SECONDS)

    async def ask_for_the_enormous(self) -> None:
        """Send far too long requests, in each part of a request."""
        huge = b"x" * (8 << 20)
        nested = b"[" * 1_000_000
        post = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        requests = {
            "huge address": b"GET /generate?query=%b HTTP/1.1\r\nHost: x\r\n\r\n" % huge,
            "huge header": b"GET / HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % huge,
            "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"X: y\r\n" * 100_000),
            "huge method": huge + b" / HTTP/1.1\r\n\r\n",
            "huge body": post % (1 << 40, huge),
            "huge chunk": b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + huge,
            "deep body": post % (len(nested), nested),
            "huge field": post % (1_000_000, b'{"query":"%b"}' % (b"x" * 999_988)),
        }
        while True:
            for what, data in requests.items():
                async with self._counted(what):
                    reader, writer = await self._connect()
                    writer.write(data)
                    await self._respond(what, reader)
                    writer.close()

    async def flood(self, number: int) -> None:
        """Send rejected requests that are costly for the service, one after the other."""
        targets = [b"/generate?query=%20", b"/generate?query=x&model=none", b"/answers/x", b"/readyz", b"/"]
        for each in itertools.count():
            if number % 4 == 0 or self.met["asked for unknown ids"] >= UNKNOWN_IDS:
                await self._flood_once(targets[each % len(targets)], "flood")
            else:
                self.met["asked for unknown ids"] += 1
                await self._flood_once(b"/answers/%b?after=5" % secrets.token_hex(16).encode(), "unknown id")

    async def _flood_once(self, target: bytes, what: str) -> None:
        async with self._counted(what):
            reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(ADDRESS, 0))
            try:
                writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
                await self._respond(what, reader)
                await reader.read()
            finally:
                writer.close()

    async def run(self, seconds: float) -> None:
        """Run all attacks for `seconds`, and until all unknown ids were asked for; then close all connections."""
        await self.ask_for_much()
        everything: list[Coroutine[Any, Any, None]] = [
            self.open_connections(),
            self.send_headers_slowly(),
            self.send_bodies_slowly(),
            self.ask_for_the_enormous(),
            *(self.flood(number) for number in range(FLOODING)),
        ]
        tasks = [asyncio.create_task(each) for each in everything]
        began_at = asyncio.get_running_loop().time()
        passed = 0.0
        while passed < seconds or (self.met["asked for unknown ids"] < UNKNOWN_IDS and passed < MAX_SECONDS):
            await asyncio.sleep(TRICKLE_SECONDS)
            passed = asyncio.get_running_loop().time() - began_at
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.met[f"ended: {type(outcome).__name__}"] += 1
        self.met["connections held at the end"] = sum(not reader.at_eof() for reader, _ in self.held)
        for _, writer in self.held:
            if not writer.is_closing():
                writer.transport.abort()


def main() -> None:
    """Attack, and print the results."""
    host, port, seconds = sys.argv[1:]
    attack = Attack(host, int(port))
    asyncio.run(attack.run(float(seconds)))
    sys.stdout.write(json.dumps(attack.met) + "\n")


if __name__ == "__main__":
    main()
