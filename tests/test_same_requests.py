"""The same request is the same answer, on every log and on whichever worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from service.answers import Answers
from service.app import open_answers
from service.config import Settings
from service.errors import BadInput, UnknownAnswer, UpstreamError
from service.events import new_answer_id
from service.follower import Follower
from service.keys import ANYBODY, Caller
from service.names import Same
from service.question import to_request
from service.renderings import RENDERINGS
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, first

LINES = RENDERINGS["application/json"]
QUICK: dict[str, Any] = {"text": "word ", "chunks": 3}
SLOW: dict[str, Any] = QUICK | {"on_demand": True}
TEXT = 3 * "word "


@dataclass
class Workers:
    """Two workers that share a log, and a scripted upstream."""

    answers: tuple[Answers, Answers]
    upstream: UpstreamProcess

    async def ask(self, worker: int, same: Same | None, *, caller: Caller = ANYBODY, **script: object) -> Follower:
        query = json.dumps(script)
        return await self.answers[worker].ask(
            to_request(query, model="model"),
            new_answer_id(),
            LINES,
            caller=caller,
            address="",
            arrived_at=asyncio.get_running_loop().time(),
            same=same,
        )

    async def asked(self, key: str) -> int:
        """The number of requests to the upstream with this key of a script."""
        return len(await asyncio.to_thread(self.upstream.requests, key))

    async def opened(self, key: str, requests: int = 1) -> None:
        await asyncio.to_thread(self.upstream.wait_opened, key, requests=requests)

    async def step(self, key: str, times: int = 10) -> None:
        for _ in range(times):
            await asyncio.to_thread(self.upstream.step, key)


@pytest.fixture
async def workers(url: str, upstream: UpstreamProcess) -> AsyncIterator[Workers]:
    settings = Settings(
        openai_base_url=upstream.base_url, model="model", log_url=url, unwatched_seconds=60, status_wait_seconds=1
    )
    async with AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(open_answers(settings)) for _ in range(2)]
        yield Workers((answers[0], answers[1]), upstream)


async def whole(follower: Follower) -> list[dict[str, Any]]:
    """All events to the end; the response is then delivered."""
    data = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (piece := await follower.next()) is not None:
            data += piece
    follower.delivered()
    follower.close()
    return [json.loads(line) for line in data.splitlines() if line]


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("text", "") for event in events)


async def ended(answers: Answers, answer: str) -> None:
    async def has_ended() -> bool:
        return (await answers.read(answer, ANYBODY)).state != "running"

    await first(has_ended)


# By a key


async def test_the_same_key_joins_a_running_answer_on_another_worker(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same("digest", key=key), key=key, **SLOW)
    other = await workers.ask(1, Same("digest", key=key), key=key, **SLOW)
    assert other.answer_id == one.answer_id
    stepping = asyncio.create_task(workers.step(key))
    assert text(await whole(one)) == text(await whole(other)) == TEXT
    await stepping
    assert await workers.asked(key) == 1


@pytest.mark.parametrize("worker", [0, 1])
async def test_the_same_key_replays_an_answer_that_has_ended(workers: Workers, worker: int) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same("digest", key=key), key=key, **QUICK)
    events = await whole(one)
    again = await workers.ask(worker, Same("digest", key=key), key=key, **QUICK)
    assert text(await whole(again)) == text(events)
    assert await workers.asked(key) == 1


async def test_a_key_is_not_taken_for_another_request(workers: Workers) -> None:
    key = new_answer_id()
    await whole(await workers.ask(0, Same("digest", key=key), key=key, **QUICK))
    for worker in (0, 1):
        with pytest.raises(BadInput) as raised:
            await workers.ask(worker, Same("another", key=key), key=key, **QUICK)
        assert (raised.value.code, raised.value.status) == ("idempotency_key_reused", 422)
    assert await workers.asked(key) == 1


async def test_keys_of_two_owners_are_two(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same("digest", key=key), caller=Caller(b"one"), key=key, **QUICK)
    two = await workers.ask(0, Same("digest", key=key), caller=Caller(b"two"), key=key, **QUICK)
    assert one.answer_id != two.answer_id
    await whole(one)
    await whole(two)
    assert await workers.asked(key) == 2


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_key_joins_a_stopped_answer_and_shows_its_end(workers: Workers, worker: int) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same("digest", key=key), key=key, **SLOW)
    await workers.opened(key)
    await workers.answers[0].stop(one.answer_id, ANYBODY)
    again = await workers.ask(worker, Same("digest", key=key), key=key, **SLOW)
    assert (await whole(again))[-1]["type"] == "stopped"
    assert await workers.asked(key) == 1


async def test_a_refusal_frees_the_key(workers: Workers) -> None:
    key = new_answer_id()
    for requests in (1, 2):
        with pytest.raises(UpstreamError):
            await workers.ask(requests - 1, Same("digest", key=key), key=key, status=400)
        assert await workers.asked(key) == requests


async def test_a_refusal_frees_the_key_although_who_asked_has_left(workers: Workers) -> None:
    key = new_answer_id()
    asking = asyncio.create_task(workers.ask(0, Same("digest", key=key), key=key, status=400, status_delay=0.3))
    await workers.opened(key)
    asking.cancel()
    await asyncio.wait([asking])
    with pytest.raises(UpstreamError):
        await first(lambda: refused_anew(workers, key))


async def refused_anew(workers: Workers, key: str) -> None:
    """Ask again. It may join the refused answer once, before it is erased."""
    follower = await workers.ask(1, Same("digest", key=key), key=key, status=400)
    follower.close()


async def test_an_erased_answer_frees_the_key(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same("digest", key=key), key=key, **QUICK)
    await whole(one)
    await workers.answers[1].erase(one.answer_id, ANYBODY)
    again = await workers.ask(1, Same("digest", key=key), key=key, **QUICK)
    assert again.answer_id != one.answer_id
    await whole(again)
    assert await workers.asked(key) == 2


async def test_of_many_requests_at_once_with_one_key_one_asks_the_upstream(workers: Workers) -> None:
    key = new_answer_id()
    same = Same("digest", key=key)
    followers = await asyncio.gather(
        *[workers.ask(number % 2, same, key=key, **QUICK, status_delay=0.2) for number in range(10)]
    )
    texts = await asyncio.gather(*map(whole, followers))
    assert {text(events) for events in texts} == {TEXT}
    assert len({follower.answer_id for follower in followers}) == 1
    assert await workers.asked(key) == 1


# By a retry of the SDKs


async def test_a_retry_joins_the_answer_that_nobody_follows(workers: Workers) -> None:
    key = new_answer_id()
    followed = await workers.ask(0, Same(key, retry=False), key=key, **SLOW)
    lost = await workers.ask(0, Same(key, retry=False), key=key, **SLOW)
    lost.close()
    await workers.opened(key, 2)

    async def joined() -> bool:
        retry = await workers.ask(1, Same(key, retry=True), key=key, **SLOW)
        retry.close()
        return retry.answer_id == lost.answer_id

    await first(joined)
    followed.close()


async def test_a_retry_joins_the_only_answer_though_it_looks_followed(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same(key, retry=False), key=key, **SLOW)
    retry = await workers.ask(1, Same(key, retry=True), key=key, **SLOW)
    assert retry.answer_id == one.answer_id
    one.close()
    retry.close()
    assert await workers.asked(key) == 1


async def test_a_retry_beside_parallel_samples_begins_its_own(workers: Workers) -> None:
    key = new_answer_id()
    samples = [await workers.ask(number % 2, Same(key, retry=False), key=key, **SLOW) for number in range(2)]
    retry = await workers.ask(1, Same(key, retry=True), key=key, **SLOW)
    assert len({sample.answer_id for sample in (*samples, retry)}) == 3
    for each in (*samples, retry):
        each.close()


async def test_what_is_no_retry_begins_an_answer_of_its_own(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same(key, retry=False), key=key, **SLOW)
    two = await workers.ask(1, Same(key, retry=False), key=key, **SLOW)
    assert one.answer_id != two.answer_id
    one.close()
    two.close()


async def test_a_retry_joins_no_answer_that_was_delivered(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same(key, retry=False), key=key, **QUICK)
    await whole(one)
    retry = await workers.ask(1, Same(key, retry=True), key=key, **QUICK)
    assert retry.answer_id != one.answer_id
    retry.close()


async def test_a_retry_joins_an_answer_that_ended_undelivered(workers: Workers) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same(key, retry=False), key=key, **QUICK)
    one.close()
    await ended(workers.answers[0], one.answer_id)
    retry = await workers.ask(1, Same(key, retry=True), key=key, **QUICK)
    assert retry.answer_id == one.answer_id
    assert text(await whole(retry)) == TEXT
    assert await workers.asked(key) == 1


@pytest.mark.parametrize("how", ["stopped", "failed"])
async def test_a_retry_joins_no_answer_that_failed_or_was_stopped(workers: Workers, how: str) -> None:
    key = new_answer_id()
    one = await workers.ask(0, Same(key, retry=False), key=key, **QUICK, error_after=1, on_demand=how == "stopped")
    one.close()
    if how == "stopped":
        await workers.answers[0].stop(one.answer_id, ANYBODY)
    await ended(workers.answers[0], one.answer_id)
    retry = await workers.ask(1, Same(key, retry=True), key=key, **QUICK)
    assert retry.answer_id != one.answer_id
    retry.close()


async def test_a_retry_that_comes_alone_begins_an_answer(workers: Workers) -> None:
    key = new_answer_id()
    assert text(await whole(await workers.ask(0, Same(key, retry=True), key=key, **QUICK))) == TEXT


# By a chat


async def test_a_chat_is_followed_by_its_newest_answer(workers: Workers) -> None:
    chat = new_answer_id()
    older = await workers.ask(0, Same("one", chat=chat), key=chat, **SLOW)
    newer = await workers.ask(1, Same("one", chat=chat), key=chat, **SLOW)
    assert older.answer_id != newer.answer_id, "a question in a chat always begins an answer"
    found = await workers.answers[0].follow_chat(chat, LINES, ANYBODY)
    assert found is not None
    assert found.answer_id == newer.answer_id == await workers.answers[0].newest(chat, ANYBODY)
    for each in (older, newer, found):
        each.close()


async def test_a_chat_whose_answer_was_delivered_has_nothing_to_follow(workers: Workers) -> None:
    chat = new_answer_id()
    one = await workers.ask(0, Same("one", chat=chat), key=chat, **QUICK)
    one.close()
    await ended(workers.answers[0], one.answer_id)
    replayed = await workers.answers[1].follow_chat(chat, LINES, ANYBODY)
    assert replayed is not None, "it ended, and nobody saw it whole"
    assert text(await whole(replayed)) == TEXT

    async def is_delivered() -> bool:
        again = await workers.answers[0].follow_chat(chat, LINES, ANYBODY)
        if again is not None:
            again.close()
        return again is None

    await first(is_delivered)
    assert await workers.answers[0].newest(chat, ANYBODY) == one.answer_id


async def test_a_chat_is_its_owners(workers: Workers) -> None:
    chat = new_answer_id()
    one = await workers.ask(0, Same("one", chat=chat), caller=Caller(b"one"), key=chat, **QUICK)
    with pytest.raises(UnknownAnswer):
        await workers.answers[0].follow_chat(chat, LINES, Caller(b"two"))
    with pytest.raises(UnknownAnswer):
        await workers.answers[1].newest(chat, Caller(b"two"))
    await whole(one)


async def test_a_chat_goes_back_if_its_newest_answer_is_refused(workers: Workers) -> None:
    chat = new_answer_id()
    one = await workers.ask(0, Same("one", chat=chat), key=chat, **QUICK)
    await whole(one)
    with pytest.raises(UpstreamError):
        await workers.ask(1, Same("two", chat=chat), key=chat, status=400)
    assert await workers.answers[0].newest(chat, ANYBODY) == one.answer_id
