"""A worker that leaves serves the requests that have reached it."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HTTPRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service.answers import Answers
from service.app import open_answers
from service.config import Settings
from service.eventlog import Retention, open_event_log
from service.events import Delta, Start, new_answer_id
from service.follower import CutShortError, Follower
from service.keys import ANYBODY
from service.question import to_request
from service.renderings.ndjson import JsonLines
from service.succession import Place, Succession
from service.worker import DrainingServer
from tests.waiting import DEADLINE_SECONDS, until

JSON = JsonLines("application/json")


@pytest.fixture
def log_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/log"


@pytest.fixture
async def answers(log_url: str) -> AsyncIterator[Answers]:
    settings = Settings(openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=log_url, drain_seconds=0)
    async with open_answers(settings) as answers:
        yield answers


async def opened(answers: Answers, answer_id: str) -> Follower:
    """A follower whose response has begun, behind the first event."""
    follower = await answers.follow(answer_id, 1, JSON, ANYBODY)
    assert follower is not None
    assert await follower.next() == JSON.opening
    return follower


async def test_a_follower_that_comes_late_may_stay_for_a_while(
    answers: Answers, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_event_log(log_url, Retention())
    lease = await log.create(Start.asking(new_answer_id(), to_request("words", model="model"), at=1.5))
    monkeypatch.setattr("service.answers.LATE_FOLLOWER_SECONDS", 0)
    early = await opened(answers, lease.answer_id)
    answers.leave()
    with pytest.raises(CutShortError):
        await early.next()

    monkeypatch.setattr("service.answers.LATE_FOLLOWER_SECONDS", DEADLINE_SECONDS)
    late = await opened(answers, lease.answer_id)
    waiting = asyncio.create_task(late.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    await lease.append([Delta(2, "text")])
    assert b"text" in (await waiting or b"")
    for follower in (early, late):
        follower.close()
    await log.aclose()


def place() -> Place:
    """The place of a worker without successors."""
    return Place(Succession(), 1, master=os.getppid(), seconds=0)


async def _reply(_: HTTPRequest) -> PlainTextResponse:
    return PlainTextResponse("served")


async def test_a_connection_whose_request_is_still_on_its_way_is_served() -> None:
    config = uvicorn.Config(Starlette(routes=[Route("/", _reply)]), http="httptools", log_config=None)
    server = DrainingServer(config, workers=1, place=place(), leave=lambda: None, notify=lambda: None)
    listening = socket.create_server(("127.0.0.1", 0))
    host, port = listening.getsockname()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started)
    reader, writer = await asyncio.open_connection(host, port)
    await until(lambda: server.server_state.connections)
    server.should_exit = True
    await until(lambda: not server.servers[0].is_serving())
    await asyncio.sleep(0)
    writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await reader.read()).endswith(b"served")
        writer.close()
        await serving


async def test_a_connection_that_is_not_accepted_yet_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    config = uvicorn.Config(Starlette(routes=[Route("/", _reply)]), http="httptools", loop="uvloop", log_config=None)
    server = DrainingServer(config, workers=1, place=place(), leave=lambda: None, notify=lambda: None)
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    leave, late = server.shutdown, socket.socket()

    async def shutdown(sockets: list[socket.socket] | None = None) -> None:
        # The kernel connects without the server, whose loop stands still meanwhile.
        late.connect(address)
        late.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await leave(sockets)

    monkeypatch.setattr(server, "shutdown", shutdown)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started)
    server.should_exit = True
    async with asyncio.timeout(DEADLINE_SECONDS):
        await serving
    with late:
        assert b"".join(iter(lambda: late.recv(1 << 12), b"")).endswith(b"served")
