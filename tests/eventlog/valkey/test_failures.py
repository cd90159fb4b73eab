"""What happens when workers and servers fail. docs/reliability.md has the table."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest

from service.errors import Unavailable
from service.eventlog import Retention, open_event_log
from service.eventlog.valkey import workers
from service.events import Delta, Failed, Start, new_answer_id
from tests.e2e.cutter import Cutter
from tests.eventlog.another import AnotherWorker
from tests.eventlog.valkey.town import Town
from tests.valkey import ValkeyServer
from tests.waiting import first as first_of
from tests.waiting import until


@pytest.fixture
async def town(server: ValkeyServer) -> AsyncIterator[Town]:
    town = Town(server.url)
    yield town
    await town.aclose()


async def test_answers_are_followed_through_any_worker(town: Town) -> None:
    await town.two_workers(words=100)
    await town.ended()
    assert not town.take_overs
    assert not any(client.text.restarts or client.is_refused for client in town.clients)
    for worker in town.workers:  # Nothing is kept of answers that have ended.
        await until(lambda worker=worker: not worker.log._tails._tails and not len(worker.log._tails.channels))  # type: ignore[misc]


async def test_an_answer_of_a_worker_that_was_killed_goes_on_within_seconds(town: Town) -> None:
    first, _ = await town.two_workers(words=150, pause=0.02)
    await asyncio.sleep(1.0)
    first.kill()
    await town.ended()
    assert town.take_overs == 5
    assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_a_server_that_restarts_is_a_pause(town: Town, server: ValkeyServer) -> None:
    await town.two_workers(words=200)
    for _ in range(3):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.restart)
    await town.ended()
    assert not town.take_overs
    assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_what_the_server_forgot_is_put_back_and_no_client_notices(town: Town, server: ValkeyServer) -> None:
    await town.two_workers(words=400)
    for size in (500, 3_000, 10_000, 1):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(server.forget, size)
    await town.ended()
    assert town.put_back() > 10
    assert not town.take_overs
    assert not town.given_anew()
    assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_who_saw_more_than_the_log_kept_gets_the_text_anew(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    for _ in range(5):
        answer = await first.ask(words=300)
        first.follow(answer)
        first.follow(answer, rests=4.0)  # It comes back when the answer goes on.
        second.follow(answer)
    await asyncio.sleep(0.7)
    first.kill()
    await asyncio.to_thread(server.forget, 8_000)
    await town.ended()
    assert town.take_overs >= 5
    assert town.given_anew()
    assert {client.text.restarts for client in town.clients if not client.is_refused} <= {0, 1}


async def test_an_end_that_the_server_forgot_is_put_back(town: Town, server: ValkeyServer) -> None:
    worker = town.worker()
    answer = await worker.ask(words=20)
    await worker.follow(answer).ended()
    await asyncio.to_thread(server.forget, 1_500)
    await asyncio.sleep(1.0)
    await town.ended()
    assert not town.take_overs


async def test_a_server_that_hangs_is_a_pause(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    answer = await first.ask(words=200)
    first.follow(answer)
    second.follow(answer)
    await asyncio.sleep(0.3)
    server.freeze()
    await asyncio.sleep(3.0)
    server.thaw()
    await town.ended()
    assert not town.take_overs
    assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_a_worker_that_is_cut_off_loses_its_answers_and_writes_nothing_more(
    town: Town, server: ValkeyServer
) -> None:
    with Cutter(server.address) as network:
        first, second = town.worker(f"valkey://{network.address}"), town.worker()
        for _ in range(3):
            answer = await first.ask(words=200, pause=0.02)
            second.follow(answer)
            second.follow(answer)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(network.swallow)
        await until(lambda: town.take_overs == 3)
        await asyncio.to_thread(network.heal)
        await until(lambda: first.lost == 3)
        await town.ended()
        assert town.take_overs == 3
        assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_a_worker_that_is_cut_off_for_less_than_the_limit_keeps_its_answers(
    town: Town, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "DEAD_SECONDS", 20.0)  # A busy machine held the worker for over two seconds.
    with Cutter(server.address) as network:
        first, second = town.worker(f"valkey://{network.address}"), town.worker()
        second.follow(await first.ask(words=100, pause=0.02))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(network.hold)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(network.heal)
        await town.ended()
        assert not town.take_overs
        assert not first.lost


async def test_a_server_that_is_away_for_long_makes_no_worker_dead(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    second.follow(await first.ask(words=100, pause=0.02))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(5.0)
    await asyncio.to_thread(server.start)
    await town.ended()
    assert not town.take_overs
    assert not first.lost


async def test_an_answer_whose_whole_log_is_deleted_is_unknown(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    client = second.follow(await first.ask(words=10_000, pause=0.01))
    await until(lambda: client.text.seq > 5)
    server.command("FLUSHALL")
    await client.ended()
    assert client.is_refused
    await until(lambda: first.lost == 1)


async def test_an_append_of_a_worker_that_was_stopped_beyond_its_take_over_is_refused(server: ValkeyServer) -> None:
    log = open_event_log(server.url, Retention())
    with AnotherWorker(server.url) as another:
        answer = new_answer_id()
        await another.ask("create", answer=answer)
        another._process.send_signal(signal.SIGSTOP)
        append = asyncio.create_task(another.append(answer, [Delta(2, text="theirs")]))
        lease = await first_of(lambda: log.claim(answer))
        said = Delta(lease.last_seq + 1, text="ours")
        await lease.append([said])
        another._process.send_signal(signal.SIGCONT)
        with pytest.raises(AssertionError, match="died of append"):  # of LeaseLostError
            await append
        with contextlib.closing(await log.open(answer, 1)) as reader:
            assert await reader.read() == [said]
    await log.aclose()


async def test_an_answer_that_is_handed_over_is_claimed_at_once(town: Town) -> None:
    first, second = town.worker(), town.worker()
    client = second.follow(await first.ask(words=100))
    await until(lambda: client.text.seq > 5)
    [lease] = first.leases
    lease.hand_over()
    await until(lambda: town.take_overs == 1)
    await town.ended()
    assert client.longest_pause < 1.5, "nobody waited for a heartbeat to stand still"


async def test_an_answer_whose_claim_the_server_forgot_is_claimed_again(town: Town, server: ValkeyServer) -> None:
    """Index and lease are apart: the index names the claimer, the lease a worker that is dead."""
    first = town.worker()
    answer = await first.ask(words=100, pause=0.05)
    client = first.follow(answer)
    await until(lambda: client.text.seq > 3)
    server.command("HSET", f"folyam:{{{answer}}}:lease", "owner", "nobody.1.00000000")
    server.command("XADD", f"folyam:{{{answer}}}:log", "50-0", "c", "nobody.1.00000000")
    await until(lambda: first.lost == 1)
    await town.ended()
    assert town.take_overs == 1


async def test_when_the_memory_is_full_appends_fail_and_ends_do_not(town: Town, server: ValkeyServer) -> None:
    log = town.worker().log
    answer = new_answer_id()
    lease = await log.create(Start(1, answer, "model"))
    server.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(Unavailable) as refused:
        await lease.append([Delta(2, text="w1")])
    assert refused.value.code == "log_full"
    with pytest.raises(Unavailable) as refused:
        await log.create(Start(1, new_answer_id(), "model"))
    assert refused.value.code == "log_full"
    await lease.append([Failed(2, "log_full", "", retryable=True)])
    lease.release()
    assert await log.last(answer) == Failed(2, "log_full", "", retryable=True)


async def test_a_question_is_refused_soon_while_the_server_is_away(town: Town, server: ValkeyServer) -> None:
    worker = town.worker()
    await worker.ask(words=1)
    await asyncio.to_thread(server.kill)
    began_at = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable) as refused:
        await worker.ask(words=1)
    assert refused.value.code == "log_unavailable"
    assert asyncio.get_running_loop().time() - began_at < 5
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize("produced_here", [True, False])
async def test_readers_are_cut_once_the_server_is_given_up(
    town: Town, server: ValkeyServer, *, produced_here: bool
) -> None:
    producing, worker = town.worker(), town.worker()
    if produced_here:
        worker = producing
    connection = worker.log._store.connection
    producing.log._store.connection._patience_seconds = 2.0
    answer = await producing.ask(words=10_000)
    [lease] = await first_of(lambda: asyncio.sleep(0.01, producing.leases))
    with contextlib.closing(await worker.log.open(answer)) as reader:
        while not produced_here and reader._channel.end < 2:  # It hears of what is written.
            await reader.read()
            await reader.wait(0.1)
        await asyncio.to_thread(server.kill)
        await until(lease.lost)
        connection._patience_seconds = 60.0  # What is asked from here on would wait for long.
        connection._lost_at = asyncio.get_running_loop().time() - 58.0

        async def read_on() -> None:
            while True:
                await reader.read()
                await reader.wait(60.0)

        with pytest.raises(Unavailable):
            await asyncio.wait_for(read_on(), 10.0)


async def test_nothing_is_left_of_answers_that_were_erased(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    answer = await first.ask(words=5)
    second.follow(answer)
    await town.ended()
    for lease in first.leases:
        await until(lease.lost)
    await second.log.erase(answer)
    await first.aclose()
    await second.aclose()
    town.workers.clear()
    assert server.command("KEYS", "*") in ([], [b"{folyam}:ended:total"])
    assert server.command("GET", "{folyam}:ended:total") in (None, b"0")
