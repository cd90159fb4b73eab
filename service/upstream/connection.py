"""HTTP/1.1 to an upstream: connections that carry one exchange after the other, each body read as it comes."""

import asyncio
from collections.abc import Callable

import httptools

HIGH_WATER_BYTES = 1 << 18
"""When so much of a body waits to be read, the upstream is made to wait."""
END_SECONDS = 0.25
"""How long the end of a body may take whose contents have ended. With it the connection can be used again."""
HEAD_BYTES = 1 << 16
"""As much as may come before a body. A head without end would fill the memory, and no time-out of silence sees it."""
_FIRST_FINAL_STATUS = 200
"""The statuses below it announce another."""


class BrokenConnectionError(Exception):
    """The connection ended before the response was whole."""


class MalformedResponseError(BrokenConnectionError):
    """The server sent something other than HTTP, or a head without end. The connection was closed for it."""


class Exchange:
    """A request that was sent, and its response."""

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
        """Wait until `status` and `headers` are there.

        Raises:
            BrokenConnectionError: they will not come.
            MalformedResponseError: something else came.
        """
        while not self.begun:
            await self._more()

    async def read(self) -> bytes:
        """Return what of the body has come since the last call, waiting for something; `b""` at the end.

        Raises:
            BrokenConnectionError: the body will not be whole.
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
        """Make a `read` that waits raise TimeoutError."""
        self.fail(TimeoutError())

    def close(self) -> None:
        """Close the connection, unless the response is whole: then another exchange may have it."""
        if not self.whole:
            self._connection.close()

    def leave(self) -> None:
        """Read no more, and close the connection soon, unless the body comes to its end before."""
        self._loop.call_later(END_SECONDS, self.close)

    # What the connection calls.

    def take(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held > HIGH_WATER_BYTES:
            self._connection.pause_reading()
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Take it that no more will come. What came before is still read first."""
        if self._error is None and not self.whole:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """End a wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _more(self) -> asyncio.Future[None]:
        """Return what to wait for.

        Raises:
            BrokenConnectionError, TimeoutError: there is nothing to wait for.
        """
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        return self._waiter


class Connection(asyncio.Protocol):
    """The client's end of a connection. httptools, uvicorn's own parser, reads the responses.

    `on_free` is called when a response is whole and the connection can take another request, `on_lost` at its end.
    """

    def __init__(self, on_free: "Callable[[Connection], None]", on_lost: "Callable[[Connection], None]") -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = self._new_parser()
        self._exchange: Exchange | None = None

    @property
    def open(self) -> bool:
        """Whether it can take a request."""
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
        """Take it that what follows is another conversation: a proxy has made a tunnel of the connection."""
        self._parser = self._new_parser()
        self._exchange = None

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Some gateways leave a Content-Length on a body that they send in chunks. The chunks count (RFC 9112, 6.3), and
        # the connection is not kept, so that nothing can hide behind the body.
        parser.set_dangerous_leniencies(lenient_chunked_length=True)
        return parser

    def pause_reading(self) -> None:
        """Make the upstream wait."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self, exchange: Exchange) -> None:
        """Read on, if it is still this exchange's turn."""
        if exchange is self._exchange and self._transport is not None:
            self._transport.resume_reading()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; or go on encrypted."""
        self._transport = transport  # type: ignore[assignment] # the declared type is a base class's

    def data_received(self, data: bytes) -> None:
        """Read on."""
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
        """End. That also ends a body that told neither its length nor its chunks."""
        self._transport = None
        self._on_lost(self)
        if exchange := self._exchange:
            if exchange.begun and exc is None and not _is_framed(exchange):
                exchange.whole = True
            exchange.fail(BrokenConnectionError())

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header.

        Raises:
            MalformedResponseError: the headers are too long. The parser passes it on as an error of its own.
        """
        exchange = self._exchange
        if exchange is not None and not exchange.begun:  # Those behind a body are of no use.
            exchange.headers.append((name, value))
            # One read may bring a whole head that is too long, and its body's start, which does not count.
            exchange.header_bytes += len(name) + len(b": ") + len(value) + len(b"\r\n")
            if exchange.header_bytes > HEAD_BYTES:
                raise MalformedResponseError

    def on_headers_complete(self) -> None:
        """Take the status."""
        exchange = self._exchange
        if exchange is None:  # Nobody asked. The connection is of no use.
            self.close()
            return
        exchange.status = self._parser.get_status_code()
        if exchange.status < _FIRST_FINAL_STATUS:
            exchange.headers.clear()
        else:
            exchange.begun = True
            exchange.wake()

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._exchange is not None:
            self._exchange.take(data)

    def on_message_complete(self) -> None:
        """Take the end."""
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
