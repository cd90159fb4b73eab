"""AG-UI's events, and what its own client makes of them."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answer import fold
from service.errors import BadInput
from service.events import Delta, Done, Event, Failed, Restart, Start, Stopped, Timing, Usage
from service.renderings.ag_ui import AgUi
from service.renderings.fold import NOTHING
from service.request import Via
from tests.clients.node import Clients
from tests.renderings.event_stream import parse
from tests.renderings.told import body_of, call, logs, places
from tests.strategies import ANSWER

RUN = {"threadId": "thread", "runId": "run"}
VIA = Via("ag-ui", {**RUN, "protocolVersion": "1.0"})
END = Timing(0.1, 0.2)
MESSAGE = f"msg_{ANSWER}"
ASKED: list[dict[str, Any]] = [{"id": "u1", "role": "user", "content": "hi"}]
LOG: tuple[Event, ...] = (
    Start(1, ANSWER, "model", via=VIA),
    Delta(2, reasoning="hm"),
    Delta(3, text="A"),
    Delta(4, refusal="no"),
    call(5, 0, '{"a":', begins=True),
    call(6, 1, "", begins=True),
    call(7, 0, "1}", begins=False),
    Delta(8, text="!"),
    Done(9, "stop", Usage(1, 2, 3, {"cached_tokens": 1, "x": None}, {"reasoning_tokens": 2}), END),
)


def events_of(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(message.data) for message in parse(body).messages]


def kinds(body: bytes) -> list[str]:
    return [event["type"] for event in events_of(body)]


def test_an_answer_is_one_message_of_one_run() -> None:
    text, reasoning, call_0 = {"messageId": MESSAGE}, {"messageId": f"rs_{ANSWER}_1"}, {"toolCallId": "call_0"}
    assert events_of(body_of(AgUi(), LOG)) == [
        {"type": "RUN_STARTED", **RUN, "protocolVersion": "1.0"},
        {"type": "REASONING_START", **reasoning},
        {"type": "REASONING_MESSAGE_START", **reasoning, "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", **reasoning, "delta": "hm"},
        {"type": "REASONING_MESSAGE_END", **reasoning},
        {"type": "REASONING_END", **reasoning},
        {"type": "TEXT_MESSAGE_START", **text, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", **text, "delta": "A"},
        {"type": "TEXT_MESSAGE_CONTENT", **text, "delta": "no"},
        {"type": "TEXT_MESSAGE_END", **text},
        {"type": "TOOL_CALL_START", **call_0, "toolCallName": "get", "parentMessageId": MESSAGE},
        {"type": "TOOL_CALL_ARGS", **call_0, "delta": '{"a":'},
        {"type": "TOOL_CALL_START", "toolCallId": "call_1", "toolCallName": "put", "parentMessageId": MESSAGE},
        {"type": "TOOL_CALL_ARGS", **call_0, "delta": "1}"},
        {"type": "TEXT_MESSAGE_START", **text, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", **text, "delta": "!"},
        {"type": "TEXT_MESSAGE_END", **text},
        {"type": "TOOL_CALL_END", **call_0},
        {"type": "TOOL_CALL_END", "toolCallId": "call_1"},
        {
            "type": "RUN_FINISHED",
            **RUN,
            "outcome": {"type": "success", "pendingToolCallIds": ["call_0", "call_1"]},
            "result": {"finishReason": "stop"},
            "usage": [
                {
                    "model": "model",
                    "inputTokens": 1,
                    "outputTokens": 2,
                    "totalTokens": 3,
                    "cachedInputTokens": 1,
                    "reasoningTokens": 2,
                }
            ],
        },
    ]


def understood(seen: dict[str, Any]) -> dict[str, object]:
    new = seen["messages"][len(ASKED) :]
    answers = [each for each in new if each["role"] == "assistant"]
    assert {each["id"] for each in answers} <= {MESSAGE}
    calls = {each["id"]: each["function"] for answer in answers for each in answer.get("toolCalls", [])}
    return {
        "text": "".join(each.get("content", "") for each in answers),
        "reasoning": "".join(each["content"] for each in new if each["role"] == "reasoning"),
        "calls": calls,
    }


def said(events: Sequence[Event]) -> dict[str, object]:
    state = fold(events)
    calls = {each.id: {"name": each.name, "arguments": each.arguments} for each in state.tool_calls}
    return {"text": state.reply, "reasoning": state.reasoning, "calls": calls}


@given(events=logs(via=VIA, restarts=False), places=places)
def test_the_client_has_the_whole_answer_however_it_came(node: Clients, events: list[Event], places: list[int]) -> None:
    seen = node.ag_ui(body_of(AgUi(), events, places), ASKED)
    assert "error" not in seen
    assert understood(seen) == said(events)
    if isinstance(events[-1], Done):
        assert [each["id"] for each in seen["toolCalls"]] == [
            each["toolCallId"] for each in events_of(body_of(AgUi(), events)) if each["type"] == "TOOL_CALL_START"
        ]
        assert seen["finished"]["outcome"]["type"] == "success"
    else:
        assert (seen["toolCalls"], "finished" in seen) == ([], False)
        last = events[-1]
        code, message = ("answer_stopped", "The answer was stopped before its end.")
        if isinstance(last, Failed):
            code, message = last.code, last.message
        assert (seen["failed"]["code"], seen["failed"]["message"]) == (code, message)


@given(events=logs(via=VIA))
def test_a_late_follower_has_the_answer_behind_its_restarts(node: Clients, events: list[Event]) -> None:
    seen = node.ag_ui(body_of(AgUi(), events, late=True), ASKED)
    assert understood(seen) == said(events)


@given(events=logs(via=VIA), places=places, cut=st.integers(0, 1 << 20))
def test_a_client_that_goes_on_behind_any_event_has_each_once(events: list[Event], places: list[int], cut: int) -> None:
    """The body is cut anywhere, and what comes behind the last id that the client has goes on from there."""
    whole = body_of(AgUi(), events, places)
    begun = whole[: cut % len(whole)]
    heard = [message for message in parse(begun).messages if message.last_event_id]
    after = int(heard[-1].last_event_id.rpartition(":")[2]) if heard else NOTHING
    assert all(message.last_event_id.startswith(f"{ANSWER}:") for message in heard)
    rest = parse(body_of(AgUi(after=after), events)).messages
    assert [*heard, *rest] == parse(whole).messages


def test_ids_are_the_same_for_each_follower_and_rise_by_one() -> None:
    ids = [int(message.last_event_id.rpartition(":")[2]) for message in parse(body_of(AgUi(), LOG)).messages]
    assert ids == list(range(len(ids)))


def test_a_restart_ends_the_run_of_those_who_have_heard_of_it() -> None:
    events = (LOG[0], Delta(2, text="a"), Restart(3), Delta(4, text="b"), Stopped(5, "user"))
    heard = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
    body = body_of(AgUi(), events)
    assert kinds(body) == [*heard, "RUN_ERROR"]
    assert events_of(body)[-1]["code"] == "answer_restarted"
    assert kinds(body_of(AgUi(), events, late=True)) == [*heard, "RUN_ERROR"]
    assert events_of(body_of(AgUi(), events, late=True))[-1]["code"] == "answer_stopped"
    with pytest.raises(BadInput) as caught:
        body_of(AgUi(after=2), events, late=True)
    assert caught.value.code == "answer_restarted"


def test_another_doors_answer_has_its_id_for_its_run_and_tells_nothing_of_how_it_was_asked_for() -> None:
    started, *_ = events_of(body_of(AgUi(), [Start(1, ANSWER, "model", via=Via("ui", {"secret": 1})), *LOG[1:]]))
    assert started == {"type": "RUN_STARTED", "threadId": ANSWER, "runId": ANSWER}


def test_every_cut_of_the_log_is_the_same_body() -> None:
    whole = body_of(AgUi(), LOG)
    for cut in range(1, len(LOG)):
        encoder = AgUi().encoder(ANSWER)
        pieces = [encoder.encode(LOG[begin:end]) for begin, end in pairwise((0, cut, len(LOG)))]
        assert AgUi().opening + b"".join(pieces) == whole
