"""The contract of `service.eventlog.base`, on every backend."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import Unavailable, UnknownAnswer
from service.eventlog import (
    AheadOfLogError,
    Claims,
    DamagedLogError,
    EventLog,
    Lease,
    LeaseLostError,
    NameTakenError,
    Reader,
    Retention,
    open_event_log,
)
from service.events import (
    MAX_SEQ,
    Delta,
    Done,
    Event,
    Restart,
    Start,
    Stopped,
    StoppedBy,
    Terminal,
    Timing,
    encode,
    new_answer_id,
)
from service.names import How, Named, Naming
from service.request import Request
from tests.eventlog.another import AnotherWorker, tended
from tests.eventlog.backends import Tested
from tests.eventlog.memory import MemoryEventLog
from tests.strategies import answers
from tests.waiting import DEADLINE_SECONDS, POLL_SECONDS, first, until

LONG_SECONDS = 60.0
"""Longer than any deadline here. A wait of this length was not woken."""


def start(answer: str) -> Start:
    return Start(1, answer, "model")


def deltas(first: int, count: int) -> list[Event]:
    return [Delta(seq, text=f"w{seq} ") for seq in range(first, first + count)]


def seqs(events: Sequence[Event]) -> list[int]:
    return [event.seq for event in events]


def done(seq: int) -> Done:
    return Done(seq, "stop", None, Timing(0.1, 0.2))


async def read_all(log: EventLog, answer: str, after: int = 0) -> list[Event]:
    reader = await log.open(answer, after, watch=False)
    try:
        return await rest_of(reader)
    finally:
        reader.close()


async def rest_of(reader: Reader) -> list[Event]:
    """All that can be read now."""
    read: list[Event] = []
    while events := await reader.read():
        read += events
    return read


async def follow(reader: Reader, read: list[Event] | None = None) -> list[Event]:
    """All events to the terminal one; also in `read`, as they come."""
    read = [] if read is None else read
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (read and isinstance(read[-1], Terminal)):
            events = await reader.read()
            read += events
            if not events:
                await reader.wait(LONG_SECONDS)
    return read


async def begin(log: EventLog, *events: Event) -> tuple[str, Lease]:
    answer = new_answer_id()
    lease = await log.create(start(answer))
    if events:
        await lease.append(events)
    return answer, lease


async def claimed(log: EventLog, answer: str) -> Lease:
    """Claim the answer, as soon as its last producer is known to be dead."""
    return await first(lambda: log.claim(answer))


async def claimed_by(another: AnotherWorker, answer: str) -> Any:  # noqa: ANN401 (see AnotherWorker.ask)
    """Have the other worker claim the answer, as soon as it has heard that the lease was released."""
    return await first(lambda: another.ask("claim", answer=answer))


# Reading and writing


async def test_a_log_begins_with_its_start(log: EventLog) -> None:
    answer, lease = await begin(log)
    assert (lease.answer_id, lease.last_seq, lease.claims) == (answer, 1, Claims())
    assert await log.last(answer) == start(answer)
    assert await read_all(log, answer) == [start(answer)]


async def test_an_appended_event_can_be_read_at_once(log: EventLog) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer, 1)
    for seq in range(2, 12):
        await lease.append(deltas(seq, 1))
        assert await reader.read() == deltas(seq, 1)
        assert await reader.read() in ([], ())
        assert lease.last_seq == seq
        assert await log.last(answer) == deltas(seq, 1)[0]
    reader.close()


async def test_a_reader_from_every_offset_reads_what_comes_after_it(log: EventLog) -> None:
    events = [*deltas(2, 30), done(32)]
    answer, _ = await begin(log, *events)
    whole = [start(answer), *events]
    for after in range(len(whole) + 1):
        assert await read_all(log, answer, after) == whole[after:]


@pytest.mark.parametrize("after", [4, 1000, MAX_SEQ])
async def test_an_offset_that_a_running_answer_has_not_reached_is_ahead_of_it_unless_it_may_have_been_forgotten(
    log: EventLog, backend: Tested, after: int
) -> None:
    answer, lease = await begin(log, *deltas(2, 2))
    if not backend.forgets:
        with pytest.raises(AheadOfLogError):
            await log.open(answer, after)
        return
    reader = await log.open(answer, after)
    assert not reader.at_end
    following = asyncio.create_task(follow(reader))
    await until(lease.anew_requested)
    assert not following.done()
    following.cancel()
    await asyncio.wait([following])
    reader.close()


async def test_nothing_comes_behind_the_last_event_of_an_ended_answer(log: EventLog) -> None:
    answer, _ = await begin(log, *deltas(2, 2), done(4))
    for after, at_end in ((0, False), (3, False), (4, True)):
        reader = await log.open(answer, after)
        assert reader.at_end == at_end
        assert list(await reader.read()) == [] if at_end else await reader.read()
        reader.close()


@pytest.mark.parametrize("after", [5, 1000, MAX_SEQ])
async def test_an_offset_behind_the_last_event_of_an_ended_answer_is_its_end_unless_it_may_have_been_forgotten(
    log: EventLog, backend: Tested, after: int
) -> None:
    answer, _ = await begin(log, *deltas(2, 2), done(4))
    if backend.forgets:
        with pytest.raises(DamagedLogError):
            await log.open(answer, after)
        return
    reader = await log.open(answer, after)
    assert reader.at_end
    assert not await reader.read()
    reader.close()


async def test_a_reader_at_any_place_tells_how_the_log_begins(log: EventLog) -> None:
    answer, _ = await begin(log, *deltas(2, 2))
    for after in range(4):
        reader = await log.open(answer, after)
        assert await reader.start() == start(answer)
        assert [event.seq for event in await reader.read()] == list(range(after + 1, 4))
        reader.close()


async def test_a_reader_counts_as_a_follower_from_when_it_watches(log: EventLog) -> None:
    answer, lease = await begin(log)
    changes: list[bool] = []
    lease.on_change = lambda: changes.append(lease.watched())
    reader = await log.open(answer, watch=False)
    assert not lease.watched()
    for _ in range(2):
        reader.watch()
        assert lease.watched()
    reader.close()
    assert not lease.watched()
    assert changes == [True, False]


async def test_an_answer_that_is_not_there_is_unknown(log: EventLog) -> None:
    with pytest.raises(UnknownAnswer):
        await log.open(new_answer_id())
    with pytest.raises(UnknownAnswer):
        await log.last(new_answer_id())
    assert await log.claim(new_answer_id()) is None
    await log.erase(new_answer_id())


async def test_a_start_of_a_mebibyte_is_read_whole_and_what_follows_it(log: EventLog) -> None:
    answer = new_answer_id()
    long = Start(1, answer, "x" * (1 << 20))
    lease = await log.create(long)
    assert await log.last(answer) == long
    await lease.append(deltas(2, 3))
    assert await read_all(log, answer) == [long, *deltas(2, 3)]
    assert await read_all(log, answer, 1) == deltas(2, 3)
    lease.release()
    claimed = await log.claim(answer)
    assert claimed is not None
    await claimed.append(deltas(claimed.last_seq + 1, 1))
    assert len(await read_all(log, answer, 1)) == 4


async def test_the_size_is_what_was_written(log: EventLog) -> None:
    _, lease = await begin(log)
    before = lease.size
    await lease.append([Delta(2, text="x" * 1000)])
    assert 1000 < lease.size - before < 1100


async def test_a_read_takes_a_bounded_piece_of_a_long_log(log: EventLog) -> None:
    answer, lease = await begin(log)
    for seq in range(2, 502):
        await lease.append([Delta(seq, text="x" * 1000)])
    reader = await log.open(answer)
    first = await reader.read()
    assert 1 <= len(first) < 250
    assert [event.seq for event in [*first, *await rest_of(reader)]] == list(range(1, 502))
    reader.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(answers(), st.sets(st.integers(1, 10)), st.integers(0, 10))
def test_any_events_in_any_batches_are_read_as_written_from_any_offset(
    new_url: Callable[[], str], events: list[Event], places: set[int], place: int
) -> None:
    start = events[0]
    assert isinstance(start, Start)
    cuts = [1, *sorted(cut for cut in places if cut < len(events)), len(events)]
    after = min(place, len(events))

    async def write_and_read() -> None:
        log = open_event_log(new_url(), Retention())
        try:
            lease = await log.create(start)
            early = await log.open(start.answer)
            read: list[Event] = []
            for begin, end in pairwise(cuts):
                if begin < end:
                    await lease.append(events[begin:end])
                read += await rest_of(early)
            assert read == events
            assert await read_all(log, start.answer, after) == events[after:]
            assert (await log.last(start.answer), lease.last_seq) == (events[-1], len(events))
            early.close()
        finally:
            await log.aclose()

    asyncio.run(write_and_read())


# Following


async def test_a_follower_in_the_same_worker_gets_exactly_the_events(log: EventLog) -> None:
    answer, lease = await begin(log)
    followers = [asyncio.create_task(follow(await log.open(answer))) for _ in range(3)]
    for seq in range(2, 40, 2):
        await lease.append(deltas(seq, 2))
        await asyncio.sleep(0)
    await lease.append([done(40)])
    lease.release()
    for follower in followers:
        assert await follower == [start(answer), *deltas(2, 38), done(40)]


async def test_a_follower_in_another_worker_gets_exactly_the_events(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    follower = asyncio.create_task(another.follow(answer))
    await until(lease.watched)
    for seq in range(2, 200):
        await lease.append(deltas(seq, 1))
        await asyncio.sleep(0)
    await lease.append([done(200)])
    assert await follower == [start(answer), *deltas(2, 198), done(200)]
    assert await another.follow(answer, after=150) == [*deltas(151, 49), done(200)]


async def test_a_follower_of_another_workers_answer_gets_exactly_the_events(
    log: EventLog, another: AnotherWorker
) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    follower = asyncio.create_task(follow(await log.open(answer)))
    for seq in range(2, 40, 2):
        await another.append(answer, deltas(seq, 2))
    await another.append(answer, [done(40)])
    assert await follower == [start(answer), *deltas(2, 38), done(40)]


async def test_a_wait_ends_when_this_worker_appends(log: EventLog) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer, 1)
    waiting = asyncio.ensure_future(reader.wait(LONG_SECONDS))
    await asyncio.sleep(0)
    await lease.append(deltas(2, 1))
    await asyncio.wait_for(waiting, DEADLINE_SECONDS)
    assert await reader.read() == deltas(2, 1)
    reader.close()


async def test_a_wait_ends_when_another_worker_appends(log: EventLog, another: AnotherWorker) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    reader = await log.open(answer, 1)
    for seq in range(2, 6):
        waiting = asyncio.ensure_future(reader.wait(LONG_SECONDS))
        await asyncio.sleep(0)
        await another.append(answer, deltas(seq, 1))
        await asyncio.wait_for(waiting, DEADLINE_SECONDS)
        assert await rest_of(reader) == deltas(seq, 1)
    reader.close()


async def test_what_came_between_a_read_and_the_first_wait_is_not_waited_for(
    log: EventLog, another: AnotherWorker
) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    reader = await log.open(answer, 1)
    assert not await reader.read()
    await another.append(answer, deltas(2, 1))
    await asyncio.wait_for(reader.wait(LONG_SECONDS), DEADLINE_SECONDS)
    assert await reader.read() == deltas(2, 1)
    reader.close()


async def test_a_wait_ends_when_the_producer_releases_or_dies(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    theirs = new_answer_id()
    await another.ask("create", answer=theirs)
    for answer_id, end in ((answer, lease.release), (theirs, another.kill)):
        reader = await log.open(answer_id, 1)
        waiting = asyncio.ensure_future(reader.wait(LONG_SECONDS))
        await asyncio.sleep(0)
        assert not reader.orphaned()
        end()
        await asyncio.wait_for(waiting, DEADLINE_SECONDS)
        assert reader.orphaned()
        reader.close()


async def test_a_wait_ends_after_its_seconds(log: EventLog, another: AnotherWorker) -> None:
    mine, _ = await begin(log)
    theirs = new_answer_id()
    await another.ask("create", answer=theirs)
    loop = asyncio.get_running_loop()
    for answer in (mine, theirs):
        reader = await log.open(answer, 1)
        for seconds in (0.05, 0.01, 0.1):
            began = loop.time()
            await asyncio.wait_for(reader.wait(seconds), DEADLINE_SECONDS)
            assert loop.time() - began >= seconds - 0.002
        reader.close()


async def test_a_wait_can_be_cancelled_and_the_reader_used_on(log: EventLog) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer, 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.wait(LONG_SECONDS), 0.01)
    await lease.append([*deltas(2, 1), done(3)])
    assert await follow(reader) == [*deltas(2, 1), done(3)]
    reader.close()
    reader.close()


# The lease


async def test_an_answer_with_a_producer_cannot_be_claimed(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    assert await log.claim(answer) is None
    assert await another.ask("claim", answer=answer) is None
    reader = await log.open(answer)
    assert not reader.orphaned()
    lease.release()
    await until(reader.orphaned)
    await claimed_by(another, answer)
    await until(lambda: not reader.orphaned())
    assert await log.claim(answer) is None
    reader.close()


async def test_an_answer_whose_producer_was_killed_is_claimed_and_goes_on(
    log: EventLog, another: AnotherWorker
) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    await another.append(answer, deltas(2, 3))
    reader = await log.open(answer)
    assert await log.claim(answer) is None
    another.kill()
    lease = await claimed(log, answer)
    assert (lease.answer_id, lease.claims) == (answer, Claims(1, 1))
    last = lease.last_seq
    assert last >= 4
    await lease.append([*deltas(last + 1, 1), done(last + 2)])
    assert await follow(reader) == [start(answer), *deltas(2, 3), *deltas(last + 1, 1), done(last + 2)]
    reader.close()


async def test_a_claim_goes_on_with_a_number_that_no_event_ever_had_and_files_without_a_gap(
    log: EventLog, backend: Tested
) -> None:
    answer, lease = await begin(log, *deltas(2, 2))
    numbers = [3]
    for _ in range(3):
        lease.release()
        lease = await claimed(log, answer)
        assert (lease.last_seq > numbers[-1]) == backend.forgets
        assert lease.last_seq <= MAX_SEQ
        assert (await log.last(answer)).seq == numbers[-1]
        await lease.append(deltas(lease.last_seq + 1, 2))
        numbers += [lease.last_seq - 1, lease.last_seq]
        assert (await log.last(answer)).seq == numbers[-1]
    if not backend.forgets:
        assert numbers == list(range(3, 10))
    assert seqs(await read_all(log, answer)) == [1, 2, *numbers]
    for at, after in enumerate(numbers):
        assert seqs(await read_all(log, answer, after)) == numbers[at + 1 :]


async def test_a_reader_that_waits_goes_on_behind_a_claim(log: EventLog) -> None:
    answer, lease = await begin(log, *deltas(2, 2))
    reader = await log.open(answer, 3)
    for _ in range(3):
        assert not await reader.read()
        lease.release()
        lease = await claimed(log, answer)
        assert not await reader.read()
        await lease.append(deltas(lease.last_seq + 1, 1))
        assert await reader.read() == deltas(lease.last_seq, 1)
    reader.close()


async def test_of_many_claimers_one_wins(log: EventLog, url: str, another: AnotherWorker) -> None:
    with AnotherWorker(url) as third:

        async def ask_both() -> list[Any]:
            """Return what those get that claim the answer; nothing while they have not heard of its release."""
            won = await asyncio.gather(another.ask("claim", answer=answer), third.ask("claim", answer=answer))
            return [each for each in won if each is not None]

        for _ in range(10):
            answer, lease = await begin(log)
            lease.release()
            assert len(await first(ask_both)) == 1
            assert await log.claim(answer) is None


async def test_an_answer_that_has_ended_is_never_claimed(log: EventLog) -> None:
    answer, lease = await begin(log, done(2))
    lease.release()
    assert await log.claim(answer) is None
    assert await read_all(log, answer) == [start(answer), done(2)]


async def test_claims_are_counted_in_all_and_since_the_answer_last_grew(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    seen = []
    for grows in (False, False, True, False, True, True, False):
        lease.release()
        lease = await claimed(log, answer)
        seen.append(lease.claims)
        if grows:
            lease.grew()
    without_growth = [1, 2, 3, 1, 2, 1, 1]
    assert seen == [Claims(number, since) for number, since in enumerate(without_growth, 1)]
    lease.release()
    await claimed_by(another, answer)
    another.kill()
    assert (await claimed(log, answer)).claims == Claims(9, 3)


async def test_an_answer_that_grows_under_the_worker_that_began_it_was_claimed_by_none(log: EventLog) -> None:
    answer, lease = await begin(log)
    lease.grew()
    lease.release()
    assert (await claimed(log, answer)).claims == Claims(1, 1)


async def test_claims_are_forgotten_when_an_answer_is_handed_over(log: EventLog) -> None:
    answer, lease = await begin(log)
    lease.release()
    for _ in range(3):
        lease = await claimed(log, answer)
        assert lease.claims == Claims(1, 1)
        lease.grew()
        lease.hand_over()
        assert await found(log) == [answer]


async def test_what_was_released_takes_no_event_more(log: EventLog) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer, 1)
    lease.release()
    assert lease.lost()
    with pytest.raises(LeaseLostError):
        await lease.append(deltas(2, 1))
    assert lease.last_seq == 1
    assert not await reader.read()
    await until(reader.orphaned)
    next_lease = await claimed(log, answer)
    assert not next_lease.lost()
    for refused in (lease.append(deltas(2, 1)), lease.renew()):
        with pytest.raises(LeaseLostError):
            await refused
    said = deltas(next_lease.last_seq + 1, 1)
    await next_lease.append(said)
    assert list(await reader.read()) == said
    reader.close()


async def test_an_append_whose_caller_is_cancelled_is_completed_and_counted(log: EventLog) -> None:
    """A stop cancels the producer's task. The terminal event has the number after the append that was under way."""
    if isinstance(log, MemoryEventLog):
        log.turns = 5
    answer, lease = await begin(log)
    for append in (lease.append, lambda events: lease.append(events, anew=True)):
        for turns in range(8):
            wanted = lease.last_seq
            appending = asyncio.ensure_future(append(deltas(wanted + 1, 2)))
            for _ in range(turns):
                await asyncio.sleep(0)
            for _ in range(2):  # The second one comes while it is being completed.
                appending.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([appending])
            assert lease.last_seq in ({wanted + 2} if turns else {wanted, wanted + 2})
    last = lease.last_seq
    await lease.append([done(last + 1)])
    assert seqs(await read_all(log, answer))[-1] == last + 1


async def test_a_renewal_whose_caller_is_cancelled_is_completed_and_counted(log: EventLog) -> None:
    if isinstance(log, MemoryEventLog):
        log.turns = 5
    answer, lease = await begin(log)
    for turns in range(8):
        renewing = asyncio.ensure_future(lease.renew())
        for _ in range(turns):
            await asyncio.sleep(0)
        renewing.cancel()
        await asyncio.wait([renewing])
        said = deltas(lease.last_seq + 1, 1)
        await lease.append(said)
        assert await log.last(answer) == said[0]


async def test_who_has_lost_a_lease_forgets_no_claims_of_the_next(log: EventLog) -> None:
    answer, lease = await begin(log)
    lease.release()
    lost = await claimed(log, answer)
    lost.release()
    present = await claimed(log, answer)
    lost.hand_over()
    present.release()
    assert (await claimed(log, answer)).claims == Claims(3, 3)


async def test_what_a_closed_log_held_takes_no_event_more(url: str) -> None:
    log = open_event_log(url, Retention())
    _, lease = await begin(log)
    await log.aclose()
    with pytest.raises(LeaseLostError):
        await lease.append(deltas(2, 1))


async def test_closing_the_log_ends_its_leases(log: EventLog, url: str) -> None:
    other = open_event_log(url, Retention())
    answer, lease = await begin(other)
    await other.aclose()
    assert await claimed(log, answer)
    lease.release()


# Text given anew


def said_again(first: int) -> list[Event]:
    return [Restart(first), Delta(first + 1, text="w2 w3 ")]


async def test_text_given_anew_is_passed_over_by_readers_that_have_their_place(forgetful_log: EventLog) -> None:
    log = forgetful_log
    answer, lease = await begin(log, *deltas(2, 2))
    early, late = await log.open(answer), await log.open(answer, 3)
    assert await rest_of(early) == [start(answer), *deltas(2, 2)]
    size = lease.size
    await lease.renew()
    again = lease.last_seq + 1
    assert again > 4
    await lease.append(said_again(again), anew=True)
    assert lease.last_seq == again + 1
    assert lease.size == size
    rest = [*deltas(again + 2, 1), done(again + 3)]
    await lease.append(rest)
    for reader in (early, late):
        assert await rest_of(reader) == rest
        reader.close()
    assert await read_all(log, answer) == [start(answer), *deltas(2, 2), *rest]
    assert await read_all(log, answer, 2) == [*deltas(3, 1), *rest]
    # Placed among what was given anew, a reader has its beginning.
    assert await read_all(log, answer, again) == [said_again(again)[1], *rest]
    assert await read_all(log, answer, again + 1) == rest


async def test_a_reader_whose_place_is_not_in_the_log_gets_the_text_anew(forgetful_log: EventLog) -> None:
    log = forgetful_log
    answer, lease = await begin(log, *deltas(2, 2))
    changes: list[bool] = []
    lease.on_change = lambda: changes.append(lease.anew_requested())
    assert not lease.anew_requested()
    reader = await log.open(answer, 57)
    read: list[Event] = []
    following = asyncio.create_task(follow(reader, read))
    await until(lambda: changes and changes[-1])
    await lease.append(deltas(4, 1))
    await lease.renew()
    assert lease.anew_requested()
    again = lease.last_seq + 1
    await lease.append(said_again(again), anew=True)
    assert not lease.anew_requested()
    await until(lambda: read)  # An answer that ends before its reader looks is cut.
    await lease.append([done(again + 2)])
    assert await following == [*said_again(again), done(again + 2)]
    reader.close()


async def test_a_request_for_the_text_anew_reaches_the_next_producer(forgetful_log: EventLog) -> None:
    log = forgetful_log
    answer, lease = await begin(log, *deltas(2, 2))
    lease.release()
    reader = await log.open(answer, 57)
    read: list[Event] = []
    following = asyncio.create_task(follow(reader, read))
    await asyncio.sleep(0)
    lease = await claimed(log, answer)
    await until(lease.anew_requested)
    again = lease.last_seq + 1
    await lease.append(said_again(again), anew=True)
    await until(lambda: read)  # An answer that ends before its reader looks is cut.
    await lease.append([done(again + 2)])
    assert await following == [*said_again(again), done(again + 2)]
    reader.close()


# Watching


async def until_asked(another: AnotherWorker, what: str, *, reply: object, **given: object) -> None:
    """Ask the other worker until it gives the reply. It may hear of this worker late."""

    async def replies() -> bool:
        return bool(await another.ask(what, **given) == reply)

    await first(replies)


async def test_an_answer_is_watched_while_it_has_a_follower(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    assert not lease.watched()
    here, also_here = await log.open(answer), await log.open(answer)
    assert lease.watched()
    here.close()
    assert lease.watched()
    await another.ask("open", answer=answer)
    also_here.close()
    also_here.close()
    assert not await lease.still_unwatched()
    await until(lease.watched)
    await another.ask("close", answer=answer)
    assert await first(lease.still_unwatched)
    await until(lambda: not lease.watched())


async def test_a_killed_workers_followers_no_longer_watch(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    await another.ask("open", answer=answer)
    await until(lease.watched)
    another.kill()
    await until(lambda: not lease.watched())
    assert await lease.still_unwatched()


async def test_a_reader_without_watch_does_not_watch(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer, watch=False)
    assert not lease.watched()
    reader.close()
    theirs = new_answer_id()
    await another.ask("create", answer=theirs)
    reader = await log.open(theirs, watch=False)
    assert not await another.ask("watched", answer=theirs)
    reader.close()


async def test_a_producer_on_another_worker_sees_who_follows_here(log: EventLog, another: AnotherWorker) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    assert not await another.ask("watched", answer=answer)
    reader = await log.open(answer)
    await until_asked(another, "watched", answer=answer, reply=True)
    reader.close()
    await until_asked(another, "watched", answer=answer, reply=False)


async def test_who_claims_an_answer_sees_its_followers(log: EventLog) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer)
    lease.release()
    lease = await claimed(log, answer)
    assert lease.watched()
    reader.close()
    await until(lambda: not lease.watched())


async def test_the_producer_is_told_when_a_follower_of_its_worker_comes_or_leaves(log: EventLog) -> None:
    answer, lease = await begin(log)
    told = []
    lease.on_change = lambda: told.append(lease.watched())
    reader = await log.open(answer)
    unwatching = await log.open(answer, watch=False)
    unwatching.close()
    assert told == [True]
    reader.close()
    assert told == [True, False]


async def test_what_is_left_of_the_time_without_a_follower_is_known_to_who_claims(
    log: EventLog, another: AnotherWorker
) -> None:
    answer, lease = await begin(log)
    assert lease.unwatched_seconds_left is None
    lease.release()
    lease = await claimed(log, answer)
    assert lease.unwatched_seconds_left is None, "there was a follower, or may have been one"
    lease.mark_unwatched(30)
    lease.release()
    await claimed_by(another, answer)
    another.kill()
    lease = await claimed(log, answer)
    assert lease.unwatched_seconds_left is not None
    assert 30 - DEADLINE_SECONDS < lease.unwatched_seconds_left <= 30 + DEADLINE_SECONDS
    lease.clear_unwatched()
    lease.release()
    assert (await claimed(log, answer)).unwatched_seconds_left is None


# Stopping


@pytest.mark.parametrize("by", ["user", "unwatched", "shutdown"])
async def test_a_stop_asked_for_on_another_worker_reaches_the_producer(
    log: EventLog, another: AnotherWorker, by: StoppedBy
) -> None:
    answer, lease = await begin(log)
    asked: list[StoppedBy | None] = []
    lease.on_change = lambda: asked.append(lease.stop_requested())
    assert lease.stop_requested() is None
    await another.ask("request_stop", answer=answer, by=by)
    await until(lambda: asked)
    assert asked == [by]


async def test_a_stop_is_seen_without_being_told_and_concerns_one_answer(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    _, other = await begin(log)
    await another.ask("request_stop", answer=answer, by="user")
    seen: list[StoppedBy | None] = [None]
    while seen[-1] is None:
        seen.append(lease.stop_requested())
        await asyncio.sleep(POLL_SECONDS)
    assert seen[-1] == "user"
    assert other.stop_requested() is None


async def test_a_stop_requested_of_an_orphan_reaches_its_next_producer(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    lease.release()
    await another.ask("request_stop", answer=answer, by="user")
    assert (await claimed(log, answer)).stop_requested() == "user"


# Erasing and tending


async def test_an_erased_answer_is_unknown_and_its_readers_come_to_their_end_or_are_cut(
    log: EventLog, another: AnotherWorker
) -> None:
    answer, lease = await begin(log, *deltas(2, 3), done(5))
    lease.release()
    reader = await log.open(answer, 2)
    await log.erase(answer)
    try:
        assert await follow(reader) == [*deltas(3, 2), done(5)]
    except DamagedLogError:
        assert another  # cut
    reader.close()
    for gone in (log.open(answer), log.last(answer)):
        with pytest.raises(UnknownAnswer):
            await gone
    assert await log.claim(answer) is None
    assert await another.ask("open", answer=answer) == {"error": "unknown_answer"}


async def test_tending_finds_the_orphans_and_only_them(log: EventLog, another: AnotherWorker) -> None:
    orphan, lease = await begin(log, *deltas(2, 2))
    lease.release()
    _, running = await begin(log)
    _, ended = await begin(log, done(2))
    ended.release()
    theirs = new_answer_id()
    await another.ask("create", answer=theirs)
    assert await found(log) == [orphan]
    await until_asked(another, "tend", reply=[orphan])
    assert await claimed(log, orphan)
    assert await tended(log) == []
    another.kill()
    assert await found(log) == [theirs]
    running.release()


async def found(log: EventLog) -> list[str]:
    """The orphans that are found first. A worker may hear late that another one has died."""
    return await first(lambda: tended(log))


async def erased(log: EventLog, answer: str) -> bool:
    try:
        await log.last(answer)
    except UnknownAnswer:
        return True
    return False


async def end(log: EventLog, *events: Event) -> str:
    answer, lease = await begin(log, *events)
    await lease.append([Stopped(lease.last_seq + 1, "user")])
    lease.release()
    return answer


async def test_ended_answers_expire_and_others_never(url: str) -> None:
    log = open_event_log(url, Retention(seconds=0.05))
    ended = await end(log)
    running, _ = await begin(log)
    orphan, lease = await begin(log)
    lease.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await erased(log, ended):
            assert await tended(log) == [orphan]
    await tended(log)
    assert not await erased(log, running)
    assert not await erased(log, orphan)
    await log.aclose()


async def test_ended_answers_are_kept_until_they_expire(log: EventLog) -> None:
    ended = [await end(log) for _ in range(3)]
    assert await tended(log) == []
    assert [await erased(log, answer) for answer in ended] == [False, False, False]


async def test_the_number_of_answers_is_bounded_by_erasing_ended_ones(url: str) -> None:
    log = open_event_log(url, Retention(answers=3))
    running = [(await begin(log))[0] for _ in range(2)]
    ended = [await end(log) for _ in range(4)]
    await tended(log)
    assert [await erased(log, answer) for answer in running] == [False, False]
    assert sum([not await erased(log, answer) for answer in ended]) == 1
    await log.aclose()


async def test_the_bytes_of_answers_are_bounded_by_erasing_ended_ones(url: str) -> None:
    log = open_event_log(url, Retention(bytes=25_000))
    running, _ = await begin(log, Delta(2, text="x" * 10_000))
    ended = [await end(log, Delta(2, text="x" * 10_000)) for _ in range(4)]
    await tended(log)
    assert not await erased(log, running)
    assert sum([not await erased(log, answer) for answer in ended]) == 1
    await log.aclose()


async def test_running_answers_are_never_erased_however_full_it_is(url: str) -> None:
    log = open_event_log(url, Retention(seconds=1e-9, answers=1, bytes=1))
    running = [(await begin(log, *deltas(2, 20)))[0] for _ in range(5)]
    assert await tended(log) == []
    assert [await erased(log, answer) for answer in running] == 5 * [False]
    await log.aclose()


async def test_a_log_that_works_passes_its_check(log: EventLog) -> None:
    await log.check()


# Names


NAME = "n" * 64


async def name(log: EventLog, name: str, how: How, digest: str = "digest") -> tuple[str, Lease]:
    """Begin an answer under the name."""
    answer = new_answer_id()
    return answer, await log.create(Start(1, answer, "model", names=(name,)), [Naming(name, digest, how)])


async def answers_of(log: EventLog, name: str = NAME) -> list[str]:
    return [named.answer for named in await log.named(name)]


async def test_a_name_that_may_stand_for_one_answer_is_created_once(log: EventLog) -> None:
    assert await log.named(NAME) in ([], ())
    answer, _ = await name(log, NAME, "only", "one")
    refused = Start(1, new_answer_id(), "model", names=(NAME,))
    with pytest.raises(NameTakenError):
        await log.create(refused, [Naming(NAME, "two", "only")])
    assert await log.named(NAME) == [Named(answer, "one")]
    with pytest.raises(UnknownAnswer):
        await log.last(refused.answer)
    await name(log, "m" * 64, "only")
    assert await answers_of(log) == [answer]


async def test_a_name_stays_with_an_answer_that_has_ended(log: EventLog) -> None:
    answer, lease = await name(log, NAME, "only")
    await lease.append([done(2)])
    lease.release()
    with pytest.raises(NameTakenError):
        await name(log, NAME, "only")
    assert await answers_of(log) == [answer]


async def test_of_two_names_none_is_created_if_one_is_taken(log: EventLog) -> None:
    answer, _ = await name(log, NAME, "only")
    other = "m" * 64
    for names in ([other, NAME], [NAME, other]):
        start_of_both = Start(1, new_answer_id(), "model", names=tuple(names))
        with pytest.raises(NameTakenError):
            await log.create(start_of_both, [Naming(each, "digest", "only") for each in names])
    assert await answers_of(log, NAME) == [answer]
    assert await first(lambda: is_free(log, other))


async def is_free(log: EventLog, name: str) -> bool:
    return not await log.named(name)


async def test_an_erased_answer_frees_its_name(log: EventLog) -> None:
    answer, lease = await name(log, NAME, "only")
    lease.release()
    await log.erase(answer)
    assert await log.named(NAME) in ([], ())
    later, _ = await name(log, NAME, "only", "another digest")
    assert await log.named(NAME) == [Named(later, "another digest")]


async def test_an_answer_beyond_the_limits_frees_its_name(url: str) -> None:
    log = open_event_log(url, Retention(answers=1))
    _, lease = await name(log, NAME, "only")
    await lease.append([done(2)])
    lease.release()
    await begin(log)
    await tended(log)
    assert await first(lambda: is_free(log, NAME))
    later, _ = await name(log, NAME, "only")
    assert await answers_of(log) == [later]
    await log.aclose()


async def test_a_name_moves_to_the_newest_answer_and_back(log: EventLog) -> None:
    older, _ = await name(log, NAME, "newest")
    newer, lease = await name(log, NAME, "newest")
    assert (await answers_of(log))[-1] == newer
    lease.release()
    await log.erase(newer)
    assert await answers_of(log) == [older]


async def test_a_name_stands_for_several_answers_the_newest_last(log: EventLog) -> None:
    answers = [(await name(log, NAME, "further"))[0] for _ in range(5)]
    assert await answers_of(log) == answers
    await log.erase(answers[2])
    assert await answers_of(log) == [*answers[:2], *answers[3:]]


async def test_a_name_keeps_the_newest_of_many_answers(log: EventLog) -> None:
    answers = [(await name(log, NAME, "further", "d" * 64))[0] for _ in range(70)]
    kept = await answers_of(log)
    assert len(kept) >= 10
    assert kept == answers[-len(kept) :]


async def test_that_an_answer_was_delivered_is_noted_at_its_name(log: EventLog) -> None:
    one, _ = await name(log, NAME, "further")
    other, _ = await name(log, NAME, "further")
    for _ in range(2):
        log.mark_delivered(NAME, one)
        assert await log.named(NAME) == [Named(one, "digest", delivered=True), Named(other, "digest")]
    log.mark_delivered("m" * 64, one)
    assert await log.named("m" * 64) in ([], ())


async def test_a_name_is_seen_by_another_worker(log: EventLog, another: AnotherWorker) -> None:
    answer, _ = await name(log, NAME, "only")
    assert await another.ask("named", name=NAME) == [[answer, "digest", False]]
    assert await another.ask("create", answer=new_answer_id(), names=[[NAME, "digest", "only"]]) is None
    log.mark_delivered(NAME, answer)
    assert await log.named(NAME)
    assert await another.ask("named", name=NAME) == [[answer, "digest", True]]


async def test_of_two_workers_that_race_for_a_name_one_gets_it(log: EventLog, another: AnotherWorker) -> None:
    names = [f"{number:064x}" for number in range(100)]
    theirs = {name: new_answer_id() for name in names}
    racing = asyncio.create_task(another.ask("create_each", answers=list(theirs.values()), names=names))
    ours: dict[str, str] = {}
    for each in names:
        await asyncio.sleep(0)
        try:
            ours[each] = (await name(log, each, "only"))[0]
        except NameTakenError:
            continue
    won = await racing
    for each in names:
        assert await answers_of(log, each) == [ours.get(each, theirs[each])]
    assert sorted(won) == sorted(theirs[each] for each in names if each not in ours)


async def test_a_name_outlives_the_worker_that_created_it(log: EventLog, another: AnotherWorker) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer, names=[[NAME, "digest", "only"]])
    another.kill()
    with pytest.raises(NameTakenError):
        await name(log, NAME, "only")
    lease = await claimed(log, answer)
    await lease.append([done(lease.last_seq + 1)])
    assert await answers_of(log) == [answer]


async def test_a_worker_that_dies_between_a_name_and_its_log_does_not_keep_the_name(
    log: EventLog, another: AnotherWorker
) -> None:
    await another.ask("begin_to_name", answer=new_answer_id(), name=NAME)
    assert await log.named(NAME) in ([], ())
    with pytest.raises(Unavailable):
        await name(log, NAME, "only")
    another.kill()

    async def named() -> str | None:
        try:
            return (await name(log, NAME, "only"))[0]
        except Unavailable:
            return None

    answer = await first(named)
    assert await answers_of(log) == [answer]


async def test_whether_an_answer_is_followed_every_worker_knows(log: EventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    lease.mark_unwatched(60)

    async def is_not_followed() -> bool:
        return not await log.followed(answer) and not await another.ask("followed", answer=answer)

    assert await first(is_not_followed)
    await another.ask("open", answer=answer)
    assert await first(lambda: log.followed(answer))
    await another.ask("close", answer=answer)
    assert await first(is_not_followed)
    reader = await log.open(answer)
    lease.clear_unwatched()
    assert await first(lambda: another.ask("followed", answer=answer))
    reader.close()
    lease.mark_unwatched(60)
    assert await first(is_not_followed)
    assert not await log.followed(new_answer_id())


# Large requests


def asking(characters: int) -> Start:
    text = "x" * characters
    messages = ({"role": "user", "content": [{"type": "text", "text": text}]},)
    return Start.asking(new_answer_id(), Request("model", messages), at=1.0)


async def first_event(log: EventLog, answer: str) -> Start:
    reader = await log.open(answer, watch=False)
    try:
        return await reader.start()
    finally:
        reader.close()


@pytest.mark.parametrize("characters", [1, 40_000, 700_000, 3_000_000])
async def test_a_large_request_is_kept_beside_the_first_event(url: str, characters: int) -> None:
    log, other = open_event_log(url, Retention()), open_event_log(url, Retention())
    asked = asking(characters)
    lease = await log.create(asked)
    for each in (log, other):
        began = await first_event(each, asked.answer)
        assert len(encode(began)) < 1000
        assert began.model == "model"
        request = (await each.with_request(began)).asked()
        assert request is not None
        assert encode(Start.asking(asked.answer, request, at=1.0)) == encode(asked)
    await lease.append([done(2)])
    assert (await read_all(other, asked.answer))[0] == began
    lease.release()
    for each in (log, other):
        await each.aclose()


@pytest.mark.parametrize("how", ["erased", "beyond the limits"])
async def test_a_large_request_goes_with_its_answer(url: str, how: str) -> None:
    log = open_event_log(url, Retention(bytes=200_000) if how != "erased" else Retention())
    asked = asking(400_000)
    lease = await log.create(asked)
    began = await first_event(log, asked.answer)
    await lease.append([done(2)])
    lease.release()
    if how == "erased":
        await log.erase(asked.answer)
    else:
        await begin(log)

    async def is_gone() -> bool:
        await tended(log)
        return (await log.with_request(began)).asked() is None

    assert await first(is_gone)
    assert await erased(log, asked.answer)
    await log.aclose()


async def test_a_large_request_of_a_taken_name_leaves_nothing(log: EventLog) -> None:
    await name(log, NAME, "only")
    asked = asking(40_000)
    with pytest.raises(NameTakenError):
        await log.create(asked, [Naming(NAME, "digest", "only")])
    without = Start(1, asked.answer, "model", request_bytes=len(encode(asked)))
    assert (await log.with_request(without)).asked() is None
