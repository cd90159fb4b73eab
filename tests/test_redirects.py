"""Redirects of an upstream: which are followed, and what the servers on their way are sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from service.upstream.endpoint import Endpoint
from service.upstream.redirects import MOST_REDIRECTS, redirected_to
from tests.test_upstream import Answer, read_all, request, upstream_of
from tests.upstream.raw import GOOD_STREAM, RawRequest, RawUpstream

HERE = httpx2.URL("https://model.example/v1/chat/completions")


def redirect(status: int, location: str, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} Elsewhere", "Content-Length: 0", f"Location: {location}", *headers, "", ""]
    return "\r\n".join(head).encode()


async def ask(server: RawUpstream) -> Answer:
    there = Endpoint(server.base_url, "sk-secret", headers=(("X-Team", "secret-team"),))
    async with upstream_of(there, retries=1) as upstream:
        return await read_all(upstream.stream(request(), last_seq=1))


@asynccontextmanager
async def moved(status: int, location: str) -> AsyncIterator[RawUpstream]:
    """A server whose API has moved to /moved, and says so."""

    def respond(asked: RawRequest) -> bytes:
        return GOOD_STREAM if asked.path.startswith("/moved/") else redirect(status, location)

    async with RawUpstream(respond) as server:
        yield server


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/moved/chat", "../../moved/chat", "/moved/chat?version=2#part"])
async def test_a_redirect_that_keeps_the_method_is_followed_with_the_whole_request(status: int, location: str) -> None:
    async with moved(status, location) as server:
        answer = await ask(server)
    assert (answer.text, answer.error, answer.stream.finish_reason) == ("Hello world", None, "stop")
    first, second = server.requests
    assert (first.path, second.path) == (
        "/v1/chat/completions",
        f"/moved/chat{'?version=2' if '?' in location else ''}",
    )
    assert (first.method, first.headers, first.body) == (second.method, second.headers, second.body)
    assert first.headers["authorization"] == "Bearer sk-secret"


async def test_a_redirect_to_the_same_server_by_its_whole_address_is_followed() -> None:
    async with RawUpstream(lambda asked: GOOD_STREAM if asked.path == "/moved/chat" else redirects.pop()) as server:
        redirects = [redirect(308, f"{server.address}/moved/chat")]
        assert (await ask(server)).text == "Hello world"
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 306, 309])
async def test_any_other_redirect_is_an_error_that_names_it_and_is_asked_once(status: int) -> None:
    async with moved(status, "/moved/chat?token=sk-secret") as server:
        answer = await ask(server)
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.retryable) == ("upstream_redirected", 502, False)
    assert f"({status})" in answer.error.message
    assert "secret" not in answer.error.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [307, 308])
async def test_another_server_gets_neither_the_key_nor_the_question(status: int) -> None:
    async with RawUpstream(lambda _: GOOD_STREAM) as other, moved(status, f"{other.address}/moved/chat") as server:
        answer = await ask(server)
    assert answer.error is not None
    assert answer.error.code == "upstream_redirected"
    assert (len(server.requests), len(other.requests)) == (1, 0)


async def test_redirects_in_a_circle_end() -> None:
    async with RawUpstream(lambda asked: redirect(307, f"/v1/{len(asked.path)}")) as server:
        answer = await ask(server)
    assert answer.error is not None
    assert answer.error.code == "upstream_redirected"
    assert len(server.requests) == MOST_REDIRECTS + 1


async def test_an_error_behind_a_redirect_is_told() -> None:
    busy = b"HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    async with RawUpstream(lambda asked: busy if asked.path == "/busy" else redirect(308, "/busy")) as server:
        answer = await ask(server)
    assert answer.error is not None
    assert (answer.error.code, answer.error.retry_after) == ("upstream_rate_limited", "7")


async def test_a_redirect_does_not_open_the_breaker() -> None:
    async with moved(308, "http://elsewhere.example/") as server, upstream_of(Endpoint(server.base_url, "key")) as up:
        questions = [request(f"question {number}") for number in range(10)]
        answers = await asyncio.gather(*(read_all(up.stream(each, last_seq=1)) for each in questions))
    assert {answer.error.reason for answer in answers if answer.error} == {"redirected"}
    assert len(server.requests) == 10


@pytest.mark.parametrize(
    "location",
    [
        "http://model.example/v1/chat/completions",
        "https://model.example:444/chat",
        "https://model.example.evil.example/chat",
        "https://user:password@model.example/chat",
        "//other.example/chat",
        "ftp://model.example/chat",
        "javascript:0",
        "https://[/",
        "",
        "/m\xf3ved",
    ],
)
def test_an_address_elsewhere_is_not_followed(location: str) -> None:
    assert redirected_to(HERE, 308, [(b"Location", location.encode("latin-1"))]) is None


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/moved", "https://model.example/moved"),
        ("moved", "https://model.example/v1/chat/moved"),
        ("?version=2", "https://model.example/v1/chat/completions?version=2"),
        ("https://model.example:443/moved", "https://model.example/moved"),
        ("HTTPS://MODEL.example/moved", "https://model.example/moved"),
    ],
)
def test_an_address_on_the_same_server_is_followed(location: str, target: str) -> None:
    assert redirected_to(HERE, 307, [(b"location", location.encode())]) == httpx2.URL(target)


def test_a_redirect_without_an_address_is_not_followed() -> None:
    assert redirected_to(HERE, 308, []) is None
