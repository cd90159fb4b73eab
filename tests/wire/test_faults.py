"""The faults of a connection to an upstream, each over real sockets.

F1 dead kept connections, F2 a swallowed first address, F3 padded chunks, F4 both framings, F5 bare line ends. F6,
proxies over TLS and at IPv6 addresses, and F7, refusals of a proxy, are in test_proxies.py.
"""

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import UpstreamError
from service.events import Delta
from service.question import to_request
from service.request import Request
from service.upstream import pool
from service.upstream.client import BREAKER_QUESTIONS
from service.upstream.connection import Connection
from service.upstream.connector import NEXT_ADDRESS_SECONDS
from service.upstream.endpoint import Endpoint, TimeOuts
from service.upstream.pool import ConnectTimeOutError, UnreachableError
from service.upstream.stream import Upstream
from tests.waiting import until
from tests.wire.servers import CHUNKED, END, HELLO, TIMEOUT_SECONDS, Sender, request_on, saying, server, whole

KEPT = 24
SECOND = 1.0


def piece(content: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % content


STREAM = (
    piece(b"Hello"),
    piece(b" world"),
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)


def chunked(line_end: bytes = b"\r\n", padding: bytes = b"", headers: bytes = b"") -> bytes:
    """A response with the stream in chunks."""
    head = line_end.join([b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked"])
    chunks = [b"%x%b%b%b%b" % (len(data), padding, line_end, data, line_end) for data in STREAM]
    last = b"0" + padding + 2 * line_end
    return head + line_end + headers + line_end + b"".join(chunks) + last


def question(number: int = 0) -> Request:
    return to_request(f"question {number}", model="m")


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, as a server does that has closed it."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def answer(upstream: Upstream, request: Request) -> str:
    stream = upstream.stream(request, last_seq=1)
    text = ""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while deltas := await stream.read():
                text += "".join(delta.text or "" for delta in deltas if isinstance(delta, Delta))
    finally:
        stream.close()
    return text


@contextlib.asynccontextmanager
async def upstream_at(port: int) -> AsyncIterator[Upstream]:
    """The client without retries: what it does by itself is what is tested."""
    endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "sk-secret")
    upstream = Upstream([endpoint], TimeOuts(connect=10, status=10, first_chunk=10, silence=10), retries=0)
    try:
        yield upstream
    finally:
        await upstream.aclose()


async def http_request_on(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]))


# F1: dead kept connections


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_24_kept_connections_that_end_at_the_next_request_cost_no_answer(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """cases/stale-pool.json."""
    monkeypatch.setattr(pool, "STALE_SECONDS", TIMEOUT_SECONDS)
    asked: list[bytes] = []
    together = asyncio.Barrier(KEPT)
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        is_old = connections <= KEPT
        while True:
            asked.append(await http_request_on(reader))
            if is_old:
                await together.wait()
            writer.write(chunked())
            if is_old:
                await reader.readexactly(1)
                return reset(writer) if end == "reset" else None

    async with server(serve) as port, upstream_at(port) as upstream:
        texts = await asyncio.gather(*(answer(upstream, question(n)) for n in range(KEPT)))
        assert texts == ["Hello world"] * KEPT
        assert connections == KEPT
        for n in range(2 * BREAKER_QUESTIONS):
            assert await answer(upstream, question(KEPT + n)) == "Hello world"
            upstream._clients[0].admit(question())  # The breaker is closed.
        assert len(asked) == KEPT + 2 * BREAKER_QUESTIONS, "each is asked once"


async def test_a_restart_of_the_server_with_kept_connections_costs_no_answer_and_asks_each_once() -> None:
    asked: list[bytes] = []
    together = asyncio.Barrier(KEPT)
    is_first = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked.append(await http_request_on(reader))
            if is_first:
                await together.wait()
            writer.write(chunked())

    async with contextlib.AsyncExitStack() as stack:
        async with server(serve) as port:
            upstream = await stack.enter_async_context(upstream_at(port))
            await asyncio.gather(*(answer(upstream, question(n)) for n in range(KEPT)))
        is_first = False
        async with server(serve, port=port):
            texts = await asyncio.gather(*(answer(upstream, question(n)) for n in range(KEPT)))
    assert texts == ["Hello world"] * KEPT
    assert len(asked) == 2 * KEPT


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_a_kept_connection_that_ends_after_the_server_may_have_begun_is_not_asked_again(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(pool, "STALE_SECONDS", 0.2)
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        await request_on(reader)
        asked += 1
        await asyncio.sleep(0.3)  # It works on the answer.
        if end == "reset":
            reset(writer)

    async with server(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        assert await whole(await sender.ask(url)) == b"hello"
        with pytest.raises(UnreachableError):
            await sender.ask(url)
        assert asked == 1


async def test_a_new_connection_that_is_reset_is_not_tried_again(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_on(reader)
        if connections == 1:
            writer.write(CHUNKED + HELLO + END)
            await reader.readexactly(1)
        reset(writer)

    async with server(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        assert await whole(await sender.ask(url)) == b"hello"
        with pytest.raises(UnreachableError):
            await sender.ask(url)
        assert connections == 2, "the dead one, and one more"


async def test_a_kept_connection_whose_server_says_that_the_request_came_too_late_is_replaced(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 408 Request Time-out\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    async with server(serve) as port:
        for n in range(1, 4):
            exchange = await sender.ask(f"http://127.0.0.1:{port}/")
            assert (exchange.status, await whole(exchange), connections) == (200, b"hello", n)


async def test_a_408_after_a_while_is_the_servers_answer_and_not_asked_for_again(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A gateway says so of a model that took too long: the question was served, and may have been paid for.
    monkeypatch.setattr(pool, "STALE_SECONDS", 0.0)
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        await request_on(reader)
        requests += 1
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    async with server(serve) as port:
        assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"
        assert (await sender.ask(f"http://127.0.0.1:{port}/")).status == 408
    assert requests == 1


async def test_a_408_on_a_new_connection_is_the_servers_answer(sender: Sender) -> None:
    async with server(saying(b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 0\r\n\r\n")) as port:
        assert (await sender.ask(f"http://127.0.0.1:{port}/")).status == 408


async def test_a_response_to_no_request_closes_the_idle_connection(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        await writer.drain()
        writer.write(b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with server(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        assert await whole(await sender.ask(url)) == b"hello"
        await until(lambda: not sender.to(url)._connections)
        assert (await sender.ask(url)).status == 200
        assert connections == 2


@pytest.mark.parametrize(("limit", "kept"), [(b"timeout=5", True), (b"timeout=1, max=9", False), (b"timeout=0", False)])
async def test_a_connection_is_kept_for_less_than_the_server_keeps_it(
    sender: Sender, limit: bytes, *, kept: bool
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await request_on(reader):
            writer.write(b"HTTP/1.1 200 OK\r\nKeep-Alive: %b\r\nContent-Length: 5\r\n\r\nhello" % limit)

    async with server(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(2):
            assert await whole(await sender.ask(url)) == b"hello"
        assert connections == (1 if kept else 2)


async def test_idle_connections_do_not_outlive_their_time(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: now))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request_on(reader):
            writer.write(CHUNKED + HELLO + END)

    async with server(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        for exchange in await asyncio.gather(*(sender.ask(url) for _ in range(5))):
            await whole(exchange)
        assert len(sender.to(url)._connections) == 5
        now = pool.IDLE_SECONDS
        await whole(await sender.ask(url))
        await until(lambda: len(sender.to(url)._connections) == 1)


async def test_a_request_that_the_kernel_could_not_deliver_is_sent_again(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing on one machine loses packets, so the kernel's word is said for it.
    monkeypatch.setattr(pool, "STALE_SECONDS", 0.0)
    sent = Connection.send

    def lost(connection: Connection, request: bytes) -> Any:  # noqa: ANN401
        if connection not in used:
            used.add(connection)
            return sent(connection, request)
        exchange = sent(connection, b"")
        connection.connection_lost(OSError(errno.ETIMEDOUT, "Connection timed out"))
        return exchange

    used: set[Connection] = set()
    monkeypatch.setattr(Connection, "send", lost)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        await reader.read()

    async with server(serve) as port:
        for _ in range(2):
            assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this option")
async def test_the_kernel_gives_a_request_up_that_nobody_acknowledges() -> None:
    sender = Sender(connect_seconds=3)
    async with server(saying(CHUNKED, HELLO, END, close=False)) as port:
        url = f"http://127.0.0.1:{port}/"
        await sender.ask(url)
        [connection] = sender.to(url)._connections
        assert connection._transport is not None
        there = connection._transport.get_extra_info("socket")
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sender.close()


# F2: a swallowed first address


@pytest.fixture
def swallowing() -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.2", 0))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.settimeout(0)
            filling.connect_ex(listening.getsockname())
        yield listening.getsockname()


Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Let every name have these addresses."""

    def these(*addresses: tuple[str, int]) -> None:
        async def getaddrinfo(*_: object, **__: object) -> list[tuple[Any, ...]]:
            return [
                (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
                for host, port in addresses
            ]

        monkeypatch.setattr("service.upstream.connector.resolve", lambda _loop, host, port: getaddrinfo(host, port))

    return these


async def test_an_address_that_swallows_packets_costs_a_quarter_of_a_second(
    sender: Sender, swallowing: tuple[str, int], resolve: Resolve
) -> None:
    async with server(saying(CHUNKED, HELLO, END)) as port:
        resolve(swallowing, ("127.0.0.1", port))
        began = time.monotonic()
        assert await whole(await sender.ask("http://upstream.example/")) == b"hello"
    assert NEXT_ADDRESS_SECONDS * 0.9 < time.monotonic() - began < TIMEOUT_SECONDS / 2


async def test_an_ipv6_address_that_nobody_listens_at_costs_nothing(sender: Sender, resolve: Resolve) -> None:
    async with server(saying(CHUNKED, HELLO, END)) as port:
        resolve(("::1", port), ("127.0.0.1", port))
        assert await whole(await sender.ask("http://upstream.example/")) == b"hello"


async def test_addresses_that_all_swallow_packets_are_a_time_out(swallowing: tuple[str, int], resolve: Resolve) -> None:
    sender = Sender(connect_seconds=0.5)
    resolve(swallowing, swallowing)
    with pytest.raises(ConnectTimeOutError):
        await sender.ask("http://upstream.example/")
    assert not sender.to("http://upstream.example/")._connections


async def test_addresses_that_all_refuse_are_unreachable(sender: Sender, resolve: Resolve) -> None:
    async with server(saying()) as port:
        pass
    resolve(("::1", port), ("127.0.0.1", port))
    with pytest.raises(UnreachableError):
        await sender.ask("http://upstream.example/")


async def test_an_ipv6_literal_is_asked_at_its_address(sender: Sender) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_on(reader))
        writer.write(CHUNKED + HELLO + END)

    async with server(serve, host="::1") as port:
        assert await whole(await sender.ask(f"http://[::1]:{port}/v1")) == b"hello"
    assert b"Host: [::1]:%d" % port in seen[0].split(b"\r\n")


# F3, F4, F5: framings


@pytest.mark.parametrize(
    "response",
    [
        chunked(),
        chunked(padding=b"    "),  # F3
        chunked(padding=b" ;name = value"),
        chunked(padding=b'\t;a;b="c"'),
        chunked(headers=b"Content-Length: 10\r\n"),  # F4: cases/te-and-cl.http
        chunked(headers=b"Transfer-Encoding: chunked\r\nContent-Length: 99999\r\n"),
        chunked(headers=b"Content-Length: 1\r\nContent-Length: 2\r\n"),
        chunked(b"\n"),  # F5
        chunked(b"\n", padding=b" ", headers=b"Server: x\r\n"),
        chunked(b"\n").replace(b"\n\n", b"\n\r\n", 1),
        chunked(headers=b"X-Long: a\r\n  b\r\n\tc\r\n"),
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\n\n" + chunked(),
        chunked().removesuffix(b"\r\n") + b"Server-Timing: a\r\nGrpc-Status: 0\r\n\r\n",
        b"HTTP/1.1 200\nConnection : close\n\n" + b"".join(STREAM),
    ],
    ids=[
        "plain",
        "F3 padded",
        "F3 padded extension",
        "F3 quoted extension",
        "F4 te-and-cl.http",
        "F4 both, twice",
        "F4 two lengths",
        "F5 bare LF",
        "F5 and padded",
        "F5 mixed",
        "folded header",
        "informational",
        "trailers",
        "until the end",
    ],
)
async def test_a_stream_is_read_whole_in_each_framing_that_servers_send(response: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http_request_on(reader)
        writer.write(response)

    async with server(serve) as port, upstream_at(port) as upstream:
        assert await answer(upstream, question()) == "Hello world"


@pytest.mark.parametrize("folded", [b"\r\n , gzip", b"\r\n\tgzip", b"\n\t, x-last"])
async def test_a_coding_behind_the_chunks_on_a_folded_line_leaves_the_body_as_it_is(
    sender: Sender, folded: bytes
) -> None:
    # RFC 9112, 6.3: chunks are not the last coding, so the body ends with the connection.
    coded = b"5\r\nhello\r\n0\r\n\r\n"
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + folded + b"\r\n\r\n" + coded
    async with server(saying(said)) as port:
        assert await whole(await sender.ask(f"http://127.0.0.1:{port}/v1")) == coded


async def test_nothing_that_follows_a_body_of_two_framings_is_read_as_the_next_response(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_on(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO + END
            + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )  # fmt: skip
        await reader.read()

    async with server(serve) as port:
        for n in (1, 2):
            assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"
            assert connections == n


async def test_garbage_within_a_chunked_body_ends_the_answer_at_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http_request_on(reader)
        writer.write(chunked().split(b"\r\n", 5)[0] + b"\r\nTransfer-Encoding: chunked\r\n\r\n<html>")
        await reader.read()

    async with server(serve) as port, upstream_at(port) as upstream:
        with pytest.raises(UpstreamError) as failed:
            await answer(upstream, question())
    assert failed.value.code == "upstream_malformed"
