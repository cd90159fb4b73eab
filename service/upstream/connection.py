"""HTTP/1.1 to an upstream: persistent connections, and response bodies that are read as they arrive."""

import asyncio
from collections.abc import Callable

import httptools

HIGH_WATER_BYTES = 1 << 18
"""Unread bytes of a body above which reading from the connection is paused."""
END_SECONDS = 0.25
"""Time for the end of a body whose contents have ended. With the end, the connection can be reused."""
HEAD_BYTES = 1 << 16
"""Limit on a response's head. An endless head would fill the memory, and is no silence that a timeout would end."""
_FIRST_FINAL_STATUS = 200
"""Statuses below it are informational: another one follows."""


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
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self.head_bytes = 0
        self.header_bytes = 0
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
        while not self._pieces:
            if self.whole:
                return b""
            await self._more()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._held > HIGH_WATER_BYTES:
            self._connection.resume_reading(self)
        self._held = 0
        return data

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
        """Add a piece of the body."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held > HIGH_WATER_BYTES:
            self._connection.pause_reading()
        self.wake()

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
    """The client's end of a connection. httptools, uvicorn's own parser, reads the responses.

    `on_free` is called when a response is complete and the connection can be reused, `on_lost` when it is closed.
    """

    def __init__(self, on_free: "Callable[[Connection], None]", on_lost: "Callable[[Connection], None]") -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = self._new_parser()
        self._exchange: Exchange | None = None

    @property
    def open(self) -> bool:
        """Whether the connection can send a request."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> Exchange:
        """Send a request.

        Raises:
            BrokenConnectionError: the connection has ended.
        """
        if self._transport is None:
            raise BrokenConnectionError
        exchange = self._exchange = Exchange(self)
        self._transport.write(request)
        return exchange

    def begin_anew(self) -> None:
        """Reset the parser: a proxy has turned the connection into a tunnel, and another server speaks now."""
        self._parser = self._new_parser()
        self._exchange = None

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Some gateways send a Content-Length with a chunked body. The chunks count (RFC 9112, 6.3), and the connection
        # is not reused, so nothing can be smuggled in after the body.
        parser.set_dangerous_leniencies(lenient_chunked_length=True)
        return parser

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
        exchange = self._exchange
        if exchange is not None and not exchange.begun:
            exchange.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break()
            return
        if exchange is not None and not exchange.begun and exchange.head_bytes > HEAD_BYTES:
            self._break()

    def _break(self) -> None:
        self.close()
        if self._exchange is not None:
            self._exchange.fail(MalformedResponseError())

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange. A body with neither a length nor chunks ends here."""
        self._transport = None
        self._on_lost(self)
        if exchange := self._exchange:
            if exchange.begun and exc is None and not _is_framed(exchange):
                exchange.whole = True
            broken = BrokenConnectionError()
            broken.__cause__ = exc
            exchange.fail(broken)

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header.

        Raises:
            MalformedResponseError: the headers are too long. The parser passes it on as an error of its own.
        """
        exchange = self._exchange
        if exchange is not None and not exchange.begun:  # Trailers are ignored.
            exchange.headers.append((name, value))
            # Counted here too: one read may hold the whole of a head that is too long and the start of its body.
            exchange.header_bytes += len(name) + len(b": ") + len(value) + len(b"\r\n")
            if exchange.header_bytes > HEAD_BYTES:
                raise MalformedResponseError

    def on_headers_complete(self) -> None:
        """Set the status."""
        exchange = self._exchange
        if exchange is None:  # A response without a request: the connection is unusable.
            self.close()
            return
        exchange.status = self._parser.get_status_code()
        if exchange.status < _FIRST_FINAL_STATUS:
            exchange.headers.clear()
        else:
            exchange.begun = True
            exchange.wake()

    def on_body(self, data: bytes) -> None:
        """Add a piece of the body."""
        if self._exchange is not None:
            self._exchange.take(data)

    def on_message_complete(self) -> None:
        """End the exchange, and offer the connection for reuse."""
        exchange = self._exchange
        if exchange is None or not exchange.begun:
            return
        exchange.whole = True
        exchange.wake()
        self._exchange = None
        if not self._parser.should_keep_alive():
            self.close()
            return
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        self._on_free(self)


def _is_framed(exchange: Exchange) -> bool:
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in exchange.headers)
