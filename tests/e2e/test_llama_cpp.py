"""llama.cpp as the upstream: an answer that was cut is followed again, and generated once.

The server is `tests.upstream.llama_cpp`, in front of the scripted upstream; the last tests have the real one.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.ports import Address
from service import recovery as recovering
from service.eventlog import Retention, open_event_log
from service.events import NO_RUN, Delta, Done, Event, Failed, Restart, Run, Seam, Stopped, new_answer_id
from service.recovery import Recovery
from service.upstream.endpoint import Endpoint, TimeOuts
from tests.e2e.client import Client, script
from tests.e2e.cutter import Cutter
from tests.e2e.stack import Service
from tests.listening import listening
from tests.upstream.llama_cpp import LlamaCpp
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import TIME_OUTS, Worker, text_of, worker

CHUNKS = 60
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))
THOUGHTS = ["hm ", "so "]


@pytest.fixture
def key() -> str:
    return new_answer_id()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))


def llama(address: Address) -> Endpoint:
    return Endpoint(f"http://{address}/v1", "key", kind="llama.cpp")


@asynccontextmanager
async def folyam(
    directory: Path,
    upstream: UpstreamProcess,
    address: Address,
    recovery: Recovery | None = None,
    *,
    fallback: Endpoint | None = None,
    time_outs: TimeOuts = TIME_OUTS,
    retries: int = 0,
) -> AsyncIterator[Worker]:
    """A worker whose upstream is the llama.cpp at the address."""
    log = open_event_log(directory.as_uri(), Retention())
    first = llama(address)
    async with worker(
        log, upstream, recovery=recovery, first=first, fallback=fallback, time_outs=time_outs, retries=retries
    ) as here:
        yield here


@asynccontextmanager
async def swallowing(target: Address, after: int) -> AsyncIterator[Address]:
    """A relay that passes on so many bytes of the first response and no more, and keeps the connection."""
    limits = iter([after])

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = next(limits, 1 << 60)
        there, to_there = await asyncio.open_connection(target.host, target.port)
        to_there.write(await reader.readuntil(b"\r\n\r\n"))
        upwards = asyncio.create_task(_pass_on(reader, to_there))
        try:
            while data := await there.read(1 << 14):
                writer.write(data[:left])
                left = max(0, left - len(data))
        finally:
            upwards.cancel()
            to_there.transport.abort()

    async with listening(relay) as address:
        yield address


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 14):
        writer.write(data)


def seams(events: list[Event]) -> list[Seam]:
    return [event.seam for event in events if isinstance(event, Delta) and event.seam is not None]


def runs(events: list[Event]) -> list[Run]:
    return [event.run for event in events if isinstance(event, Delta) and event.run is not None]


def reasoning_of(events: list[Event]) -> str:
    return "".join(event.reasoning or "" for event in events if isinstance(event, Delta))


def is_whole(events: list[Event]) -> bool:
    """Whether the answer is the whole text, once, with its seqs in order."""
    assert isinstance(events[-1], Done), events[-1]
    assert not any(isinstance(event, Restart) for event in events)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return text_of(events) == WHOLE


async def test_an_answer_that_is_cut_anywhere_is_followed_again_and_generated_once(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    numbers = random.Random(4)  # noqa: S311 (places, not secrets)
    async with LlamaCpp(upstream.base_url) as server:
        # Each replay has to come further than the one before it.
        limits = iter([numbers.randint(600, 2500) + 1800 * cut for cut in range(6)])
        with Cutter(server.address, limits) as cutter:
            async with folyam(tmp_path, upstream, cutter.address) as here:
                producer = await here.start(key, chunks=CHUNKS, reasoning=THOUGHTS, pace=0.005)
                events = await here.follow(producer.answer_id)
            assert cutter.cuts >= 3
        assert is_whole(events)
        assert reasoning_of(events) == "".join(THOUGHTS)
        assert {seam.how for seam in seams(events)} == {"reattached"}
        [run] = runs(events)
        assert isinstance(events[1], Delta)
        assert events[1].run == run, "it is logged before the first piece"
        assert list(server.streams) == [run.id]
        assert server.asked("POST") == 1
        assert server.asked("DELETE") == 0
    assert isinstance(events[-1], Done)
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == CHUNKS + len(THOUGHTS)
    assert events[-1].usage_complete is not False
    assert len(upstream.requests(key)) == 1


async def test_a_cut_between_the_halves_of_a_character_loses_none(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    texts = ("river 🌊", "🏞 and 🚣", " boat 🐟") * 4
    async with LlamaCpp(upstream.base_url) as server:
        limits = iter([1000 + 487 * cut for cut in range(20)])
        with Cutter(server.address, limits) as cutter:
            async with folyam(tmp_path, upstream, cutter.address) as here:
                producer = await here.start(key, texts=texts, halves=True, pace=0.01)
                events = await here.follow(producer.answer_id)
            assert cutter.cuts >= 3
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(texts)
    assert len(upstream.requests(key)) == 1


async def test_a_connection_that_falls_silent_is_given_up_and_the_run_followed_again(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    # The server goes on writing; a middlebox has lost the connection without telling.
    async with LlamaCpp(upstream.base_url) as server, swallowing(server.address, after=1500) as address:
        async with folyam(tmp_path, upstream, address, time_outs=TimeOuts(10, 10, 10, 0.3)) as here:
            producer = await here.start(key, chunks=CHUNKS, pace=0.01)
            events = await here.follow(producer.answer_id)
        assert is_whole(events)
        assert seams(events) == [Seam("reattached", "silence_timeout")]
    assert len(upstream.requests(key)) == 1


async def test_a_take_over_follows_the_same_run(tmp_path: Path, upstream: UpstreamProcess, key: str) -> None:
    async with LlamaCpp(upstream.base_url) as server, folyam(tmp_path, upstream, server.address) as here:
        producer = await here.start(key, chunks=CHUNKS, pace=0.02)
        await here.read_to(producer.answer_id, seq=10)
        producer.hand_over()
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
        assert server.asked("DELETE") == 0
    assert is_whole(events)
    assert seams(events) == [Seam("reattached", "takeover")]
    assert len(upstream.requests(key)) == 1


async def test_a_run_whose_worker_dies_before_the_first_token_is_followed_by_the_next(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    # llama.cpp reads the prompt meanwhile, and sends no status before it is done.
    async with LlamaCpp(upstream.base_url) as server, folyam(tmp_path, upstream, server.address) as here:
        producer = await here.start(key, chunks=CHUNKS, status_delay=1)
        await until(lambda: server.streams)
        assert [run.id for run in runs(await here.read(producer.answer_id))] == list(server.streams), "for a SIGKILL"
        producer.hand_over()
        await asyncio.wait_for(producer.task, 10)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
        assert [server.asked(method) for method in ("POST", "GET", "DELETE")] == [1, 1, 0]
    assert is_whole(events)
    assert len(upstream.requests(key)) == 1


async def test_a_killed_workers_run_is_followed_by_another_worker(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    settings = {"FOLYAM_UPSTREAM": "llama.cpp"}
    answers = tmp_path / "answers"

    def ask_and_kill(address: Address) -> list[dict[str, Any]]:
        base_url = f"http://{address}/v1"
        with (
            Service(tmp_path / "one", answers, base_url, workers=1, settings=settings) as dying,
            Service(tmp_path / "two", answers, base_url, workers=1, settings=settings) as other,
            Client(dying.address).ask(script(key=key, chunks=3 * CHUNKS, pace=0.02)) as stream,
            Client(other.address).open("GET", f"/answers/{stream.answer}") as follower,
        ):
            events = follower.events()
            seen = [next(events) for _ in range(10)]
            [pid] = dying.workers()
            psutil.Process(pid).kill()
            return seen + list(events)

    async with LlamaCpp(upstream.base_url) as server:
        events = await asyncio.to_thread(ask_and_kill, server.address)
        assert server.asked("POST") == 1
    assert events[-1]["type"] == "done"
    assert "".join(event.get("text", "") for event in events) == "".join(f"w{n} " for n in range(1, 3 * CHUNKS + 1))
    assert [event["seam"] for event in events if "seam" in event] == [{"how": "reattached", "why": "takeover"}]
    assert not any("run" in event for event in events), "the run's id is private"
    assert len(upstream.requests(key)) == 1


async def test_a_stop_ends_the_generation(tmp_path: Path, upstream: UpstreamProcess, key: str) -> None:
    async with LlamaCpp(upstream.base_url) as server, folyam(tmp_path, upstream, server.address) as here:
        producer = await here.start(key, endless=True, pace=0.02)
        await here.read_to(producer.answer_id, seq=5)
        producer.stop("user")
        events = await here.follow(producer.answer_id)
        await asyncio.to_thread(upstream.wait_closed, key)
        assert not server.streams
    assert isinstance(events[-1], Stopped)


async def test_a_stop_before_the_first_token_ends_the_generation(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    # llama.cpp sends no status before, and goes on although the connection is closed.
    async with LlamaCpp(upstream.base_url) as server, folyam(tmp_path, upstream, server.address) as here:
        producer = await here.start(key, status_delay=60)
        await until(lambda: server.streams)
        producer.stop("user")
        await here.follow(producer.answer_id)
        await until(lambda: not server.streams)
        assert server.asked("DELETE") == 1


async def test_a_question_that_is_given_up_before_its_status_is_not_generated_any_more(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    async with (
        LlamaCpp(upstream.base_url) as server,
        folyam(tmp_path, upstream, server.address, time_outs=TimeOuts(10, 0.3, 10, 10)) as here,
    ):
        producer = await here.start(key, status_delay=60)
        events = await here.follow(producer.answer_id)
        await until(lambda: not server.streams)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_timeout"


async def test_a_refused_question_has_no_run_to_stop(tmp_path: Path, upstream: UpstreamProcess, key: str) -> None:
    async with LlamaCpp(upstream.base_url) as server:
        async with folyam(tmp_path, upstream, server.address) as here:
            producer = await here.start(key, status=400)
            events = await here.follow(producer.answer_id)
        assert [request.method for request in server.requests] == ["POST"]
    assert isinstance(events[-1], Failed)


async def cut_for_good(here: Worker, server: LlamaCpp, key: str) -> list[Event]:
    """Ask, and let the server be away from some pieces on; return the events."""
    producer = await here.start(key, chunks=CHUNKS, pace=0.02)
    await here.read_to(producer.answer_id, seq=10)
    server.refuses = 1000
    server.break_off()
    return await here.follow(producer.answer_id)


@pytest.mark.parametrize("keeps_streams", [True, False])
async def test_a_run_that_is_gone_is_continued_from_its_text(
    tmp_path: Path, upstream: UpstreamProcess, key: str, *, keeps_streams: bool
) -> None:
    # After a restart of the server; an older server keeps no streams at all.
    async with (
        LlamaCpp(upstream.base_url, keeps_streams=keeps_streams) as server,
        folyam(tmp_path, upstream, server.address) as here,
    ):
        producer = await here.start(key, chunks=CHUNKS, reasoning=THOUGHTS, pace=0.02)
        await here.read_to(producer.answer_id, seq=10)
        await server.lose_streams()
        server.break_off()
        events = await here.follow(producer.answer_id)
        assert len(server.streams) == keeps_streams
    assert is_whole(events)
    assert reasoning_of(events) == "".join(THOUGHTS)
    assert [seam.how for seam in seams(events)] == ["continued"]
    first, none, second = runs(events)
    assert none == NO_RUN
    assert first.id != second.id
    assert isinstance(events[-1], Done)
    assert events[-1].usage_complete is False, "the first run did not tell what it cost"
    assert len(upstream.requests(key)) == 2


async def test_a_continued_run_is_followed_again_too(tmp_path: Path, upstream: UpstreamProcess, key: str) -> None:
    # It repeats the last word of what it goes on from, each time that it is read.
    async with LlamaCpp(upstream.base_url) as server, folyam(tmp_path, upstream, server.address) as here:
        producer = await here.start(key, text="word{n} ", chunks=CHUNKS, pace=0.02, echo="word")
        await here.read_to(producer.answer_id, seq=10)
        await server.lose_streams()
        server.break_off()
        events = await here.read(producer.answer_id)
        await until(lambda: server.asked("POST") == 2)
        size = len(events)
        events = await here.read_to(producer.answer_id, seq=size + 15)
        server.break_off()
        await here.read_to(producer.answer_id, seq=len(events) + 5)
        producer.hand_over()
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(f"word{n} " for n in range(1, CHUNKS + 1))
    assert [seam.how for seam in seams(events)] == ["continued", "reattached", "reattached"]
    assert len(upstream.requests(key)) == 2


async def test_a_run_whose_start_the_server_dropped_is_stopped_and_continued_from_its_text(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    async with LlamaCpp(upstream.base_url, most_bytes=1000) as server:
        async with folyam(tmp_path, upstream, server.address) as here:
            producer = await here.start(key, chunks=CHUNKS, pace=0.02)
            await here.read_to(producer.answer_id, seq=15)
            first = next(iter(server.streams))
            server.break_off()
            events = await here.follow(producer.answer_id)
            await until(lambda: first not in server.streams)
        assert server.asked("DELETE") == 1
    assert is_whole(events)
    assert [seam.how for seam in seams(events)] == ["continued"]


async def test_a_failure_that_the_run_itself_has_is_not_replayed_again_and_again(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    async with LlamaCpp(upstream.base_url) as server:
        async with folyam(tmp_path, upstream, server.address) as here:
            producer = await here.start(key, chunks=CHUNKS, pace=0.005, first=[{"error_after": 20}])
            events = await here.follow(producer.answer_id)
        assert [server.asked(method) for method in ("POST", "GET", "DELETE")] == [2, 1, 1]
    assert is_whole(events)
    assert [seam.how for seam in seams(events)] == ["continued"]


async def test_the_fallback_goes_on_when_the_server_does_not_come_back(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    fallback = Endpoint(upstream.base_url, "key", continuation="assistant", role="fallback")
    async with (
        LlamaCpp(upstream.base_url) as server,
        folyam(tmp_path, upstream, server.address, fallback=fallback) as here,
    ):
        events = await cut_for_good(here, server, key)
    assert is_whole(events)
    assert [seam.how for seam in seams(events)] == ["continued"]
    assert len(upstream.requests(key)) == 2


async def test_both_down_is_a_failure(tmp_path: Path, upstream: UpstreamProcess, key: str) -> None:
    fallback = Endpoint("http://127.0.0.1:1/v1", "key", continuation="assistant", role="fallback")
    async with (
        LlamaCpp(upstream.base_url) as server,
        folyam(tmp_path, upstream, server.address, fallback=fallback) as here,
    ):
        events = await cut_for_good(here, server, key)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_cut"
    assert len(upstream.requests(key)) == 1


async def test_a_cut_while_the_server_is_away_for_a_moment_is_followed_again(
    tmp_path: Path, upstream: UpstreamProcess, key: str
) -> None:
    async with LlamaCpp(upstream.base_url) as server, folyam(tmp_path, upstream, server.address) as here:
        producer = await here.start(key, chunks=CHUNKS, pace=0.02)
        await here.read_to(producer.answer_id, seq=10)
        server.refuses = 2
        server.break_off()
        events = await here.follow(producer.answer_id)
        assert server.connections == 4
    assert is_whole(events)
    assert [seam.how for seam in seams(events)] == ["reattached"]
    assert len(upstream.requests(key)) == 1
