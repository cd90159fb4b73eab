"""The connection pool of an upstream, against servers with various behaviours, over real sockets."""

import asyncio

import pytest

from service.upstream.connection import HIGH_WATER_BYTES, BrokenConnectionError, MalformedResponseError
from service.upstream.pool import ERROR_BODY_BYTES, ConnectTimeOutError, UnreachableError, start_of_body
from tests.waiting import until
from tests.wire.servers import CHUNKED, END, HELLO, TIMEOUT_SECONDS, Sender, request_on, saying, server, whole


async def test_a_request_goes_out_whole_and_a_chunked_body_comes_in(sender: Sender) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_on(reader))
        writer.write(CHUNKED + HELLO + HELLO + END)
        await reader.read()

    async with server(serve) as port:
        exchange = await sender.ask(f"http://127.0.0.1:{port}/v1/chat?x=1")
        assert (exchange.status, await whole(exchange)) == (200, b"hellohello")
        sender.close()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat?x=1 HTTP/1.1"
    assert b"Host: 127.0.0.1:%d" % port in lines
    assert b"X-Mine: yes" in lines
    assert body == b'{"question": 1}'


async def test_one_connection_carries_one_request_after_the_other(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await request_on(reader):
            writer.write(CHUNKED + HELLO + END)

    async with server(serve) as port:
        for _ in range(3):
            assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"
        assert connections == 1
        together = await asyncio.gather(*(sender.ask(f"http://127.0.0.1:{port}/") for _ in range(3)))
        assert [await whole(exchange) for exchange in together] == [b"hello"] * 3
        assert connections == 3, "a request waits for no other's connection"
        sender.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(sender: Sender) -> None:
    # Each response is whole and says nothing of the connection's end, which follows.
    async with server(saying(CHUNKED + HELLO + END)) as port:
        for _ in range(3):
            assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"
            await until(lambda: not sender.to(f"http://127.0.0.1:{port}/")._connections)


async def test_kept_connections_that_are_dead_cost_no_request(sender: Sender) -> None:
    kept = 3
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        is_kept = connections <= kept
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        if is_kept:
            await reader.readexactly(1)  # of the next request, which it does not answer

    async with server(serve) as port:
        together = await asyncio.gather(*(sender.ask(f"http://127.0.0.1:{port}/") for _ in range(kept)))
        assert [await whole(exchange) for exchange in together] == [b"hello"] * kept
        for _ in range(kept):
            assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"


async def test_a_kept_connection_that_ends_within_the_response_is_an_error(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)
        await request_on(reader)
        writer.write(b"HTTP/1.1 2")

    async with server(serve) as port:
        assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"
        with pytest.raises(UnreachableError):
            await sender.ask(f"http://127.0.0.1:{port}/")
        assert connections == 1


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", b"lo"), b"hello"),
        ((b"HTTP/1.0 200 OK\r\n\r\nhel", b"lo until the end"), b"hello until the end"),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", CHUNKED, HELLO, END), b"hello"),
        ((CHUNKED + b"5;extension=1\r\nhel", b"lo\r\n0\r\nTrailer: x\r\n\r\n"), b"hello"),
        ((*[CHUNKED[at : at + 1] for at in range(len(CHUNKED))], HELLO, END), b"hello"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", HELLO, END), b"hello"),
    ],
    ids=["length", "until the end", "early hints", "extensions and trailers", "byte by byte", "chunks and a length"],
)
async def test_a_body_ends_as_its_framing_says(sender: Sender, pieces: tuple[bytes, ...], body: bytes) -> None:
    async with server(saying(*pieces)) as port:
        assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == body


@pytest.mark.parametrize(
    "pieces",
    [(CHUNKED, HELLO), (CHUNKED, HELLO, b"not a chunk"), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",)],
    ids=["cut", "garbage", "short"],
)
async def test_a_body_that_breaks_off_is_no_whole_one_and_what_came_is_kept(
    sender: Sender, pieces: tuple[bytes, ...]
) -> None:
    async with server(saying(*pieces)) as port:
        exchange = await sender.ask(f"http://127.0.0.1:{port}/")
        assert await exchange.read() == b"hello"
        with pytest.raises(BrokenConnectionError):
            await exchange.read()


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 2",)], ids=["none", "half"])
async def test_a_response_that_does_not_begin_is_an_error(sender: Sender, pieces: tuple[bytes, ...]) -> None:
    async with server(saying(*pieces)) as port:
        with pytest.raises(UnreachableError):
            await sender.ask(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("pieces", [(b"SSH-2.0-OpenSSH\r\n",), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 20_000)])
async def test_a_response_that_is_no_http_is_malformed(sender: Sender, pieces: tuple[bytes, ...]) -> None:
    async with server(saying(*pieces)) as port:
        with pytest.raises(MalformedResponseError):
            await sender.ask(f"http://127.0.0.1:{port}/")


async def test_a_malformed_response_on_a_kept_connection_is_not_asked_for_again(sender: Sender) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        for response in (CHUNKED + HELLO + END, b"SSH-2.0-OpenSSH\r\n"):
            await request_on(reader)
            asked += 1
            writer.write(response)
            await writer.drain()
        await reader.read()

    async with server(serve) as port:
        url = f"http://127.0.0.1:{port}/"
        assert await whole(await sender.ask(url)) == b"hello"
        with pytest.raises(MalformedResponseError):
            await sender.ask(url)
        assert asked == 2


async def test_what_is_not_read_makes_the_server_wait(sender: Sender) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    blocked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request_on(reader)
        writer.write(CHUNKED)
        for _ in range(1000):
            writer.write(piece)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                blocked.set()
                await writer.drain()
            sent += len(piece)
        writer.write(END)

    async with server(serve) as port:
        exchange = await sender.ask(f"http://127.0.0.1:{port}/")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await blocked.wait()
        assert sent < 32 << 20, "the rest of the 64 MiB waits at the server's"
        first = await exchange.read()
        assert len(first) < 2 * HIGH_WATER_BYTES
        rest = len(await whole(exchange))
        assert len(first) + rest == 1000 * 0x10000


async def test_an_endless_error_is_read_only_so_far(sender: Sender) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(b"HTTP/1.1 500 Oh\r\nRetry-After: 3\r\nX-Secret: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            await writer.drain()

    async with server(serve) as port:
        exchange = await sender.ask(f"http://127.0.0.1:{port}/")
        assert exchange.status == 500
        assert (b"Retry-After", b"3") in exchange.headers
        assert ERROR_BODY_BYTES <= len(await start_of_body(exchange)) < ERROR_BODY_BYTES + 2 * HIGH_WATER_BYTES
        await until(lambda: not sender.to(f"http://127.0.0.1:{port}/")._connections)


async def test_closing_ends_the_connection_at_once(sender: Sender) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(CHUNKED + HELLO)
        try:
            await reader.read()
        finally:
            gone.set()

    async with server(serve) as port:
        exchange = await sender.ask(f"http://127.0.0.1:{port}/")
        assert await exchange.read() == b"hello"
        exchange.close()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await gone.wait()


async def test_a_wait_can_be_ended(sender: Sender) -> None:
    async with server(saying(CHUNKED, close=False)) as port:
        exchange = await sender.ask(f"http://127.0.0.1:{port}/")
        reading = asyncio.create_task(exchange.read())
        await asyncio.sleep(0)
        exchange.expire()
        with pytest.raises(TimeoutError):
            await reading
        exchange.close()


async def test_a_closed_port_and_an_unknown_name_are_errors_of_connecting(sender: Sender) -> None:
    async with server(saying()) as port:
        pass
    for url in (f"http://127.0.0.1:{port}/", "http://name.invalid/", f"https://127.0.0.1:{port}/"):
        with pytest.raises(UnreachableError):
            await sender.ask(url)


async def test_a_connection_that_takes_too_long_is_a_time_out() -> None:
    sender = Sender(connect_seconds=0.2)

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()

    async with server(silent) as port:
        with pytest.raises(ConnectTimeOutError):
            await sender.ask(f"https://127.0.0.1:{port}/")  # The server never says a word of TLS.
    sender.close()
