"""Whatever one person meets at the model's server, the next question of everybody else is answered, asked once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.test_refusals import Service, outcome, service_of
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command

KEPT = 24
"""Kept connections when the upstream restarts."""
ANSWER = "done: w1 w2 "


@pytest.fixture
def restartable() -> Iterator["Restartable"]:
    with UpstreamProcess.start() as process:
        restartable = Restartable(process)
        yield restartable
        restartable.process.stop()


class Restartable:
    """An upstream that can be restarted at its address."""

    def __init__(self, process: UpstreamProcess) -> None:
        self.process = process

    def restart(self) -> None:
        port = urlsplit(self.process.address).port
        assert port is not None
        self.process.stop()
        self.process = UpstreamProcess.start(port)

    def asked(self, key: str) -> int:
        return len(self.process.requests(key))


@pytest.fixture
async def service(restartable: Restartable, tmp_path: Path) -> AsyncIterator[Service]:
    async with service_of(restartable.process.base_url, tmp_path, FOLYAM_MODELS="down,other") as service:
        yield service


class Person:
    """Asks questions, each with a key of its own."""

    def __init__(self, service: Service, upstream: Restartable) -> None:
        self._service = service
        self._upstream = upstream

    async def fails(self, key: str, *, model: str | None = None, **script: Any) -> str:  # noqa: ANN401 (of Script)
        fields = {"model": model} if model else {}
        return outcome(await self._service.ask(command(key=key, **script), **fields))

    async def is_answered(self, key: str, **script: Any) -> None:  # noqa: ANN401 (the fields of Script)
        assert outcome(await self._service.ask(command(key=key, chunks=2, **script))) == ANSWER
        assert await asyncio.to_thread(self._upstream.asked, key) == 1


async def test_everybody_elses_next_question_is_answered_and_asked_once(
    service: Service, restartable: Restartable
) -> None:
    one, another = Person(service, restartable), Person(service, restartable)

    for number in range(5):
        assert await one.fails(f"long {number}", status=413) == "413 upstream_too_long"
        assert restartable.asked(f"long {number}") == 1
    await another.is_answered("after the long ones")

    for number in range(10):
        assert await one.fails(f"busy {number}", status=429) == "429 upstream_rate_limited"
        assert restartable.asked(f"busy {number}") == 1
    await another.is_answered("after the busy ones")

    for number in range(6):
        assert await one.fails(f"down {number}", model="down", status=503) == "502 upstream_unavailable"
    assert restartable.asked("down 5") == 0  # That model's breaker is open.
    await another.is_answered("beside the model that is down")

    await asyncio.gather(*(another.is_answered(f"kept {number}", status_delay=0.5) for number in range(KEPT)))
    records = restartable.process.requests()
    assert len({each["connection"] for each in records if each["key"].startswith("kept")}) == KEPT
    await asyncio.to_thread(restartable.restart)
    for number in range(KEPT):
        await another.is_answered(f"restarted {number}")


async def test_the_same_questions_at_once_keep_no_other_from_being_answered(
    service: Service, restartable: Restartable
) -> None:
    one, another = Person(service, restartable), Person(service, restartable)
    statuses = [413] * 5 + [429] * 10 + [402] * 5 + [403] * 5 + [422] * 5
    failed = [one.fails(f"{status} {number}", status=status) for number, status in enumerate(statuses)]
    down = [one.fails(f"down {number}", model="down", status=503) for number in range(6)]
    others = [another.is_answered(f"good {number}") for number in range(10)]
    await asyncio.gather(*failed, *down, *others)
    await another.is_answered("afterwards")
