"""Two versions share one log while one replaces the other: each reads, and carries on, what the other wrote."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from service.eventlog import AheadOfLogError, DamagedLogError, Retention
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Done, Event, Failed, Restart, Start, Stopped, UnknownEvent, encode
from service.follower import Follower
from service.question import to_request
from service.renderings.sse import ServerSentEvents
from service.request import Request, Turn
from tests.eventlog import version_before
from tests.eventlog.another import tended
from tests.strategies import ANSWER, any_event
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import until
from tests.working import Worker, text_of, worker

HISTORY = (Turn("user", "hello"), Turn("assistant", "Szia! 👋\n"))


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[FileEventLog]:
    log = FileEventLog(str(tmp_path), Retention())
    yield log
    await log.aclose()


# What the version before wrote


def put_recorded(directory: Path, name: str) -> str:
    """Put a log of the version before into the directory, begun just now; return its answer's id."""
    recorded = (version_before.DIRECTORY / f"{name}.jsonl").read_bytes()
    answer = re.search(rb'"answer":"([0-9a-f]{32})"', recorded)
    assert answer is not None
    begun_now, times = re.subn(rb'"at":[0-9.]+', b'"at":%.3f' % time.time(), recorded)
    assert times == 1
    path = directory / f"{answer[1].decode()}.jsonl"
    path.write_bytes(begun_now)
    return path.stem


@pytest.mark.parametrize(
    ("name", "last", "text"),
    [
        ("done", Done, "w1 w2 w3 w4 "),
        ("voices", Done, "w1 w2 "),
        ("stopped", Stopped, "w1 w2 "),
        ("failed", Failed, "w1 w2 "),
        ("restarted", Done, "w1 w2 w3 " + "".join(f"w{n} " for n in range(1, 9))),
        ("owned", Done, "w1 "),
        ("orphan", Delta, "w1 w2 w3 "),
        ("orphan-reasoning", Delta, ""),
    ],
)
async def test_an_answer_of_the_version_before_is_read_whole(
    log: FileEventLog, tmp_path: Path, name: str, last: type[Event], text: str
) -> None:
    answer = put_recorded(tmp_path, name)
    events = await read_all(log, answer)
    lines = (tmp_path / f"{answer}.jsonl").read_bytes().splitlines()
    written = [msgspec.json.decode(line) for line in lines]
    assert [msgspec.json.decode(encode(event)) for event in events] == written, "and nothing of it is lost"
    assert isinstance(events[-1], last)
    assert await log.last(answer) == events[-1]
    assert text_of(events) == text
    assert await tended(log) == ([answer] if last is Delta else [])


async def test_an_orphan_of_the_version_before_goes_on(tmp_path: Path, upstream: UpstreamProcess) -> None:
    answer = put_recorded(tmp_path, "orphan")
    asked = len(upstream.requests())
    async with worker(f"file://{tmp_path}", upstream) as here:
        events = await here.follow(answer)
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(f"w{n} " for n in range(1, 13))
    assert not any(isinstance(event, Restart) for event in events)
    [record] = upstream.requests()[asked:]
    assert record["messages"] == [
        *msgspec.to_builtins(HISTORY),
        {"role": "user", "content": '{"chunks": 12, "pace": 0.1}'},
        {"role": "assistant", "content": "w1 w2 w3"},
    ]
    assert (record["body"]["temperature"], record["body"]["max_tokens"]) == (0.5, 99)


async def test_an_orphan_of_the_version_before_that_holds_reasoning_goes_on(
    tmp_path: Path, upstream: UpstreamProcess
) -> None:
    answer = put_recorded(tmp_path, "orphan-reasoning")
    async with worker(f"file://{tmp_path}", upstream) as here:
        events = await here.follow(answer)
    assert isinstance(events[-1], Done)
    assert "".join(event.reasoning or "" for event in events if isinstance(event, Delta)) == "hm " * 10
    assert text_of(events) == "w1 w2 w3 w4 "


# What the version before reads


def assert_read_by_the_version_before(directory: Path, answer: str, request: Request) -> None:
    lines = (directory / f"{answer}.jsonl").read_bytes().splitlines()
    events = [version_before.decode(line) for line in lines]  # strict: a ValueError where it saw damage
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    start, end = events[0], events[-1]
    assert isinstance(start, version_before.Start)
    assert isinstance(end, version_before.Terminal)
    assert start.request is not None, "it could not take the answer over"
    old = start.request
    turns = (*(Turn(turn.role, turn.content) for turn in old.history), Turn("user", old.query))
    parameters = {"temperature": old.temperature, "max_tokens": old.max_tokens}
    assert (old.model, turns, old.traceparent) == (request.model, request.messages, request.traceparent)
    assert {name: value for name, value in parameters.items() if value is not None} == request.parameters
    for event, line in zip(events[1:], lines[1:], strict=True):
        written = {name: value for name, value in msgspec.json.decode(line).items() if value is not None}
        for unknown in ("seam", "attempt"):  # It passes over what it does not know.
            written.pop(unknown, None)
        written = {name: value for name, value in written.items() if name not in unknown_to(event)}
        read = {name: value for name, value in msgspec.to_builtins(event).items() if value is not None}
        assert strip(read) == strip(written), "it reads all that the event says"


def unknown_to(event: version_before.Event) -> tuple[str, ...]:
    """Return the fields that the version before passes over."""
    if isinstance(event, version_before.Stopped | version_before.Failed):
        return ("usage", "usage_complete", "timing")
    return ("usage_complete",)


def strip(value: object) -> object:
    """Return the object without its nulls, which a version may write or leave out."""
    if isinstance(value, dict):
        return {name: strip(each) for name, each in value.items() if each is not None}
    return value


@pytest.mark.parametrize(
    "script",
    [
        {"chunks": 4},
        {"chunks": 2, "reasoning": ["hm "], "refusal": "no"},
        {"chunks": 4, "cut_after": 2},
        {"chunks": 4, "stall_after": 2},
        {"status": 500},
    ],
    ids=["done", "voices", "failed", "stopped", "failed before it began"],
)
async def test_the_version_before_reads_a_new_answer(
    tmp_path: Path, upstream: UpstreamProcess, script: dict[str, object]
) -> None:
    request = to_request(
        command(**script),
        model="test-model",
        history=HISTORY,
        temperature=0.5,
        max_tokens=99,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    async with worker(f"file://{tmp_path}", upstream) as here:
        producer = await here.ask(request)
        if "stall_after" in script:
            await here.read_to(producer.answer_id, seq=3)
            producer.stop("user")
        await here.follow(producer.answer_id)
    assert_read_by_the_version_before(tmp_path, producer.answer_id, request)


async def test_the_version_before_reads_an_answer_that_a_new_worker_took_over(
    tmp_path: Path, upstream: UpstreamProcess
) -> None:
    request = to_request(command(chunks=4, key=ANSWER, first=[{"stall_after": 2}]), model="test-model")
    async with worker(f"file://{tmp_path}", upstream, recovery="restart") as here:
        answer = await orphan_of(here, request)
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert Restart(4) in events
    assert_read_by_the_version_before(tmp_path, answer, request)


@given(any_event())
def test_the_version_before_reads_every_event(event: Event) -> None:
    assert version_before.decode(encode(event)).seq == event.seq


# What a newer version may write


def put(directory: Path, *lines: str) -> str:
    """Write a log of these lines; `@` stands for the next seq."""
    numbered = [line.replace("@", str(seq)) for seq, line in enumerate(lines, 1)]
    (directory / f"{ANSWER}.jsonl").write_text("".join(f"{line}\n" for line in numbered))
    return ANSWER


START = f'{{"type":"start","seq":@,"answer":"{ANSWER}","model":"test-model"}}'
NOVEL = '{"type":"novel","seq":@,"words":["é",{"type":"done"}]}'
LONG_NOVEL = f'{{"words":"{"x" * (1 << 15)}","seq":@,"type":"novel"}}'
DELTA = '{"type":"delta","seq":@,"text":"w@ ","logprobs":[-0.5]}'
DONE = (
    '{"type":"done","seq":@,"finish_reason":"stop","usage":null,'
    '"timing":{"first_chunk_seconds":0.1,"duration_seconds":0.2,"queue_seconds":0.1},"cost":1}'
)


async def read_all(log: FileEventLog, answer: str, after: int = 0) -> list[Event]:
    reader = await log.open(answer, after, watch=False)
    read: list[Event] = []
    try:
        while events := await reader.read():
            read += events
    finally:
        reader.close()
    return read


async def test_events_of_unknown_types_are_passed_over_from_every_offset(log: FileEventLog, tmp_path: Path) -> None:
    answer = put(tmp_path, START, NOVEL, DELTA, NOVEL, LONG_NOVEL, NOVEL, DELTA, NOVEL, DONE)
    known = await read_all(log, answer)
    assert [(type(event), event.seq) for event in known] == [(Start, 1), (Delta, 3), (Delta, 7), (Done, 9)]
    assert text_of(known) == "w3 w7 "
    for after in range(10):
        assert await read_all(log, answer, after) == [event for event in known if event.seq > after]


async def test_a_reader_has_nothing_to_read_where_all_that_came_is_unknown(log: FileEventLog, tmp_path: Path) -> None:
    answer = put(tmp_path, START, LONG_NOVEL, NOVEL)
    reader = await log.open(answer, 1, watch=False)
    assert list(await reader.read()) == []
    with (tmp_path / f"{answer}.jsonl").open("a") as file:
        file.write(DELTA.replace("@", "4") + "\n")
    assert [event.seq for event in await reader.read()] == [4]
    reader.close()


@pytest.mark.parametrize(
    "lines",
    [
        [START, NOVEL, NOVEL.replace("@", "4")],
        [START, NOVEL.replace("@", "3"), DELTA],
        [START, NOVEL.replace("@", "1"), DELTA],
        [START, NOVEL, DELTA.replace("@", "9"), NOVEL],
        [START, NOVEL.replace("@", '"2"')],
        [START, '{"type":"novel"}'],
        [START, '{"type":7,"seq":@}'],
        [START, NOVEL, '{"type":"delta","seq":@,"text":7}'],
        [START, NOVEL, '{"type":"stopped","seq":@,"by":"magic"}'],
        [START, NOVEL, '{"type":"nov'],
        [START, NOVEL, ""],
        [START, '{"type":"novel","seq":@,"words":' + "[" * 100_000 + "]" * 100_000 + "}"],
    ],
)
async def test_a_log_that_is_out_of_order_or_damaged_is_none_beside_unknown_types(
    log: FileEventLog, tmp_path: Path, lines: list[str]
) -> None:
    answer = put(tmp_path, *lines)
    with pytest.raises(DamagedLogError):
        await read_all(log, answer)


async def test_an_unknown_event_is_the_last_one_and_no_end(log: FileEventLog, tmp_path: Path) -> None:
    answer = put(tmp_path, START, DELTA, NOVEL)
    assert await log.last(answer) == UnknownEvent(3)
    assert await tended(log) == [answer]
    reader = await log.open(answer, 3)
    assert not reader.at_end
    reader.close()
    with pytest.raises(AheadOfLogError):
        await log.open(answer, 4)
    lease = await log.claim(answer)
    assert lease is not None
    assert lease.last_seq == 3
    await lease.append([Delta(4, text="w4 ")])
    lease.release()
    assert [event.seq for event in await read_all(log, answer)] == [1, 2, 4]


async def test_followers_are_sent_what_is_known_under_its_own_number(log: FileEventLog, tmp_path: Path) -> None:
    answer = put(tmp_path, START, NOVEL, DELTA, NOVEL, DELTA, '{"type":"delta","seq":@,"tool_calls":[]}', DELTA, DONE)
    follower = Follower(
        await log.open(answer),
        rendering := ServerSentEvents(),
        rendering.encoder(answer),
        heartbeat_seconds=60,
        on_orphan=lambda _: None,
        has_left=lambda: False,
    )
    sent = b""
    while (data := await follower.next()) is not None:
        sent += data
    follower.close()
    assert re.findall(rb"event: (\w+)\n.*\nid: \w+:(\d+)\n\n", sent) == [
        (b"start", b"1"),
        (b"delta", b"5"),
        (b"delta", b"6"),
        (b"delta", b"7"),
        (b"done", b"8"),
    ]
    assert b'data: {"type":"delta","seq":5,"text":"w3 w5 "}\n' in sent
    assert b'data: {"type":"delta","seq":6}\n' in sent, "a voice that is not known says nothing, least of all a refusal"


async def orphan_of(here: Worker, request: Request) -> str:
    """Begin an answer and leave it after its second word, as a killed worker does."""
    producer = await here.ask(request)
    await here.read_to(producer.answer_id, seq=3)
    producer.hand_over()
    await until(lambda: producer.answer_id not in here.supervisor._running)
    return producer.answer_id


@pytest.mark.parametrize(
    ("added", "restarts"),
    [
        ([], 0),
        ([NOVEL], 1),
        ([NOVEL, '{"type":"delta","seq":@,"text":"w3 "}'], 1),
        (['{"type":"delta","seq":@,"tool_calls":[]}', '{"type":"delta","seq":@,"text":"w3 "}'], 1),
        ([NOVEL, '{"type":"restart","seq":@}', '{"type":"delta","seq":@,"text":"w1 "}'], 1),
        ([NOVEL, '{"type":"restart","seq":@}', '{"type":"delta","seq":@,"text":"w1 "}', NOVEL], 2),
    ],
)
async def test_an_orphan_with_unknown_events_begins_anew_unless_a_restart_took_them_back(
    tmp_path: Path, upstream: UpstreamProcess, added: list[str], restarts: int
) -> None:
    request = to_request(command(chunks=4, key=f"{added}", first=[{"stall_after": 2}]), model="test-model")
    async with worker(f"file://{tmp_path}", upstream, recovery="continue") as here:
        answer = await orphan_of(here, request)
        with (tmp_path / f"{answer}.jsonl").open("a") as file:
            file.write("".join(line.replace("@", str(seq)) + "\n" for seq, line in enumerate(added, 4)))
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert isinstance(events[-1], Done)
    assert sum(isinstance(event, Restart) for event in events) == restarts
    last_restart = max((number for number, event in enumerate(events) if isinstance(event, Restart)), default=0)
    assert text_of(events[last_restart:]) == "w1 w2 w3 w4 "


async def test_an_answer_to_more_than_generate_can_ask_is_taken_over(tmp_path: Path, upstream: UpstreamProcess) -> None:
    key = "parts and tools"
    query = command(chunks=4, key=key, first=[{"stall_after": 2}])
    messages = ({"role": "user", "content": [{"type": "text", "text": query}]},)
    request = Request("test-model", messages, {"tools": [], "seed": 7})
    async with worker(f"file://{tmp_path}", upstream, recovery="restart") as here:
        answer = await orphan_of(here, request)
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    assert isinstance(events[-1], Done)
    first, second = upstream.requests(key)
    assert (first["messages"], first["body"]) == (second["messages"], second["body"])
    assert second["body"]["seed"] == 7


async def test_an_orphan_that_does_not_tell_what_was_asked_is_given_up(
    tmp_path: Path, upstream: UpstreamProcess
) -> None:
    answer = put(tmp_path, START.replace("}", ',"conversation":{"form":"newer"}}'), DELTA)
    async with worker(f"file://{tmp_path}", upstream) as here:
        events = await here.follow(answer)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "interrupted"
