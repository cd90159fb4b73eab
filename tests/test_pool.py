"""The connection pool of an upstream, against servers with various behaviours, over real sockets."""

import asyncio
import base64
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from service.upstream.connection import HIGH_WATER_BYTES, BrokenConnectionError, Exchange, MalformedResponseError
from service.upstream.pool import (
    ERROR_BODY_BYTES,
    ConnectTimeOutError,
    Pool,
    UnreachableError,
    start_of_body,
)
from tests.listening import Handle, listening
from tests.waiting import until

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n"
END = b"0\r\n\r\n"
TIMEOUT_SECONDS = 10


@asynccontextmanager
async def server(serve: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection so; yield the port."""
    async with listening(serve, tls) as address:
        yield address.port


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Sender:
    """Pools, one an address, all closed at the end."""

    def __init__(self, connect_seconds: float = TIMEOUT_SECONDS) -> None:
        self._connect_seconds = connect_seconds
        self.pools: dict[str, Pool] = {}

    def to(self, url: str) -> Pool:
        if url not in self.pools:
            request = httpx2.Request("POST", url, content=b"another", headers={"X-Mine": "yes"})
            self.pools[url] = Pool(request, self._connect_seconds)
        return self.pools[url]

    async def ask(self, url: str) -> Exchange:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.to(url).send(b'{"question": 1}')

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.close()


async def whole(exchange: Exchange) -> bytes:
    pieces: list[bytes] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while data := await exchange.read():
            pieces.append(data)
    return b"".join(pieces)


async def request_on(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(len(b'{"question": 1}'))


def saying(*pieces: bytes, close: bool = True) -> Handle:
    """A server that reads one request and says this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if not close:
            await reader.read()

    return serve


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


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost and upstream.example that signs itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,DNS:upstream.example"]
    key = path.with_suffix(".key")
    made = subprocess.run(
        [*command.split(), *names, "-keyout", str(key), "-out", str(path)], check=True, stderr=subprocess.DEVNULL
    )
    assert made.returncode == 0
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


@pytest.fixture
def trusting(sender: Sender, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Sender:
    """One that trusts the certificate, by the usual variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return sender


async def test_https_is_verified_by_name_and_certificate(
    trusting: Sender, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(saying(CHUNKED, HELLO, END), tls) as port:
        assert await whole(await trusting.ask(f"https://localhost:{port}/")) == b"hello"
        with pytest.raises(UnreachableError):
            await trusting.ask(f"https://127.0.0.1:{port}/")
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(UnreachableError):
            await Sender().ask(f"https://localhost:{port}/")


# Proxies


async def test_an_http_proxy_is_given_the_whole_address_and_who_asks(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_on(reader))
        writer.write(CHUNKED + HELLO + END)

    async with server(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
        assert await whole(await sender.ask("http://upstream.example/v1")) == b"hello"
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"POST http://upstream.example/v1 HTTP/1.1"
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss") in lines


async def test_an_https_proxy_makes_a_tunnel_and_sees_nothing_of_what_goes_through(
    trusting: Sender, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                seen.append(data)
                target.write(data)

        try:
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))
        finally:
            there_writer.close()

    async with server(saying(CHUNKED, HELLO, END), tls) as port, server(proxy) as proxy_port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy_port}")
        assert await whole(await trusting.ask(f"https://upstream.example:{port}/v1")) == b"hello"
    assert seen[0].split(b"\r\n")[0] == b"CONNECT upstream.example:%d HTTP/1.1" % port
    assert b"question" not in b"".join(seen)


async def test_a_proxy_that_speaks_no_http_is_no_malformed_answer(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await reader.read()

    async with server(proxy) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError):
            await sender.ask("https://upstream.example/")


async def test_a_proxy_that_refuses_is_an_error(trusting: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

    async with server(proxy) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError):
            await trusting.ask("https://upstream.example/")


async def test_an_address_of_this_machine_is_asked_directly(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with server(saying(CHUNKED, HELLO, END)) as port:
        assert await whole(await sender.ask(f"http://127.0.0.1:{port}/")) == b"hello"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://[2001:db8::1]:21004/v1", b"[2001:db8::1]:21004"),
        ("https://[2001:db8::1]/v1", b"[2001:db8::1]:443"),
        ("https://folyó.example/v1", b"xn--foly-tqa.example:443"),
    ],
)
async def test_a_tunnel_is_asked_for_in_the_form_that_http_has(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, url: str, target: bytes
) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    async with server(proxy) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError):
            await sender.ask(url)
    assert seen[0].split(b"\r\n")[:2] == [b"CONNECT %b HTTP/1.1" % target, b"Host: " + target]
