"""Followers of logs on every backend: history, then live, then the end, in each rendering."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import UnknownAnswer
from service.eventlog import EventLog, Lease, Retention, open_event_log
from service.events import Attempt, Delta, Done, Event, Restart, Start, Stopped, Terminal, Timing, new_answer_id
from service.follower import CutShortError, Follower, encoder_at
from service.question import to_request
from service.renderings import Rendering
from service.renderings.ndjson import JsonLines
from service.renderings.sse import ServerSentEvents
from service.renderings.text import PlainText
from tests.eventlog.another import AnotherWorker
from tests.renderings.event_stream import parse
from tests.sampling import sample
from tests.strategies import ANSWER, answers
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import worker

LONG_SECONDS = 60.0
SSE = ServerSentEvents()
JSON = JsonLines("application/json")
TEXT = PlainText()
DONE = Timing(0.1, 0.2)


async def begin(log: EventLog, *events: Event) -> Lease:
    lease = await log.create(Start.asking(new_answer_id(), to_request("private words", model="model"), at=1.5))
    if events:
        await lease.append(events)
    return lease


async def follower_of(
    log: EventLog,
    answer: str,
    rendering: Rendering = SSE,
    after: int = 0,
    *,
    heartbeat_seconds: float = LONG_SECONDS,
    on_orphan: Callable[[str], None] = lambda _: None,
    has_left: Callable[[], bool] = lambda: False,
    on_first_chunk: Callable[[], None] | None = None,
) -> Follower:
    return Follower(
        await log.open(answer, after),
        rendering,
        await encoder_at(log, answer, after, rendering),
        heartbeat_seconds=heartbeat_seconds,
        on_orphan=on_orphan,
        has_left=has_left,
        on_first_chunk=on_first_chunk,
    )


async def next_of(follower: Follower) -> bytes | None:
    return await asyncio.wait_for(follower.next(), DEADLINE_SECONDS)


async def rest_of(follower: Follower) -> bytes:
    """Everything to the end, after which there is nothing more."""
    sent = b""
    while (data := await next_of(follower)) is not None:
        sent += data
    assert await next_of(follower) is None
    follower.close()
    return sent


def say(seq: int) -> Delta:
    return Delta(seq, text=f"w{seq} ")


def seqs(stream: bytes) -> list[int]:
    return [int(message.last_event_id.partition(":")[2]) for message in parse(stream).messages]


# History, then live


async def test_an_ended_answer_is_sent_whole_and_then_the_end(log: EventLog) -> None:
    lease = await begin(log, say(2), Done(3, "stop", None, DONE))
    sent = await rest_of(await follower_of(log, lease.answer_id))
    assert sent.startswith(SSE.preamble)
    assert seqs(sent) == [1, 2, 3]
    assert b"private words" not in sent


async def test_history_is_followed_by_what_comes_live(log: EventLog) -> None:
    lease = await begin(log, say(2))
    follower = await follower_of(log, lease.answer_id)
    first = await next_of(follower)
    assert first is not None
    assert seqs(first) == [1, 2]
    for seq in range(3, 6):
        waiting = asyncio.create_task(next_of(follower))
        await asyncio.sleep(0)
        await lease.append([say(seq)])
        assert await waiting == SSE.encoder(lease.answer_id).encode([say(seq)])
    await lease.append([Stopped(6, "user")])
    assert await rest_of(follower) == SSE.encoder(lease.answer_id).encode([Stopped(6, "user")])


async def test_a_resumed_follower_gets_every_later_event_once(log: EventLog) -> None:
    lease = await begin(log, say(2), Restart(3), say(4), Done(5, "stop", None, DONE))
    for after in range(5):
        sent = await rest_of(await follower_of(log, lease.answer_id, after=after))
        assert seqs(sent) == list(range(after + 1, 6))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(answers().filter(lambda events: isinstance(events[-1], Terminal)), st.integers(0, 100))
def test_an_answer_cut_at_any_event_and_resumed_is_the_whole_answer(
    new_url: Callable[[], str], events: list[Event], place: int
) -> None:
    start = events[0]
    assert isinstance(start, Start)

    async def cut_and_resume() -> None:
        log = open_event_log(new_url(), Retention())
        try:
            lease = await log.create(start)
            for event in events[1:]:
                await lease.append([event])
            whole = parse(await rest_of(await follower_of(log, ANSWER))).messages
            cut = place % len(whole)
            after = int(whole[cut - 1].last_event_id.partition(":")[2]) if cut else 0
            rest = parse(await rest_of(await follower_of(log, ANSWER, after=after))).messages
            assert whole[:cut] + rest == whole
        finally:
            await log.aclose()

    asyncio.run(cut_and_resume())


async def test_a_follower_that_is_behind_gets_neighbours_merged_under_the_last_seq(log: EventLog) -> None:
    lease = await begin(log, *(say(seq) for seq in range(2, 50)), Delta(50, reasoning="hm"), Stopped(51, "user"))
    sent = await rest_of(await follower_of(log, lease.answer_id))
    assert seqs(sent) == [1, 49, 50, 51]
    assert "".join(f"w{seq} " for seq in range(2, 50)) in parse(sent).messages[1].data


VOICES = ("text", "reasoning", "refusal")
SPOKEN: list[Event] = [
    Delta(2, reasoning="hm"),
    Delta(3, reasoning=", hm"),
    Delta(4, refusal="No"),
    Delta(5, refusal=", no."),
    Delta(6, text="But"),
    Delta(7, text=" a river"),
    Delta(8, refusal=" Still"),
    Delta(9, refusal=" no."),
    Delta(10, reasoning="!"),
]


def objects(rendering: Rendering, body: bytes) -> list[dict[str, object]]:
    """The events' JSON in the body."""
    lines = [message.data.encode() for message in parse(body).messages] if rendering is SSE else body.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("rendering", [SSE, JSON])
async def test_a_reader_that_is_behind_hears_each_voice_as_itself(log: EventLog, rendering: Rendering) -> None:
    lease = await begin(log)
    prompt = await follower_of(log, lease.answer_id, rendering)
    heard = await next_of(prompt) or b""
    for event in [*SPOKEN, Stopped(11, "user")]:
        await lease.append([event])
        heard += await next_of(prompt) or b""
    prompt.close()
    late = objects(rendering, await rest_of(await follower_of(log, lease.answer_id, rendering)))
    assert [
        (name, value) for each in late if each["type"] == "delta" for name, value in each.items() if name in VOICES
    ] == [
        ("reasoning", "hm, hm"),
        ("refusal", "No, no."),
        ("text", "But a river"),
        ("refusal", " Still no."),
        ("reasoning", "!"),
    ]
    for voice in VOICES:
        words = ["".join(str(each.get(voice, "")) for each in read) for read in (late, objects(rendering, heard))]
        assert words[0] == words[1]


async def test_a_terminal_that_is_behind_hears_text_and_refusal_in_their_order(log: EventLog) -> None:
    lease = await begin(log, *SPOKEN, Done(11, "stop", None, DONE))
    assert await rest_of(await follower_of(log, lease.answer_id, TEXT)) == b"No, no.But a river Still no."


async def test_an_answer_that_is_not_there_cannot_be_followed(log: EventLog) -> None:
    with pytest.raises(UnknownAnswer):
        await follower_of(log, new_answer_id())


async def test_a_slow_reader_holds_a_bounded_piece_however_long_the_answer(log: EventLog) -> None:
    lease = await begin(log)
    for first in range(2, 3002, 100):
        await lease.append([Delta(seq, text="x" * 1000) for seq in range(first, first + 100)])
    await lease.append([Stopped(3002, "user")])
    follower = await follower_of(log, lease.answer_id)
    total = 0
    while (data := await next_of(follower)) is not None:
        assert len(data) < 200_000
        total += data.count(b"x")
    assert total >= 3_000_000
    follower.close()


# Signs of life


@pytest.mark.parametrize("rendering", [SSE, JSON])
async def test_a_silent_answer_shows_signs_of_life(log: EventLog, rendering: Rendering) -> None:
    lease = await begin(log)
    follower = await follower_of(log, lease.answer_id, rendering, heartbeat_seconds=0.1)
    await next_of(follower)
    began = time.monotonic()
    for _ in range(3):
        assert await next_of(follower) == rendering.heartbeat
    assert 0.25 < time.monotonic() - began < DEADLINE_SECONDS
    follower.close()


async def test_an_event_puts_the_sign_of_life_off(log: EventLog) -> None:
    lease = await begin(log)
    follower = await follower_of(log, lease.answer_id, heartbeat_seconds=0.4)
    await next_of(follower)
    for seq in range(2, 10):
        waiting = asyncio.create_task(next_of(follower))
        await asyncio.sleep(0.1)
        await lease.append([say(seq)])
        assert await waiting != SSE.heartbeat
    follower.close()


class Drain:
    """A client that takes everything."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> bool:
        self.sent += data
        return True

    async def drain(self) -> None: ...


@pytest.mark.parametrize("sink", [None, Drain()])
async def test_an_event_that_is_not_shown_does_not_put_the_sign_of_life_off(log: EventLog, sink: Drain | None) -> None:
    lease = await begin(log)
    follower = await follower_of(log, lease.answer_id, heartbeat_seconds=0.4)
    await next_of(follower)
    waiting = asyncio.create_task(follower.next(sink))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not waiting.done():
            await lease.append([Delta(lease.last_seq + 1, attempt=Attempt(1, 1))])
            await asyncio.sleep(0.05)
    assert await waiting == SSE.heartbeat
    assert sink is None or sink.sent == b""
    follower.close()


async def test_a_terminal_hears_nothing_but_the_text(log: EventLog) -> None:
    lease = await begin(log)
    follower = await follower_of(log, lease.answer_id, TEXT, heartbeat_seconds=0.05)
    assert await next_of(follower) == b""  # The response can begin.
    waiting = asyncio.create_task(next_of(follower))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await lease.append([Delta(2, reasoning="hm")])
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await lease.append([say(3)])
    assert await waiting == b"w3 "
    await lease.append([Done(4, "stop", None, DONE)])
    assert await rest_of(follower) == b""


async def test_a_stream_that_resumes_at_the_end_begins_at_once(log: EventLog) -> None:
    lease = await begin(log, say(2))
    follower = await follower_of(log, lease.answer_id, after=2)
    assert await next_of(follower) == SSE.opening
    await lease.append([say(3)])
    assert await next_of(follower) == SSE.preamble + SSE.encoder(lease.answer_id).encode([say(3)])
    await lease.append([say(4)])
    assert await next_of(follower) == SSE.encoder(lease.answer_id).encode([say(4)])
    follower.close()


@pytest.mark.parametrize("rendering", [JSON, TEXT])
async def test_a_stream_without_room_for_an_opening_begins_at_once_too(log: EventLog, rendering: Rendering) -> None:
    lease = await begin(log, say(2))
    follower = await follower_of(log, lease.answer_id, rendering, after=2)
    assert await next_of(follower) == b""
    await lease.append([say(3)])
    assert await next_of(follower) == rendering.encoder(lease.answer_id).encode([say(3)])
    follower.close()


async def test_a_stream_does_not_begin_on_a_worker_that_has_left(log: EventLog) -> None:
    lease = await begin(log, say(2))
    follower = await follower_of(log, lease.answer_id, after=2, has_left=lambda: True)
    with pytest.raises(CutShortError):
        await next_of(follower)
    follower.close()


# Orphans


async def test_a_follower_of_an_orphan_asks_for_its_adoption(log: EventLog) -> None:
    lease = await begin(log, say(2))
    orphans: list[str] = []
    follower = await follower_of(log, lease.answer_id, on_orphan=orphans.append)
    await next_of(follower)
    waiting = asyncio.create_task(next_of(follower))
    await asyncio.sleep(0)
    assert orphans == []
    lease.release()
    await until(lambda: orphans)
    assert set(orphans) == {lease.answer_id}
    claimed = await log.claim(lease.answer_id)
    assert claimed is not None
    await claimed.append([Stopped(claimed.last_seq + 1, "user")])
    assert await waiting == SSE.encoder(lease.answer_id).encode([Stopped(claimed.last_seq, "user")])
    follower.close()


async def test_a_follower_of_a_killed_workers_answer_sees_it_carried_on(
    url: str, another: AnotherWorker, upstream: UpstreamProcess
) -> None:
    async with worker(url, upstream) as here:
        answer = new_answer_id()
        await another.ask("create", answer=answer)
        await another.append(answer, [say(2)])
        follower = await follower_of(here.log, answer, on_orphan=here.supervisor.adopt)
        await next_of(follower)
        another.kill()
        rest = await rest_of(follower)
        assert [message.event for message in parse(rest).messages] == ["failed"]


async def test_a_follower_on_a_worker_that_leaves_ends_without_an_end(log: EventLog) -> None:
    lease = await begin(log, say(2))
    orphans: list[str] = []
    follower = await follower_of(log, lease.answer_id, on_orphan=orphans.append, has_left=lambda: True)
    assert seqs(await next_of(follower) or b"") == [1, 2]
    waiting = asyncio.create_task(next_of(follower))
    await asyncio.sleep(0)
    lease.release()
    with pytest.raises(CutShortError):
        await waiting
    assert orphans == []
    follower.close()


# Around it


async def test_the_first_chunk_is_told_once_when_it_is_sent(log: EventLog) -> None:
    lease = await begin(log)
    told: list[bool] = []
    follower = await follower_of(log, lease.answer_id, on_first_chunk=lambda: told.append(True))
    await next_of(follower)
    assert told == []
    for seq in (2, 3):
        await lease.append([say(seq)])
        await next_of(follower)
        assert told == [True]
    follower.close()


async def test_a_follower_watches_until_it_is_closed_and_is_counted(log: EventLog) -> None:
    def followers() -> float:
        return sample("folyam_followers")

    before = followers()
    lease = await begin(log)
    follower = await follower_of(log, lease.answer_id)
    assert lease.watched()
    assert followers() == before + 1
    follower.close()
    follower.close()
    assert not lease.watched()
    assert followers() == before
