"""A relay between a browser and nginx, which a test can cut, freeze and observe."""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from deploy.local.ports import Address
from tests.e2e.cutter import reset
from tests.listening import Listener

T = TypeVar("T")
REQUEST_LINE = re.compile(rb"(?:^|\r\n\r\n)(GET|POST|DELETE) (\S+) HTTP/1\.1\r\n")
CALL_SECONDS = 10.0


class Wire:
    """A TCP relay on its own port, run by a thread."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._flowing: set[asyncio.Event] = set()
        """One for each connection. A connection relays while its event is set."""
        self.requests: list[str] = []
        """Method and path of each request, in order."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._listener = self._call(partial(Listener.start, self._connected))

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._listener.address

    @property
    def url(self) -> str:
        """The address for the browser."""
        return f"http://{self.address}"

    def cut(self) -> None:
        """Reset all connections and accept none."""
        self._call(self._listener.close)

    def restore(self) -> None:
        """Accept connections again."""
        self._listener = self._call(partial(Listener.start, self._connected, self.address.port))

    def freeze(self) -> None:
        """Stop relaying on the existing connections and leave them open. New connections work."""
        self._call(self._freeze)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(CALL_SECONDS)

    async def _freeze(self) -> None:
        for flowing in self._flowing:
            flowing.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.host, self._target.port)
            writers.append(far_writer)
            await self._relay((reader, far_writer), (far_reader, writer))
        except asyncio.CancelledError:  # by a cut
            for each in writers:
                reset(each.get_extra_info("socket"))
            raise
        finally:
            for each in writers:
                each.transport.abort()

    async def _relay(self, *pairs: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Copy from each reader to its writer, until one of them ends. The first is the browser's."""
        flowing = asyncio.Event()
        flowing.set()
        self._flowing.add(flowing)
        ways = [
            asyncio.create_task(self._carry(flowing, *pair, listen=number == 0)) for number, pair in enumerate(pairs)
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._flowing.discard(flowing)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(
        self, flowing: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, listen: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if listen:
                    self.requests += [b" ".join(found).decode() for found in REQUEST_LINE.findall(data)]
                await flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return
