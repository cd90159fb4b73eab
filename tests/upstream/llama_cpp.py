"""llama.cpp's server in front of the tests' upstream: its resumable streams, over real sockets.

What it does was read in llama.cpp's sources (`tools/server/server-stream.cpp`, `README-dev.md`), and its responses were
taken from a running server of the build 11549. A stream goes on without its client; its last `most_bytes` bytes are
kept and sent again from any offset; a `DELETE` closes the connection to the upstream.

`python -m tests.upstream.llama_cpp --upstream http://127.0.0.1:8200/v1 --port 8201`: serve until a signal comes.
"""

import argparse
import asyncio
import signal
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx2
import msgspec

from deploy.local.ports import Address
from tests.e2e.cutter import reset
from tests.listening import Listener
from tests.upstream.raw import RawRequest

MOST_BYTES = 4 << 20
_STREAM = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
_UNLIMITED = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
_GONE = (404, "File Not Found", "not_found_error")
_LOST = (400, "Stream offset lost, please restart", "invalid_request_error")


class Stream:
    """The bytes of one generation, and the task that reads them from the upstream."""

    def __init__(self, most_bytes: int) -> None:
        self.data = bytearray()
        self.done = False
        self.refusal: tuple[int, bytes, str] | None = None
        """Status, body and Retry-After."""
        self.failed = False
        self.grew = asyncio.Condition()
        self.task: asyncio.Task[None]
        self._most_bytes = most_bytes

    async def generate(self, client: httpx2.AsyncClient, url: str, body: bytes) -> None:
        """Read the upstream's stream, up to its end or until the task is cancelled."""
        try:
            async with client.stream(
                "POST", url, content=body, headers={"Content-Type": "application/json"}
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    after = response.headers.get("Retry-After", "")
                    self.refusal = (response.status_code, await response.aread(), after)
                    return
                async for data in response.aiter_raw():
                    await self._add(data)
        except httpx2.HTTPError:
            self.failed = True  # A generation that fails ends its stream.
        finally:
            self.done = True
            async with self.grew:
                self.grew.notify_all()

    async def _add(self, data: bytes) -> None:
        self.data += data
        async with self.grew:
            self.grew.notify_all()

    @property
    def dropped(self) -> int:
        """How many bytes cannot be asked for any more. A reader that is late, on a busy machine, still gets them."""
        return max(0, len(self.data) - self._most_bytes)

    async def from_(self, offset: int) -> bytes:
        """Return what there is from the offset on, once there is something; nothing at the end."""
        async with self.grew:
            await self.grew.wait_for(lambda: self.done or offset < len(self.data))
        return bytes(self.data[offset:])


class LlamaCpp:
    """A server whose generations are those of the upstream at `base_url`. Serves within `async with`."""

    def __init__(
        self, base_url: str, *, port: int = 0, most_bytes: int = MOST_BYTES, keeps_streams: bool = True
    ) -> None:
        """Without `keeps_streams` it is an older version, which passes over the header and knows no such paths."""
        self.streams: dict[str, Stream] = {}
        self.requests: list[RawRequest] = []
        self.connections = 0
        self.refuses = 0
        """The number of next connections that are closed at once."""
        self._url = f"{base_url}/chat/completions"
        self._port = port
        self._most_bytes = most_bytes
        self._keeps_streams = keeps_streams
        self._client: httpx2.AsyncClient
        self._listener: Listener
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._listener.address

    def asked(self, method: str) -> int:
        """Return the number of requests with this method."""
        return sum(request.method == method for request in self.requests)

    def break_off(self) -> None:
        """Reset all connections, as an unreliable network does. The generations go on."""
        for writer in self._writers:
            reset(writer.get_extra_info("socket"))
            writer.transport.abort()

    async def lose_streams(self) -> None:
        """Forget all streams and end their generations, as a restart does."""
        for name in list(self.streams):
            await self._end(name)

    async def __aenter__(self) -> Self:
        # One for all generations: to make one takes as long as to serve some hundred of them.
        self._client = httpx2.AsyncClient(trust_env=False, timeout=None, limits=_UNLIMITED)
        self._listener = await Listener.start(self._serve, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.lose_streams()
        await self._listener.close()
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuses:
            self.refuses -= 1
            return
        self._writers.add(writer)
        try:
            await self._answer(reader, writer)
        finally:
            self._writers.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = start.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(RawRequest(method, path, headers, body))
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        name = query.get("conv_id", [""])[0]
        match method, parts.path:
            case "POST", "/v1/chat/completions":
                await self._chat(headers, body, writer)
            case "GET", "/v1/stream" if self._keeps_streams and name in self.streams:
                await self._again(self.streams[name], int(query.get("from", ["0"])[0]), writer)
            case "DELETE", "/v1/stream" if self._keeps_streams:
                await self._end(name)
                writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            case _:
                await _refuse(writer, *_GONE)

    async def _chat(self, headers: Mapping[str, str], body: bytes, writer: asyncio.StreamWriter) -> None:
        name = headers.get("x-conversation-id", "") if self._keeps_streams else ""
        if name:
            await self._end(name)
        stream = Stream(self._most_bytes)
        stream.task = asyncio.create_task(stream.generate(self._client, self._url, body))
        if name:
            self.streams[name] = stream
        try:
            # The status comes with the first piece.
            await stream.from_(0)
            if stream.refusal is not None:
                self.streams.pop(name, None)
                status, said, after = stream.refusal
                writer.write(_head(status, said, after) + said)
                return
            if stream.failed and not stream.data:
                self.streams.pop(name, None)
                return
            await _send(stream, 0, writer)
        finally:
            if not name:
                stream.task.cancel()

    async def _again(self, stream: Stream, offset: int, writer: asyncio.StreamWriter) -> None:
        if offset < stream.dropped:
            await _refuse(writer, *_LOST)
        else:
            await _send(stream, offset, writer)

    async def _end(self, name: str) -> None:
        stream = self.streams.pop(name, None)
        if stream is not None:
            stream.task.cancel()
            await asyncio.gather(stream.task, return_exceptions=True)


async def _send(stream: Stream, offset: int, writer: asyncio.StreamWriter) -> None:
    writer.write(_STREAM)
    while data := await stream.from_(offset):
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        offset += len(data)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, status: int, message: str, kind: str) -> None:
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "code": status}})
    writer.write(_head(status, body) + body)
    await writer.drain()


def _head(status: int, body: bytes, retry_after: str = "") -> bytes:
    fields = f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    fields += f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{fields}\r\n".encode()


async def main() -> None:
    """Parse the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream.llama_cpp")
    parser.add_argument("--upstream", required=True, help="base URL")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with LlamaCpp(options.upstream, port=options.port):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
