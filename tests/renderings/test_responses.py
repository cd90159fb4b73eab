"""The events of a response, their numbers, and the response object."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from service.answer import fold
from service.errors import BadInput
from service.events import (
    Delta,
    Done,
    Event,
    Failed,
    Restart,
    Seam,
    Start,
    Stopped,
    Timing,
    ToolCall,
    Usage,
    merge_deltas,
)
from service.renderings.fold import NOTHING
from service.renderings.responses import response_so_far, responses
from service.request import Request, Via
from tests.open_responses import check_event, check_response
from tests.renderings.event_stream import parse
from tests.strategies import ANSWER, answers

END = Timing(0.5, 2.0)
ASKED = Request("model", ({"role": "user", "content": "?"},))
START = Start.asking(ANSWER, ASKED, at=1000.0)


def start(**echo: Any) -> Start:  # noqa: ANN401 (JSON)
    asked = Request("model", ({"role": "user", "content": "?"},), via=Via("responses", echo))
    return Start.asking(ANSWER, asked, at=1000.0)


def read(data: bytes) -> list[dict[str, Any]]:
    """The events of a body, each valid and of the type that its line says."""
    events = []
    for message in parse(data).messages:
        event = json.loads(message.data)
        assert message.event == event["type"]
        assert message.last_event_id == ""
        check_event(event)
        events.append(event)
    return events


def rendered(events: Sequence[Event], after: int = NOTHING) -> list[dict[str, Any]]:
    return read(responses(after).encoder(ANSWER).encode(events))


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in rendered(events)]


def last_response(events: Sequence[Event]) -> dict[str, Any]:
    response: dict[str, Any] = rendered(events)[-1]["response"]
    return response


def call(seq: int, index: int, arguments: str, name: str = "") -> Delta:
    return Delta(seq, tool_call=ToolCall(index=index, id=name and f"id-{name}", name=name, arguments=arguments))


TEXT: tuple[Event, ...] = (START, Delta(2, text="Hé"), Delta(3, text="llo"), Done(4, "stop", None, END))


def test_a_text_is_one_message_with_one_part() -> None:
    assert kinds(TEXT) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    part = {"type": "output_text", "text": "Héllo", "annotations": [], "logprobs": []}
    assert last_response(TEXT)["output"] == [
        {"id": f"msg_{ANSWER}_0", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    ]


def test_numbers_count_the_events_from_0() -> None:
    assert [event["sequence_number"] for event in rendered(TEXT)] == list(range(10))


@pytest.mark.parametrize("after", range(NOTHING, 10))
def test_behind_a_number_come_the_events_above_it(after: int) -> None:
    assert rendered(TEXT, after) == rendered(TEXT)[after + 1 :]


def test_reasoning_is_a_summary_before_the_message() -> None:
    events = (
        START,
        Delta(2, reasoning="Hm"),
        Delta(3, reasoning="."),
        Delta(4, text="Yes"),
        Done(5, "stop", None, END),
    )
    assert kinds(events)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    reasoning, message = last_response(events)["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert (reasoning["id"], message["id"]) == (f"rs_{ANSWER}_0", f"msg_{ANSWER}_1")


def test_a_refusal_is_a_part_of_the_message() -> None:
    events = (START, Delta(2, text="I "), Delta(3, refusal="won't"), Done(4, "stop", None, END))
    (message,) = last_response(events)["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    places = [event["content_index"] for event in rendered(events) if "content_index" in event]
    assert places == [0, 0, 0, 0, 1, 1, 1, 1]


CALLS: tuple[Event, ...] = (
    START,
    call(2, 0, "", "first"),
    call(3, 0, '{"a"'),
    call(4, 1, "{", "second"),
    call(5, 0, ":1}"),
    call(6, 1, "}"),
    Done(7, "tool_calls", None, END),
)


def test_calls_that_are_written_at_once_are_items_each() -> None:
    one, two = last_response(CALLS)["output"]
    assert (one["call_id"], one["name"], one["arguments"]) == ("id-first", "first", '{"a":1}')
    assert (two["call_id"], two["name"], two["arguments"]) == ("id-second", "second", "{}")
    deltas = [event for event in rendered(CALLS) if event["type"].endswith("arguments.delta")]
    assert [(event["output_index"], event["delta"]) for event in deltas] == [
        (0, '{"a"'),
        (1, "{"),
        (0, ":1}"),
        (1, "}"),
    ]
    assert [event["item"]["status"] for event in rendered(CALLS) if "item" in event] == [
        "in_progress",
        "in_progress",
        "completed",
        "completed",
    ]


def test_a_text_behind_a_call_is_a_message_of_its_own() -> None:
    events = (START, Delta(2, text="a"), call(3, 0, "{}", "f"), Delta(4, text="b"), Done(5, "stop", None, END))
    assert [item["type"] for item in last_response(events)["output"]] == ["message", "function_call", "message"]


def test_a_call_without_an_id_gets_one() -> None:
    (item,) = last_response((START, call(2, 0, "{}"), Done(3, "stop", None, END)))["output"]
    assert item["call_id"] == f"call_{ANSWER}_0"


# Ends


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("", "completed", None),
        ("tool_calls", "completed", None),
        ("a new one", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("MAX_TOKENS", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_the_models_reason_to_end_is_the_responses_status(reason: str, status: str, why: str | None) -> None:
    response = last_response((*TEXT[:3], Done(4, reason, None, END)))
    assert response["status"] == status
    assert response["incomplete_details"] == (why and {"reason": why})
    assert response["output"][0]["status"] == status
    assert response["completed_at"] == (1002 if status == "completed" else None)


def test_a_stop_is_an_incomplete_response_that_was_cancelled() -> None:
    events = (*CALLS[:-1], Stopped(7, "user"))
    assert kinds(events)[-2:] == ["function_call_arguments.delta", "incomplete"]
    response = last_response(events)
    assert response["status"] == "cancelled"
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


@pytest.mark.parametrize(
    ("code", "shown"), [("upstream_cut", "server_error"), ("upstream_rate_limited", "rate_limit_exceeded")]
)
def test_a_failure_is_a_failed_response_and_ends_no_item(code: str, shown: str) -> None:
    events = (*CALLS[:-1], Failed(7, code, "It broke.", retryable=True))
    assert kinds(events)[-2:] == ["function_call_arguments.delta", "failed"]
    assert last_response(events)["error"] == {"code": shown, "message": "It broke.", "type": code}


def test_usage_has_the_names_of_this_api() -> None:
    usage = Usage(5, 7, 12, {"cached_tokens": 3}, {"reasoning_tokens": 2})
    assert last_response((*TEXT[:3], Done(4, "stop", usage, END)))["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }


# Seams, restarts


def test_a_seam_is_not_shown() -> None:
    seam = (*TEXT[:2], Delta(3, seam=Seam("continued", "takeover")), Delta(4, text="llo"), Done(5, "stop", None, END))
    assert rendered(seam) == rendered(TEXT)


RESTARTED: tuple[Event, ...] = (*TEXT[:3], Restart(4), Delta(5, text="Anew"), Done(6, "stop", None, END))


def test_a_restart_is_an_error_in_the_forms_of_both_and_ends_the_body() -> None:
    encoder = responses().encoder(ANSWER)
    *_, error = read(encoder.encode(RESTARTED))
    assert encoder.finished
    assert (error["type"], error["code"], error["error"]["code"]) == ("error", "answer_restarted", "answer_restarted")
    assert error["sequence_number"] == 6


def test_a_follower_behind_a_restart_gets_the_new_items_from_the_first_index_on() -> None:
    encoder = responses().encoder(ANSWER)
    encoder.abandon(4)
    events = read(encoder.encode(RESTARTED))
    assert [event["sequence_number"] for event in events] == [0, 1, *range(7, 14)]
    assert events[2]["item"]["id"] == f"msg_{ANSWER}_0"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Anew"


def test_nobody_goes_on_from_before_a_restart() -> None:
    encoder = responses(5).encoder(ANSWER)
    encoder.abandon(4)
    with pytest.raises(BadInput, match="answer_restarted"):
        encoder.encode(RESTARTED)


# The response object


def test_what_the_request_said_is_repeated_and_the_rest_has_defaults() -> None:
    tool = {"type": "function", "name": "f", "description": None, "parameters": {"type": "object"}, "strict": None}
    text = {
        "format": {
            "type": "json_schema",
            "name": "n",
            "description": None,
            "schema": {"type": "object"},
            "strict": True,
        }
    }
    echo = {"tools": [tool], "instructions": "Be brief.", "text": text, "temperature": 0.2, "metadata": {"a": "b"}}
    response = last_response((start(**echo), *TEXT[1:]))
    assert {name: response[name] for name in echo} == echo
    assert (response["top_p"], response["store"], response["truncation"]) == (1.0, True, "disabled")
    assert (response["background"], response["created_at"]) == (False, 1000)


def test_an_answer_of_another_door_has_its_numbers_and_defaults() -> None:
    asked = Request("model", ASKED.messages, {"temperature": 0.5, "max_tokens": 5, "top_p": None})
    response = last_response((Start.asking(ANSWER, asked, at=1.0), *TEXT[1:]))
    assert (response["temperature"], response["max_output_tokens"], response["top_p"]) == (0.5, 5, 1.0)
    assert response["tools"] == []


@given(answers())
def test_every_event_of_any_answer_is_valid(events: list[Event]) -> None:
    rendered(events)


@given(answers())
def test_the_response_so_far_is_valid_and_the_one_of_the_last_event(events: list[Event]) -> None:
    response = response_so_far(fold(events))
    check_response(response)
    if response["status"] != "in_progress" and not any(isinstance(event, Restart) for event in events):
        assert response == rendered(events)[-1]["response"]


@given(answers())
def test_merged_events_make_the_same_response(events: list[Event]) -> None:
    assert response_so_far(fold(events)) == response_so_far(fold(merge_deltas(events)))
