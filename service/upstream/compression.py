"""Bodies that come compressed although identity was asked for: gzip and deflate, which every server has.

The request says `Accept-Encoding: identity`, because a compressed stream arrives in blocks and not chunk by chunk. Some
gateways compress all the same. Other encodings (br, zstd) are not decoded: such a body is no event stream.
"""

import asyncio
import zlib

from service.errors import UpstreamError
from service.upstream.connection import Exchange

PIECE_BYTES = 1 << 16
"""Limit on the bytes that one read returns. More of them would hold up the worker's other answers."""
RATIO = 100
"""Limit on decompressed bytes for each compressed one, beyond FREE_BYTES. Event streams of single tokens reach 40;
deflate's own maximum, which only a bomb reaches, is 1032."""
FREE_BYTES = 1 << 20

_GZIP = (b"gzip", b"x-gzip")
_GZIP_BITS = 16 + zlib.MAX_WBITS
_GZIP_HEAD = b"\x1f\x8b"
_ZLIB_HEAD_BYTES = 2


def decompressed(exchange: Exchange) -> "Exchange | Decompressed":
    """Return the exchange, with its body decompressed if a header says gzip or deflate."""
    encodings = [value.strip().lower() for name, value in exchange.headers if name.lower() == b"content-encoding"]
    if encodings == [b"deflate"] or (len(encodings) == 1 and encodings[0] in _GZIP):
        return Decompressed(exchange, is_gzip=encodings[0] in _GZIP)
    return exchange


class Decompressed:
    """Decompresses the body of an exchange, at most PIECE_BYTES a read."""

    def __init__(self, exchange: Exchange, *, is_gzip: bool) -> None:
        self.status = exchange.status
        self.expire = exchange.expire
        self.close = exchange.close
        self.leave = exchange.leave
        self._exchange = exchange
        self._is_gzip = is_gzip
        self._decoder = zlib.decompressobj(_GZIP_BITS) if is_gzip else None
        self._rest = b""
        self._has_more = False
        self._bytes_left = FREE_BYTES

    async def flow(self, push: object) -> None:
        """Return at once, without a push: a compressed body is read in limited pieces, with pauses."""

    async def read(self) -> bytes:
        """Wait for data of the body and return some of it, decompressed; `b""` at the end.

        Raises:
            BrokenConnectionError: the connection ended before the body.
            TimeoutError: `expire` was called.
            UpstreamError: the body is not what its header says, or its size exceeds the limit.
        """
        while True:
            if self._has_more:
                await asyncio.sleep(0)  # the other answers' turn
            else:
                data = await self._exchange.read()
                if not data:
                    return b""
                self._bytes_left += RATIO * len(data)
                self._rest += data
            try:
                piece = self._piece()
            except zlib.error:
                raise UpstreamError("upstream_malformed", "stream") from None
            self._bytes_left -= len(piece)
            if self._bytes_left < 0:
                raise UpstreamError("upstream_malformed", "event_length")
            if piece:
                return piece

    def _piece(self) -> bytes:
        """Return the next decompressed bytes; `b""` if more of the body is needed, or if it has ended."""
        decoder = self._decoder
        if decoder is None:
            if len(self._rest) < _ZLIB_HEAD_BYTES:
                return b""
            decoder = self._decoder = zlib.decompressobj(
                zlib.MAX_WBITS if _has_zlib_head(self._rest) else -zlib.MAX_WBITS
            )
        elif decoder.eof:
            return self._next_member()
        piece = decoder.decompress(self._rest, PIECE_BYTES)
        self._rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        self._has_more = len(piece) == PIECE_BYTES or bool(self._rest)
        return piece

    def _next_member(self) -> bytes:
        """Begin the next member of a gzip file. Other bytes behind the end are ignored."""
        self._has_more = False
        if not self._is_gzip or not self._rest.startswith(_GZIP_HEAD[: len(self._rest)]):
            self._rest = b""
        elif len(self._rest) >= len(_GZIP_HEAD):
            self._decoder = zlib.decompressobj(_GZIP_BITS)
            return self._piece()
        return b""


def _has_zlib_head(data: bytes) -> bool:
    """Return whether the data begins as RFC 1950 says. Some servers send deflate without that head."""
    return data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
