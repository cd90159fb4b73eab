"""Whether a request's client is still there, watched without a task."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.config import Settings
from service.events import Delta, Start, new_answer_id
from service.routes.presence import Presence
from tests.in_process import running
from tests.waiting import until

GONE = {"type": "http.disconnect"}


class Client:
    """ASGI's `receive` of a client, which sends what it is told to."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

    async def receive(self) -> MutableMapping[str, Any]:
        await asyncio.sleep(0)
        return await self.messages.get()


async def serve(client: Client, served: asyncio.Event) -> str:
    presence = Presence(client.receive)
    try:
        served.set()
        await asyncio.get_running_loop().create_future()
    except BaseException as error:
        presence.close()
        if presence.has_ended(error):
            await asyncio.sleep(0)  # It is cancelled no more.
            return "gone"
        raise
    return "served"


async def test_a_disconnect_behind_other_messages_ends_the_wait() -> None:
    client, served = Client(), asyncio.Event()
    serving = asyncio.create_task(serve(client, served))
    await served.wait()
    client.messages.put_nowait({"type": "http.request", "body": b"x", "more_body": False})
    for _ in range(5):
        await asyncio.sleep(0)
    assert not serving.done()
    client.messages.put_nowait(GONE)
    assert await serving == "gone"
    assert serving.cancelling() == 0


async def test_it_watches_without_a_task() -> None:
    client, served = Client(), asyncio.Event()
    before = len(asyncio.all_tasks())
    serving = asyncio.create_task(serve(client, served))
    await served.wait()
    assert len(asyncio.all_tasks()) == before + 1
    client.messages.put_nowait(GONE)
    await serving


async def test_another_cancellation_is_not_the_clients() -> None:
    served = asyncio.Event()
    serving = asyncio.create_task(serve(Client(), served))
    await served.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_both_at_once_are_a_cancellation() -> None:
    client, served = Client(), asyncio.Event()
    serving = asyncio.create_task(serve(client, served))
    await served.wait()
    client.messages.put_nowait(GONE)
    for _ in range(3):  # until just before the task would be interrupted
        await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_client_from_whom_nothing_can_be_received_is_gone() -> None:
    async def broken() -> MutableMapping[str, Any]:
        await asyncio.sleep(0)
        raise ValueError

    client = Client()
    client.receive = broken  # type: ignore[method-assign]
    assert await serve(client, asyncio.Event()) == "gone"


async def test_a_closed_one_cancels_nothing() -> None:
    client = Client()
    presence = Presence(client.receive)
    await asyncio.sleep(0)
    presence.close()
    client.messages.put_nowait(GONE)
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.messages.qsize() == 1


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    settings = Settings(
        openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=f"file://{tmp_path}/log", drain_seconds=0
    )
    async with running(create_app(settings)) as app:
        yield app


def scope_of(path: str) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def test_a_response_has_no_task_of_its_own_and_begins_in_one_turn(app: FastAPI) -> None:
    log = app.state.answers._log
    lease = await log.create(Start(1, new_answer_id(), "model"))
    client, loop = Client(), asyncio.get_running_loop()
    seen: list[str] = []
    begun = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        seen.append(message["type"])
        if message["type"] == "http.response.start":
            loop.call_soon(seen.append, "next turn")
        else:
            loop.call_soon(begun.set)

    client.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    before = len(asyncio.all_tasks())
    request = asyncio.create_task(app(scope_of(f"/answers/{lease.answer_id}"), client.receive, send))
    await begun.wait()
    assert seen == ["http.response.start", "http.response.body", "next turn"]
    assert len(asyncio.all_tasks()) == before + 1
    client.messages.put_nowait(GONE)
    await request
    assert not lease.watched()


async def test_a_body_that_the_route_does_not_read_may_be_of_any_length(app: FastAPI) -> None:
    log = app.state.answers._log
    lease = await log.create(Start(1, new_answer_id(), "model"))
    client = Client()
    sent: list[MutableMapping[str, Any]] = []
    told = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        if b"w1" in message.get("body", b""):
            told.set()

    request = asyncio.create_task(app(scope_of(f"/answers/{lease.answer_id}"), client.receive, send))
    for is_last in (False, True):
        client.messages.put_nowait({"type": "http.request", "body": b"x" * (1 << 20), "more_body": not is_last})
    await until(client.messages.empty)
    await lease.append([Delta(2, text="w1 ")])
    await asyncio.wait([request, asyncio.create_task(told.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert told.is_set()
    assert sent[0]["status"] == 200
    client.messages.put_nowait(GONE)
    await request
