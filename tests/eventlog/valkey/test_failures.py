"""What happens when workers and servers fail. docs/reliability.md has the table."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.eventlog.valkey.town import Town
from tests.valkey import ValkeyServer


@pytest.fixture
async def town(server: ValkeyServer) -> AsyncIterator[Town]:
    town = Town(server.url)
    yield town
    await town.aclose()


async def test_answers_are_followed_through_any_worker(town: Town) -> None:
    first, second = town.worker(), town.worker()
    for _ in range(5):
        answer = await first.ask(words=100)
        first.follow(answer)
        second.follow(answer)
    await town.ended()
    assert not town.take_overs
    assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_an_answer_of_a_worker_that_was_killed_goes_on_within_seconds(town: Town) -> None:
    first, second = town.worker(), town.worker()
    for _ in range(5):
        answer = await first.ask(words=150, pause=0.02)
        second.follow(answer)
        first.follow(answer)
    await asyncio.sleep(1.0)
    first.kill()
    await town.ended()
    assert town.take_overs == 5
    assert not any(client.text.restarts or client.is_refused for client in town.clients)
    assert max(client.longest_pause for client in town.clients) < 5


async def test_a_server_that_restarts_is_a_pause(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    for _ in range(5):
        answer = await first.ask(words=200)
        first.follow(answer)
        second.follow(answer)
    for _ in range(3):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.restart)
    await town.ended()
    assert not town.take_overs
    assert not any(client.text.restarts or client.is_refused for client in town.clients)


async def test_what_the_server_forgot_is_put_back_and_no_client_notices(town: Town, server: ValkeyServer) -> None:
    first, second = town.worker(), town.worker()
    for _ in range(5):
        answer = await first.ask(words=400)
        first.follow(answer)
        second.follow(answer)
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
