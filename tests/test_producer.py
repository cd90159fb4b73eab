"""Producers, with a log on every backend and a real upstream."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

from service import recovery as recovering
from service.errors import TooMany, Unavailable
from service.eventlog import EventLog, Lease, LeaseLostError, Retention, open_event_log
from service.events import (
    Delta,
    Done,
    Event,
    Failed,
    Restart,
    Start,
    Stopped,
    Terminal,
    new_answer_id,
)
from service.lifecycle import Cause, State
from service.names import Naming
from service.producer import OVERDUE_GRACE_SECONDS
from service.question import to_request
from service.recovery import Recovery
from service.request import Turn, Via
from service.supervisor import CLAIMS_WITHOUT_GROWTH_LIMIT, Bounds
from service.upstream.client import BREAKER_QUESTIONS
from service.upstream.endpoint import TimeOuts
from tests.eventlog.another import AnotherWorker
from tests.eventlog.memory import MemoryEventLog, Store
from tests.sampling import sample
from tests.stages import staged
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import DEADLINE_SECONDS, until
from tests.walking import walks
from tests.working import PATIENT, Worker, seqs_without_gaps, text_of, without_figures, worker

FOREVER = 3600.0


@pytest.fixture
async def here(url: str, upstream: UpstreamProcess) -> AsyncIterator[Worker]:
    async with worker(url, upstream) as here:
        yield here


@pytest.fixture
def key() -> str:
    return new_answer_id()


def one_end(events: list[Event]) -> bool:
    """Exactly one terminal event, the last."""
    return [isinstance(event, Terminal) for event in events] == [False] * (len(events) - 1) + [True]


async def closed(upstream: UpstreamProcess, key: str) -> dict[str, Any]:
    records = await asyncio.to_thread(upstream.wait_closed, key)
    return records[-1]


# A whole answer


@walks(
    (State.NEW, Cause.ASK),
    (State.BEGUN, Cause.STEP),
    (State.WAITING, Cause.CHUNK),
    (State.STREAMING, Cause.FINISH),
    (State.FINISHING, Cause.LOGGED),
)
async def test_an_answer_is_logged_from_its_start_to_its_end(here: Worker) -> None:
    request = to_request(
        command(chunks=3), model="test-model", history=[Turn("user", "hello")], temperature=0.5, max_tokens=99
    )
    producer = await here.ask(request)
    events = await here.follow(producer.answer_id)
    start, done = events[0], events[-1]
    assert isinstance(start, Start)
    assert (start.seq, start.answer, start.model, start.asked()) == (1, producer.answer_id, "test-model", request)
    assert abs(start.at - time.time()) < DEADLINE_SECONDS
    assert isinstance(done, Done)
    assert text_of(events) == "w1 w2 w3 "
    assert done.finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.completion_tokens == 3
    assert done.timing.first_chunk_seconds is not None
    assert 0 < done.timing.first_chunk_seconds <= done.timing.duration_seconds < DEADLINE_SECONDS
    assert seqs_without_gaps(events)
    assert one_end(events)


async def test_the_log_is_there_before_the_upstream_is_asked(
    here: Worker, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = here.log.create
    asked: list[int] = []

    async def create_and_look(start: Start, names: Sequence[Naming]) -> Lease:
        lease = await create(start, names)
        asked.append(len(upstream.requests(key)))
        return lease

    monkeypatch.setattr(here.log, "create", create_and_look)
    producer = await here.start(key)
    await here.follow(producer.answer_id)
    assert (asked, len(upstream.requests(key))) == ([0], 1)


async def test_an_event_is_in_the_log_before_the_next_chunk_comes(
    here: Worker, upstream: UpstreamProcess, key: str
) -> None:
    producer = await here.start(key, stall_after=2)
    await asyncio.to_thread(upstream.wait_until, lambda records: bool(records) and records[0]["chunks_sent"] == 2, key)
    assert text_of(await here.read_to(producer.answer_id, seq=3)) == "w1 w2 "


async def test_a_finished_answer_leaves_nothing_running(here: Worker) -> None:
    answers = []
    for _ in range(5):
        producer = await here.start()
        await here.follow(producer.answer_id)
        answers.append(producer.answer_id)
    await until(lambda: not here.supervisor._running and not here.supervisor._tasks)
    for answer in answers:
        reader = await here.log.open(answer, watch=False)
        assert reader.orphaned(), "its lease is still held"
        reader.close()


@walks((State.WAITING, Cause.FINISH))
async def test_a_model_may_say_nothing(here: Worker) -> None:
    events = await here.follow((await here.start(chunks=0)).answer_id)
    assert isinstance(events[-1], Done)
    assert len(events) == 2


# The status


async def test_the_status_is_known_as_soon_as_it_comes(here: Worker) -> None:
    producer = await here.start(first_chunk_delay=FOREVER)
    assert await asyncio.wait_for(producer.status(DEADLINE_SECONDS), DEADLINE_SECONDS / 2) is None
    producer.stop("user")
    producer = await here.start(status=429, headers={"Retry-After": "7"})
    error = await asyncio.wait_for(producer.status(DEADLINE_SECONDS), DEADLINE_SECONDS / 2)
    assert error is not None
    assert (error.code, error.status, error.retry_after) == ("upstream_rate_limited", 429, "7")


async def test_a_status_that_does_not_come_is_not_waited_for_longer(here: Worker) -> None:
    producer = await here.start(status_delay=FOREVER)
    began = time.monotonic()
    assert await producer.status(0.05) is None
    assert time.monotonic() - began < DEADLINE_SECONDS / 2
    assert await producer.status(0) is None


async def test_a_stop_ends_the_wait_for_the_upstreams_status(here: Worker) -> None:
    producer = await here.start(status_delay=FOREVER)
    waiting = asyncio.create_task(producer.status(FOREVER))
    await asyncio.sleep(0)
    producer.stop("user")
    assert await asyncio.wait_for(waiting, DEADLINE_SECONDS) is None


# Failures


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ({"status": 401}, "upstream_credentials", ""),
        ({"status": 500}, "upstream_unavailable", ""),
        ({"cut_after": 2}, "upstream_cut", "w1 w2 "),
        ({"truncate_after": 2}, "upstream_truncated", "w1 w2 "),
        ({"finish_reason": "network_error"}, "upstream_error", "w1 w2 w3 "),
        ({"garbage_after": 2}, "upstream_malformed", "w1 w2 "),
        ({"error_after": 2}, "upstream_error", "w1 w2 "),
        ({"stall_after": 2}, "upstream_timeout", "w1 w2 "),
        ({"first_chunk_delay": FOREVER}, "upstream_timeout", ""),
    ],
)
@walks((State.FAILING, Cause.LOGGED))
async def test_a_failure_is_told_as_one_and_what_came_is_kept(
    url: str, upstream: UpstreamProcess, script: dict[str, Any], code: str, text: str
) -> None:
    time_outs = TimeOuts(10, 10, first_chunk=0.2, silence=0.2)
    async with worker(url, upstream, continuation="none", time_outs=time_outs) as here:
        producer = await here.start(chunks=3, **script)
        events = await here.follow(producer.answer_id)
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.code, text_of(events)) == (code, text)
    assert one_end(events)
    assert seqs_without_gaps(events)


async def test_an_answer_that_takes_too_long_is_cut(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, answer_seconds=0.3)) as here:
        events = await here.follow((await here.start(key, endless=True, pace=0.01)).answer_id)
        assert (await closed(upstream, key))["closed_by"] == "client"
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "answer_timeout"
    assert text_of(events).startswith("w1 w2 ")


async def test_an_answer_that_grows_too_long_is_cut(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, answer_bytes=10_000)) as here:
        producer = await here.start(key, endless=True)
        events = await here.follow(producer.answer_id)
        assert (await closed(upstream, key))["closed_by"] == "client"
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, events[-1].retryable) == ("answer_too_long", False)
    assert one_end(events)


async def test_a_defect_of_ours_is_a_failure_and_not_an_answer_without_an_end(
    here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("some words")

    monkeypatch.setattr("service.telemetry.answer_metrics.AnswerMetrics.upstream_first_chunk", broken)
    events = await here.follow((await here.start()).answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "internal"
    assert "words" not in events[-1].message


# Stopping


@pytest.mark.parametrize(
    "script",
    [{"status_delay": FOREVER}, {"first_chunk_delay": FOREVER}, {"stall_after": 2}, {"endless": True, "pace": 0.01}],
)
async def test_a_stop_ends_the_answer_and_closes_the_upstream_in_every_phase(
    here: Worker, upstream: UpstreamProcess, key: str, script: dict[str, Any]
) -> None:
    producer = await here.start(key, **script)
    wanted = 2 if "stall_after" in script or "endless" in script else 0
    await asyncio.to_thread(upstream.wait_until, lambda seen: bool(seen) and seen[0]["chunks_sent"] >= wanted, key)
    assert here.supervisor.stop(producer.answer_id, "user")
    events = await here.follow(producer.answer_id)
    record = await closed(upstream, key)
    assert without_figures(events[-1]) == Stopped(len(events), "user")
    assert one_end(events)
    assert record["closed_by"] == "client"


@walks((State.BEGUN, Cause.STOP), (State.STOPPING, Cause.LOGGED))
async def test_an_answer_can_be_stopped_before_it_has_begun(here: Worker, upstream: UpstreamProcess, key: str) -> None:
    producer = await here.start(key)
    here.supervisor.stop(producer.answer_id, "user")
    assert without_figures((await here.follow(producer.answer_id))[-1]) == Stopped(2, "user")
    assert upstream.requests(key) == []


async def test_a_stop_is_told_once_however_often_it_is_asked_for(here: Worker) -> None:
    producer = await here.start(stall_after=1)
    for by in ("user", "unwatched", "user"):
        producer.stop(by)
    events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Stopped)
    assert events[-1].by == "user"
    producer.stop("user")
    await asyncio.sleep(0)
    assert await here.read(producer.answer_id) == events


async def test_an_answer_that_this_worker_does_not_produce_is_not_stopped_by_it(here: Worker) -> None:
    assert not here.supervisor.stop(new_answer_id(), "user")


async def test_a_stop_from_another_worker_closes_the_upstream(
    here: Worker, another: AnotherWorker, upstream: UpstreamProcess, key: str
) -> None:
    producer = await here.start(key, stall_after=2)
    await asyncio.to_thread(upstream.wait_until, lambda seen: bool(seen) and seen[0]["chunks_sent"] == 2, key)
    await another.ask("request_stop", answer=producer.answer_id, by="user")
    await closed(upstream, key)
    assert without_figures((await another.follow(producer.answer_id))[-1]) == Stopped(4, "user")


async def test_whenever_a_stop_comes_there_is_exactly_one_end(here: Worker) -> None:
    moments = random.Random(7)  # noqa: S311 (moments, not secrets)
    ends = set()
    for _ in range(40):
        producer = await here.start(chunks=5, pace=0.001)
        await asyncio.sleep(moments.uniform(0, 0.02))
        producer.stop("user")
        events = await here.follow(producer.answer_id)
        assert one_end(events)
        assert seqs_without_gaps(events)
        ends.add(type(events[-1]))
    assert Stopped in ends


# Watching


@pytest.mark.parametrize(
    "script",
    [{"status_delay": FOREVER}, {"first_chunk_delay": FOREVER}, {"stall_after": 2}, {"endless": True, "pace": 0.01}],
)
async def test_an_answer_that_its_only_follower_leaves_is_stopped_in_every_phase(
    url: str, upstream: UpstreamProcess, key: str, script: dict[str, Any]
) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, unwatched_seconds=0)) as here:
        producer = await here.start(key, **script)
        reader = await here.log.open(producer.answer_id)
        wanted = 2 if "stall_after" in script or "endless" in script else 0
        await asyncio.to_thread(upstream.wait_until, lambda seen: bool(seen) and seen[0]["chunks_sent"] >= wanted, key)
        reader.close()
        await closed(upstream, key)
        events = await here.follow(producer.answer_id, watch=False)
    assert isinstance(events[-1], Stopped)
    assert events[-1].by == "unwatched"


async def test_an_answer_in_the_background_goes_on_without_followers(url: str, upstream: UpstreamProcess) -> None:
    asked = to_request(command(chunks=4, pace=0.2), model="test-model")
    asked = msgspec.structs.replace(asked, via=Via("responses", background=True))
    async with worker(url, upstream, limits=replace(PATIENT, unwatched_seconds=0)) as here:
        producer = await here.ask(asked)
        events = await here.follow(producer.answer_id, watch=False)
    assert isinstance(events[-1], Done)


async def test_an_answer_in_the_background_goes_on_without_followers_after_a_take_over(
    url: str, upstream: UpstreamProcess
) -> None:
    asked = to_request(command(chunks=8, pace=0.2), model="test-model")
    asked = msgspec.structs.replace(asked, via=Via("responses", background=True))
    limits = replace(PATIENT, unwatched_seconds=0)
    async with worker(url, upstream, limits=limits) as here:
        answer = (await here.ask(asked)).answer_id
        await here.read_to(answer, seq=3)
    async with worker(url, upstream, limits=limits) as there:
        events = await there.follow(answer, watch=False)
    assert isinstance(events[-1], Done)


@walks((State.WATCHED, Cause.GO), (State.STREAMING, Cause.STOP))
async def test_an_answer_without_a_follower_goes_on_for_a_while(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, unwatched_seconds=0.6)) as here:
        began = time.monotonic()
        producer = await here.start(key, endless=True, pace=0.01)
        events = await here.follow(producer.answer_id, watch=False)
        assert time.monotonic() - began >= 0.6
    assert isinstance(events[-1], Stopped)
    assert events[-1].by == "unwatched"
    assert text_of(events).startswith("w1 w2 ")


@walks((State.WATCHED, Cause.GO), (State.UNWATCHED, Cause.COME))
async def test_a_follower_that_returns_in_time_keeps_the_answer_going(url: str, upstream: UpstreamProcess) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, unwatched_seconds=1)) as here:
        producer = await here.start(chunks=250, pace=0.01)
        for _ in range(3):
            await asyncio.sleep(0.5)
            reader = await here.log.open(producer.answer_id)
            await asyncio.sleep(0.3)
            reader.close()
        assert isinstance((await here.follow(producer.answer_id))[-1], Done)


async def test_a_follower_in_another_worker_keeps_the_answer_going_until_it_is_killed(
    url: str, another: AnotherWorker, upstream: UpstreamProcess
) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, unwatched_seconds=0.5)) as here:
        await another.ask("tend")  # It is up: the answer waits for no start of a process.
        producer = await here.start(endless=True, pace=0.05)
        await another.ask("open", answer=producer.answer_id)
        await asyncio.sleep(1.2)
        assert not isinstance(await here.log.last(producer.answer_id), Terminal)
        another.kill()
        events = await here.follow(producer.answer_id, watch=False)
    assert isinstance(events[-1], Stopped)
    assert events[-1].by == "unwatched"


async def test_a_moment_without_descriptors_ends_no_watch_over_answers(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, unwatched_seconds=0.1)) as here:
        producer = await here.start(key, endless=True, pace=0.05)
        looked = []

        def used_up() -> NoReturn:
            looked.append(True)
            raise Unavailable("log_unavailable")

        with monkeypatch.context() as failing:
            failing.setattr(producer._lease, "stop_requested", used_up)
            await until(lambda: len(looked) > 1)
        events = await here.follow(producer.answer_id, watch=False)
    assert without_figures(events[-1]) == Stopped(len(events), "unwatched")


async def unwatched_orphan(here: Worker, key: str, seconds: float) -> str:
    """Leave an answer as a killed worker does that saw no follower, and would have stopped it in so many seconds."""
    answer = await orphan_of(here, key, chunks=40, pace=0.01, first=[{"stall_after": 2}])
    lease = await here.log.claim(answer)
    assert lease is not None
    lease.mark_unwatched(seconds)
    lease.release()
    return answer


async def test_time_without_a_follower_goes_on_in_the_worker_that_takes_an_answer_over(here: Worker, key: str) -> None:
    answer = await unwatched_orphan(here, key, 0)
    here.supervisor.adopt(answer)
    events = await here.follow(answer, watch=False)
    assert without_figures(events[-1]) == Stopped(events[-1].seq, "unwatched")
    assert seqs_without_gaps(events)


async def test_a_follower_who_is_back_before_the_new_producer_has_its_whole_time_again(here: Worker, key: str) -> None:
    answer = await unwatched_orphan(here, key, 0)
    reader = await here.log.open(answer)
    here.supervisor.adopt(answer)
    await until(lambda: answer in here.supervisor._running)
    here.supervisor._running[answer].look()
    reader.close()
    assert isinstance((await here.follow(answer, watch=False))[-1], Done)


async def test_a_follower_whose_worker_died_with_the_producers_has_its_whole_time_to_come_back(
    here: Worker, key: str
) -> None:
    answer = await orphan_of(here, key, chunks=40, pace=0.01, first=[{"stall_after": 2}])
    here.supervisor.adopt(answer)
    assert isinstance((await here.follow(answer, watch=False))[-1], Done)


# Draining and taking over


async def test_a_drain_lets_running_answers_end(here: Worker) -> None:
    producer = await here.start(chunks=20, pace=0.01)
    await asyncio.wait_for(here.supervisor.drain(FOREVER), DEADLINE_SECONDS)
    assert isinstance(await here.log.last(producer.answer_id), Done)


@walks(
    (State.STREAMING, Cause.LEAVE),
    (State.LEAVING, Cause.HAND_OVER),
    (State.ORPHANED, Cause.CLAIM),
    (State.CLAIMED, Cause.CONTINUE),
)
async def test_what_a_drain_leaves_unfinished_goes_on_in_another_worker(
    here: Worker, url: str, upstream: UpstreamProcess, key: str
) -> None:
    producer = await here.start(key, chunks=40, pace=0.02)
    following = asyncio.create_task(here.follow(producer.answer_id))
    await asyncio.to_thread(upstream.wait_until, lambda seen: bool(seen) and seen[0]["chunks_sent"] >= 3, key)
    await here.supervisor.drain(0)
    assert not isinstance(await here.log.last(producer.answer_id), Terminal)
    async with worker(url, upstream) as there:
        there.supervisor.adopt(producer.answer_id)
        events = await following
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(f"w{n} " for n in range(1, 41))
    assert seqs_without_gaps(events)
    assert one_end(events)
    assert len(upstream.requests(key)) == 2


async def test_a_worker_that_leaves_adopts_nothing(here: Worker, url: str) -> None:
    await here.supervisor.drain(0)
    orphan = await orphan_without_worker(url)
    here.supervisor.adopt(orphan)
    await asyncio.sleep(0.05)
    assert (await here.log.last(orphan)).seq == 1


async def orphan_without_worker(url: str) -> str:
    """Begin an answer as another worker that leaves at once."""
    log = open_event_log(url, Retention())
    orphan = new_answer_id()
    await log.create(Start(1, orphan, "model"))
    await log.aclose()
    return orphan


async def orphan_of(here: Worker, key: str, **script: Any) -> str:  # noqa: ANN401 (the fields of Script)
    """Begin an answer and leave it in the middle, as a killed worker does."""
    producer = await here.start(key, **script)
    await here.read_to(producer.answer_id, seq=3)
    producer.hand_over()
    await until(lambda: producer.answer_id not in here.supervisor._running)
    return producer.answer_id


@pytest.mark.parametrize("recovery", ["continue", "restart", "fail"])
async def test_an_orphan_is_recovered_as_configured(
    url: str, upstream: UpstreamProcess, key: str, recovery: Recovery
) -> None:
    async with worker(url, upstream, recovery=recovery) as here:
        answer = await orphan_of(here, key, chunks=4, first=[{"stall_after": 2}])
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    after = [event for event in events if event.seq > 3]
    assert one_end(events)
    assert seqs_without_gaps(events)
    assert not isinstance(events[-1], Done) or 0 < events[-1].timing.duration_seconds < DEADLINE_SECONDS
    match recovery:
        case "continue":
            assert text_of(events) == "w1 w2 w3 w4 "
            assert not any(isinstance(event, Restart) for event in events)
        case "restart":
            assert isinstance(after[0], Restart)
            assert text_of(after) == "w1 w2 w3 w4 "
        case "fail":
            [failed] = after
            assert isinstance(failed, Failed)
            assert (failed.code, failed.retryable) == ("interrupted", True)
            assert len(upstream.requests(key)) == 1


async def test_an_orphan_goes_on_where_new_questions_are_refused_for_a_while(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream, recovery="continue") as here:
        answer = await orphan_of(here, key, chunks=4, first=[{"stall_after": 2}])
        for number in range(BREAKER_QUESTIONS):
            refused = await here.start(f"{key}/{number}", status=503)
            assert isinstance((await here.follow(refused.answer_id))[-1], Failed)
        here.supervisor.adopt(answer)
        assert text_of(await here.follow(answer)) == "w1 w2 w3 w4 "


@walks((State.ORPHANED, Cause.CLAIM), (State.CLAIMED, Cause.GIVE_UP))
async def test_an_orphan_is_found_without_being_told_of(here: Worker, url: str) -> None:
    orphan = await orphan_without_worker(url)
    events = await here.follow(orphan)  # Its start has no request: it can only fail.
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "interrupted"


@walks((State.CLAIMED, Cause.RESTART))
async def test_an_answer_with_more_than_text_and_reasoning_begins_anew(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream, recovery="continue") as here:
        answer = new_answer_id()
        request = to_request(command(key=key, chunks=2), model="test-model")
        lease = await here.log.create(Start.asking(answer, request, at=time.time()))
        await lease.append([Delta(2, text="w1 "), Delta(3, refusal="I will not")])
        lease.release()
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert isinstance(events[3], Restart)
    assert text_of(events[4:]) == "w1 w2 "
    assert isinstance(events[-1], Done)


async def test_an_upstream_that_cannot_continue_begins_anew_by_default(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream, continuation="none") as here:
        answer = await orphan_of(here, key, chunks=4, first=[{"stall_after": 2}])
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
        assert isinstance(events[3], Restart)


async def test_an_answer_that_kills_each_worker_before_it_grows_is_given_up(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream) as here:
        answer = await orphan_of(here, key, chunks=4, stall_after=2)
        for _ in range(CLAIMS_WITHOUT_GROWTH_LIMIT):
            lease = await here.log.claim(answer)
            assert lease is not None
            await lease.append([Restart(lease.last_seq + 1)])  # is no growth
            lease.release()
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "interrupted"


@pytest.mark.parametrize("recovery", ["continue", "restart"])
async def test_an_answer_that_grows_after_each_take_over_is_not_given_up(
    url: str, upstream: UpstreamProcess, key: str, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = 2 * CLAIMS_WITHOUT_GROWTH_LIMIT
    async with worker(url, upstream, recovery=recovery) as here:
        answer = await orphan_of(here, key, chunks=40, first=[{"stall_after": 2}] * (deaths + 1))
        for _ in range(deaths):
            here.supervisor.adopt(answer)
            await here.read_more(answer, events=3)
            await leave(here, answer, monkeypatch, dies=True)
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert isinstance(events[-1], Done)
    assert one_end(events)
    assert seqs_without_gaps(events)


@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("recovery", ["continue", "restart"])
async def test_an_answer_that_grows_a_little_in_each_worker_is_given_up_in_the_end(
    url: str, upstream: UpstreamProcess, key: str, recovery: Recovery, *, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "ATTEMPTS", most := 3)
    async with worker(url, upstream, recovery=recovery) as here:
        answer = await orphan_of(here, key, endless=True, stall_after=2)
        for _ in range(most):
            here.supervisor.adopt(answer)
            await here.read_more(answer, events=3)  # the attempt, then a seam and a word, or a restart and a word
            await leave(here, answer, monkeypatch, dies=dies)
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "interrupted"
    assert len(upstream.requests(key)) == 1 + most


async def leave(here: Worker, answer: str, monkeypatch: pytest.MonkeyPatch, *, dies: bool) -> None:
    """Leave the answer as a worker that drains, or as one that is killed."""
    producer = here.supervisor._running[answer]
    if dies:
        monkeypatch.setattr(producer._lease, "hand_over", producer._lease.release)
    producer.hand_over()
    await until(lambda: answer not in here.supervisor._running)


async def test_an_answer_grows_though_its_worker_leaves_during_the_append(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower is pushed the events, and may stop or leave, before the producer's task goes on."""
    grown: list[int] = []
    async with worker(url, upstream, recovery="continue") as here:
        answer = await orphan_of(here, key, chunks=40, first=[{"stall_after": 2}])
        claim = here.log.claim

        async def claim_one_that_leaves(answer: str) -> Lease | None:
            lease = await claim(answer)
            assert lease is not None
            append = lease.append

            async def append_and_leave(events: Sequence[Event]) -> None:
                await append(events)
                if any(isinstance(event, Delta) and event.text for event in events):
                    here.supervisor._running[answer].hand_over()
                    await asyncio.sleep(0)  # Cancelled here.

            monkeypatch.setattr(lease, "append", append_and_leave)
            monkeypatch.setattr(lease, "grew", lambda: grown.append(lease.last_seq))
            return lease

        monkeypatch.setattr(here.log, "claim", claim_one_that_leaves)
        here.supervisor.adopt(answer)
        await until(lambda: len(upstream.requests(key)) == 2 and answer not in here.supervisor._running)
    assert len(grown) == 1


async def test_a_renewed_claim_is_no_growth(forgetful_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving text anew renews the claim, which gets a number of its own, while the first deltas wait."""
    stage = await staged(forgetful_log, State.WAITING)
    grew = Mock()
    monkeypatch.setattr(stage.lease, "grew", grew, raising=False)
    lock = stage.producer._writer._lock
    async with lock:
        stage.upstream.tell([Delta(stage.lease.last_seq + 1, text="w1 ")])
        await until(lambda: bool(lock._waiters))
        await stage.lease.renew()
        stage.producer.hand_over()
        await stage.end()
    assert not grew.called


async def test_an_answer_that_is_handed_over_often_is_not_given_up(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream, recovery="continue") as here:
        answer = await orphan_of(here, key, chunks=40, first=[{"stall_after": 2}] * (CLAIMS_WITHOUT_GROWTH_LIMIT + 2))
        for number in range(CLAIMS_WITHOUT_GROWTH_LIMIT + 1):
            here.supervisor.adopt(answer)
            await until(lambda: len(upstream.requests(key)) == number + 2)  # noqa: B023 (asked before it changes)
            here.supervisor._running[answer].hand_over()
            await until(lambda: answer not in here.supervisor._running)
        here.supervisor.adopt(answer)
        assert isinstance((await here.follow(answer))[-1], Done)


async def test_adopting_what_has_a_producer_or_has_ended_or_is_gone_is_nothing(here: Worker) -> None:
    running = await here.start(stall_after=1)
    ended = await here.start()
    await here.follow(ended.answer_id)
    before = await here.read(ended.answer_id)
    for answer in (running.answer_id, ended.answer_id, new_answer_id()):
        here.supervisor.adopt(answer)
        here.supervisor.adopt(answer)
    await until(lambda: not here.supervisor._adopting)
    assert await here.read(ended.answer_id) == before
    assert list(here.supervisor._running) == [running.answer_id]


# A lost lease


def losing(here: Worker, answer: str) -> None:
    """Have the log say from now on that the lease is another worker's."""
    lease = here.supervisor._running[answer]._lease

    def refuse_now(_: Sequence[Event]) -> bool:
        lease.release()
        raise LeaseLostError

    async def refuse(events: Sequence[Event]) -> None:
        refuse_now(events)

    vars(lease)["append"] = refuse
    vars(lease)["append_now"] = refuse_now


@pytest.mark.parametrize("ended_by", ["chunk", "end", "stop"])
async def test_a_producer_that_lost_its_lease_ends_without_counting_or_telling_an_end(
    here: Worker, upstream: UpstreamProcess, key: str, ended_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flying = sample("folyam_streams_in_flight")
    started = sample("folyam_streams_started_total", model="test-model")
    ends = [sample("folyam_streams_finished_total", model="test-model", outcome=outcome) for outcome in OUTCOMES]
    script: dict[str, dict[str, Any]]
    script = {"chunk": {"endless": True, "pace": 0.02}, "end": {"chunks": 3, "pace": 0.1}, "stop": {"stall_after": 2}}
    with capture_logs() as said:
        producer = await here.start(key, **script[ended_by])
        answer, lease = producer.answer_id, producer._lease
        await here.read_to(answer, seq=4 if ended_by == "end" else 3)
        notes: list[str] = []
        for note in ("hand_over", "clear_unwatched"):
            monkeypatch.setattr(lease, note, lambda *_, note=note: notes.append(note))
        before = await here.read(answer)
        losing(here, answer)
        if ended_by == "stop":
            producer.stop("user")
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        producer.stop("user")
        producer.look()
    if ended_by != "end":
        assert (await closed(upstream, key))["closed_by"] == "client"
    assert await here.read(answer) == before
    assert notes == []
    assert [line for line in said if line["event"] in ("answer", "answer_broke", "end_not_logged")] == []
    [line] = [line for line in said if line["event"] == "lease_lost"]
    assert line["answer"] == answer
    assert sample("folyam_streams_in_flight") == flying
    assert sample("folyam_streams_started_total", model="test-model") == started + 1
    assert ends == [sample("folyam_streams_finished_total", model="test-model", outcome=each) for each in OUTCOMES]


async def test_an_answer_whose_lease_was_lost_ends_once_where_it_goes_on(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    def less() -> float:
        ends = sum(sample("folyam_streams_finished_total", model="test-model", outcome=each) for each in OUTCOMES)
        started = sample("folyam_streams_started_total", model="test-model")
        return started - ends - sample("folyam_streams_in_flight")

    before = less()
    async with worker(url, upstream, recovery="continue") as here, worker(url, upstream, recovery="continue") as there:
        producer = await here.start(key, chunks=30, pace=0.02)
        await here.read_to(producer.answer_id, seq=4)
        losing(here, producer.answer_id)
        await here.supervisor.drain(DEADLINE_SECONDS)  # Only the other one takes it over.
        there.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
        await until(lambda: not there.supervisor._running)
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(f"w{n} " for n in range(1, 31))
    assert seqs_without_gaps(events)
    assert one_end(events)
    assert less() == before


async def test_a_server_that_gives_the_lease_away_ends_the_producer(upstream: UpstreamProcess, key: str) -> None:
    log = MemoryEventLog(Store(), Retention())
    async with worker(log, upstream) as here:
        producer = await here.start(key, endless=True, pace=0.02)
        reader = await log.open(producer.answer_id)
        await here.read_to(producer.answer_id, seq=3)
        log.lose(producer.answer_id)
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        assert (await closed(upstream, key))["closed_by"] == "client"
        assert not isinstance(await log.last(producer.answer_id), Terminal)
        assert not reader.orphaned()
        reader.close()


# Counting


OUTCOMES = ("done", "failed", "stopped")


async def test_answers_are_counted_in_flight_and_by_their_outcome(here: Worker) -> None:
    model = "test-model"
    flying = sample("folyam_streams_in_flight")
    started = sample("folyam_streams_started_total", model=model)
    outcomes = {
        name: sample("folyam_streams_finished_total", model=model, outcome=name)
        for name in ("done", "failed", "stopped")
    }
    running = await here.start(stall_after=1)
    await here.follow((await here.start()).answer_id)
    await here.follow((await here.start(status=401)).answer_id)
    await until(lambda: sample("folyam_streams_in_flight") == flying + 1)
    running.stop("user")
    await until(lambda: sample("folyam_streams_in_flight") == flying)
    assert sample("folyam_streams_started_total", model=model) == started + 3
    for name, before in outcomes.items():
        assert sample("folyam_streams_finished_total", model=model, outcome=name) == before + 1


async def test_an_answer_that_its_time_out_did_not_end_is_counted_until_it_ends(here: Worker) -> None:
    in_time, stuck = await here.start(stall_after=1), await here.start(stall_after=1)
    await here.read_to(stuck.answer_id, seq=2)
    # As if its time-out had passed and ended nothing.
    stuck.begun_at -= PATIENT.answer_seconds + OVERDUE_GRACE_SECONDS
    await until(lambda: sample("folyam_streams_overdue") == 1)
    stuck.stop("user")
    await until(lambda: sample("folyam_streams_overdue") == 0)
    in_time.stop("user")


async def test_a_model_that_is_not_offered_is_counted_as_other(here: Worker) -> None:
    before = sample("folyam_streams_started_total", model="other")
    await here.follow((await here.ask(to_request(command(), model="somebody's words"))).answer_id)
    assert sample("folyam_streams_started_total", model="other") == before + 1


async def test_deltas_are_logged_as_they_came(here: Worker) -> None:
    events = await here.follow((await here.start(reasoning=["a"], texts=["b", "c"], refusal="d")).answer_id)
    assert events[1:-1] == [
        Delta(2, reasoning="a"),
        Delta(3, text="b"),
        Delta(4, text="c"),
        Delta(5, refusal="d"),
    ]


# What is under way at once


async def test_beyond_its_bound_a_worker_begins_no_answer_until_one_has_ended(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream, bounds=Bounds(answers=2, answers_per_client=2)) as here:
        running = [await here.start(key, stall_after=1) for _ in range(2)]
        with pytest.raises(Unavailable) as refused:
            await here.ask(to_request(command(key=f"{key} refused"), model="test-model"), client="somebody else")
        assert (refused.value.code, refused.value.status) == ("too_many_answers", 503)
        assert refused.value.headers()["Retry-After"] == "1"
        running[0].stop("user")
        await here.follow(running[0].answer_id)
        await running[0].task
        await asyncio.sleep(0)  # for what is to happen when a task is done
        assert isinstance((await here.follow((await here.start(chunks=1)).answer_id))[-1], Done)
    assert upstream.requests(f"{key} refused") == []


async def test_one_client_beyond_its_bound_leaves_room_for_others(url: str, upstream: UpstreamProcess) -> None:
    async with worker(url, upstream, bounds=Bounds(answers=10, answers_per_client=2)) as here:
        request = to_request(command(stall_after=1), model="test-model")
        mine = [await here.ask(request, client="me") for _ in range(2)]
        with pytest.raises(TooMany) as refused:
            await here.ask(request, client="me")
        assert (refused.value.code, refused.value.status) == ("too_many_answers_of_yours", 429)
        assert refused.value.headers()["Retry-After"] == "1"
        await here.ask(request, client="you")
        mine[0].stop("user")
        await mine[0].task
        await asyncio.sleep(0)
        await here.ask(request, client="me")


async def test_a_log_that_cannot_be_tended_is_logged_once_until_it_can(
    here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, unreachable = Unavailable("log_full"), Unavailable("log_unavailable")
    outcomes = iter([full, full, unreachable, unreachable, None, unreachable])
    over = asyncio.Event()

    async def tend(_: Callable[[str], None]) -> None:
        if (outcome := next(outcomes, over)) is over:
            over.set()
        elif isinstance(outcome, Unavailable):
            raise outcome

    monkeypatch.setattr("service.supervisor.TEND_INTERVAL_SECONDS", 0)
    monkeypatch.setattr("service.supervisor.TEND_PAUSE_SECONDS", 0)
    monkeypatch.setattr(here.log, "tend", tend)
    with capture_logs() as said:
        tending = asyncio.create_task(here.supervisor._tend())
        await asyncio.wait_for(over.wait(), DEADLINE_SECONDS)
        tending.cancel()
    codes = [line["code"] for line in said if line["event"] == "log_not_tended"]
    assert codes == ["log_full", "log_unavailable", "log_unavailable"]
