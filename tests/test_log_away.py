"""The service while its log cannot be reached, or is full: a log that is no directory of this machine."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from service import eventlog
from service.app import create_app
from service.config import Settings
from service.errors import Unavailable
from service.events import new_answer_id
from tests.e2e.stack import import_service
from tests.eventlog.backends import BACKENDS_OF_TESTS
from tests.eventlog.memory import MemoryEventLog
from tests.in_process import Reply, ask, running
from tests.test_sandbox import KERNEL_CAN
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import until

JSON = [("content-type", "application/json")]


@pytest.fixture
async def app(upstream: UpstreamProcess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    monkeypatch.setattr(eventlog, "BACKENDS", BACKENDS_OF_TESTS)
    settings = Settings(
        openai_base_url=upstream.base_url, model="test-model", log_url=f"memory://{new_answer_id()}", retries=0
    )
    async with running(create_app(settings)) as app:
        yield app


@pytest.fixture
def log(app: FastAPI) -> MemoryEventLog:
    log = app.state.answers._log
    assert isinstance(log, MemoryEventLog)
    return log


def question(**script: object) -> bytes:
    return json.dumps({"query": command(**script)}).encode()


def error_of(reply: Reply) -> tuple[int, str, str | None]:
    return reply.status, json.loads(reply.body)["error"]["code"], reply.headers.get("retry-after")


async def test_every_address_responds_that_the_log_is_away_and_works_again_when_it_is_back(
    app: FastAPI, log: MemoryEventLog
) -> None:
    whole = await ask(app, "POST", "/generate", question(chunks=1), JSON)  # Two could be merged when read again.
    answer = f"/answers/{whole.headers['x-answer-id']}"
    log.away = True
    for method, target in (
        ("POST", "/generate"),
        ("GET", answer),
        ("GET", f"{answer}?stream=false"),
        ("POST", f"{answer}/stop"),
        ("DELETE", answer),
        ("GET", "/readyz"),
    ):
        reply = await ask(app, method, target, question(chunks=1), JSON)
        assert error_of(reply) == (503, "log_unavailable", "1"), target
    assert (await ask(app, "GET", "/livez")).status == 200
    log.away = False
    assert (await ask(app, "GET", answer)).body == whole.body
    assert (await ask(app, "GET", "/readyz")).status == 200


async def test_a_place_that_the_log_has_lost_is_followed_from_the_text_told_again_or_unknown_after_the_end(
    app: FastAPI, log: MemoryEventLog
) -> None:
    asking = asyncio.create_task(ask(app, "POST", "/generate", question(chunks=40, pace=0.02), JSON))
    await until(lambda: log._store)
    [answer] = log._store
    lost = 10**15
    targets = (f"/answers/{answer}?after={lost}", f"/generate?last_event_id={answer}:{lost}")
    for reply in await asyncio.gather(*[ask(app, "GET", target) for target in targets]):
        first, *rest = map(json.loads, reply.body.splitlines())
        assert (first["type"], first["again"]) == ("restart", True)
        assert "".join(event.get("text", "") for event in rest) == "".join(f"w{number} " for number in range(1, 41))
    assert b"restart" not in (await asking).body
    for target in targets:
        assert error_of(await ask(app, "GET", target)) == (404, "unknown_answer", None)


async def test_a_full_log_takes_no_question_and_fails_running_answers_and_says_so(
    app: FastAPI, log: MemoryEventLog
) -> None:
    asking = asyncio.create_task(ask(app, "POST", "/generate", question(chunks=100, pace=0.02), JSON))
    await until(lambda: log._store)
    log.full = True
    assert json.loads((await asking).body.splitlines()[-1])["code"] == "log_full"
    reply = await ask(app, "POST", "/generate", question(chunks=1), JSON)
    assert error_of(reply) == (503, "log_full", "10")
    log.full = False
    assert (await ask(app, "POST", "/generate", question(chunks=1), JSON)).status == 200


async def test_a_refusal_of_the_upstream_is_told_although_its_log_cannot_be_erased(
    app: FastAPI, log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def erase(_: str) -> None:
        raise Unavailable("log_unavailable")

    monkeypatch.setattr(log, "erase", erase)
    reply = await ask(app, "POST", "/generate", question(status=401), JSON)
    assert error_of(reply)[:2] == (502, "upstream_credentials")


@pytest.mark.skipif(not KERNEL_CAN, reason="this kernel has no Landlock")
@pytest.mark.servers
def test_a_service_whose_log_is_no_directory_may_write_into_none(tmp_path: Path) -> None:
    program = """
import os
from service import eventlog
from tests.eventlog.backends import BACKENDS_OF_TESTS
eventlog.BACKENDS.update(BACKENDS_OF_TESTS)
import service.main
try:
    open(os.environ["PLACE"], "w")
except PermissionError:
    print("refused")
"""
    environment = {"FOLYAM_LOG_URL": "memory://confined", "PLACE": str(tmp_path / "new")}
    ended = import_service(environment, program)
    assert ended.stdout == "refused\n", ended.stderr
