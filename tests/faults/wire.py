"""A raw HTTP/1.1 client that tells an end of a body from a cut, which HTTP libraries do not."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from deploy.local.ports import Address

CONNECT_SECONDS = 10.0
READ_BYTES = 1 << 16
NARROW_BYTES = 1 << 12
"""The receive buffer of a stalled reader: small, so that the service soon gets backpressure."""


class Hung(Exception):
    """No byte came within the timeout."""


class Cut(Exception):
    """The connection was cut or refused, or the response is not HTTP."""


@dataclass
class Response:
    """The response to one request."""

    request: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    """Whether the body is complete, by its framing."""


class Connection:
    """One request, and its response as it arrives."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        response: Response,
        *,
        timeout_seconds: float,
        limit: int | None,
    ) -> None:
        self.response = response
        self._reader = reader
        self._writer = writer
        self._timeout_seconds = timeout_seconds
        self._left = limit
        self._pending = b""

    @classmethod
    async def send(
        cls,
        address: Address,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout_seconds: float,
        limit: int | None = None,
        narrow: bool = False,
    ) -> "Connection":
        """Send a request. After `limit` bytes of its response, the connection is reset by this side.

        Raises:
            Cut: the connection was refused.
        """
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 (the standard library's own)
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
                reader, writer = await asyncio.open_connection(sock=sock, limit=NARROW_BYTES if narrow else READ_BYTES)
        except OSError as error:  # TimeoutError is one
            sock.close()
            raise Cut(f"not connected: {error}") from None
        except BaseException:
            sock.close()
            raise
        lines = [f"{method} {target} HTTP/1.1", f"Host: {address}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        response = Response(f"{method} {target[:300]} {dict(headers)}")
        return cls(reader, writer, response, timeout_seconds=timeout_seconds, limit=limit)

    async def head(self) -> Response:
        """Return the response once its headers have come.

        Raises:
            Cut: they did not.
            Hung: nothing came.
        """
        while b"\r\n\r\n" not in self._pending:
            self._pending += await self._receive()
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        try:
            self.response.status = int(first.split(" ", 2)[1])
        except (IndexError, ValueError):
            raise Cut(f"no status line: {first[:80]!r}") from None
        for line in lines:
            name, _, value = line.partition(":")
            self.response.headers[name.strip().lower()] = value.strip()
        return self.response

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Then `response.whole` tells whether it is complete.

        Raises:
            Hung: nothing came.
        """
        headers = self.response.headers
        pieces = self._chunks() if headers.get("transfer-encoding") == "chunked" else self._sized()
        try:
            async for piece in pieces:
                self.response.body += piece
                yield piece
        except Cut:
            return
        self.response.whole = True

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            while (end := self._pending.find(b"\r\n")) < 0:
                self._pending += await self._receive()
            try:
                size = int(self._pending[:end], 16)
            except ValueError:
                raise Cut("no chunk") from None
            self._pending = self._pending[end + 2 :]
            left = size
            while left:
                if not self._pending:
                    self._pending = await self._receive()
                piece, self._pending = self._pending[:left], self._pending[left:]
                left -= len(piece)
                yield piece
            while len(self._pending) < len(b"\r\n"):
                self._pending += await self._receive()
            self._pending = self._pending[2:]
            if not size:
                return

    async def _sized(self) -> AsyncIterator[bytes]:
        if self.response.status == 204:
            return
        length = self.response.headers.get("content-length")
        if length is None:
            raise Cut("neither chunked nor of a length: an end could not be told from a cut")
        left = int(length)
        while left:
            if not self._pending:
                self._pending = await self._receive()
            piece, self._pending = self._pending[:left], self._pending[left:]
            left -= len(piece)
            yield piece

    async def _receive(self) -> bytes:
        if self._left == 0:
            raise Cut("cut by this client")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            raise Hung(f"nothing came for {self._timeout_seconds} s: {self.response.request}") from None
        except OSError as error:
            raise Cut(str(error)) from None
        if not data:
            raise Cut("closed by the other side")
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def reset(self) -> None:
        """Reset the connection, as an unreliable network does."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def exchange(
    address: Address, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, timeout_seconds: float
) -> Response:
    """Return the whole response.

    Raises:
        Cut: the response is missing or incomplete.
        Hung: nothing came.
    """
    connection = await Connection.send(address, method, target, headers, body, timeout_seconds=timeout_seconds)
    try:
        response = await connection.head()
        async for _ in connection.body():
            pass
    finally:
        connection.close()
    if not response.whole:
        raise Cut("the response was cut")
    return response
