"""HTTP to one address of an upstream: a connection pool for one request with varying bodies.

docs/performance.md has what other clients would cost in its place. This pool has HTTP/1.1, TLS, keep-alive and the
environment's proxies. It has no limit on connections (a pool's queue would be a wait without a name), limits the body
of an error, and closes at once.
"""

import os
import time
from collections import deque

import httpx2

from service.errors import UpstreamError
from service.tls import ClientCertificate
from service.upstream.compression import decompressed
from service.upstream.connection import BrokenConnectionError, Connection, Exchange, MalformedResponseError
from service.upstream.connector import Connector
from service.upstream.proxy import ProxyAddress, proxy_for

ERROR_BODY_BYTES = 1 << 16
"""Limit on the part of an error's body that is read. The body may be endless."""
IDLE_SECONDS = 15.0
"""Keep-alive timeout of an idle connection. It is shorter than servers', so a request seldom meets a closed one."""
IDLE_MARGIN_SECONDS = 1.0
"""Time that a connection is given up before the server's own limit, where the server names it (`Keep-Alive`)."""
STALE_SECONDS = 1.0
"""Time in which a connection that the server had closed while it was idle shows it: some round trips.

If it ends later, the server had the request, and may have begun with the answer.
"""
_REQUEST_TIMEOUT = 408


class ConnectTimeOutError(Exception):
    """The connection timed out."""


class UnreachableError(Exception):
    """The connection failed, or ended before the response began."""


class Pool:
    """Sends one request's method, address and headers with a body that varies.

    Raises:
        UnusableCertificate: the client certificate cannot be used.
    """

    def __init__(
        self,
        request: httpx2.Request,
        connect_seconds: float,
        certificate: ClientCertificate | None = None,
        *,
        connector: Connector | None = None,
    ) -> None:
        """`connector` is that of a pool to the same server: a new one loads the authorities, which takes 20 ms."""
        if connector is None:
            proxy = proxy_for(str(request.url), os.environ)
            connector = Connector(request.url, proxy, connect_seconds, certificate)
        self.connector = connector
        self._proxy = connector.proxy
        self._request = request
        self._head = _head(request, request.url, self._proxy)
        self._idle = deque[tuple[Connection, float]]()  # with the time of its end, the last used one last
        self._connections: set[Connection] = set()

    @property
    def url(self) -> httpx2.URL:
        """The request's address."""
        return self._request.url

    async def send(self, body: bytes, url: httpx2.URL | None = None, headers: bytes = b"") -> Exchange:
        """Send the request with this body; return its exchange once the status and headers are set.

        `url` is another address of the same server. `headers` are lines, each with its line end, for this request only.

        The request is sent a second time only if a kept connection was dead, as `_is_unserved` says, and only on a new
        connection: the other kept ones are probably dead, too. It is sent a third time never.

        Raises:
            ConnectTimeOutError: the connection took longer than `connect_seconds`.
            ProxyUnreachableError, ProxyRefusedError: the proxy failed. The upstream was not asked.
            UnreachableError: the connection failed, or ended before the response began.
            MalformedResponseError: the response is not HTTP. The question may have been paid for.
        """
        head = self._head if url is None else _head(self._request, url, self._proxy)
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (head, headers, len(body), body)
        try:
            if (kept := self._kept()) and (exchange := await self._sent_on(kept, request)):
                return exchange
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

    async def _sent_on(self, kept: Connection, request: bytes) -> Exchange | None:
        """Send the request on a kept connection; return None if the server has not served it and never will."""
        sent = time.monotonic()
        exchange = kept.send(request)
        try:
            await _begun(exchange)
        except BrokenConnectionError:
            self._close_kept()
            if not _is_unserved(exchange, time.monotonic() - sent):
                raise
            return None
        if exchange.status == _REQUEST_TIMEOUT and time.monotonic() - sent < STALE_SECONDS:
            # The server was about to close the idle connection, and took the request for one that came too late. RFC
            # 9110, 15.5.9, has it repeated on a new connection.
            exchange.close()
            kept.close()
            self._close_kept()
            return None
        return exchange

    def _kept(self) -> Connection | None:
        now = time.monotonic()
        while self._idle:
            connection, until = self._idle.pop()
            if connection.open and now < until:
                return connection
            connection.close()
        return None

    def _close_kept(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    async def _connect(self) -> Connection:
        connection = Connection(self._keep, self._connections.discard)
        self._connections.add(connection)
        try:
            await self.connector.connect(connection)
        except BaseException:
            connection.close()
            self._connections.discard(connection)  # It may never have had a transport.
            raise
        return connection

    def _keep(self, free: Connection) -> None:
        now = time.monotonic()
        while self._idle and self._idle[0][1] <= now:  # After a burst, these would stay until the server closes them.
            self._idle.popleft()[0].close()
        limit = free.idle_seconds
        seconds = IDLE_SECONDS if limit is None else min(IDLE_SECONDS, limit - IDLE_MARGIN_SECONDS)
        if seconds > 0:
            self._idle.append((free, now + seconds))
        else:
            free.close()


def _is_unserved(exchange: Exchange, seconds: float) -> bool:
    """Return whether a request on a kept connection that ended was not served, and may be sent again.

    It was not if no byte of the response came, and either the connection ended within STALE_SECONDS, so the server or a
    middlebox had closed it before it knew of the request, or the kernel had no word of the request's delivery.
    """
    return not exchange.heard and (seconds < STALE_SECONDS or exchange.undelivered)


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
    body = decompressed(exchange)
    try:
        while len(start) < ERROR_BODY_BYTES and (data := await body.read()):
            start += data
    except (BrokenConnectionError, UpstreamError):
        pass  # The part that came, or could be decompressed, is used.
    finally:
        exchange.close()
    return start


def _head(request: httpx2.Request, url: httpx2.URL, proxy: ProxyAddress | None) -> bytes:
    """Return the head of the request to this address, up to the Content-Length."""
    target = url.raw_path
    authorization = b""
    if proxy is not None and url.scheme == "http":
        target = b"%b://%b%b" % (url.raw_scheme, url.netloc, url.raw_path)  # without the fragment of a redirect
        if proxy.authorization is not None:
            authorization = f"Proxy-Authorization: {proxy.authorization}\r\n".encode("ascii")
    lines = [b"%b: %b\r\n" % header for header in request.headers.raw if header[0].lower() != b"content-length"]
    return b"%b %b HTTP/1.1\r\n%b%b" % (request.method.encode("ascii"), target, b"".join(lines), authorization)
