"""Opens connections to one address: over IPv4 and IPv6, directly or through a proxy, with TLS."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus

import aiohappyeyeballs
import httpx2

from service.tls import ClientCertificate
from service.upstream.connection import BrokenConnectionError, Connection, is_tunnel
from service.upstream.proxy import ProxyAddress
from service.upstream.tls import client_tls

NEXT_ADDRESS_SECONDS = 0.25
"""Head start of a host's address before the next one is tried beside it (RFC 8305, 5)."""
_MILLISECONDS = 1000
_PASSING = range(500, 600)
"""Statuses of a proxy that cannot reach the upstream now."""


AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""An entry of `socket.getaddrinfo`."""


class ProxyUnreachableError(Exception):
    """There is no connection to the proxy, or it does not speak HTTP. The upstream was not asked."""


class ProxyRefusedError(Exception):
    """The proxy refuses to connect to the upstream, with this status. The upstream was not asked."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connector:
    """Opens connections to the host and port of a URL.

    Raises:
        UnusableCertificate: the client certificate cannot be used.
    """

    def __init__(
        self,
        url: httpx2.URL,
        proxy: ProxyAddress | None,
        connect_seconds: float,
        certificate: ClientCertificate | None = None,
    ) -> None:
        self._host, self._port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        self._tls = client_tls(certificate) if url.scheme == "https" else None
        self.proxy = proxy
        self._proxy_tls = client_tls() if proxy is not None and proxy.scheme == "https" else None
        self._connect_seconds = connect_seconds

    async def connect(self, connection: Connection) -> None:
        """Connect.

        Raises:
            TimeoutError: it took longer than `connect_seconds`.
            ProxyUnreachableError, ProxyRefusedError: the proxy failed.
            OSError, BrokenConnectionError: there is no connection, or its other end has no valid certificate.
        """
        async with asyncio.timeout(self._connect_seconds):
            if self.proxy is None:
                await self._open(connection, self._host, self._port, self._tls)
            else:
                await self._connect_through(self.proxy, connection)

    async def _connect_through(self, proxy: ProxyAddress, connection: Connection) -> None:
        status: int = HTTPStatus.OK
        try:
            transport = await self._open(connection, proxy.host, proxy.port, self._proxy_tls)
            if self._tls is not None:
                status = await self._ask_for_tunnel(connection, proxy)
        except TimeoutError:
            raise
        except (BrokenConnectionError, OSError, ValueError) as error:
            raise ProxyUnreachableError from error
        if not is_tunnel(status):
            raise BrokenConnectionError if status in _PASSING else ProxyRefusedError(status)
        if self._tls is None:
            return
        connection.begin_anew()
        if not connection.open:
            raise BrokenConnectionError
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(transport, connection, self._tls, server_hostname=self._host)
        if encrypted is None:
            raise BrokenConnectionError
        connection.connection_made(encrypted)

    async def _open(
        self, connection: Connection, host: str, port: int, tls: ssl.SSLContext | None
    ) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        addresses = await resolve(loop, host, port)
        # asyncio tries one address after the other: one that swallows packets would use up the time for all.
        # uvloop's create_connection cannot race them.
        opened = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
        )
        # If the way to a kept connection is dead, nothing says so. The kernel sends a request again for a quarter of an
        # hour, unless it is told to give up.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = max(1, int(self._connect_seconds * _MILLISECONDS))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        try:
            server_hostname = host if tls is not None else None
            transport, _ = await loop.create_connection(
                lambda: connection, sock=opened, ssl=tls, server_hostname=server_hostname
            )
        except BaseException:
            opened.close()  # uvloop leaves it open if it is cancelled early.
            raise
        return transport

    async def _ask_for_tunnel(self, connection: Connection, proxy: ProxyAddress) -> int:
        """Return the proxy's status for a tunnel to the upstream."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        authority = f"{host}:{self._port}"
        authorization = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization is not None else ""
        exchange = connection.send_connect(
            f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n".encode()
        )
        await exchange.head()
        return exchange.status


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of a host. A literal address is returned without a query."""
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
