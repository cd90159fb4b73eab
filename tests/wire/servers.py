"""Servers with various behaviours over real sockets, and pools that ask them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2

from service.tls import ClientCertificate
from service.upstream.connection import Exchange
from service.upstream.pool import Pool

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n"
END = b"0\r\n\r\n"
TIMEOUT_SECONDS = 10


@asynccontextmanager
async def server(
    serve: Serve, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Serve each connection so; yield the port."""
    ended: list[asyncio.Task[None]] = []

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.append(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    # tests.listening is for asyncio's own loop.
    listening = await asyncio.start_server(each, host, port, ssl=tls)  # noqa: TID251
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        await asyncio.sleep(0.01)  # for the connections, which close a little later


class Sender:
    """Pools, one an address, all closed at the end."""

    def __init__(self, connect_seconds: float = TIMEOUT_SECONDS, certificate: ClientCertificate | None = None) -> None:
        self._connect_seconds = connect_seconds
        self._certificate = certificate
        self.pools: dict[str, Pool] = {}

    def to(self, url: str) -> Pool:
        if url not in self.pools:
            request = httpx2.Request("POST", url, content=b"another", headers={"X-Mine": "yes"})
            self.pools[url] = Pool(request, self._connect_seconds, self._certificate)
        return self.pools[url]

    async def ask(self, url: str) -> Exchange:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.to(url).send(b'{"question": 1}')

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()


async def whole(exchange: Exchange) -> bytes:
    pieces: list[bytes] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while data := await exchange.read():
            pieces.append(data)
    return b"".join(pieces)


async def request_on(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(len(b'{"question": 1}'))


def saying(*pieces: bytes, close: bool = True) -> Serve:
    """A server that reads one request and says this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if not close:
            await reader.read()

    return serve
