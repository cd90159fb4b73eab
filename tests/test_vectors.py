"""The service sends what the protocol's vectors say, byte by byte."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI

from service.answer import fold
from service.app import create_app
from service.config import Settings
from service.eventlog import EventLog, Lease, Retention
from service.eventlog.files.log import FileEventLog
from service.events import (
    TERMINAL,
    Delta,
    Event,
    Start,
    Stopped,
    UnknownEvent,
    decode_any,
    encode,
    merge_deltas,
    parse_event_id,
)
from service.follower import Follower, encoder_at
from service.question import to_request
from service.renderings import RENDERINGS, Rendering
from tests.eventlog.memory import Entry, MemoryEventLog, Store, Stored
from tests.in_process import ask, running
from tests.vectors import events_of, load, whole
from tests.waiting import DEADLINE_SECONDS

ANSWERS = {case["name"]: case for case in load("answers")}
MERGING = {case["name"]: case for case in load("merging")}
LATER = {case["name"]: case for case in load("later-versions")}
EVENT_IDS = load("event-ids")
RESUMING = load("resuming")
RESUMPTIONS = {case["name"]: case for case in RESUMING["cases"]}

GAPLESS = [name for name, case in ANSWERS.items() if case["reading"]["last_seq"] == len(case["events"])]
"""Those that one producer may have written. The log gives each claim its number."""

BODIES = [(name, media_type) for name, case in ANSWERS.items() for media_type in ("application/json", *case["bodies"])]


def body_of(case: dict[str, Any], content_type: str) -> bytes:
    """The vector's bytes. `application/json` is another name of JSON lines."""
    name = "application/x-ndjson" if content_type == "application/json" else content_type
    return "".join(case["bodies"][name]).encode()


def rendering_of(content_type: str) -> Rendering:
    [rendering] = [each for each in RENDERINGS.values() if each.media_type == content_type]
    return rendering


def reading_of(events: Sequence[Event]) -> dict[str, object]:
    """Return the body of `GET ?stream=false`."""
    state = fold(events)
    told: dict[str, object] = {} if state.usage_complete is None else {"usage_complete": state.usage_complete}
    if state.tool_calls:
        told["tool_calls"] = msgspec.to_builtins(state.tool_calls)
    return told | {
        "id": state.start.answer if state.start else None,
        "state": state.state,
        "text": state.reply,
        "last_seq": state.last_seq,
        "usage": msgspec.to_builtins(state.usage),
        "timing": msgspec.to_builtins(state.timing),
    }


async def begin(log: EventLog, start: Event) -> Lease:
    """Begin the vector's answer with all that a log keeps private."""
    assert isinstance(start, Start)
    asked = to_request("private words", model=start.model)
    return await log.create(Start.asking(start.answer, asked, at=time.time()))


@asynccontextmanager
async def service_with(directory: Path) -> AsyncIterator[tuple[FastAPI, FileEventLog]]:
    """The application, and its log."""
    settings = Settings(openai_base_url="http://127.0.0.1:9/v1", model="model-1", log_url=directory.as_uri())
    log = FileEventLog(str(directory), Retention())
    try:
        async with running(create_app(settings)) as app:
            yield app, log
    finally:
        await log.aclose()


async def follower_of(log: EventLog, answer: str, rendering: Rendering) -> Follower:
    return Follower(
        await log.open(answer),
        rendering,
        await encoder_at(log, answer, 0, rendering),
        heartbeat_seconds=DEADLINE_SECONDS * 2,
        on_orphan=lambda _: None,
        has_left=lambda: False,
    )


async def next_of(follower: Follower) -> bytes:
    data = await asyncio.wait_for(follower.next(), DEADLINE_SECONDS)
    assert data is not None
    return data


# Answers


@pytest.mark.parametrize(("name", "content_type"), BODIES)
def test_an_encoder_writes_the_vectors_bytes(name: str, content_type: str) -> None:
    case = ANSWERS[name]
    rendering = rendering_of(content_type)
    events = events_of(case["events"])
    encoder = rendering.encoder(case["answer"])
    body = rendering.preamble + b"".join(encoder.encode([event]) for event in events)
    if type(events[-1]) in TERMINAL:
        body += rendering.closing
    assert body == body_of(case, content_type)


@pytest.mark.parametrize(("name", "content_type"), [(name, kind) for name, kind in BODIES if name in GAPLESS])
async def test_a_follower_of_a_log_sends_the_vectors_bytes(log: EventLog, name: str, content_type: str) -> None:
    case = ANSWERS[name]
    rendering = rendering_of(content_type)
    start, *rest = events_of(case["events"])
    lease = await begin(log, start)
    follower = await follower_of(log, case["answer"], rendering)
    empty = rendering.encoder(case["answer"]).encode([start]) == b""
    sent = b"" if empty else await next_of(follower)
    for event in rest:
        await lease.append([event])
        if rendering.encoder(case["answer"]).encode([event]) or type(event) in TERMINAL:
            sent += await next_of(follower)
    follower.close()
    assert sent == body_of(case, content_type)


@pytest.mark.parametrize(("name", "content_type"), [(name, kind) for name, kind in BODIES if name not in GAPLESS])
async def test_a_follower_of_a_log_whose_numbers_jump_sends_the_vectors_bytes(name: str, content_type: str) -> None:
    case = ANSWERS[name]
    rendering = rendering_of(content_type)
    events = events_of(case["events"])
    log = MemoryEventLog(
        Store({case["answer"]: Stored([Entry(event.seq, [event]) for event in events], 0)}), Retention()
    )
    follower = await follower_of(log, case["answer"], rendering)
    sent = b""
    while data := await follower.next():
        sent += data
    follower.close()
    assert sent == body_of(case, content_type)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_folded_as_the_vector_says(name: str) -> None:
    events = events_of(ANSWERS[name]["events"])
    assert reading_of(events) == ANSWERS[name]["reading"]
    assert fold(events).reasoning == ANSWERS[name]["reasoning"]


@pytest.mark.parametrize("name", GAPLESS)
async def test_an_answer_is_read_as_the_vector_says(tmp_path: Path, name: str) -> None:
    case = ANSWERS[name]
    start, *rest = events_of(case["events"])
    async with service_with(tmp_path) as (app, log):
        await (await begin(log, start)).append(rest)
        reply = await asyncio.wait_for(ask(app, "GET", f"/answers/{case['answer']}?stream=false"), DEADLINE_SECONDS)
    assert (reply.status, json.loads(reply.body)) == (200, case["reading"])


def test_the_vectors_have_every_rendering_event_and_end() -> None:
    events = [event for case in ANSWERS.values() for event in events_of(case["events"])]
    assert {type(event) for event in events} == set(Event.__args__)
    assert {event.by for event in events if isinstance(event, Stopped)} == {"user", "unwatched", "shutdown"}
    content_types = {each.media_type for each in RENDERINGS.values()} - {"application/json"}
    assert all(set(case["bodies"]) == content_types for case in ANSWERS.values())


# Merging


@pytest.mark.parametrize("name", MERGING)
def test_deltas_are_merged_as_the_vector_says(name: str) -> None:
    case = MERGING[name]
    assert list(merge_deltas(events_of(case["events"]))) == events_of(case["merged"])


@pytest.mark.parametrize("content_type", [each for each in RENDERINGS if each != "text/plain"])
@pytest.mark.parametrize("name", MERGING)
async def test_a_follower_that_is_behind_gets_the_merged_events(log: EventLog, name: str, content_type: str) -> None:
    """A long history is read in pieces, so its deltas may be merged less than the vector's."""
    case, rendering = MERGING[name], RENDERINGS[content_type]
    start, *rest = events_of(case["events"])
    assert isinstance(start, Start)
    await (await begin(log, start)).append(rest)
    follower = await follower_of(log, start.answer, rendering)
    sent = b""
    while data := await asyncio.wait_for(follower.next(), DEADLINE_SECONDS):
        sent += data
    follower.close()
    encoder = rendering.encoder(start.answer)
    merged = b"".join(encoder.encode([event]) for event in events_of(case["merged"]))
    if any(isinstance(text, dict | list) for event in case["merged"] for text in event.values()):
        lines = [line.removeprefix(b"data: ") for line in sent.splitlines() if b'{"type":' in line]
        got = msgspec.json.decode(b"[" + b",".join(lines) + b"]", type=list[Event])
        assert list(merge_deltas(got)) == events_of(case["merged"])
    else:
        assert sent == rendering.preamble + merged


def test_a_long_text_is_put_together() -> None:
    assert whole(["A", {"repeat": "xy", "times": 2}]) == "Axyxy"


# Later versions


@pytest.mark.parametrize("name", LATER)
def test_what_a_later_version_wrote_is_passed_over(name: str) -> None:
    case = LATER[name]
    known = [decode_any(json.dumps(event).encode()) for event in case["events"]]
    events = [event for event in known if not isinstance(event, UnknownEvent)]
    assert [json.loads(encode(event)) for event in events] == case["passed_on"]
    assert reading_of(events) == case["reading"]


# Event ids


def test_event_ids_are_read_as_the_vectors_say() -> None:
    for each in EVENT_IDS["valid"]:
        assert parse_event_id(each["event_id"]) == (each["answer"], each["seq"])
    for each in EVENT_IDS["invalid"]:
        assert parse_event_id(each["event_id"]) is None, each["why"]


# Resuming


@pytest.mark.parametrize("name", RESUMPTIONS)
async def test_a_resumption_begins_where_the_vector_says(tmp_path: Path, name: str) -> None:
    case = RESUMPTIONS[name]
    start, *rest = events_of(RESUMING["logs"][case["log"]])
    async with service_with(tmp_path) as (app, log):
        lease = await begin(log, start)
        await lease.append(rest)
        headers = [(name.lower(), value) for name, value in case["headers"].items()]
        asking = asyncio.create_task(ask(app, case["method"], case["target"], headers=headers))
        if case["log"] == "running" and case["status"] == 200:  # The response ends with the answer.
            await lease.append([Stopped(rest[-1].seq + 1, "user")])
        reply = await asyncio.wait_for(asking, DEADLINE_SECONDS)
    assert reply.status == case["status"]
    if reply.status == 200:
        seqs = [json.loads(line)["seq"] for line in reply.body.splitlines()]
        assert seqs[0] == case["first_seq"]
        assert all(behind == before + 1 for before, behind in pairwise(seqs))
    elif reply.status == 204:
        assert reply.body == b""
    else:
        assert json.loads(reply.body)["error"]["code"] == case["code"]


def test_no_two_neighbours_of_a_resumption_can_be_merged() -> None:
    """Their `first_seq` would then depend on how far behind the follower is."""
    for events in map(events_of, RESUMING["logs"].values()):
        assert list(merge_deltas(events)) == events
        assert any(isinstance(event, Delta) for event in events)
