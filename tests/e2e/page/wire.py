"""A relay between a browser and nginx, which a test can cut, freeze and observe."""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from deploy.local.ports import Address

T = TypeVar("T")
REQUEST_LINE = re.compile(rb"(?:^|\r\n\r\n)(GET|POST|DELETE) (\S+) HTTP/1\.1\r\n")
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
CALL_SECONDS = 10.0


@dataclass(eq=False)
class Line:
    """One connection: the browser's socket and nginx's."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.flowing.set()

    def reset(self) -> None:
        """Reset both sides."""
        for writer in self.writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()


class Wire:
    """A TCP relay on its own port, run by a thread."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._lines: set[Line] = set()
        self.requests: list[str] = []
        """Method and path of each request, in order."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._port = 0
        self._server = self._call(self._listen)

    @property
    def url(self) -> str:
        """The address for the browser."""
        return f"http://127.0.0.1:{self._port}"

    def cut(self) -> None:
        """Reset all connections and accept none."""
        self._call(self._cut)

    def restore(self) -> None:
        """Accept connections again."""
        self._server = self._call(self._listen)

    def freeze(self) -> None:
        """Stop relaying on the existing connections and leave them open. New connections work."""
        self._call(self._freeze)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._cut)
        self._call(self._finish)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(CALL_SECONDS)

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def _cut(self) -> None:
        self._server.close()
        for line in list(self._lines):
            line.flowing.set()
            line.reset()

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _freeze(self) -> None:
        for line in self._lines:
            line.flowing.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.host, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        line = Line((writer, far_writer))
        self._lines.add(line)
        ways = [
            asyncio.create_task(self._carry(line, reader, far_writer, listen=True)),
            asyncio.create_task(self._carry(line, far_reader, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for each in line.writers:
            each.transport.abort()
        self._lines.discard(line)

    async def _carry(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, listen: bool = False
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if listen:
                    self.requests += [b" ".join(found).decode() for found in REQUEST_LINE.findall(data)]
                await line.flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return
