"""A TCP proxy that resets connections on command, as an unreliable network does."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from deploy.local.ports import Address
from tests.listening import listening


class Cutter:
    """Relays bytes between a client and `target`, and resets each connection after a number of bytes of the response.

    `limits` has the number of bytes for each connection; connections after its end are not cut. With
    `keeps_blank_lines`, a cut that would part two line feeds comes one byte later.
    """

    def __init__(self, target: Address, limits: Iterator[int], *, keeps_blank_lines: bool = False) -> None:
        self.cuts = 0
        self.connections = 0
        self._target = target
        self._limits = limits
        self._keeps_blank_lines = keeps_blank_lines
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: Callable[[], object] = lambda: None
        self.address = Address("127.0.0.1", 0)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        stop = asyncio.Event()
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        async with listening(self._pass_on) as self.address:
            self._ready.set()
            await stop.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        limit = next(self._limits, 1 << 60)
        with contextlib.ExitStack() as closing:
            closing.callback(writer.transport.abort)
            there_reader, there_writer = await asyncio.open_connection(self._target.host, self._target.port)
            closing.callback(there_writer.transport.abort)
            upwards = asyncio.create_task(_copy(reader, there_writer, 1 << 60))
            closing.callback(upwards.cancel)
            cut = await _copy(there_reader, writer, limit, keeps_blank_lines=self._keeps_blank_lines)
            if cut:
                self.cuts += 1
                reset(writer.get_extra_info("socket"))


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int, *, keeps_blank_lines: bool = False
) -> bool:
    """Copy bytes up to the limit; return whether the limit was reached."""
    left = limit
    try:
        while data := await reader.read(1 << 14):
            if keeps_blank_lines and data[left - 1 : left] == b"\n" and data[left : left + 1] in (b"", b"\n"):
                left += 1
            writer.write(data[:left])
            await writer.drain()
            left -= len(data)
            if left <= 0:
                return True
    except ConnectionError:
        pass
    return False


def reset(connection: socket.socket) -> None:
    """Make the socket send a reset at its close."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def random_limits(seed: int, cuts: int, least: int, most: int) -> Iterator[int]:
    """Yield `cuts` random limits from `least` to `most`."""
    numbers = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    return iter([numbers.randint(least, most) for _ in range(cuts)])
