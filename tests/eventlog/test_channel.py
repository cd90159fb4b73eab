"""A worker's channel for one answer, on every backend."""

import asyncio
from collections.abc import Sequence

import pytest
import uvloop

from service.eventlog import EventLog
from service.eventlog.alarm import Alarm
from service.events import Delta, Event, Start, new_answer_id
from tests.waiting import DEADLINE_SECONDS

LONG_SECONDS = 60.0


async def test_a_reader_at_the_tail_is_handed_the_events_without_asking_the_storage(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = new_answer_id()
    lease = await log.create(Start(1, answer, "model"))
    readers = [await log.open(answer, 1) for _ in range(3)]
    asked: list[object] = []

    async def ask(reader: object) -> Sequence[Event]:
        asked.append(reader)
        return ()

    monkeypatch.setattr(type(readers[0]), "_fetch", ask)
    for seq in range(2, 6):
        events = [Delta(seq, text="w")]
        await lease.append(events)
        for reader in readers:
            assert await reader.read() is events
            assert not await reader.read()
    assert asked == []
    for reader in readers:
        reader.close()


async def test_a_reader_that_is_behind_the_tail_reads_the_storage_until_it_has_caught_up(log: EventLog) -> None:
    answer = new_answer_id()
    lease = await log.create(Start(1, answer, "model"))
    reader = await log.open(answer, 1)
    for seq in (2, 3):
        await lease.append([Delta(seq, text="w")])
    assert [event.seq for event in await reader.read()] == [2, 3]
    last = [Delta(4, text="w")]
    await lease.append(last)
    assert await reader.read() is last
    reader.close()


async def test_a_tail_is_forgotten_with_its_lease(log: EventLog) -> None:
    answer = new_answer_id()
    lease = await log.create(Start(1, answer, "model"))
    reader = await log.open(answer, 1)
    events = [Delta(2, text="w")]
    await lease.append(events)
    lease.release()
    read = await reader.read()
    assert list(read) == events
    assert read is not events
    reader.close()


def test_a_wait_that_is_ended_before_a_very_short_timer_is_followed_by_the_next() -> None:
    async def wait_twice() -> None:
        alarm = Alarm()

        async def twice() -> None:
            await alarm.wait(0.0004)
            await alarm.wait(0.0)

        waiting = asyncio.create_task(twice())
        await asyncio.sleep(0)
        alarm.ring()
        await asyncio.wait_for(waiting, DEADLINE_SECONDS)
        alarm.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wait_twice())


async def test_many_waits_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm()
    set_at: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *given: object) -> asyncio.TimerHandle:
        set_at.append(when)
        return call_at(when, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(5):
        waiting = alarm.wait(LONG_SECONDS)
        alarm.ring()
        await waiting
    assert len(set_at) == 1
    alarm.close()


async def test_a_timer_that_fires_too_early_is_set_again() -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm()
    first = alarm.wait(0.01)
    alarm.ring()
    await first
    began = loop.time()
    await asyncio.wait_for(alarm.wait(0.05), DEADLINE_SECONDS)
    assert loop.time() - began >= 0.048
    alarm.close()


async def test_a_wait_that_was_cancelled_is_rung_in_vain() -> None:
    alarm = Alarm()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(alarm.wait(LONG_SECONDS), 0.01)
    alarm.ring()
    waiting = alarm.wait(LONG_SECONDS)
    alarm.ring()
    await asyncio.wait_for(waiting, DEADLINE_SECONDS)
    alarm.close()
