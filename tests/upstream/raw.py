"""An upstream that answers with raw bytes, over real sockets."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.listening import Listener

RESET_SECONDS = 0.05
"""Pause before a reset, which discards what its receiver has not read."""


def chunk(delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
    """Return one event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: %b\n\n" % msgspec.json.encode({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


GOOD_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    + chunk({"content": "Hello"})
    + chunk({"content": " world"})
    + chunk({}, "stop")
    + b"data: [DONE]\n\n"
)
"""A whole response with the text `Hello world`."""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as it came."""

    method: str
    path: str
    """With its query string."""
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def model(self) -> str:
        """The model that the request names."""
        return str(self._json()["model"])

    @property
    def query(self) -> str:
        """The last message's text."""
        return str(self._json()["messages"][-1]["content"])

    def _json(self) -> dict[str, Any]:
        body: dict[str, Any] = msgspec.json.decode(self.body)
        return body


class RawUpstream:
    """Reads each request, sends the bytes that `respond` returns for it, and closes the connection, or resets it."""

    def __init__(self, respond: Callable[[RawRequest], bytes], *, reset: bool = False) -> None:
        self._respond = respond
        self._reset = reset
        self._listener: Listener
        self.requests: list[RawRequest] = []
        self.address = ""
        """`http://127.0.0.1:<port>`"""

    @property
    def base_url(self) -> str:
        """The value for `OPENAI_BASE_URL`."""
        return f"{self.address}/v1"

    def asked(self, query: str) -> int:
        """Return the number of requests with this question."""
        return sum(request.query == query for request in self.requests)

    async def __aenter__(self) -> Self:
        self._listener = await Listener.start(self._serve)
        self.address = f"http://{self._listener.address}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = start.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(request := RawRequest(method, path, headers, body))
        writer.write(self._respond(request))
        await writer.drain()
        if self._reset:
            await asyncio.sleep(RESET_SECONDS)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
