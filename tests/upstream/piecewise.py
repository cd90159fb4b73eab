"""A server that sends given bytes as its whole response, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.listening import listening

Piece = bytes | float
"""Bytes to send, or seconds to wait."""


class RawServer:
    """Reads each request, sends the pieces, and closes the connection, or holds it open until the client closes it."""

    def __init__(self, pieces: Sequence[Piece], *, hold: bool) -> None:
        self.asked = 0
        """Requests so far."""
        self.base_url = ""
        self._pieces = pieces
        self._hold = hold

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        await reader.readexactly(int(length))
        self.asked += 1
        for piece in self._pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        if self._hold:
            await reader.read()


@asynccontextmanager
async def serving(*pieces: Piece, hold: bool = False) -> AsyncIterator[RawServer]:
    """A server on a free port."""
    raw = RawServer(pieces, hold=hold)
    async with listening(raw.serve) as address:
        raw.base_url = f"http://{address}/v1"
        yield raw
