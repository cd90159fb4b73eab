"""Responses that are written in the turn of an append, over real connections to uvicorn and the whole application."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from service.answers import Answers
from service.app import create_app
from service.config import Settings
from service.eventlog import EventLog, Lease
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Done, Start, Timing, new_answer_id
from service.routes import streaming
from service.worker import ThriftyProtocol
from tests.waiting import DEADLINE_SECONDS, until

HEAD_END = b"\r\n\r\n"
LONG = "x" * 2000
VERY_LONG = "x" * 40_000


@dataclass
class Serving:
    """The application, its log and its port."""

    log: EventLog
    port: int

    async def begin(self) -> Lease:
        return await self.log.create(Start(1, new_answer_id(), "model"))

    async def get(self, answer: str, *, version: str = "1.1", accept: str = "*/*", window: int = 0) -> "Client":
        """Follow the answer. A client with a small window is soon full."""
        connection = socket.socket()
        if window:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        connection.setblocking(False)  # noqa: FBT003 (the standard library's own)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 12)
        writer.write(f"GET /answers/{answer} HTTP/{version}\r\nHost: x\r\nAccept: {accept}{HEAD_END.decode()}".encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = await reader.readuntil(HEAD_END)
        return Client(reader, writer, head)


@dataclass
class Client:
    """A connection with one response."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes

    async def chunk(self) -> bytes:
        """The next chunk of HTTP's, which is one write of the service; `b""` at the end."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:size]

    async def body(self) -> bytes:
        body = b""
        while chunk := await self.chunk():
            body += chunk
        return body


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    settings = Settings(
        openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=f"file://{tmp_path}/log", drain_seconds=0
    )
    async with serve(settings) as serving:
        yield serving


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Serving]:
    app = create_app(settings)
    config = uvicorn.Config(app, port=0, http=ThriftyProtocol, lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        answers: Answers = app.state.answers
        yield Serving(answers._log, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        await running


def say(seq: int, text: str = "") -> Delta:
    return Delta(seq, text=text or f"w{seq} ")


def end(seq: int) -> Done:
    return Done(seq, "stop", None, Timing(0.1, 0.2))


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines() if line]


async def test_each_append_is_one_write_and_what_it_costs_is_counted(serving: Serving) -> None:
    lease = await serving.begin()
    with capture_logs() as logged:
        client = await serving.get(lease.answer_id)
        received = [await client.chunk()]
        for seq in range(2, 6):
            await lease.append([say(seq)])
            received.append(await client.chunk())
        await lease.append([end(6)])
        received += [await client.chunk(), await client.chunk()]
        await until(lambda: any(line["event"] == "request" for line in logged))
    assert [lines(piece)[0]["seq"] for piece in received[:-1]] == [1, 2, 3, 4, 5, 6]
    [line] = [line for line in logged if line["event"] == "request"]
    assert (line["bytes"], line["whole"], line["status"]) == (len(b"".join(received)), True, 200)
    client.writer.close()


async def test_a_client_that_stalls_and_comes_back_gets_each_event_once(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[bool] = []
    write = streaming.BodySink.write

    def seen(sink: streaming.BodySink, data: bytes) -> bool:
        pushed.append(write(sink, data))
        return pushed[-1]

    monkeypatch.setattr(streaming.BodySink, "write", seen)
    lease = await serving.begin()
    client = await serving.get(lease.answer_id, window=4096)
    seq = 1
    while False not in pushed:
        seq += 1
        await lease.append([say(seq, VERY_LONG)])
        await asyncio.sleep(0)
    stalled_at, filled = seq, len(pushed)
    for seq in range(stalled_at + 1, stalled_at + 100):
        await lease.append([say(seq, VERY_LONG)])
        await asyncio.sleep(0)
    assert len(pushed) == filled, "an offset"
    body = b""
    while f'"seq":{seq},'.encode() not in body:
        body += await client.chunk()
    while len(pushed) == filled:  # until the sockets' buffers are empty, it may be full again
        seq += 1
        await lease.append([say(seq, VERY_LONG)])
        body += await client.chunk()
    await lease.append([end(seq + 1)])
    body += await client.body()
    texts = [line["text"] for line in lines(body) if "text" in line]
    assert "".join(texts) == VERY_LONG * (seq - 1)
    seqs = [line["seq"] for line in lines(body)]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == seq + 1
    client.writer.close()


async def test_a_client_that_disconnects_while_it_is_pushed_to_hurts_nobody(serving: Serving) -> None:
    lease = await serving.begin()
    gone, stalled, other = [await serving.get(lease.answer_id, window=4096) for _ in range(3)]
    for seq in range(2, 200):
        if seq == 50:
            gone.writer.transport.abort()
        if seq == 150:
            stalled.writer.transport.abort()
        await lease.append([say(seq, LONG)])
        await asyncio.sleep(0)
        while not is_last(chunk := await other.chunk(), seq):
            assert chunk
    await lease.append([end(200)])
    assert lines(await other.body())[-1]["seq"] == 200
    other.writer.close()
    await until(lambda: not lease.watched())


def is_last(chunk: bytes, seq: int) -> bool:
    return bool(lines(chunk)[-1]["seq"] == seq)


async def test_http_1_0_gets_the_same_lines(serving: Serving) -> None:
    lease = await serving.begin()
    client = await serving.get(lease.answer_id, version="1.0")
    for seq in range(2, 5):
        await lease.append([say(seq)])
        await asyncio.sleep(0)
    await lease.append([end(5)])
    async with asyncio.timeout(DEADLINE_SECONDS):
        body = await client.reader.read(1 << 16)
        while data := await client.reader.read(1 << 16):
            body += data
    seqs = [json.loads(line)["seq"] for line in body.splitlines() if line.startswith(b"{")]
    assert seqs == [1, 2, 3, 4, 5]
    client.writer.close()


async def test_a_cut_body_has_no_end(serving: Serving) -> None:
    lease = await serving.begin()
    client = await serving.get(lease.answer_id, accept="text/plain")
    await lease.append([say(2)])
    assert await client.chunk() == b"w2 "
    assert isinstance(serving.log, FileEventLog)
    os.truncate(serving.log.name(lease.answer_id), 0)
    lease.release()  # The next read is from the file, and finds it damaged.
    with pytest.raises(asyncio.IncompleteReadError):
        await client.body()
    client.writer.close()


# The sink


async def test_a_send_that_waits_is_ended_by_drain_and_not_repeated() -> None:
    sent: list[bytes] = []
    ready = asyncio.get_running_loop().create_future()

    async def send(message: MutableMapping[str, Any]) -> None:
        if len(sent) == 1:
            await ready
            await asyncio.sleep(0)
        sent.append(message["body"])

    sink = streaming.BodySink(send)
    assert sink.write(b"1")
    assert not sink.write(b"2")
    draining = asyncio.create_task(sink.drain())
    await asyncio.sleep(0)
    assert sent == [b"1"]
    ready.set_result(None)
    await draining
    assert sent == [b"1", b"2"]
    assert sink.write(b"3")
    await sink.drain()
    assert sent == [b"1", b"2", b"3"]


async def test_a_send_that_waits_ends_with_its_response() -> None:
    ended: list[str] = []

    async def send(_: MutableMapping[str, Any]) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    sink = streaming.BodySink(send)
    assert not sink.write(b"1")
    draining = asyncio.create_task(sink.drain())
    await asyncio.sleep(0)
    draining.cancel()
    with suppress(asyncio.CancelledError):
        await draining
    assert ended == ["ended"]
