"""Answers with calls of tools whose upstream breaks off, or whose worker leaves: exact, or begun anew."""

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service import recovery as recovering
from service.answer import fold
from service.events import Done, Event, Failed, Restart, ToolCall, new_answer_id
from service.recovery import Recovery
from service.request import Request, may_be_continued
from service.upstream.endpoint import Endpoint
from tests.sampling import sample
from tests.upstream.body import Body, End
from tests.upstream.process import UpstreamProcess
from tests.upstream.raw import RawRequest, RawUpstream
from tests.upstream.responses_api import Break, Plan, serving_responses
from tests.upstream.script import Script, command
from tests.upstream.tools import Call
from tests.waiting import DEADLINE_SECONDS
from tests.working import PATIENT, Worker, text_of, worker

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = (
    Call("weather", ('{"city"', ':"Győr ', '🌊\\u00e9"', ',"days":', "[1,2]}"), "call_a"),
    Call("time", ("{", "}"), "call_b"),
)
CALLED = [
    ToolCall(index=0, id="call_a", name="weather", arguments='{"city":"Győr 🌊\\u00e9","days":[1,2]}'),
    ToolCall(index=1, id="call_b", name="time", arguments="{}"),
]


@pytest.fixture
def key() -> str:
    return new_answer_id()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))


def asking(key: str, parameters: dict[str, Any] | None = None, **script: Any) -> Request:  # noqa: ANN401
    """A request with tools, unless there are other parameters."""
    message = {"role": "user", "content": command(key=key, **script)}
    return Request("test-model", (message,), {"tools": TOOLS} if parameters is None else parameters)


def raw_calls() -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": list(call.arguments), "id": call.id} for call in CALLS]


def restarts(events: list[Event]) -> int:
    return sum(isinstance(event, Restart) for event in events)


@pytest.mark.parametrize(
    ("parameters", "may"),
    [
        ({}, True),
        ({"temperature": 1, "stop": ["x"], "tool_choice": "auto"}, True),
        ({"tools": [], "response_format": {"type": "text"}, "functions": None}, True),
        ({"tools": TOOLS}, False),
        ({"functions": [{"name": "f"}]}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"guided_json": {"type": "object"}}, False),
        ({"grammar": "root ::= x"}, False),
    ],
)
def test_only_a_text_is_continued(parameters: dict[str, Any], *, may: bool) -> None:
    assert may_be_continued(Request("m", (), parameters)) == may
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in parameters.items()}
    assert may_be_continued(Request("m", (), raw)) == may, "as it is read from a log"


@pytest.mark.parametrize("parameters", [{"tools": TOOLS}, {"response_format": {"type": "json_object"}}])
@pytest.mark.parametrize("recovery", [None, "continue", "restart"])
async def test_a_text_that_may_become_more_is_not_continued(
    url: str, upstream: UpstreamProcess, key: str, parameters: dict[str, Any], recovery: Recovery | None
) -> None:
    async with worker(url, upstream, recovery=recovery) as here:
        producer = await here.ask(asking(key, parameters, chunks=4, first=[{"cut_after": 2}]))
        events = await here.follow(producer.answer_id)
    assert (isinstance(events[-1], Done), restarts(events)) == ((True, 1) if recovery == "restart" else (False, 0))
    assert [record["messages"][-1]["role"] for record in upstream.requests(key)] == ["user"] * len(
        upstream.requests(key)
    )


async def test_tools_that_are_empty_keep_no_text_from_being_continued(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream) as here:
        events = await here.follow(
            (await here.ask(asking(key, {"tools": []}, chunks=4, first=[{"cut_after": 2}]))).answer_id
        )
    assert isinstance(events[-1], Done)
    assert text_of(events) == "w1 w2 w3 w4 "


@pytest.mark.parametrize("recovery", [None, "restart"])
@pytest.mark.parametrize("parameters", [None, {}])
async def test_a_break_in_a_call_is_no_call_that_goes_on(
    url: str, upstream: UpstreamProcess, key: str, recovery: Recovery | None, parameters: dict[str, Any] | None
) -> None:
    script: dict[str, Any] = {"chunks": 1, "tool_calls": raw_calls(), "first": [{"break_at": 1300}]}
    async with worker(url, upstream, recovery=recovery) as here:
        events = await here.follow((await here.ask(asking(key, parameters, **script))).answer_id)
    state = fold(events)
    if recovery is None:
        assert isinstance(events[-1], Failed)
        [call] = state.tool_calls
        assert CALLED[0].arguments.startswith(call.arguments)
        assert 0 < len(call.arguments) < len(CALLED[0].arguments)
    else:
        assert (state.tool_calls, restarts(events)) == (CALLED, 1)
        assert isinstance(events[-1], Done)
        assert events[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("recovery", [None, "continue"])
async def test_a_take_over_in_the_middle_of_a_call_begins_anew(
    url: str, upstream: UpstreamProcess, key: str, recovery: Recovery | None
) -> None:
    script: dict[str, Any] = {"chunks": 1, "tool_calls": raw_calls(), "first": [{"pace": 0.05}]}
    async with worker(url, upstream, recovery=recovery) as here:
        producer = await here.ask(asking(key, **script))
        before = await here.read_to(producer.answer_id, seq=5)
        producer.hand_over()
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert fold(before).tool_calls[0].id == "call_a"
    assert (fold(events).tool_calls, restarts(events)) == (CALLED, 1)
    assert isinstance(events[-1], Done)


async def test_an_answer_of_calls_alone_is_not_empty(url: str, upstream: UpstreamProcess, key: str) -> None:
    empty = sample("folyam_answers_total", outcome="empty")
    async with worker(url, upstream) as here:
        producer = await here.ask(asking(key, chunks=0, tool_calls=raw_calls()))
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Done)
    assert (events[-1].finish_reason, fold(events).tool_calls) == ("tool_calls", CALLED)
    assert sample("folyam_answers_total", outcome="empty") == empty


async def test_arguments_count_towards_the_answers_limit(url: str, upstream: UpstreamProcess, key: str) -> None:
    calls = [{"name": "write", "arguments": ["x" * 100] * 100}]
    async with worker(url, upstream, limits=replace(PATIENT, answer_bytes=5000)) as here:
        events = await here.follow((await here.ask(asking(key, chunks=0, tool_calls=calls))).answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "answer_too_long"


# Runs that are followed again


def llama_stream() -> bytes:
    script = Script(chunks=2, tool_calls=CALLS, tool_style=("interleaved",))
    return b"".join(b"".join(beat) for beat in Body(script, model="m") if not isinstance(beat, End))


async def answered_by_llama(directory: Path, cut: int) -> tuple[list[Event], list[str]]:
    body = llama_stream()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"

    def respond(asked: RawRequest) -> bytes:
        if asked.method == "DELETE":
            return b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        if asked.method == "POST":
            return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body[:cut])
        return b"%b\r\n%b" % (head, body)

    async with RawUpstream(respond) as raw:
        first = Endpoint(raw.base_url, "key", kind="llama.cpp", continuation="assistant")
        async with worker(directory.as_uri(), raw, first=first) as here:
            events = await here.follow((await here.ask(asking("", chunks=1))).answer_id)
    return events, [asked.method for asked in raw.requests]


async def test_a_run_of_llama_cpp_that_is_cut_anywhere_in_a_call_is_followed_again_exactly(tmp_path: Path) -> None:
    chosen = random.Random(7)  # noqa: S311 (places, not secrets)
    for cut in chosen.sample(range(400, len(llama_stream())), 25):
        events, methods = await answered_by_llama(tmp_path, cut)
        state = fold(events)
        assert (state.text, state.tool_calls) == ("w1 w2 ", CALLED), cut
        assert (restarts(events), methods.count("POST")) == (0, 1), cut
        assert isinstance(events[-1], Done)


PLAN = Plan(texts=("Let me ", "see."), calls=CALLS, halves=True, pace=0.001)


async def ask_responses(here: Worker, plan: Plan) -> str:
    message = {"role": "user", "content": plan.command()}
    return (await here.ask(Request("test-model", (message,), {"tools": TOOLS}))).answer_id


@pytest.mark.parametrize("numbers", ["all", "none"])
async def test_a_run_of_responses_that_is_cut_in_a_call_is_followed_again_exactly(tmp_path: Path, numbers: Any) -> None:  # noqa: ANN401
    chosen = random.Random(3)  # noqa: S311 (places, not secrets)
    for _ in range(8):
        first_break = Break(chosen.randint(3000, 7000))  # behind the first piece
        breaks = (first_break, *(Break(chosen.randint(1, 7000)) for _ in range(3)))
        plan = msgspec.structs.replace(PLAN, breaks=breaks, numbers=numbers)
        async with serving_responses() as api:
            first = Endpoint(api.base_url, "key", kind="responses")
            async with worker(tmp_path.as_uri(), api, first=first) as here:
                events = await here.follow(await ask_responses(here, plan))
        state = fold(events)
        assert (state.text, state.tool_calls, restarts(events)) == ("Let me see.", CALLED, 0)
        assert isinstance(events[-1], Done)
        assert events[-1].finish_reason == "tool_calls"
        assert [method for method, _ in api.requests].count("POST") == 1


@pytest.mark.parametrize("seq", range(5, 12))
async def test_a_take_over_of_a_run_in_a_call_is_exact(tmp_path: Path, seq: int) -> None:
    plan = msgspec.structs.replace(PLAN, pace=0.03)
    async with serving_responses() as api:
        first = Endpoint(api.base_url, "key", kind="responses")
        async with worker(tmp_path.as_uri(), api, first=first) as here:
            answer = await ask_responses(here, plan)
            await here.read_to(answer, seq=seq)
            producer = here.supervisor._running[answer]
            producer.hand_over()
            await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        async with worker(tmp_path.as_uri(), api, first=first) as here:
            here.supervisor.adopt(answer)
            events = await here.follow(answer)
    state = fold(events)
    assert (state.text, state.tool_calls, restarts(events)) == ("Let me see.", CALLED, 0)
    assert [method for method, _ in api.requests].count("POST") == 1
