"""The AI SDK's chunks, and what its own code makes of them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answer import fold
from service.events import Delta, Done, Event, Failed, Restart, Start, Stopped, Timing
from service.finish_reasons import KNOWN, Meaning, meaning_of
from service.renderings.ui_chunks import MESSAGE as WHOLE
from service.renderings.ui_chunks import MESSAGE_ID, REPLAY, RESPONSE, input_of
from service.request import Via
from tests.clients.node import Clients
from tests.renderings.event_stream import parse
from tests.renderings.told import body_of, call, logs, places
from tests.strategies import ANSWER

END = Timing(0.1, 0.2)
MESSAGE = f"msg_{ANSWER}"
ASKED: list[dict[str, Any]] = [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]


def chunks(body: bytes) -> list[dict[str, Any]]:
    *data, last = [message.data for message in parse(body).messages]
    assert last == "[DONE]"
    return [json.loads(each) for each in data]


def kinds(body: bytes) -> list[str]:
    return [chunk["type"] for chunk in chunks(body)]


LOG: tuple[Event, ...] = (
    Start(1, ANSWER, "model"),
    Delta(2, reasoning="hm"),
    Delta(3, text="A"),
    Delta(4, refusal="no"),
    call(5, 0, '{"a":', begins=True),
    call(6, 1, "", begins=True),
    call(7, 0, "1}", begins=False),
    Delta(8, text="!"),
    Done(9, "stop", None, END),
)


def test_each_voice_is_a_part_and_tools_get_their_input_at_the_end() -> None:
    text, call_0 = {"id": "01234567-2"}, {"toolCallId": "call_0"}
    assert chunks(body_of(RESPONSE, LOG)) == [
        {"type": "start", "messageId": MESSAGE},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "01234567-1"},
        {"type": "reasoning-delta", "id": "01234567-1", "delta": "hm"},
        {"type": "reasoning-end", "id": "01234567-1"},
        {"type": "text-start", **text},
        {"type": "text-delta", **text, "delta": "A"},
        {"type": "text-delta", **text, "delta": "no"},
        {"type": "text-end", **text},
        {"type": "tool-input-start", **call_0, "toolName": "get"},
        {"type": "tool-input-delta", **call_0, "inputTextDelta": '{"a":'},
        {"type": "tool-input-start", "toolCallId": "call_1", "toolName": "put"},
        {"type": "tool-input-delta", **call_0, "inputTextDelta": "1}"},
        {"type": "text-start", "id": "01234567-3"},
        {"type": "text-delta", "id": "01234567-3", "delta": "!"},
        {"type": "text-end", "id": "01234567-3"},
        {"type": "tool-input-available", **call_0, "toolName": "get", "input": {"a": 1}},
        {"type": "tool-input-available", "toolCallId": "call_1", "toolName": "put", "input": {}},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
    ]


def said(events: Sequence[Event]) -> dict[str, object]:
    """What the client has to have of the answer, whichever parts it is in."""
    state = fold(events)
    whole = isinstance(state.end, Done)
    calls = {}
    for each in state.tool_calls:
        given = input_of(each.arguments)
        settled = "input-streaming" if not whole else "output-error" if given is None else "input-available"
        calls[each.id] = (f"tool-{each.name}", settled, None if given is None else json.loads(bytes(given)))
    return {"text": state.reply, "reasoning": state.reasoning, "calls": calls}


def understood(message: dict[str, Any]) -> dict[str, object]:
    parts = message["parts"]
    calls = {}
    for part in parts:
        if part["type"].startswith("tool-"):
            known = part["state"] == "input-available"
            calls[part["toolCallId"]] = (part["type"], part["state"], part["input"] if known else None)
    texts = {kind: "".join(part["text"] for part in parts if part["type"] == kind) for kind in ("text", "reasoning")}
    return {**texts, "calls": calls}


@pytest.mark.parametrize("late", [False, True])
@given(events=logs(), places=places)
def test_the_client_has_the_whole_answer_however_it_came(
    node: Clients, events: list[Event], places: list[int], *, late: bool
) -> None:
    seen = node.use_chat(body_of(RESPONSE, events, places, late=late), ASKED)
    expected = said(events)
    if not isinstance(events[-1], Done):
        expected["calls"] = {name: (kind, state, None) for name, (kind, state, _) in expected["calls"].items()}  # type: ignore[attr-defined]
    message = seen["messages"][-1]
    assert (message["id"], message["role"]) == (MESSAGE, "assistant")
    assert understood(message) == expected
    failed = isinstance(events[-1], Failed)
    assert seen["status"] == ("error" if failed else "ready")
    assert seen.get("error") == (events[-1].message if isinstance(events[-1], Failed) else None)


@given(events=logs(), places=places)
def test_no_tool_runs_twice_and_none_of_an_answer_that_did_not_finish(
    node: Clients, events: list[Event], places: list[int]
) -> None:
    ran = node.use_chat(body_of(RESPONSE, events, places), ASKED)["toolCalls"]
    calls: dict[str, Any] = said(events)["calls"]  # type: ignore[assignment]
    assert {each["id"]: each["input"] for each in ran} == {
        name: given for name, (_, state, given) in calls.items() if state == "input-available"
    }
    assert len(ran) == len({each["id"] for each in ran})


@given(reason=st.text() | st.sampled_from([*KNOWN, *map(str.upper, KNOWN)]), calls=st.booleans())
def test_any_finish_reason_is_one_that_the_client_takes(node: Clients, reason: str, *, calls: bool) -> None:
    events = [LOG[0], call(2, 0, "{}", begins=True) if calls else Delta(2, text="a"), Done(3, reason, None, END)]
    end = node.use_chat(body_of(RESPONSE, events), ASKED)["end"]
    assert not end["isError"]
    usual = {
        Meaning.FINISHED: "tool-calls" if calls else "stop",
        Meaning.LENGTH: "length",
        Meaning.FILTERED: "content-filter",
    }
    meaning = meaning_of(reason)
    assert end["finishReason"] == usual.get(meaning, "error" if meaning is Meaning.FAILED else "other")


def test_a_restart_takes_the_steps_parts_back() -> None:
    events = [
        LOG[0],
        Delta(2, text="a"),
        call(3, 0, "{", begins=True),
        Restart(4),
        Delta(5, text="b"),
        Stopped(6, "user"),
    ]
    assert kinds(body_of(RESPONSE, events)) == [
        *("start", "start-step", "text-start", "text-delta", "text-end", "tool-input-start", "tool-input-delta"),
        *("reset-step", "text-start", "text-delta", "abort"),
    ]
    assert kinds(body_of(RESPONSE, events, late=True)) == ["start", "start-step", "text-start", "text-delta", "abort"]


def test_a_restart_before_anything_was_said_is_not_told() -> None:
    events = [LOG[0], Restart(2), Delta(3, text="b"), Stopped(4, "user")]
    assert "reset-step" not in kinds(body_of(RESPONSE, events, (1, 2)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", b"{}"),
        (" ", b"{}"),
        ('{"a": 1.0e5,\n "b":\r\n12345678901234567890}', b'{"a": 1.0e5,  "b":  12345678901234567890}'),
        ('{"a":"\\n\\ud83d"}', b'{"a":"\\n\\ud83d"}'),
        ("null", b"null"),
        ("{", None),
        ("{} {}", None),
        ("NaN", None),
        ("[" * 100_000, None),
    ],
)
def test_arguments_are_json_with_their_digits_on_one_line(arguments: str, expected: bytes | None) -> None:
    given = input_of(arguments)
    assert (None if given is None else bytes(given)) == expected


# The answer to a tool's result

STEPS: list[dict[str, Any]] = [
    {"type": "step-start"},
    {"type": "reasoning", "id": "r", "text": "hm", "state": "done"},
    {"type": "text", "text": "A", "state": "done"},
    {"type": "source-url", "sourceId": "s", "url": "https://example.org/"},
    {"type": "data-weather", "id": "d", "data": {"sun": 1}},
    {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="},
    {"type": "tool-get", "toolCallId": "c1", "state": "output-available", "input": {"a": [1]}, "output": {"b": None}},
    {"type": "tool-put", "toolCallId": "c2", "state": "output-error", "input": "{", "errorText": "bad"},
    {
        "type": "dynamic-tool",
        "toolName": "x",
        "toolCallId": "c3",
        "state": "output-available",
        "input": {},
        "output": 0,
    },
    {"type": "step-start"},
    {"type": "tool-get", "toolCallId": "c4", "state": "output-available", "input": {}, "output": "", "title": "T"},
]
CONTINUED = {"id": "m1", "role": "assistant", "metadata": {"at": 5}, "parts": STEPS}
ANSWERED: tuple[Event, ...] = (
    Start(1, ANSWER, "model", via=Via("ui", {MESSAGE_ID: "m1", WHOLE: CONTINUED}, background=True)),
    Delta(2, text="so"),
    Done(3, "stop", None, END),
)
SO = [{"type": "step-start"}, {"type": "text", "text": "so", "state": "done"}]


def parts_of(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """The last message's parts, without the ids that only link chunks, and the fields that are undefined."""
    return [
        {key: value for key, value in part.items() if part["type"] != "reasoning" or key != "id"}
        for part in seen["messages"][-1]["parts"]
    ]


def without_ids(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return parts_of({"messages": [{"parts": parts}]})


def test_the_answer_to_a_tools_result_goes_on_with_the_message(node: Clients) -> None:
    body = body_of(RESPONSE, ANSWERED)
    assert kinds(body) == ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"]
    seen = node.use_chat(body, [*ASKED, CONTINUED])
    assert [message["id"] for message in seen["messages"]] == ["u1", "m1"]
    assert parts_of(seen) == without_ids([*STEPS, *SO])


@pytest.mark.parametrize("kept", [[*STEPS, *SO[:1]], STEPS[:3], []], ids=["all", "some", "none"])
def test_a_replay_says_the_earlier_steps_again_and_runs_no_tool(node: Clients, kept: list[dict[str, Any]]) -> None:
    """Whatever the page has of the message when it reconnects."""
    page = [*ASKED, {**CONTINUED, "parts": kept}] if kept else ASKED
    seen = node.use_chat(body_of(REPLAY, ANSWERED), page, resumes=True)
    assert [message["id"] for message in seen["messages"]] == ["u1", "m1"]
    assert parts_of(seen) == without_ids([*STEPS, *SO])
    assert seen["messages"][-1]["metadata"] == {"at": 5}
    assert seen["toolCalls"] == []


def test_a_restart_of_a_replay_keeps_the_earlier_steps(node: Clients) -> None:
    events = [*ANSWERED[:2], Restart(3), Delta(4, text="anew"), Done(5, "stop", None, END)]
    seen = node.use_chat(body_of(REPLAY, events), ASKED, resumes=True)
    assert parts_of(seen) == without_ids([*STEPS, SO[0], {"type": "text", "text": "anew", "state": "done"}])


def test_another_doors_answer_is_a_message_of_its_own(node: Clients) -> None:
    events = [Start(1, ANSWER, "model", via=Via("chat", {MESSAGE_ID: "m1"})), *ANSWERED[1:]]
    assert node.use_chat(body_of(REPLAY, events), ASKED)["messages"][-1]["id"] == MESSAGE
