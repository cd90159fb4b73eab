"""A request in the forms of endpoints, producers and logs."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from service.events import Start, decode, encode
from service.question import to_request
from service.request import GenerateRequest, Request, Turn, Via
from tests.strategies import ANSWER, generate_requests, requests

HELLO = {"role": "user", "content": "hello"}


def test_a_question_is_the_last_of_the_messages() -> None:
    history = [Turn("system", "Be brief."), Turn("user", "hello"), Turn("assistant", "yes?")]
    asked = to_request("why?", model="m", history=history, temperature=0, max_tokens=7.0, traceparent="00-1-2-01")
    messages = (*history, Turn("user", "why?"))
    assert asked == Request("m", messages, {"temperature": 0, "max_tokens": 7}, "00-1-2-01")
    assert type(asked.parameters["max_tokens"]) is int


def test_what_a_question_leaves_open_is_no_parameter() -> None:
    assert to_request("hello", model="m") == Request("m", (Turn("user", "hello"),))


def as_json(asked: Request | None) -> Any:  # noqa: ANN401 (JSON)
    return msgspec.json.decode(msgspec.json.encode(asked))


@given(requests)
def test_a_log_tells_what_was_asked(asked: Request) -> None:
    start = Start.asking(ANSWER, asked, at=1.5, owner="somebody")
    read = decode(encode(start))
    assert isinstance(read, Start)
    assert as_json(read.asked()) == as_json(asked)
    assert (read.request is None) != (read.chat is None), "the words are written once"


@given(generate_requests)
def test_what_generate_can_ask_is_written_in_the_form_that_the_version_before_reads(asked: GenerateRequest) -> None:
    assert Start.asking(ANSWER, asked.neutral(), at=1.5).request == asked


def test_messages_that_are_texts_are_written_so_whichever_door_made_them() -> None:
    texts = [Turn("system", "Be brief."), Turn("user", "hello")]
    asked = Request("m", tuple(msgspec.to_builtins(texts)))
    assert Start.asking(ANSWER, asked, at=1.5).request == GenerateRequest("hello", "m", (texts[0],))


PART = {"role": "user", "content": [{"type": "text", "text": "hello"}]}


@pytest.mark.parametrize(
    "beyond",
    [
        {"messages": ()},
        {"messages": (PART,)},
        {"messages": (PART, HELLO)},
        {"messages": (HELLO, {"role": "assistant", "content": "yes?"})},
        {"messages": ({"role": "tool", "content": "4", "tool_call_id": "x"}, HELLO)},
        {"messages": ({"role": "developer", "content": "Be brief."}, HELLO)},
        {"messages": ({"role": ["user"], "content": "hello"},)},
        {"messages": ({**HELLO, "name": "Ann"},)},
        {"messages": ({"role": "user", "name": "Ann"},)},
        {"parameters": {"tools": []}},
        {"parameters": {"temperature": None}},
        {"parameters": {"temperature": True}},
        {"parameters": {"max_tokens": 7.5}},
        {"parameters": {"max_tokens": 7, "seed": 1}},
    ],
)
def test_what_generate_cannot_ask_is_written_in_the_neutral_form_alone(beyond: dict[str, Any]) -> None:
    asked = Request(**{"model": "m", "messages": (HELLO,), **beyond})
    start = Start.asking(ANSWER, asked, at=1.5)
    assert (start.request, start.chat) == (None, asked)


def test_what_a_door_repeats_of_the_request_stays_raw_json_in_the_log() -> None:
    echo = {"tools": [{"name": "weather"}], "text": "Hé"}
    read = decode(encode(Start.asking(ANSWER, Request("m", (), via=Via("chat", echo)), at=1.5, owner="")))
    assert isinstance(read, Start)
    assert read.via is not None
    assert all(type(value) is msgspec.Raw for value in read.via.echo.values())
    assert {name: msgspec.json.decode(value) for name, value in read.via.echo.items()} == echo
