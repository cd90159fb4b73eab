"""HTTP to one address of an upstream: a connection pool for one request with varying bodies.

Both existing transports for httpx2 cost too much for a stream of small chunks, measured with 100 streams at 50 chunks a
second: aiohttp spends a third of this service's instructions for each chunk on its own flow control and buffering, and
httpx2's own transport parses in Python. This pool has HTTP/1.1, TLS, keep-alive and the environment's proxies. It has
no limit on connections (a pool's queue would be a wait without a name), limits the body of an error, and closes at
once.
"""

import asyncio
import os
import ssl
import time

import httpx2

from service.upstream.connection import BrokenConnectionError, Connection, Exchange, MalformedResponseError
from service.upstream.proxy import ProxyAddress, proxy_for

ERROR_BODY_BYTES = 1 << 16
"""Limit on the part of an error's body that is read. The body may be endless."""
IDLE_SECONDS = 15.0
"""Keep-alive timeout of an idle connection. It is shorter than servers', so a request seldom meets a closed one."""


class ConnectTimeOutError(Exception):
    """The connection timed out."""


class UnreachableError(Exception):
    """The connection failed, or ended before the response began."""


class Pool:
    """Sends one request's method, address and headers with a body that varies."""

    def __init__(self, request: httpx2.Request, connect_seconds: float) -> None:
        url = request.url
        self._host, self._port = _host_and_port(url)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._proxy = proxy_for(str(url), os.environ)
        self._request = request
        self._head = _head(request, url, self._proxy)
        self._connect_seconds = connect_seconds
        self._idle: list[tuple[Connection, float]] = []
        self._connections: set[Connection] = set()

    @property
    def url(self) -> httpx2.URL:
        """The request's address."""
        return self._request.url

    async def send(self, body: bytes, url: httpx2.URL | None = None) -> Exchange:
        """Send the request with this body; return its exchange once the status and headers are set.

        `url` is another address of the same server.

        Raises:
            ConnectTimeOutError: the connection took longer than `connect_seconds`.
            UnreachableError: the connection failed, or ended before the response began.
            MalformedResponseError: the response is not HTTP. The question may have been paid for.
        """
        head = self._head if url is None else _head(self._request, url, self._proxy)
        request = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        try:
            if kept := self._kept():
                exchange = kept.send(request)
                try:
                    return await _begun(exchange)
                except BrokenConnectionError:
                    if exchange.heard:
                        raise
                    # The server or a middlebox had closed the idle connection, and probably the other idle ones. A new
                    # connection may still succeed.
                    self._close_kept()
            async with asyncio.timeout(self._connect_seconds):
                connection = await self._connect()
            return await _begun(connection.send(request))
        except TimeoutError as error:
            raise ConnectTimeOutError from error
        except MalformedResponseError:
            raise
        except (BrokenConnectionError, OSError, ValueError) as error:
            raise UnreachableError from error

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            connection.close()

    def _kept(self) -> Connection | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            connection, since = self._idle.pop()
            if connection.open and since > oldest:
                return connection
            connection.close()
        return None

    def _close_kept(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(self._keep, self._connections.discard)
        self._connections.add(connection)
        proxy = self._proxy
        if proxy is None:
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls)
            return connection
        # https:// is often written for a proxy that expects plain HTTP, and is treated so.
        plain, _ = await loop.create_connection(lambda: connection, proxy.host, proxy.port)
        if self._tls is not None:
            await _tunnel(connection, proxy, _authority(self._host, self._port))
            encrypted = await loop.start_tls(plain, connection, self._tls, server_hostname=self._host)
            if encrypted is None:
                raise BrokenConnectionError
            connection.connection_made(encrypted)
        return connection

    def _keep(self, free: Connection) -> None:
        self._idle.append((free, time.monotonic()))


async def _begun(exchange: Exchange) -> Exchange:
    """Wait for the exchange's status and headers, and return it; close it if they do not come."""
    try:
        await exchange.head()
    except BaseException:
        exchange.close()
        raise
    return exchange


async def start_of_body(exchange: Exchange) -> bytes:
    """Return the first ERROR_BODY_BYTES of an error's body. Close the connection unless the body has ended."""
    start = b""
    try:
        while len(start) < ERROR_BODY_BYTES and (data := await exchange.read()):
            start += data
    except BrokenConnectionError:
        pass  # The part that came is used.
    finally:
        exchange.close()
    return start


async def _tunnel(connection: Connection, proxy: ProxyAddress, target: str) -> None:
    """Open a tunnel to the target through the proxy."""
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode("ascii")
    exchange = connection.send(b"%b%b\r\n" % (head, _authorization(proxy)))
    try:
        await exchange.head()
    except MalformedResponseError:
        raise UnreachableError from None  # The question has not reached the upstream.
    if exchange.status != httpx2.codes.OK:
        connection.close()
        raise BrokenConnectionError
    connection.begin_anew()


def _head(request: httpx2.Request, url: httpx2.URL, proxy: ProxyAddress | None) -> bytes:
    """Return the head of the request to this address, up to the Content-Length."""
    target = url.raw_path
    authorization = b""
    if proxy is not None and url.scheme == "http":
        target = str(url).encode("ascii")
        authorization = _authorization(proxy)
    lines = [b"%b: %b\r\n" % header for header in request.headers.raw if header[0].lower() != b"content-length"]
    return b"%b %b HTTP/1.1\r\n%b%b" % (request.method.encode("ascii"), target, b"".join(lines), authorization)


def _authorization(proxy: ProxyAddress) -> bytes:
    """Return the header line; empty without credentials."""
    return b"" if proxy.authorization is None else f"Proxy-Authorization: {proxy.authorization}\r\n".encode("ascii")


def _host_and_port(url: httpx2.URL) -> tuple[str, int]:
    return url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
