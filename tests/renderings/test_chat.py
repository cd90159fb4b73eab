"""Chat completions, as OpenAI's own SDK reads them."""

import json
from collections.abc import Sequence
from itertools import pairwise

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from service.answer import fold
from service.errors import FolyamError
from service.events import (
    TERMINAL,
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
)
from service.finish_reasons import KNOWN, Meaning
from service.renderings.chat import PREFIX, chunks, completion
from service.request import Via
from tests.strategies import ANSWER, answers

DONE_AT = b"data: [DONE]\n\n"
END = Timing(0.1, 0.2)
USAGE = Usage(3, 5, 8, {"cached_tokens": 1})
START = Start(1, ANSWER, "a-model", at=1_700_000_000.5, via=Via("chat"))


def streamed(events: Sequence[Event], *, with_usage: bool = False, cuts: Sequence[int] = ()) -> bytes:
    """The body for these events, which come in pieces cut at these places."""
    rendering = chunks(with_usage=with_usage)
    encoder = rendering.encoder(ANSWER)
    body = b""
    places = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        if not encoder.finished:
            body += encoder.encode(events[begin:end])
    ended = bool(events) and type(events[-1]) in TERMINAL and not encoder.finished
    return body + (rendering.closing if ended else b"")


def sdk(body: bytes, content_type: str = "text/event-stream", status: int = 200) -> openai.OpenAI:
    """The SDK, to which each request is answered so."""

    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": content_type}, content=body)

    http_client = httpx2.Client(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(api_key="x", base_url="http://x/v1", http_client=http_client, max_retries=0)


def read(body: bytes) -> list[ChatCompletionChunk]:
    """The chunks as the SDK reads them. It raises for an error."""
    with sdk(body).chat.completions.create(model="m", messages=[], stream=True) as stream:
        read = list(stream)
    for chunk in read:
        ChatCompletionChunk.model_validate(chunk.model_dump())  # The SDK itself validates nothing.
    return read


def whole(events: Sequence[Event]) -> ChatCompletion:
    encoder = completion().encoder(ANSWER)
    encoder.advance(events)
    status, body = encoder.whole()
    read = sdk(body, "application/json", status).chat.completions.create(model="m", messages=[])
    ChatCompletion.model_validate(json.loads(body))
    return read


def said(read: Sequence[ChatCompletionChunk], voice: str) -> str:
    return "".join(getattr(chunk.choices[0].delta, voice, None) or "" for chunk in read if chunk.choices)


def calls_of(read: Sequence[ChatCompletionChunk]) -> dict[int, dict[str, str]]:
    """The calls of tools, put together as the SDK's own helper does."""
    calls: dict[int, dict[str, str]] = {}
    for chunk in read:
        for piece in (chunk.choices[0].delta.tool_calls or ()) if chunk.choices else ():
            call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            assert piece.function is not None
            call["id"] += piece.id or ""
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    return calls


LOG: tuple[Event, ...] = (
    START,
    Delta(2, reasoning="Hm. "),
    Delta(3, text="Győr "),
    Delta(4, seam=Seam("continued", "takeover")),
    Delta(5, text="lies"),
    Delta(6, tool_call=ToolCall(index=0, id="call_a", name="weather", arguments='{"city":')),
    Delta(7, tool_call=ToolCall(index=1, id="call_b", name="time", arguments="")),
    Delta(8, tool_call=ToolCall(index=0, arguments='"Győr"}')),
    Delta(9, tool_call=ToolCall(index=1, arguments="{}")),
    Done(10, "tool_calls", USAGE, END),
)


def test_the_bytes_are_data_and_comments_alone() -> None:
    body = streamed(LOG, with_usage=True)
    assert body.endswith(DONE_AT)
    for block in body.removesuffix(b"\n\n").split(b"\n\n"):
        assert block.startswith(b"data: ")
        assert b"\n" not in block
    assert chunks(with_usage=False).heartbeat == b":\n\n"
    assert chunks(with_usage=False).preamble == chunks(with_usage=False).opening == b""


def test_a_stream_has_every_voice_the_calls_the_reason_and_the_usage() -> None:
    read_ = read(streamed(LOG, with_usage=True))
    assert {(chunk.id, chunk.created, chunk.model) for chunk in read_} == {(PREFIX + ANSWER, 1_700_000_000, "a-model")}
    assert read_[0].choices[0].delta.role == "assistant"
    assert (said(read_, "content"), said(read_, "reasoning_content")) == ("Győr lies", "Hm. ")
    assert calls_of(read_) == {
        0: {"id": "call_a", "name": "weather", "arguments": '{"city":"Győr"}'},
        1: {"id": "call_b", "name": "time", "arguments": "{}"},
    }
    assert read_[-2].choices[0].finish_reason == "tool_calls"
    assert read_[-1].choices == []
    assert read_[-1].usage is not None
    assert read_[-1].usage.model_dump(exclude_none=True, exclude_unset=True) == {
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


@pytest.mark.parametrize("usage", [None, USAGE])
def test_the_usage_is_there_if_it_is_asked_for_and_known(usage: Usage | None) -> None:
    events = (START, Delta(2, text="x"), Done(3, "stop", usage, END))
    assert [chunk.usage for chunk in read(streamed(events)) if chunk.usage] == []
    with_usage = read(streamed(events, with_usage=True))
    assert len([chunk for chunk in with_usage if chunk.usage]) == (usage is not None)


def test_the_response_as_a_whole_says_the_same() -> None:
    answer = whole(LOG)
    assert (answer.id, answer.object, answer.created) == (PREFIX + ANSWER, "chat.completion", 1_700_000_000)
    [choice] = answer.choices
    assert choice.message.content == "Győr lies"
    assert choice.message.model_dump()["reasoning_content"] == "Hm. "
    assert choice.message.tool_calls is not None
    assert [call.model_dump() for call in choice.message.tool_calls] == [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Győr"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    assert choice.finish_reason == "tool_calls"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 8


@given(events=answers(), cuts=st.lists(st.integers(0, 100), max_size=4), with_usage=st.booleans())
def test_any_answer_is_the_same_streamed_in_any_pieces_and_as_a_whole(
    events: list[Event],
    cuts: list[int],
    with_usage: bool,  # noqa: FBT001 (hypothesis gives it)
) -> None:
    state = fold(events)
    body = streamed(events, with_usage=with_usage, cuts=cuts)
    if isinstance(state.end, Stopped | Failed):
        with pytest.raises(openai.APIError):
            read(body)
        with pytest.raises(FolyamError):
            whole(events)
        return
    restarts = [number for number, event in enumerate(events) if isinstance(event, Restart)]
    if restarts and b'{"error"' in body:  # Something had been said before it.
        assert any(isinstance(event, Delta) for event in events[: restarts[-1]])
        with pytest.raises(openai.APIError):
            read(body)
        return
    read_ = read(body)
    assert said(read_, "content") == state.text
    assert said(read_, "reasoning_content") == state.reasoning
    assert said(read_, "refusal") == state.refusal
    ends = [chunk for chunk in read_ if chunk.choices and chunk.choices[0].finish_reason]
    assert len(ends) == body.count(DONE_AT) == (state.end is not None)
    if state.end is not None:
        answer = whole(events).choices[0]
        assert answer.finish_reason == ends[0].choices[0].finish_reason
        assert (answer.message.content or "", answer.message.refusal or "") == (state.text, state.refusal)


# Ends


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("function_call", "function_call"),
        ("", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("end_turn", "stop"),
        ("a new word", "stop"),
    ],
)
def test_a_reason_is_in_the_protocols_words(word: str, reason: str) -> None:
    events = (START, Delta(2, text="x"), Done(3, word, None, END))
    assert read(streamed(events))[-1].choices[0].finish_reason == reason
    assert whole(events).choices[0].finish_reason == reason


@pytest.mark.parametrize("word", ["tool_use", "", "a new word"])
def test_an_answer_with_calls_of_tools_ends_with_them_whatever_its_server_calls_that(word: str) -> None:
    events = (*LOG[:-1], Done(10, word, None, END))
    assert read(streamed(events))[-1].choices[0].finish_reason == "tool_calls"
    assert whole(events).choices[0].finish_reason == "tool_calls"


def test_every_known_reason_is_in_the_protocols_words() -> None:
    words = [word for word, meaning in KNOWN.items() if meaning is not Meaning.FAILED]
    reasons = {whole((START, Delta(2, text="x"), Done(3, word, None, END))).choices[0].finish_reason for word in words}
    assert reasons <= {"stop", "length", "content_filter", "tool_calls", "function_call"}


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (Stopped(3, "user", None, UNSET, UNSET), 410, "answer_stopped"),
        (Failed(3, "upstream_cut", "It was cut.", retryable=True), 502, "upstream_cut"),
        (Failed(3, "upstream_timeout", "It took too long.", retryable=True), 504, "upstream_timeout"),
        (Failed(3, "answer_too_long", "It is too long.", retryable=False), 502, "answer_too_long"),
        (Failed(3, "of_a_later_version", "Something new.", retryable=True), 502, "of_a_later_version"),
    ],
)
def test_an_unhappy_end_is_an_error_and_never_a_clean_one(end: Event, status: int, code: str) -> None:
    events = (START, Delta(2, text="half a te"), end)
    body = streamed(events)
    assert DONE_AT not in body
    assert b"finish_reason" in body
    with pytest.raises(openai.APIError) as raised:
        read(body)
    assert raised.value.code == code
    encoder = completion().encoder(ANSWER)
    encoder.advance(events)
    with pytest.raises(FolyamError) as caught:
        encoder.whole()
    assert (caught.value.status, caught.value.code) == (status, code)


# Restarts

RESTARTED: tuple[Event, ...] = (START, Delta(2, text="a"), Restart(3), Delta(4, text="b"), Done(5, "stop", None, END))


def test_a_restart_behind_words_ends_the_stream_with_an_error() -> None:
    body = streamed(RESTARTED, cuts=[2])
    assert DONE_AT not in body
    assert b'"b"' not in body
    with pytest.raises(openai.APIError) as raised:
        read(body)
    assert raised.value.code == "answer_restarted"


def test_a_restart_before_any_word_is_not_told() -> None:
    events = (START, Restart(2), Delta(3, text="b"), Done(4, "stop", None, END))
    assert said(read(streamed(events, cuts=[1, 2])), "content") == "b"


def test_a_follower_that_comes_later_gets_the_new_answer_alone() -> None:
    encoder = chunks(with_usage=False).encoder(ANSWER)
    encoder.abandon(3)
    assert said(read(encoder.encode(RESTARTED)), "content") == "b"


def test_as_a_whole_a_restarted_answer_is_the_new_one() -> None:
    assert whole(RESTARTED).choices[0].message.content == "b"


def test_calls_before_a_restart_are_none_of_the_new_answers() -> None:
    events = (*LOG[:-1], Restart(10), Delta(11, text="b"), Done(12, "end_turn", None, END))
    answer = whole(events).choices[0]
    assert (answer.message.tool_calls, answer.finish_reason) == (None, "stop")
    encoder = chunks(with_usage=False).encoder(ANSWER)
    encoder.abandon(10)
    assert read(encoder.encode(events))[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("deltas", "content"),
    [((), ""), ((Delta(2, refusal="no"),), None), ((Delta(2, reasoning="hm"),), "")],
)
def test_an_answer_without_a_text_is_empty_and_a_refusal_has_no_content(
    deltas: tuple[Event, ...], content: str | None
) -> None:
    message = whole((START, *deltas, Done(9, "stop", None, END))).choices[0].message
    assert message.content == content
    assert message.refusal == (None if content == "" else "no")
