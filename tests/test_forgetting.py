"""Producers and followers on a log that forgets, that hears of other workers late, and that gives leases away."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from service.eventlog import DamagedLogError, Reader, Retention
from service.events import Delta, Done, Event, Restart, Start, Stopped, Terminal, new_answer_id
from service.follower import CutShortError, Follower
from service.lifecycle import Cause, State
from service.question import to_request
from service.renderings.sse import ServerSentEvents
from tests.eventlog.memory import MemoryEventLog, Store
from tests.sampling import sample
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import DEADLINE_SECONDS, until
from tests.walking import walks
from tests.working import PATIENT, Worker, text_of, worker

LOST = 10**15
"""A place that no log here has: greater than what producers count to, and less than any claim's number."""
SHORT_SECONDS = 0.05


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def log(store: Store) -> MemoryEventLog:
    return MemoryEventLog(store, Retention())


@pytest.fixture
async def here(log: MemoryEventLog, upstream: UpstreamProcess) -> AsyncIterator[Worker]:
    async with worker(log, upstream, recovery="continue") as here:
        yield here


@pytest.fixture
def key() -> str:
    return new_answer_id()


async def read_to_end(reader: Reader) -> list[Event]:
    read: list[Event] = []
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (read and isinstance(read[-1], Terminal)):
                read += await reader.read()
                await reader.wait(SHORT_SECONDS)
    finally:
        reader.close()
    return read


def shown(events: Sequence[Event]) -> str:
    """The text that a client shows in the end."""
    events = list(events)
    restarts = [at for at, event in enumerate(events) if isinstance(event, Restart)]
    return text_of(events[restarts[-1] :] if restarts else events)


def restarts(events: Sequence[Event]) -> int:
    return sum(isinstance(event, Restart) for event in events)


def rise(events: Sequence[Event]) -> bool:
    return all(before.seq < after.seq for before, after in pairwise(events))


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(1, count + 1))


# A place that is not in the log


@pytest.mark.parametrize("turns", [0, 3])
async def test_who_lost_their_place_gets_the_text_anew_and_nobody_else_sees_it(
    log: MemoryEventLog, here: Worker, key: str, turns: int
) -> None:
    log.turns = turns
    given = sample("folyam_log_texts_given_anew_total")
    producer = await here.start(key, chunks=60, pace=0.005)
    watching = asyncio.create_task(here.follow(producer.answer_id))
    await here.read_to(producer.answer_id, seq=5)
    lost = await log.open(producer.answer_id, LOST)
    assert not await lost.read()
    read = await read_to_end(lost)
    seen, afterwards = await watching, await here.read(producer.answer_id)
    assert read[0] == Restart(read[0].seq, again=True)
    assert (restarts(read), restarts(seen), restarts(afterwards)) == (1, 0, 0)
    assert shown(read) == text_of(seen) == text_of(afterwards) == words(60)
    assert rise(read)
    assert rise(seen)
    assert isinstance(read[-1], Done)
    assert sample("folyam_log_texts_given_anew_total") == given + 1


async def test_the_text_is_given_anew_while_the_upstream_is_silent(log: MemoryEventLog, here: Worker, key: str) -> None:
    producer = await here.start(key, reasoning=("why ",), stall_after=2)
    await here.read_to(producer.answer_id, seq=4)
    lost = await log.open(producer.answer_id, LOST)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (read := list(await lost.read())):
            await lost.wait(SHORT_SECONDS)
    assert isinstance(read[0], Restart)
    first = read[0].seq
    assert read[1:] == [Delta(first + 1, reasoning="why "), Delta(first + 2, text="w1 w2 ")]
    producer.stop("user")
    [stopped] = await read_to_end(lost)
    assert isinstance(stopped, Stopped)
    assert stopped.seq == first + 3
    assert await log.last(producer.answer_id) == stopped


async def test_an_answer_goes_on_although_its_text_cannot_be_given_anew(
    log: MemoryEventLog, here: Worker, upstream: UpstreamProcess, key: str
) -> None:
    producer = await here.start(key, stall_after=2, chunks=4)
    await here.read_to(producer.answer_id, seq=3)
    lost = await log.open(producer.answer_id, LOST)
    with capture_logs() as said:
        log.away = True
        assert not await lost.read()
        await until(lambda: [line for line in said if line["event"] == "text_not_given_anew"])
        log.away = False
        await until(lambda: [line for line in said if line["event"] == "text_given_anew"])
    read = list(await lost.read())
    assert shown(read) == "w1 w2 "
    lost.close()
    producer.stop("user")
    await until(producer.task.done)
    await asyncio.to_thread(upstream.wait_closed, key)


@walks((State.ORPHANED, Cause.CLAIM))
async def test_who_had_more_than_the_log_kept_gets_the_text_anew_from_the_next_producer(
    log: MemoryEventLog, store: Store, upstream: UpstreamProcess, key: str
) -> None:
    request = to_request(command(key=key, chunks=8), model="test-model")
    lease = await log.create(Start.asking(answer := new_answer_id(), request, at=time.time()))
    for seq in range(2, 6):
        await lease.append([Delta(seq, text=f"w{seq - 1} ")])
    lease.release()
    log.forget(answer, 2)
    after = MemoryEventLog(store, Retention())
    ahead, behind = await after.open(answer, 5), await after.open(answer, 3)
    async with worker(after, upstream, recovery="continue") as here:
        here.supervisor.adopt(answer)
        had_more, had_less = await asyncio.gather(read_to_end(ahead), read_to_end(behind))
        whole = await here.read(answer)
    assert isinstance(had_more[0], Restart)
    assert restarts(had_less) == 0
    assert shown(had_more) == words(2) + shown(had_less) == text_of(whole) == words(8)
    assert had_more[0].seq > LOST


async def test_what_a_living_producer_wrote_is_put_back_and_nobody_notices(
    log: MemoryEventLog, here: Worker, upstream: UpstreamProcess, key: str
) -> None:
    producer = await here.start(key, endless=True, pace=0.005)
    watching = asyncio.create_task(here.follow(producer.answer_id))
    for seq in (5, 10, 20):
        await here.read_to(producer.answer_id, seq=seq)
        log.forget(producer.answer_id, 2)
    await here.read_to(producer.answer_id, seq=40)  # All is put back by now, with what came after it.
    await asyncio.to_thread(upstream.end, key)
    seen = await watching
    assert text_of(seen) == text_of(await here.read(producer.answer_id)) == words(upstream.said(key))
    assert rise(seen)


async def test_a_follower_is_cut_where_the_answer_has_ended_without_its_place(log: MemoryEventLog) -> None:
    lease = await log.create(Start(1, answer := new_answer_id(), "model"))
    reader = await log.open(answer, LOST)
    follower = Follower(
        reader,
        ServerSentEvents(),
        ServerSentEvents().encoder(answer),
        heartbeat_seconds=60,
        on_orphan=lambda _: None,
        has_left=lambda: False,
    )
    assert await follower.next() == ServerSentEvents().opening
    await lease.append([Stopped(2, "user")])
    with pytest.raises(CutShortError) as cut:
        await follower.next()
    assert cut.value.damaged
    follower.close()
    with pytest.raises(DamagedLogError):
        await log.open(answer, LOST)


# Late news


async def test_an_answer_is_not_stopped_for_a_follower_of_whom_the_news_is_late(
    log: MemoryEventLog, store: Store, upstream: UpstreamProcess, key: str
) -> None:
    limits = PATIENT.__class__(answer_seconds=60, answer_bytes=1 << 20, unwatched_seconds=SHORT_SECONDS)
    async with worker(log, upstream, limits=limits) as here:
        log.deaf = True
        there = MemoryEventLog(store, Retention())
        producer = await here.start(key, endless=True, pace=0.01)
        reader = await there.open(producer.answer_id)
        waits = 0

        async def still_unwatched() -> bool:
            nonlocal waits
            waits += 1
            return not store[producer.answer_id].followers

        vars(producer._lease)["still_unwatched"] = still_unwatched
        await until(lambda: waits > 3)
        assert not producer.task.done()
        reader.close()
        assert isinstance((await here.follow(producer.answer_id, watch=False))[-1], Stopped)


async def test_a_stop_takes_effect_as_soon_as_it_is_heard_of(log: MemoryEventLog, here: Worker, key: str) -> None:
    producer = await here.start(key, stall_after=2)
    await here.read_to(producer.answer_id, seq=3)
    log.deaf = True
    await log.request_stop(producer.answer_id, "user")
    producer.look()
    await asyncio.sleep(0)
    assert not producer.task.done()
    log.hear()
    assert isinstance((await here.follow(producer.answer_id))[-1], Stopped)


async def test_an_orphan_of_which_the_news_is_late_is_carried_on(
    log: MemoryEventLog, store: Store, upstream: UpstreamProcess
) -> None:
    lease = await log.create(Start(1, answer := new_answer_id(), "model"))
    there = MemoryEventLog(store, Retention())
    there.deaf = True
    async with worker(there, upstream) as worker_there:
        reader = await there.open(answer)
        lease.release()
        assert not reader.orphaned()
        there.hear()
        assert reader.orphaned()
        worker_there.supervisor.adopt(answer)
        events = await read_to_end(reader)
    assert isinstance(events[-1], Terminal)


# A lost lease


@walks((State.STREAMING, Cause.LOSE))
async def test_a_lost_lease_of_which_the_producer_hears_closes_a_silent_upstream(
    log: MemoryEventLog, here: Worker, upstream: UpstreamProcess, key: str
) -> None:
    lost = sample("folyam_log_leases_lost_total")
    producer = await here.start(key, stall_after=2)
    await here.read_to(producer.answer_id, seq=3)
    log.lose(producer.answer_id, tell=True)
    await until(producer.task.done)
    records = await asyncio.to_thread(upstream.wait_closed, key)
    assert records[-1]["closed_by"] == "client"
    assert not isinstance(await log.last(producer.answer_id), Terminal)
    assert sample("folyam_log_leases_lost_total") == lost + 1


async def test_a_lease_that_is_lost_while_text_is_given_anew_ends_the_producer(
    log: MemoryEventLog, here: Worker, upstream: UpstreamProcess, key: str
) -> None:
    producer = await here.start(key, stall_after=2)
    await here.read_to(producer.answer_id, seq=3)
    log.lose(producer.answer_id)
    reader = await log.open(producer.answer_id, LOST)
    vars(producer._lease)["anew_requested"] = lambda: True
    producer.look()
    await until(producer.task.done)
    reader.close()
    await asyncio.to_thread(upstream.wait_closed, key)


# A stop in the middle of an append


@pytest.mark.parametrize("turns", [1, 7])
async def test_the_end_has_the_number_after_an_append_that_a_stop_came_into(
    log: MemoryEventLog, here: Worker, turns: int
) -> None:
    log.turns = turns
    for wait in range(12):
        producer = await here.start(endless=True, pace=0.0005)
        await here.read_to(producer.answer_id, seq=3)
        for _ in range(wait):
            await asyncio.sleep(0)
        producer.stop("user")
        await until(producer.task.done)
        events = await here.read(producer.answer_id)
        assert isinstance(events[-1], Stopped)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
