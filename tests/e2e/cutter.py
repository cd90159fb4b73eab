"""A TCP proxy that resets, holds, delays and loses what passes, on command, as an unreliable network does."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from deploy.local.ports import Address
from tests.listening import listening


class Cutter:
    """Relays bytes between a client and `target`, and resets each connection after a number of bytes of the response.

    `limits` has the number of bytes for each connection; connections after its end are not cut. With
    `keeps_blank_lines`, a cut that would part two line feeds comes one byte later.

    `cut`, `hold`, `swallow` and `heal` have taken effect when they return. Call them from any other thread.
    """

    def __init__(
        self, target: Address, limits: Iterator[int] | None = None, *, keeps_blank_lines: bool = False
    ) -> None:
        self.cuts = 0
        self.connections = 0
        self.delay_seconds = 0.0
        """Time that each read of up to 16 kB takes on its way, in either direction."""
        self._target = target
        self._limits = limits or iter(())
        self._keeps_blank_lines = keeps_blank_lines
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: Callable[[], object] = lambda: None
        self._loop: asyncio.AbstractEventLoop
        self._open: asyncio.Event
        self._swallowing = False
        self._pairs: set[_Pair] = set()
        self.address = Address("127.0.0.1", 0)

    def cut(self) -> None:
        """Reset all connections. New ones are accepted."""

        async def cut() -> None:
            for pair in list(self._pairs):
                pair.reset()

        self._do(cut())

    def hold(self) -> None:
        """Pass nothing on, as a cable that is pulled for a while: TCP delivers it after `heal`."""

        async def hold() -> None:
            self._open.clear()

        self._do(hold())

    def swallow(self) -> None:
        """Lose what is sent, with no sign to either side, as a cable that is pulled for good."""

        async def swallow() -> None:
            self._swallowing = True
            self._open.set()

        self._do(swallow())

    def heal(self) -> None:
        """Pass everything on again. Connections that lost something are reset."""

        async def heal() -> None:
            self._swallowing = False
            self._open.set()
            for pair in list(self._pairs):
                if pair.has_lost:
                    pair.reset()

        self._do(heal())

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

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
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._stop = partial(self._loop.call_soon_threadsafe, stop.set)
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
            pair = _Pair(writer, there_writer)
            self._pairs.add(pair)
            closing.callback(self._pairs.discard, pair)
            upwards = asyncio.create_task(self._copy(pair, reader, there_writer, 1 << 60))
            closing.callback(upwards.cancel)
            cut = await self._copy(pair, there_reader, writer, limit, keeps_blank_lines=self._keeps_blank_lines)
            if cut:
                self.cuts += 1
                reset(writer.get_extra_info("socket"))

    async def _copy(
        self,
        pair: "_Pair",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limit: int,
        *,
        keeps_blank_lines: bool = False,
    ) -> bool:
        """Copy bytes up to the limit; return whether the limit was reached."""
        left = limit
        try:
            while data := await reader.read(1 << 14):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._open.wait()
                if self._swallowing or pair.has_lost:
                    pair.has_lost = True
                    continue
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


class _Pair:
    """The two connections that a proxy joins."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.has_lost = False

    def reset(self) -> None:
        for writer in self._writers:
            if (connection := writer.get_extra_info("socket")) is not None:
                reset(connection)
            writer.transport.abort()


def reset(connection: socket.socket) -> None:
    """Make the socket send a reset at its close."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def random_limits(seed: int, cuts: int, least: int, most: int) -> Iterator[int]:
    """Yield `cuts` random limits from `least` to `most`."""
    numbers = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    return iter([numbers.randint(least, most) for _ in range(cuts)])
