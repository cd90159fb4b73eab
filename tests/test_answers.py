"""The use cases of one worker, for answers that another worker produces."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.answers import Answers
from service.app import open_answers
from service.config import Settings
from service.eventlog import Lease, Retention
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Start, Stopped, Terminal, new_answer_id
from service.keys import ANYBODY
from service.question import to_request
from tests.waiting import DEADLINE_SECONDS, until


@pytest.fixture
async def another(tmp_path: Path) -> AsyncIterator[FileEventLog]:
    """The log of another worker."""
    log = FileEventLog(str(tmp_path / "log"), Retention())
    yield log
    await log.aclose()


@pytest.fixture
async def answers(another: FileEventLog, tmp_path: Path) -> AsyncIterator[Answers]:  # noqa: ARG001 (makes the directory)
    url = (tmp_path / "log").as_uri()
    settings = Settings(openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=url, recovery="fail")
    async with open_answers(settings) as answers:
        yield answers


async def begun(log: FileEventLog, *texts: str) -> Lease:
    lease = await log.create(Start.asking(new_answer_id(), to_request("words", model="model"), at=1.5))
    await lease.append([Delta(seq, text=text) for seq, text in enumerate(texts, 2)])
    return lease


async def test_a_stop_of_a_long_answer_takes_no_longer(answers: Answers, another: FileEventLog) -> None:
    """Its log is read in pieces, without a pause between them."""
    lease = await begun(another, *["x" * 10_000] * 100)
    stopping = asyncio.create_task(answers.stop(lease.answer_id, ANYBODY))
    await until(lambda: lease.stop_requested() is not None)
    await lease.append([Stopped(lease.last_seq + 1, "user")])
    lease.release()
    await asyncio.wait_for(stopping, DEADLINE_SECONDS)


async def test_a_stop_of_a_long_orphan_finds_that_it_has_no_producer(answers: Answers, another: FileEventLog) -> None:
    lease = await begun(another, *["x" * 10_000] * 100)
    lease.release()
    await asyncio.wait_for(answers.stop(lease.answer_id, ANYBODY), DEADLINE_SECONDS)
    assert isinstance(await another.last(lease.answer_id), Terminal)
