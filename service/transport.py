"""The openai package's HTTP: a transport for httpx2 that hands over a body as the socket brings it.

Both ready-made ones cost too much for a stream of small chunks, measured with 100 streams at 50 chunks a second:
aiohttp spends a third of this service's instructions on each chunk in flow control and buffering of its own, and
httpx2's own parses in Python. This one has what an upstream needs: HTTP/1.1, TLS, connections kept for the next
request, and the environment's proxies. It keeps no limit on connections (a pool's queue would be a wait without a
name), bounds the body of an error, and closes at once.
"""

import asyncio
import base64
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import httpx2

from service.connection import BrokenConnectionError, Connection, Exchange

ERROR_BODY_BYTES = 1 << 16
"""As much of an error's body as anybody reads; it may be endless."""
END_SECONDS = 0.25
"""How long the end of a body may take whose contents have ended. With it the connection can be used again."""
IDLE_SECONDS = 15.0
"""How long a connection is kept for another request: less than servers keep theirs, so that it seldom meets its end."""
BODY = "folyam_body"
"""The response's extension under which the `Body` is found."""

Origin = tuple[str, str, int]


class Body(httpx2.AsyncByteStream):
    """The body of a response with status 200."""

    def __init__(self, exchange: Exchange) -> None:
        self.read = exchange.read
        self.expire = exchange.expire
        self.close = exchange.close

    def leave(self) -> None:
        """Read no more, and close the connection soon, unless the body comes to its end before."""
        asyncio.get_running_loop().call_later(END_SECONDS, self.close)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        """The same as `close`."""
        self.close()


class Transport(httpx2.AsyncBaseTransport):
    """Sends the openai package's requests."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[Origin, list[tuple[Connection, float]]] = {}
        self._connections: set[Connection] = set()
        self._tls = ssl.create_default_context()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request; return its response with the body still to come, or with the start of an error's body."""
        try:
            url = request.url
            proxy = _proxy(url.scheme, url.host)
            origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
            exchange = (await self._connection(origin, proxy)).send(_message(request, proxy))
            try:
                await exchange.head()
                if exchange.status == httpx2.codes.OK:
                    body = Body(exchange)
                    return httpx2.Response(
                        exchange.status, headers=exchange.headers, stream=body, request=request, extensions={BODY: body}
                    )
                start = await _start_of_body(exchange)
            except BaseException:
                exchange.close()
                raise
        except BrokenConnectionError as error:
            raise httpx2.ReadError("the connection ended before the response") from error
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:
            raise httpx2.ConnectError("no connection") from error
        exchange.close()
        headers = [(name, value) for name, value in exchange.headers if name.lower() == b"retry-after"]
        return httpx2.Response(exchange.status, headers=headers, content=start, request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            connection.close()

    async def _connection(self, origin: Origin, proxy: "_Proxy | None") -> Connection:
        idle = self._idle.setdefault(origin, [])
        oldest = time.monotonic() - IDLE_SECONDS
        while idle:
            connection, since = idle.pop()
            if connection.open and since > oldest:
                return connection
            connection.close()
        async with asyncio.timeout(self._connect_seconds):
            return await self._connect(origin, proxy)

    async def _connect(self, origin: Origin, proxy: "_Proxy | None") -> Connection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()

        def keep(free: Connection) -> None:
            self._idle[origin].append((free, time.monotonic()))

        connection = Connection(keep, self._connections.discard)
        self._connections.add(connection)
        tls = self._tls if scheme == "https" else None
        if proxy is None:
            await loop.create_connection(lambda: connection, host, port, ssl=tls)
            return connection
        plain, _ = await loop.create_connection(lambda: connection, proxy.host, proxy.port)
        if tls is not None:
            await _tunnel(connection, proxy, f"{host}:{port}")
            encrypted = await loop.start_tls(plain, connection, tls, server_hostname=host)
            if encrypted is None:
                raise BrokenConnectionError
            connection.connection_made(encrypted)
        return connection


async def _tunnel(connection: Connection, proxy: "_Proxy", target: str) -> None:
    """Have the proxy connect to the target."""
    exchange = connection.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{proxy.authorization}\r\n".encode())
    await exchange.head()
    if exchange.status != httpx2.codes.OK:
        connection.close()
        raise BrokenConnectionError
    connection.begin_anew()


def _message(request: httpx2.Request, proxy: "_Proxy | None") -> bytes:
    target = request.url.raw_path
    authorization = b""
    if proxy is not None and request.url.scheme == "http":
        target = str(request.url).encode("ascii")
        authorization = proxy.authorization.encode("ascii")
    lines = [b"%b: %b\r\n" % header for header in request.headers.raw]
    return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (
        request.method.encode("ascii"),
        target,
        b"".join(lines),
        authorization,
        request.content,
    )


async def _start_of_body(exchange: Exchange) -> bytes:
    start = b""
    try:
        while len(start) < ERROR_BODY_BYTES and (data := await exchange.read()):
            start += data
    except BrokenConnectionError:
        pass  # What there is has to do.
    return start


@dataclass(frozen=True, slots=True)
class _Proxy:
    host: str
    port: int
    authorization: str
    """A header's line, or nothing."""


@lru_cache(maxsize=16)
def _proxy(scheme: str, host: str) -> _Proxy | None:
    """Return the proxy that the environment names, by the usual variables: once, for it is slow to read."""
    address = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)
    if not address:
        return None
    url = urlsplit(address if "://" in address else f"http://{address}")
    authorization = ""
    if url.username:
        words = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        authorization = f"Proxy-Authorization: Basic {base64.b64encode(words).decode('ascii')}\r\n"
    return _Proxy(url.hostname or "", url.port or 80, authorization)
