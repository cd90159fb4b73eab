"""A large request is held no longer than its answer is generated, without the garbage collector."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from service.app import create_app
from service.config import Settings
from service.errors import Unavailable
from service.routes.body import Bodies
from service.supervisor import Supervisor
from tests.in_process import ask, running
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
JSON = [("content-type", "application/json")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> AsyncIterator[FastAPI]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", upstream.base_url)
        patch.setenv("FOLYAM_MODEL", "test-model")
        patch.setenv("FOLYAM_LOG_URL", (tmp_path_factory.mktemp("bodies") / "answers").as_uri())
        patch.setenv("FOLYAM_RETRIES", "0")
        app = create_app(Settings())
    async with running(app):
        yield app


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def script(**fields: Any) -> list[dict[str, str]]:  # noqa: ANN401 (the fields of Script)
    return [{"role": "user", "content": "x" * 5000}, {"role": "user", "content": command(**fields)}]


def chat(*, stream: bool = False, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"model": "test-model", "stream": stream, "messages": script(**fields)}


def response(*, stream: bool = False, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"stream": stream, "input": script(**fields)}


def use_chat(**fields: Any) -> dict[str, Any]:  # noqa: ANN401
    texts = [each["content"] for each in script(**fields)]
    messages = [{"role": "user", "parts": [{"type": "text", "text": text}]} for text in texts]
    return {"id": "a-chat-with-enough-letters", "messages": messages}


def ag_ui(**fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"threadId": "t", "runId": "r", "messages": script(**fields)}


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, chat(), 200),
        (CHAT, chat(stream=True), 200),
        (CHAT, chat(status=400), 400),
        (CHAT, chat(stream=True, status=500), 502),
        (CHAT, chat(error_after=2), 502),
        (CHAT, chat(stream=True, error_after=2), 200),
        (CHAT, chat() | {"temperature": 9}, 400),
        (CHAT, chat() | {"model": "another"}, 404),
        (CHAT, chat() | {"messages": [{"role": "nobody", "content": "x" * 5000}]}, 400),
        (RESPONSES, response(), 200),
        (RESPONSES, response(stream=True, status=400), 400),
        (RESPONSES, response() | {"temperature": 9}, 400),
        ("/api/chat", use_chat(), 200),
        ("/api/chat", use_chat() | {"messages": [{"role": "user"}, "x" * 5000]}, 400),
        ("/ag-ui", ag_ui(), 200),
        ("/ag-ui", ag_ui(status=500), 502),
        ("/ag-ui", ag_ui() | {"tools": "x" * 5000}, 400),
    ],
)
async def test_a_body_is_freed_with_its_answer(app: FastAPI, path: str, body: dict[str, Any], status: int) -> None:
    assert (await ask(app, "POST", path, json.dumps(body).encode(), JSON)).status == status
    await until(lambda: app.state.bodies.bytes == 0)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{"status_delay": 60}, {"first_chunk_delay": 60}, {"endless": True, "pace": 0.05}])
async def test_a_body_is_freed_with_an_answer_that_was_left_and_stopped(
    app: FastAPI, fields: dict[str, Any], *, stream: bool
) -> None:
    supervisor: Supervisor = app.state.answers._supervisor
    request = asyncio.create_task(ask(app, "POST", CHAT, json.dumps(chat(stream=stream, **fields)).encode(), JSON))
    await until(lambda: supervisor._running)
    (answer_id,) = supervisor._running
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request
    del request
    assert app.state.bodies.bytes
    supervisor.stop(answer_id, "user")
    await until(lambda: app.state.bodies.bytes == 0)


async def test_too_many_bodies_are_refused() -> None:
    bodies = Bodies(10)
    bodies.add(10)
    with pytest.raises(Unavailable):
        bodies.add(1)
    assert bodies.bytes == 10
