"""A Folyam as the upstream of a Folyam: an answer that was cut is followed again, and asked for once."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import UNSET

from deploy.local.ports import Address
from service import recovery as recovering
from service.eventlog import Retention, open_event_log
from service.events import Delta, Done, Event, Failed, Restart, Seam, Stopped, new_answer_id
from service.recovery import Recovery
from service.request import Request
from service.upstream.endpoint import Endpoint
from tests.e2e.client import Client
from tests.e2e.cutter import Cutter
from tests.e2e.stack import Service
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import Worker, text_of, worker

CHUNKS = 60
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))
THOUGHTS = ["hm ", "so "]


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Service]:
    """The Folyam that has the model."""
    directory = tmp_path_factory.mktemp("inner")
    with Service(directory, directory / "answers", upstream.base_url) as service:
        yield service


@pytest.fixture
def key() -> str:
    return new_answer_id()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))


@asynccontextmanager
async def outer(
    directory: Path, upstream: UpstreamProcess, address: Address, recovery: Recovery | None = None
) -> AsyncIterator[Worker]:
    """The Folyam that is asked: a worker whose upstream is at the address."""
    log = open_event_log(directory.as_uri(), Retention())
    first = Endpoint(f"http://{address}", "key", kind="folyam")
    async with worker(log, upstream, recovery=recovery, first=first) as here:
        yield here


def seams(events: list[Event]) -> set[Seam]:
    return {event.seam for event in events if isinstance(event, Delta) and event.seam is not None}


def reasoning_of(events: list[Event]) -> str:
    return "".join(event.reasoning or "" for event in events if isinstance(event, Delta))


def assert_all_is_told(done: Event, tokens: int) -> None:
    """The run's usage, once, and that it is all."""
    assert isinstance(done, Done)
    assert done.usage is not None
    assert (done.usage.completion_tokens, done.usage_complete) == (tokens, UNSET)


async def test_an_answer_that_is_cut_anywhere_is_followed_again_and_asked_for_once(
    tmp_path: Path, upstream: UpstreamProcess, inner: Service, key: str
) -> None:
    numbers = random.Random(3)  # noqa: S311 (places, not secrets)
    limits = iter([700, *(numbers.randint(300, 3000) for _ in range(5))])
    with Cutter(inner.address, limits) as cutter:
        async with outer(tmp_path, upstream, cutter.address) as here:
            producer = await here.start(key, chunks=CHUNKS, reasoning=THOUGHTS, pace=0.005)
            events = await here.follow(producer.answer_id)
        assert cutter.cuts >= 2
    assert isinstance(events[-1], Done)
    assert (text_of(events), reasoning_of(events)) == (WHOLE, "".join(THOUGHTS))
    assert {seam.how for seam in seams(events)} == {"reattached"}
    assert not any(isinstance(event, Restart) for event in events)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[1], Delta)
    assert events[1].run is not None, "it is logged before the first piece"
    assert len(upstream.requests(key)) == 1
    assert_all_is_told(events[-1], CHUNKS + len(THOUGHTS))


async def test_a_take_over_follows_the_same_run(
    tmp_path: Path, upstream: UpstreamProcess, inner: Service, key: str
) -> None:
    async with outer(tmp_path, upstream, inner.address) as here:
        producer = await here.start(key, chunks=CHUNKS, pace=0.02)
        await here.read_to(producer.answer_id, seq=10)
        producer.hand_over()
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Done)
    assert text_of(events) == WHOLE
    assert seams(events) == {Seam("reattached", "takeover")}
    assert len(upstream.requests(key)) == 1
    assert_all_is_told(events[-1], CHUNKS)


async def test_a_stop_stops_the_run(tmp_path: Path, upstream: UpstreamProcess, inner: Service, key: str) -> None:
    async with outer(tmp_path, upstream, inner.address) as here:
        producer = await here.start(key, endless=True, pace=0.02)
        await here.read_to(producer.answer_id, seq=5)
        producer.stop("user")
        events = await here.follow(producer.answer_id)
        await asyncio.to_thread(upstream.wait_closed, key)
    assert isinstance(events[-1], Stopped)


async def test_a_take_over_that_does_not_follow_the_run_stops_it(
    tmp_path: Path, upstream: UpstreamProcess, inner: Service, key: str
) -> None:
    async with outer(tmp_path, upstream, inner.address) as here:
        producer = await here.start(key, endless=True, pace=0.02)
        await here.read_to(producer.answer_id, seq=5)
        producer.hand_over()
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
    async with outer(tmp_path, upstream, inner.address, "fail") as here:
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
        await asyncio.to_thread(upstream.wait_closed, key)
    assert isinstance(events[-1], Failed)


@pytest.mark.parametrize("recovery", [None, "restart"])
async def test_a_run_that_is_gone_begins_anew_only_where_the_setting_says_so(
    tmp_path: Path, upstream: UpstreamProcess, inner: Service, key: str, recovery: Recovery | None
) -> None:
    async with outer(tmp_path, upstream, inner.address, recovery) as here:
        producer = await here.start(key, chunks=CHUNKS, pace=0.02)
        events = await here.read_to(producer.answer_id, seq=3)
        assert isinstance(events[1], Delta)
        assert events[1].run is not None
        run = events[1].run.id
        status = await asyncio.to_thread(lambda: Client(inner.address).request("DELETE", f"/answers/{run}").status)
        assert status == 204
        events = await here.follow(producer.answer_id)
    if recovery == "restart":
        assert isinstance(events[-1], Done)
        assert text_of(events).endswith(WHOLE)
        assert len(upstream.requests(key)) == 2
    else:
        assert isinstance(events[-1], Failed)
        assert len(upstream.requests(key)) == 1


async def test_what_its_api_cannot_express_is_refused(
    tmp_path: Path, upstream: UpstreamProcess, inner: Service
) -> None:
    async with outer(tmp_path, upstream, inner.address) as here:
        request = Request("test-model", ({"role": "user", "content": [{"type": "text", "text": "A picture?"}]},))
        producer = await here.ask(request)
        events = await here.follow(producer.answer_id)
        await until(lambda: not here.supervisor._running)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_bad_request"
