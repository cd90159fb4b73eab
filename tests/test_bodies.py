"""A large request is held no longer than its answer is generated."""

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
from tests.in_process import ask, running
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/chat/completions"
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


def body(*, stream: bool = False, **script: Any) -> bytes:  # noqa: ANN401 (the fields of Script)
    messages = [{"role": "user", "content": "x" * 5000}, {"role": "user", "content": command(**script)}]
    return json.dumps({"model": "test-model", "stream": stream, "messages": messages}).encode()


@pytest.mark.usefixtures("without_collector")
async def test_a_body_is_freed_with_its_answer(app: FastAPI) -> None:
    assert (await ask(app, "POST", PATH, body(), JSON)).status == 200
    await until(lambda: app.state.bodies.bytes == 0)


async def test_the_collector_runs_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[float] = []
    now = 0.0
    monkeypatch.setattr(gc, "collect", lambda: runs.append(now))
    bodies = Bodies(1, lambda: now)
    for now in (0.0, 0.1, 0.9, 1.0, 1.5, 2.0):  # noqa: B007 (the clock reads it)
        with pytest.raises(Unavailable):
            bodies.add(2)
    assert runs == [0.0, 1.0, 2.0]
