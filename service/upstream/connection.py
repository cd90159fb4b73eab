"""HTTP/1.1 to an upstream: persistent connections, and response bodies that are read as they arrive."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from service.upstream.framing import SIZES, Framing, Head, HeadReader, MalformedError, UntilClose

HIGH_WATER_BYTES = 1 << 18
"""Unread bytes of a body above which reading from the connection is paused."""
PUSHED_BYTES = 1 << 14
"""Limit on a piece that is pushed, about a millisecond's work. A flood is left to the task, so that other tasks get
their turns: libuv reads up to 32 full buffers in one turn."""
END_SECONDS = 0.25
"""Time for the end of a body whose contents have ended. With the end, the connection can be reused."""


class BrokenConnectionError(Exception):
    """The connection ended before the response was complete."""


class MalformedResponseError(BrokenConnectionError):
    """The response is not HTTP, or its head exceeds the limit. The connection was closed."""


class Exchange:
    """A request on a connection, and its response."""

    def __init__(self, connection: "Connection") -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.begun = False
        self.whole = False
        self.heard = False
        """Whether any byte of the response has come."""
        self.undelivered = False
        """Whether the connection ended because the kernel heard nothing from the server's, for the whole request."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._push: Callable[[bytes], bool] | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._error: BaseException | None = None

    async def head(self) -> None:
        """Wait until `status` and `headers` are set.

        Raises:
            BrokenConnectionError: the connection ended before.
            MalformedResponseError: the response is not HTTP.
        """
        while not self.begun:
            await self._more()

    async def read(self) -> bytes:
        """Wait for data of the body and return all of it since the last call; `b""` at the end.

        Raises:
            BrokenConnectionError: the connection ended before the body.
            TimeoutError: `expire` was called.
        """
        pieces = self._pieces
        while not pieces:
            if self.whole:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()  # `_more`, without a call
            await self._waiter
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._held > HIGH_WATER_BYTES:
            self._connection.resume_reading(self)
        self._held = 0
        return data

    async def flow(self, push: Callable[[bytes], bool]) -> None:
        """Wait until `read` would return or raise, or until `push` returns False.

        During the wait, `push` is called with the body's data, in the turn of the event loop in which it comes.

        Raises:
            Exception: what `push` raises.
        """
        if not self._pieces and not self.whole and self._error is None:
            self._push = push
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._push = None

    def expire(self) -> None:
        """Make a waiting `read` raise TimeoutError."""
        self.fail(TimeoutError())

    def close(self) -> None:
        """Close the connection, unless the response is complete: then another exchange may use it."""
        if not self.whole:
            self._connection.close()

    def leave(self) -> None:
        """Stop reading. The connection is closed unless the body ends within END_SECONDS."""
        self._loop.call_later(END_SECONDS, self.close)

    # Called by the connection.

    def take(self, data: bytes) -> None:
        """Push a piece of the body, or add it to those for `read`."""
        waiter, push = self._waiter, self._push
        if push is not None and waiter is not None and not waiter.done() and len(data) <= PUSHED_BYTES:
            try:
                if not push(data):
                    waiter.set_result(None)
            except Exception as error:  # noqa: BLE001 (for the task: the connection goes on)
                waiter.set_exception(error)
            return
        self._pieces.append(data)
        held = self._held = self._held + len(data)
        if held > HIGH_WATER_BYTES:
            self._connection.pause_reading()
        if waiter is not None and not waiter.done():  # `wake`, without a call
            waiter.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Mark the exchange as failed. Data already received can still be read."""
        if self._error is None and not self.whole:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """Wake the waiting `head` or `read`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _more(self) -> asyncio.Future[None]:
        """Return a future that ends at the next event of the connection.

        Raises:
            BrokenConnectionError, TimeoutError: the exchange has failed.
        """
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        return self._waiter


class Connection(asyncio.Protocol):
    """The client's end of a connection.

    `on_free` is called when a response is complete and the connection can be reused, `on_lost` when it is closed.
    """

    def __init__(self, on_free: "Callable[[Connection], None]", on_lost: "Callable[[Connection], None]") -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._reader = HeadReader()
        self._head: Head | None = None
        self._framing: Framing | None = None
        self._take_chunk: Callable[[bytes], None] | None = None  # the exchange's `take`, if a chunk comes next
        self._is_tunnel = False

    @property
    def open(self) -> bool:
        """Whether the connection can send a request."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def idle_seconds(self) -> float | None:
        """The server's limit on an idle connection, if the last response named one."""
        return self._head.idle_seconds if self._head is not None else None

    def send(self, request: bytes) -> Exchange:
        """Send a request.

        Raises:
            BrokenConnectionError: the connection has ended.
        """
        if self._transport is None:
            raise BrokenConnectionError
        exchange = self._exchange = Exchange(self)
        self._framing = self._take_chunk = None
        self._transport.write(request)
        return exchange

    def send_connect(self, request: bytes) -> Exchange:
        """Send a CONNECT request. If it is accepted, the connection is a tunnel, and `begin_anew` comes next.

        Raises:
            BrokenConnectionError: the connection has ended.
        """
        self._is_tunnel = True
        return self.send(request)

    def begin_anew(self) -> None:
        """Forget the proxy's response to CONNECT: another server speaks now."""
        self._exchange = self._take_chunk = None
        self._is_tunnel = False

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Apply backpressure to the upstream."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self, exchange: Exchange) -> None:
        """Resume reading, if the exchange is still the current one."""
        if exchange is self._exchange and self._transport is not None:
            self._transport.resume_reading()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the transport. Called a second time with the encrypted one."""
        self._transport = transport  # type: ignore[assignment] # the declared type is a base class's

    def data_received(self, data: bytes) -> None:
        """Parse the data."""
        if (take := self._take_chunk) is not None:  # Most reads are one chunk of a size seen before.
            digits, _, rest = data.partition(b"\r\n")
            try:
                size = SIZES[digits]
            except KeyError:
                pass
            else:
                if rest[size:] == b"\r\n":
                    take(rest[:size])
                    return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # A response without a request. Some servers send a 408 before they close an idle connection.
            self.close()
            return
        framing = self._framing
        if framing is None:
            framing, data = self._receive_head(exchange, data)
            if framing is None:
                return
        if contents := framing.feed(data):
            exchange.take(contents)
        self._take_chunk = exchange.take if framing.between else None
        if framing.whole:
            self._end(exchange, reusable=not framing.excess)
        elif framing.malformed:
            self._break(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange. A body with neither a length nor chunks ends here."""
        self._transport = None
        self._on_lost(self)
        if exchange := self._exchange:
            if exc is None and isinstance(self._framing, UntilClose):
                exchange.whole = True
            exchange.undelivered = isinstance(exc, TimeoutError)
            broken = BrokenConnectionError()
            broken.__cause__ = exc
            exchange.fail(broken)

    def _receive_head(self, exchange: Exchange, data: bytes) -> tuple[Framing | None, bytes]:
        """Return the body's framing and the start of the body; no framing if there is none yet."""
        exchange.heard = True
        try:
            read = self._reader.feed(data)
        except MalformedError:
            self._break(exchange)
            return None, b""
        if read is None:
            return None, b""
        head, rest = read
        is_open = self._is_tunnel and is_tunnel(head.status)
        if is_open and rest:  # No server that TLS is spoken with speaks first.
            self._break(exchange)
            return None, b""
        self._head = head
        exchange.status = head.status
        exchange.headers = head.headers
        exchange.begun = True
        exchange.wake()
        if is_open:
            return None, b""
        self._framing = head.framing
        return head.framing, rest

    def _break(self, exchange: Exchange) -> None:
        self.close()
        exchange.fail(MalformedResponseError())

    def _end(self, exchange: Exchange, *, reusable: bool) -> None:
        """End the exchange, and offer the connection for reuse."""
        exchange.whole = True
        exchange.wake()
        self._exchange = self._take_chunk = None
        # A proxy that refuses a tunnel would get the next request in plain text, with the upstream's key.
        reusable = reusable and not self._is_tunnel and self._head is not None and self._head.reusable
        # The server may have refused a long question, and read no more of it. The next one would wait behind it.
        if not reusable or (self._transport is not None and self._transport.get_write_buffer_size()):
            self.close()
            return
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        self._on_free(self)


def is_tunnel(status: int) -> bool:
    """Return whether this status accepts a CONNECT request."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
