"""Followers with a stateful encoder: from any place in the log, its bytes are those of a follower from the start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers import Answers
from service.app import open_answers
from service.config import Settings
from service.errors import Unavailable, UnknownAnswer
from service.eventlog import Retention
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Done, Event, Failed, Restart, Start, Stopped, Timing, new_answer_id
from service.follower import CutShortError, Follower, encoder_at
from service.keys import ANYBODY
from service.renderings import RENDERINGS, Rendering
from service.renderings.base import WholeEncoder
from tests.renderings.numbered import Numbered, NumberedEncoder
from tests.strategies import ANSWER, answers
from tests.waiting import DEADLINE_SECONDS

NUMBERED = Numbered()
DONE = Done(7, "stop", None, Timing(0.1, 0.2))
LOG: tuple[Event, ...] = (
    Start(1, ANSWER, "model"),
    Delta(2, reasoning="hm"),
    Delta(3, text="A"),
    Delta(4, text=" river"),
    Delta(5, refusal="no"),
    Delta(6, text="!"),
    DONE,
)
LINES = {
    # Behind each event: what a follower has yet to get.
    2: b'1 Delta ""\n',
    3: b'2 Delta "A"\n',
    4: b'3 Delta "A river"\n',
    5: b'4 Delta "A river"\n',
    6: b'5 Delta "A river!"\n',
    7: b'6 Done "A river!"\n',
}


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[FileEventLog]:
    log = FileEventLog(str(tmp_path), Retention())
    yield log
    await log.aclose()


async def follower_of(log: FileEventLog, answer: str, after: int, *, has_left: bool = False) -> Follower:
    return Follower(
        await log.open(answer, after),
        NUMBERED,
        await encoder_at(log, answer, after, NUMBERED),
        heartbeat_seconds=60,
        on_orphan=lambda _: None,
        has_left=lambda: has_left,
    )


async def next_of(follower: Follower) -> bytes | None:
    return await asyncio.wait_for(follower.next(), DEADLINE_SECONDS)


async def rest_of(follower: Follower) -> bytes:
    sent = b""
    while (data := await next_of(follower)) is not None:
        sent += data
    follower.close()
    return sent


@pytest.mark.parametrize("written", range(1, len(LOG) + 1))
async def test_every_split_of_the_log_is_the_same_body(log: FileEventLog, written: int) -> None:
    """History and live tail, split at each event; followers that begin behind each event of the history."""
    start = LOG[0]
    assert isinstance(start, Start)
    lease = await log.create(start)
    if written > 1:
        await lease.append(LOG[1:written])
    followers = {after: await follower_of(log, ANSWER, after) for after in range(min(written + 1, len(LOG)))}
    bodies = dict.fromkeys(followers, b"")
    for place in range(written, len(LOG) + 1):
        for after, follower in followers.items():
            if not bodies[after].endswith(NUMBERED.closing):
                bodies[after] += await next_of(follower) or b""
        await lease.append(LOG[place : place + 1]) if place < len(LOG) else None
    for after, follower in followers.items():
        bodies[after] += await rest_of(follower)
        expected = b"".join(line for seq, line in LINES.items() if seq > after)
        assert bodies[after].removeprefix(NUMBERED.opening) == NUMBERED.preamble + expected + NUMBERED.closing


@given(answers(), st.lists(st.integers(0, 100), max_size=4), st.integers(0, 100))
def test_an_encoder_brought_to_any_event_writes_what_one_from_the_start_writes(
    events: list[Event], places: list[int], place: int
) -> None:
    events = [event for event in events if not isinstance(event, Restart)]
    whole = [NumberedEncoder().encode(events[:end]) for end in range(len(events) + 1)]
    after = place % len(events)
    encoder = NumberedEncoder()
    encoder.advance(events[:after])
    cuts = sorted({after, len(events), *(max(after, cut % len(events)) for cut in places)})
    rest = b"".join(encoder.encode(events[begin:end]) for begin, end in pairwise(cuts))
    assert whole[after] + rest == whole[-1]


async def test_an_encoder_is_brought_up_through_a_history_of_many_reads(log: FileEventLog) -> None:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([Delta(seq, reasoning="x" * 5000) for seq in range(2, 102)])
    await lease.append([Stopped(102, "user")])
    for after in (2, 50, 100, 101):
        sent = await rest_of(await follower_of(log, lease.answer_id, after))
        numbers = [int(line.split()[0]) for line in sent.splitlines()[1:-1]]
        assert numbers == list(range(after, 102))


async def test_bringing_an_encoder_up_is_not_following(log: FileEventLog) -> None:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([Delta(2, text="a")])
    await encoder_at(log, lease.answer_id, 2, NUMBERED)
    assert not lease.watched()


@pytest.mark.parametrize("rendering", RENDERINGS.values())
async def test_the_log_is_read_from_its_start_only_where_it_is_needed(log: FileEventLog, rendering: Rendering) -> None:
    not_there = new_answer_id()
    await encoder_at(log, not_there, 3, rendering)
    await encoder_at(log, not_there, 0, NUMBERED, is_new=True)
    for after in (0, 3):
        with pytest.raises(UnknownAnswer):
            await encoder_at(log, not_there, after, NUMBERED)


class Unlucky(Numbered):
    """A rendering that cannot begin."""

    def encoder(self, answer_id: str) -> NumberedEncoder:  # noqa: ARG002
        raise Unavailable("log_unavailable")


async def test_a_resume_brings_the_encoder_to_its_place(tmp_path: Path) -> None:
    async with of_a_worker(tmp_path) as (answers, log):
        lease = await log.create(Start(1, new_answer_id(), "model"))
        await lease.append(LOG[1:])
        with pytest.raises(Unavailable):
            await answers.follow(lease.answer_id, 3, Unlucky(), ANYBODY)
        assert not lease.watched()
        # The only one whom the worker may have: the one before did not stay in the count.
        follower = await answers.follow(lease.answer_id, 3, NUMBERED, ANYBODY)
        assert follower is not None
        assert lease.watched()
        expected = b"".join(line for seq, line in LINES.items() if seq > 3)
        assert await rest_of(follower) == NUMBERED.preamble + expected + NUMBERED.closing


@asynccontextmanager
async def of_a_worker(directory: Path) -> AsyncIterator[tuple[Answers, FileEventLog]]:
    """The answers of a worker with room for one follower, and their log."""
    settings = Settings(
        openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=f"file://{directory}/log", max_followers=1
    )
    async with open_answers(settings) as answers:
        log = FileEventLog(f"{directory}/log", Retention())
        try:
            yield answers, log
        finally:
            await log.aclose()


# The end


@pytest.mark.parametrize("last", [DONE, Stopped(7, "user"), Failed(7, "code", "Words.", retryable=True)])
async def test_the_closing_comes_once_behind_the_terminal_event(log: FileEventLog, last: Event) -> None:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([*LOG[1:-1], last])
    follower = await follower_of(log, lease.answer_id, 0)
    sent = await rest_of(follower)
    assert sent.endswith(b'"A river!"\n[DONE]\n')
    assert sent.count(NUMBERED.closing) == 1
    assert await next_of(follower) is None


async def test_a_body_that_is_cut_has_no_closing(log: FileEventLog) -> None:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([Delta(2, text="a")])
    follower = await follower_of(log, lease.answer_id, 0, has_left=True)
    assert await next_of(follower) == NUMBERED.preamble + b'1 Delta "a"\n'
    with pytest.raises(CutShortError):
        await next_of(follower)
    follower.close()


async def test_nothing_is_written_behind_the_last_word_of_an_encoder(log: FileEventLog) -> None:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([Delta(2, text="a")])
    watching, later = await follower_of(log, lease.answer_id, 0), await follower_of(log, lease.answer_id, 0)
    assert await next_of(watching) == NUMBERED.preamble + b'1 Delta "a"\n'
    await lease.append([Restart(3), Delta(4, text="b"), Stopped(5, "user")])
    assert await next_of(watching) == b'2 Restart ""\nerror\n'
    assert await next_of(watching) is None
    watching.close()
    # With the terminal event in the same read, too.
    assert await rest_of(later) == NUMBERED.preamble + b'1 Delta "a"\n2 Restart ""\nerror\n'


async def test_a_follower_that_comes_behind_a_restart_goes_on(log: FileEventLog) -> None:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([Delta(2, text="a"), Restart(3), Delta(4, text="b"), Stopped(5, "user")])
    sent = await rest_of(await follower_of(log, lease.answer_id, 3))
    assert sent == NUMBERED.preamble + b'3 Delta "b"\n4 Stopped "b"\n[DONE]\n'


async def test_an_event_without_bytes_begins_no_body(log: FileEventLog) -> None:
    """The start writes nothing here: the opening comes alone, and the preamble with the first bytes."""
    lease = await log.create(Start(1, new_answer_id(), "model"))
    follower = await follower_of(log, lease.answer_id, 0)
    assert await next_of(follower) == NUMBERED.opening
    await lease.append([Delta(2, text="a")])
    assert await next_of(follower) == NUMBERED.preamble + b'1 Delta "a"\n'
    follower.close()


def test_a_whole_response_is_the_same_fold_run_to_the_end() -> None:
    encoder: WholeEncoder = NumberedEncoder()
    encoder.advance(LOG)
    assert encoder.whole() == (200, b'[6, "A riverno!"]')
    encoder = NumberedEncoder()
    encoder.advance([*LOG[:-1], Failed(7, "code", "Words.", retryable=True)])
    assert encoder.whole()[0] == 502
