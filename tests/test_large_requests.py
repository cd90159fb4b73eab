"""Answers to requests that the log keeps beside their first event."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from service.answers import Answers
from service.app import open_answers
from service.config import Settings
from service.eventlog import EventLog, Retention, open_event_log
from service.events import Start, new_answer_id
from service.keys import ANYBODY
from service.request import Request
from tests.upstream.process import UpstreamProcess
from tests.waiting import first

LARGE = "x" * 2_000_000


@pytest.fixture
async def dying(url: str) -> AsyncIterator[EventLog]:
    """The log of a worker that dies."""
    log = open_event_log(url, Retention())
    yield log
    await log.aclose()


@pytest.fixture
async def answers(dying: EventLog, url: str, upstream: UpstreamProcess) -> AsyncIterator[Answers]:  # noqa: ARG001 (makes the directory)
    settings = Settings(openai_base_url=upstream.base_url, model="model", log_url=url, recovery="restart")
    async with open_answers(settings) as answers:
        yield answers


async def begun(log: EventLog, key: str) -> Start:
    """An orphan whose producer asked for much, and then died."""
    words = json.dumps({"key": key, "text": "word ", "chunks": 3})
    messages = ({"role": "assistant", "content": LARGE}, {"role": "user", "content": words})
    start = Start.asking(new_answer_id(), Request("model", messages, {"seed": 7}), at=time.time())
    (await log.create(start)).release()
    return start


async def outcome(answers: Answers, answer: str) -> tuple[str, str]:
    async def ended() -> tuple[str, str] | None:
        state = await answers.read(answer, ANYBODY)
        return None if state.end is None else (getattr(state.end, "code", state.state), state.text)

    return await first(ended)


async def test_a_worker_that_takes_it_over_asks_the_whole_request(
    answers: Answers, dying: EventLog, upstream: UpstreamProcess
) -> None:
    key = new_answer_id()
    start = await begun(dying, key)
    assert await outcome(answers, start.answer) == ("done", 3 * "word ")
    [record] = await asyncio.to_thread(upstream.requests, key)
    assert record["messages"][0] == {"role": "assistant", "content": LARGE}
    state = await answers.read(start.answer, ANYBODY, with_request=True)
    assert state.start is not None
    assert state.start.asked() is not None, "a later request may go on from it"


async def test_an_answer_whose_request_is_gone_ends_at_a_take_over(
    answers: Answers, dying: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does on a worker of a version that does not look for the request."""

    async def without(start: Start) -> Start:
        return start

    monkeypatch.setattr(answers._log, "with_request", without)
    start = await begun(dying, new_answer_id())
    assert await outcome(answers, start.answer) == ("interrupted", "")
