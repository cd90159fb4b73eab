"""The real llama.cpp server with the local model as the upstream: its streams are followed again."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import httpx2
import pytest
from msgspec.structs import replace

from deploy.local.model import NAME
from deploy.local.ports import Address
from service import recovery as recovering
from service.eventlog import Retention, open_event_log
from service.events import Delta, Done, Event, Run, Seam, Stopped
from service.producer import Limits
from service.request import Request
from service.upstream.chunks import ChunkDecoder
from service.upstream.endpoint import Endpoint, TimeOuts
from tests import working
from tests.e2e.cutter import Cutter
from tests.e2e.local_model import KEY, local_model
from tests.e2e.test_llama_cpp import runs, seams
from tests.upstream.piecewise import RawServer
from tests.waiting import until
from tests.working import Worker, text_of, worker

TOKENS = 30
PATIENCE_SECONDS = 300.0
"""The model shares its cores with other tests: it may write a token a second."""
QUESTION = Request(
    NAME,
    ({"role": "user", "content": "Tell me a long story about a river and a boat."},),
    {"temperature": 0, "max_tokens": TOKENS},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with local_model(tmp_path_factory.mktemp("model")) as address:
        yield address


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(working, "DEADLINE_SECONDS", PATIENCE_SECONDS)


@asynccontextmanager
async def folyam(directory: Path, address: Address) -> AsyncIterator[Worker]:
    """A worker whose upstream is the llama.cpp server at the address."""
    first = Endpoint(f"http://{address}/v1", KEY, kind="llama.cpp")
    time_outs = TimeOuts(10, PATIENCE_SECONDS, PATIENCE_SECONDS, PATIENCE_SECONDS)
    limits = Limits(answer_seconds=PATIENCE_SECONDS, answer_bytes=1 << 30, unwatched_seconds=PATIENCE_SECONDS)
    log = open_event_log(directory.as_uri(), Retention())
    async with worker(log, RawServer((), hold=False), first=first, limits=limits, time_outs=time_outs) as here:
        yield here


def kept(model: Address, run: Run) -> tuple[int, str]:
    """Return the status of the run at the server, and the text that it has of it."""
    reply = httpx2.get(
        f"http://{model}/v1/stream?conv_id={run.id}&from=0",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=PATIENCE_SECONDS,
        trust_env=False,
    )
    decoder = ChunkDecoder(0)
    events: list[Event] = [*decoder.feed(reply.content), *decoder.end()]
    return reply.status_code, text_of(events)


def is_known(model: Address, run: Run) -> bool:
    """Return whether the server has the run, of which it may have sent nothing yet."""
    url = f"http://{model}/v1/stream?conv_id={run.id}&from=0"
    with httpx2.stream("GET", url, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False) as reply:
        return reply.status_code == HTTPStatus.OK


def delete(model: Address, run: Run) -> None:
    """End the run and have the server forget it."""
    url = f"http://{model}/v1/stream?conv_id={run.id}"
    reply = httpx2.delete(url, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    assert reply.status_code == HTTPStatus.NO_CONTENT


async def test_an_answer_that_is_cut_anywhere_is_the_one_that_the_server_generated(
    tmp_path: Path, model: Address
) -> None:
    numbers = random.Random(5)  # noqa: S311 (places, not secrets)
    limits = iter([numbers.randint(500, 1900) + 2000 * cut for cut in range(3)])
    with Cutter(model, limits) as cutter:
        async with folyam(tmp_path, cutter.address) as here:
            events = await here.follow((await here.ask(QUESTION)).answer_id)
        assert cutter.cuts == 3
    assert isinstance(events[-1], Done)
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == TOKENS
    assert events[-1].usage_complete is not False
    assert {seam.how for seam in seams(events)} == {"reattached"}
    [run] = runs(events)
    assert await asyncio.to_thread(kept, model, run) == (HTTPStatus.OK, text_of(events))


async def test_a_take_over_follows_the_run_that_the_server_generates(tmp_path: Path, model: Address) -> None:
    async with folyam(tmp_path, model) as here:
        producer = await here.ask(QUESTION)
        await here.read_to(producer.answer_id, seq=6)
        producer.hand_over()
        await asyncio.wait_for(producer.task, PATIENCE_SECONDS)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Done)
    assert seams(events) == [Seam("reattached", "takeover")]
    [run] = runs(events)
    assert await asyncio.to_thread(kept, model, run) == (HTTPStatus.OK, text_of(events))


async def test_a_take_over_before_the_first_token_follows_the_run_whose_prompt_is_read(
    tmp_path: Path, model: Address
) -> None:
    story = "The boat went down the river, past the mill and the old bridge. " * 8
    asked = replace(QUESTION, messages=({"role": "user", "content": f"{story}What was the story about?"},))
    async with folyam(tmp_path, model) as here:
        producer = await here.ask(asked)
        [run] = runs(await here.read_to(producer.answer_id, seq=2))
        await until(lambda: is_known(model, run))
        assert len(await here.read(producer.answer_id)) == 2, "the server still reads the prompt"
        producer.hand_over()
        await asyncio.wait_for(producer.task, 10)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert runs(events) == [run]
    assert isinstance(events[-1], Done)
    assert kept(model, run) == (HTTPStatus.OK, text_of(events))


async def test_a_run_that_the_server_forgot_is_continued_from_its_text(tmp_path: Path, model: Address) -> None:
    async with folyam(tmp_path, model) as here:
        producer = await here.ask(QUESTION)
        begun = await here.read_to(producer.answer_id, seq=12)
        [run] = runs(begun)
        await asyncio.to_thread(delete, model, run)  # The server ends the stream without an end.
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Done)
    assert seams(events) == [Seam("continued", "truncated")]
    _, none, second = runs(events)
    assert not none.id
    before = text_of(events[: [event.seam for event in events if isinstance(event, Delta)].index(seams(events)[0]) + 1])
    _, rest = await asyncio.to_thread(kept, model, second)
    assert text_of(events) == before + rest[len(rest) - len(text_of(events)) + len(before) :]


async def test_a_stop_makes_the_server_forget_the_run(tmp_path: Path, model: Address) -> None:
    async with folyam(tmp_path, model) as here:
        producer = await here.ask(QUESTION)
        await here.read_to(producer.answer_id, seq=6)
        producer.stop("user")
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Stopped)
    [run] = runs(events)
    # The worker's end waited for the stop to be sent.
    assert (await asyncio.to_thread(kept, model, run))[0] == HTTPStatus.NOT_FOUND
