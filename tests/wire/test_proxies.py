"""Proxies: plain and over TLS, their credentials and their refusals. tests/test_proxy.py has which one is asked."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.upstream.connection import MalformedResponseError
from service.upstream.connector import ProxyRefusedError, ProxyUnreachableError
from service.upstream.pool import ConnectTimeOutError, UnreachableError
from service.upstream.redirects import redirected_to
from tests.wire.certificates import Authority
from tests.wire.servers import CHUNKED, END, HELLO, Sender, Serve, request_on, saying, server, whole

GREETING = saying(CHUNKED, HELLO, END)
AS_ME = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss")


@dataclass
class Proxy:
    """A proxy that makes tunnels to one port, whatever it is asked for."""

    port: int
    heads: list[list[bytes]] = field(default_factory=list)
    """The lines of each CONNECT."""
    through: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def proxy_to(
    port: int, tls: ssl.SSLContext | None = None, accepted: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
) -> AsyncIterator[Proxy]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.heads.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(accepted)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                proxy.through.extend(data)
                target.write(data)

        try:
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))
        finally:
            there_writer.close()

    async with server(serve, tls) as own:
        proxy = Proxy(own)
        yield proxy


def refusing(response: bytes) -> Serve:
    """A proxy that responds so to each CONNECT."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await reader.read()

    return serve


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_http_upstream_is_asked_for_by_its_whole_address_and_with_the_credentials(
    trusting: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_on(reader))
        writer.write(CHUNKED + HELLO + END)

    async with server(proxy, authority.server if scheme == "https" else None) as port:
        monkeypatch.setenv("http_proxy", f"{scheme}://me:p%40ss@localhost:{port}")
        assert await whole(await trusting.ask("http://upstream.example/v1")) == b"hello"
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"POST http://upstream.example/v1 HTTP/1.1"
    assert AS_ME in lines


async def test_a_redirects_fragment_is_not_sent_to_a_proxy(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await request_on(reader)).split(b"\r\n")[0])
        writer.write(CHUNKED + HELLO + END)

    async with server(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://localhost:{port}")
        pool = sender.to("http://upstream.example:8080/v1?x=1")
        for location in ("/moved?a=b#part", "http://upstream.example:8080#", "#/v1"):
            target = redirected_to(pool.url, 308, [(b"Location", location.encode())])
            assert target is not None
            await whole(await pool.send(b'{"question": 1}', target))
    assert seen == [
        b"POST http://upstream.example:8080/moved?a=b HTTP/1.1",
        b"POST http://upstream.example:8080/ HTTP/1.1",
        b"POST http://upstream.example:8080/v1?x=1 HTTP/1.1",
    ]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_https_upstream_is_reached_through_a_tunnel_that_shows_nothing_of_it(
    trusting: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await request_on(reader))
            writer.write(CHUNKED + HELLO + END)

    over = authority.server if scheme == "https" else None
    async with server(serve, authority.server) as port, proxy_to(port, over) as proxy:
        monkeypatch.setenv("https_proxy", f"{scheme}://me:p%40ss@localhost:{proxy.port}")
        url = f"https://upstream.example:{port}/v1"
        for _ in range(2):
            assert await whole(await trusting.ask(url)) == b"hello"
        trusting.close()
    [head] = proxy.heads
    assert head[:3] == [
        b"CONNECT upstream.example:%d HTTP/1.1" % port,
        b"Host: upstream.example:%d" % port,
        AS_ME,
    ], "one tunnel carries both requests"
    assert [request.split(b"\r\n")[0] for request in seen] == [b"POST /v1 HTTP/1.1"] * 2
    assert b"Proxy-Authorization" not in b"".join(seen), "the credentials are the proxy's"
    assert b"question" not in proxy.through


@pytest.mark.parametrize(
    "accepted",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",  # RFC 9110, 9.3.6: ignore both
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 x\n\n",
    ],
)
async def test_any_2xx_opens_the_tunnel_whatever_its_headers_say(
    trusting: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch, accepted: bytes
) -> None:
    async with server(GREETING, authority.server) as port, proxy_to(port, accepted=accepted) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        assert await whole(await trusting.ask("https://upstream.example/")) == b"hello"


async def test_a_certificate_of_another_name_at_the_end_of_the_tunnel_is_no_failure_of_the_proxy(
    trusting: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(GREETING, authority.server) as port, proxy_to(port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UnreachableError):
            await trusting.ask("https://other.example/")


@pytest.mark.parametrize("status", [403, 407, 302])
async def test_a_refusal_of_the_proxy_is_told_apart_from_one_of_the_upstream(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async with server(refusing(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ProxyRefusedError) as refused:
            await sender.ask("https://upstream.example/")
    assert refused.value.status == status
    assert not sender.to("https://upstream.example/")._connections


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_proxy_that_cannot_reach_the_upstream_leaves_it_unreachable(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async with server(refusing(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError):
            await sender.ask("https://upstream.example/")


@pytest.mark.parametrize("response", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n\r\nand more"])
async def test_a_proxy_that_speaks_no_http_is_no_malformed_answer(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, response: bytes
) -> None:
    async with server(refusing(response)) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ProxyUnreachableError) as failed:
            await sender.ask("https://upstream.example/")
    assert isinstance(failed.value.__cause__, MalformedResponseError)


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy"])
async def test_a_proxy_that_is_not_there_is_told_apart_from_the_upstream(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with server(GREETING) as port:
        pass
    monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
    with pytest.raises(ProxyUnreachableError):
        await sender.ask(f"{variable.removesuffix('_proxy')}://upstream.example/")


async def test_a_proxy_over_tls_is_verified(
    sender: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(GREETING, authority.server) as port:
        monkeypatch.setenv("http_proxy", f"https://localhost:{port}")
        with pytest.raises(ProxyUnreachableError):
            await sender.ask("http://upstream.example/")


async def test_a_proxy_that_says_nothing_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(connect_seconds=0.2)
    async with server(refusing(b"")) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectTimeOutError):
            await sender.ask("https://upstream.example/")
    sender.close()


async def test_an_address_of_this_machine_is_asked_directly(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with server(GREETING) as port:
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
    sender: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch, url: str, target: bytes
) -> None:
    async with server(GREETING, authority.server) as port, proxy_to(port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UnreachableError):  # The certificate has another name.
            await sender.ask(url)
    assert proxy.heads[0][:2] == [b"CONNECT %b HTTP/1.1" % target, b"Host: " + target]


async def test_a_proxy_may_have_an_ipv6_address(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(GREETING, host="::1") as port:
        monkeypatch.setenv("http_proxy", f"http://[::1]:{port}")
        assert await whole(await sender.ask("http://upstream.example/")) == b"hello"
