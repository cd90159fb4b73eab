"""A renewal that meets a server that has forgotten the end of the log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from service.errors import Unavailable, UnknownAnswer
from service.eventlog import Retention
from service.eventlog.valkey import lease as leases
from service.eventlog.valkey.address import parse_address
from service.eventlog.valkey.log import ValkeyEventLog
from service.events import Delta, Event, Restart, Start, new_answer_id
from tests.valkey import ValkeyServer
from tests.waiting import until

WORDS = 20


@pytest.fixture
async def logs(server: ValkeyServer) -> AsyncIterator[list[ValkeyEventLog]]:
    logs = [ValkeyEventLog(parse_address(server.url), Retention()) for _ in range(2)]
    yield logs
    for log in logs:
        await log.aclose()


def file_size(server: ValkeyServer) -> int:
    return sum(file.stat().st_size for file in server.directory.glob("appendonlydir/*.incr.aof"))


async def read(log: ValkeyEventLog, answer: str) -> list[Event]:
    found: list[Event] = []
    with contextlib.closing(await log.open(answer, watch=False)) as reader:
        while events := await reader.read():
            found += events
    return found


@pytest.mark.parametrize("claims_before", [0, 1])
async def test_what_the_server_forgot_is_put_back_before_a_renewal(
    server: ValkeyServer, logs: list[ValkeyEventLog], claims_before: int
) -> None:
    log = logs[0]
    answer = new_answer_id()
    start = Start(1, answer, "model")
    lease = await log.create(start)
    for _ in range(claims_before):
        await lease.renew()
    kept = file_size(server)
    said: list[Event] = []
    for number in range(WORDS):
        said.append(Delta(lease.last_seq + 1, text=f"w{number} "))
        await lease.append(said[-1:])
    last = lease.last_seq
    server.freeze()
    renewal = asyncio.create_task(lease.renew())
    await asyncio.sleep(0.1)  # It is in the socket of a server that is about to forget.
    await asyncio.to_thread(server.forget, file_size(server) - kept - 1)
    await renewal
    assert lease.last_seq > last
    assert lease.put_back == WORDS
    assert await read(log, answer) == [start, *said]


@pytest.mark.parametrize("hears_first", [False, True])
async def test_text_that_was_read_while_the_server_lacked_some_of_it_is_not_given(
    server: ValkeyServer, logs: list[ValkeyEventLog], *, hears_first: bool
) -> None:
    answer = new_answer_id()
    lease = await logs[0].create(Start(1, answer, "model"))
    kept = file_size(server)
    for number in range(WORDS):
        await lease.append([Delta(lease.last_seq + 1, text=f"w{number} ")])
    await lease.renew()

    def again() -> list[Event]:
        return [Restart(lease.last_seq + 1, again=True), Delta(lease.last_seq + 2, text="w0 ")]

    size = file_size(server) - kept - 1
    if hears_first:
        await asyncio.to_thread(server.forget, size)
        await until(lambda: lease.put_back == WORDS + 1 and lease._busy is None)
        append = asyncio.create_task(lease.append(again(), anew=True))
    else:
        server.freeze()
        append = asyncio.create_task(lease.append(again(), anew=True))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.forget, size)
    with pytest.raises(Unavailable):
        await append
    assert not lease.lost()
    await lease.renew()
    await lease.append(again(), anew=True)


async def test_text_is_given_anew_so_many_times_an_answer_by_all_its_producers(
    logs: list[ValkeyEventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "ANEW_PAUSE_SECONDS", 0.0)
    answer = new_answer_id()
    lease = await logs[0].create(Start(1, answer, "model"))
    for number in range(leases.ANEW_LIMIT):
        lease.request_anew()
        assert lease.anew_requested()
        await lease.renew()
        again: list[Event] = [Restart(lease.last_seq + 1, again=True), Delta(lease.last_seq + 2, text="w")]
        await lease.append(again, anew=True)
        lease.hand_over()
        other = logs[(number + 1) % 2]
        claimed = await other.claim(answer)
        assert claimed is not None
        lease = claimed
    lease.request_anew()
    assert not lease.anew_requested()


async def test_nothing_is_left_of_a_running_answer_whose_log_was_deleted(
    server: ValkeyServer, logs: list[ValkeyEventLog]
) -> None:
    log, other = logs
    answer = new_answer_id()
    await log.create(Start(1, answer, "model"))
    server.command("DEL", f"folyam:{{{answer}}}:log")
    await log.aclose()
    assert await other.claim(answer) is None
    await until(lambda: not server.command("EXISTS", f"folyam:{{{answer}}}:lease"))
    with pytest.raises(UnknownAnswer):
        await other.last(answer)
