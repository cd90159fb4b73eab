"""The cases settings.json: environments in which a model was not asked, each with others of its kind.

An environment with which the service does not start is in tests/deploy/test_start.py. Environments of `make run` are in
tests/run/test_make_run.py. A longer body is in tests/e2e/test_overload.py.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.app import endpoints
from service.config import read_settings
from service.errors import UpstreamError
from service.events import Delta
from service.question import to_request
from service.upstream.endpoint import TimeOuts
from service.upstream.stream import Upstream
from tests.listening import listening

TIMEOUT_SECONDS = 20
PATIENT = TimeOuts(TIMEOUT_SECONDS, TIMEOUT_SECONDS, TIMEOUT_SECONDS, TIMEOUT_SECONDS)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'data: {"choices": [{"index": 0, "delta": {"content": "Hello world"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("FOLYAM_", "OPENAI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Server:
    """One port of this machine, and the requests that came to it, each with its whole body."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Record a request, and answer it."""
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        self.requests.append(head + body)
        writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n" if head.startswith(b"CONNECT") else ANSWER)


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    serving = Server()
    async with listening(serving.serve) as address:
        serving.port = address.port
        yield serving


async def ask() -> str:
    """Ask the upstreams of this environment, and return the text."""
    upstream = Upstream(endpoints(read_settings()), PATIENT, retries=0)
    stream = upstream.stream(to_request("hi", model="m"), last_seq=1)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            text = ""
            while deltas := await stream.read():
                text += "".join(delta.text or "" for delta in deltas if isinstance(delta, Delta))
            return text
    finally:
        stream.close()
        await upstream.aclose()


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_address_is_as_if_it_were_not_there(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", value)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    [endpoint] = endpoints(read_settings())
    assert endpoint.base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize("key", ["sk-1\n", "sk-1\r\n", "\tsk-1 ", "sk-1"])
async def test_a_key_with_a_line_end_is_sent_with_the_whole_body(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    async with server() as upstream:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{upstream.port}/v1\n")
        monkeypatch.setenv("OPENAI_API_KEY", key)
        assert await ask() == "Hello world"
    [request] = upstream.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"authorization: Bearer sk-1" in [
        line.replace(b"Authorization", b"authorization") for line in head.split(b"\r\n")
    ]
    assert body.startswith(b'{"model":"m"')
    assert body.endswith(b"}")


@pytest.mark.parametrize(
    "exceptions",
    [
        {"NO_PROXY": "127.0.0.1:{port}"},
        {"no_proxy": "127.0.0.0/8"},
        {"NO_PROXY": "*"},
        {"no_proxy": "upstream.example"},
    ],
)
async def test_an_upstream_on_this_machine_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, exceptions: dict[str, str]
) -> None:
    async with server() as upstream:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{upstream.port}/v1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        for name, value in exceptions.items():
            monkeypatch.setenv(name, value.format(port=upstream.port))
        assert await ask() == "Hello world"
    assert upstream.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


@pytest.mark.parametrize("address", ["[2001:db8::1]:21004", "[2001:db8::1]:443"])
async def test_a_proxy_is_asked_for_an_ipv6_address_in_brackets(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    async with server() as proxy:
        monkeypatch.setenv("OPENAI_BASE_URL", f"https://{address}/v1")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UpstreamError) as caught:
            await ask()
    assert caught.value.code == "upstream_unreachable"
    assert proxy.requests[0].startswith(b"CONNECT %b HTTP/1.1\r\n" % address.encode())


@pytest.mark.parametrize("host", ["[::1]", "localhost", "127.0.0.1"])
async def test_no_proxy_is_asked_for_a_tunnel_to_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    # The proxy's [::1] is the proxy's own machine.
    async with server() as proxy:
        monkeypatch.setenv("OPENAI_BASE_URL", f"https://{host}:9/v1")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UpstreamError):
            await ask()
    assert proxy.requests == []
