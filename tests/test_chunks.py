import json
import sys
import time
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import Delta, Usage
from service.upstream.chunks import ChunkDecoder
from service.upstream.event_stream import EVENT_BYTES
from service.upstream.token_usage import MAX_TOKENS

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: Any) -> str:  # noqa: ANN401
    """A chunk's JSON."""
    choices = [] if delta is None and finish_reason is None else [{"index": 0, "delta": delta or {}}]
    for choice in choices:
        choice["finish_reason"] = finish_reason
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": choices, **fields})


def event(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: Any) -> bytes:  # noqa: ANN401
    """A chunk's SSE event."""
    return f"data: {chunk(delta, finish_reason, **fields)}\n\n".encode()


def say(text: str) -> bytes:
    return event({"content": text})


def decoded(body: bytes, last_seq: int = 1) -> tuple[ChunkDecoder, list[Delta]]:
    decoder = ChunkDecoder(last_seq)
    return decoder, decoder.feed(body)


def texts_of(body: bytes) -> list[str | None]:
    decoder, deltas = decoded(body)
    assert decoder.failure is None
    return [delta.text for delta in deltas]


def failure_of(body: bytes) -> str | None:
    decoder, _ = decoded(body)
    return decoder.failure.code if decoder.failure else None


# The examples of https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation,
# with chunks in place of their words.


def test_standard_multiple_data_lines_are_one_event_joined_by_line_feeds() -> None:
    # "data: YHOO", "data: +2", "data: 10": JSON may have a line feed between any two of its tokens.
    body = b'data: {"choices":\ndata: [{"delta":\ndata: {"content": "YHOO"}}]}\n\n'
    assert texts_of(body) == ["YHOO"]


def test_standard_comments_other_fields_and_an_event_that_no_blank_line_ends() -> None:
    body = b": test stream\n\ndata: %b\nid: 1\n\ndata:%b\nid\n\ndata:  %b\n" % (
        chunk({"content": "1"}).encode(),
        chunk({"content": "2"}).encode(),
        b"{}",
    )
    assert texts_of(body) == ["1", "2"]


def test_standard_data_without_a_colon_and_an_event_left_unfinished() -> None:
    assert texts_of(b"data\n\ndata\ndata\n\ndata:") == []


def test_standard_the_space_after_the_colon_is_optional() -> None:
    test = chunk({"content": "test"}).encode()
    assert texts_of(b"data:%b\n\ndata: %b\n\n" % (test, test)) == ["test", "test"]


def test_standard_a_byte_order_mark_at_the_start_is_ignored() -> None:
    assert texts_of("\ufeff".encode() + say("first")) == ["first"]


def test_standard_a_byte_order_mark_elsewhere_makes_another_field() -> None:
    assert texts_of(say("a") + "\ufeff".encode() + say("b") + say("c")) == ["a", "c"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_standard_lines_end_with_any_of_the_three_line_ends(end: bytes) -> None:
    assert texts_of((say("a") + say("b")).replace(b"\n", end)) == ["a", "b"]


def test_standard_line_ends_can_be_mixed() -> None:
    first, second = (f"data: {chunk({'content': text})}".encode() for text in "ab")
    for ends in (b"\r\n\n", b"\n\r\n", b"\r\r\n", b"\r\n\r", b"\n\r"):
        assert texts_of(first + ends + second + ends) == ["a", "b"], ends


def test_standard_unknown_fields_and_names_that_only_begin_alike_are_ignored() -> None:
    assert texts_of(b"database: x\n dat: y\nevent: z\nretry: 5\n" + say("a")) == ["a"]


def test_data_without_a_word_is_a_sign_of_life() -> None:
    assert texts_of(b"data:\n\n" + say("a") + b"data: \n\n" + say("b")) == ["a", "b"]


CRUEL = b"".join(
    [
        "\ufeff".encode(),
        b": ping\r\n\r\n",
        event({"role": "assistant", "content": ""}),
        event({"reasoning_content": "hm\u2028 é"}).replace(b"\n", b"\r\n"),
        b": ping\n\n",
        say("\r\n\r\ndata: [DONE]\n\n"),
        b'data: {"choices":[{"delta":{"content":"\xf0\x9f\x98\x80 raw"}}]}\r\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\r\r',
        b'data: {"choices":[{"delta":{"content":"\\ude00 joined, \\udc00 alone"}}]}\n\r\n',
        b'data: {"choices":\ndata:[{"delta": {"content": "two lines"}}]}\r\n\r\n',
        event({"refusal": "no"}),
        event(finish_reason="stop", usage=None),
        event(usage=USAGE),
        DONE,
    ]
)
CRUEL_DELTAS = [
    Delta(5, reasoning="hm\u2028 é"),
    Delta(6, text="\r\n\r\ndata: [DONE]\n\n"),
    Delta(7, text="😀 raw"),
    Delta(8, text="😀 joined, \ufffd alone"),
    Delta(9, text="two lines"),
    Delta(10, refusal="no"),
]


def assert_cruel(decoder: ChunkDecoder, deltas: list[Delta]) -> None:
    assert deltas == CRUEL_DELTAS
    assert (decoder.done, decoder.finish_reason, decoder.failure) == (True, "stop", None)
    assert decoder.usage == Usage(3, 5, 8)
    assert decoder.last_seq == 10
    assert decoder.finish() == []


def test_every_byte_split_gives_the_same_deltas() -> None:
    for cut in range(len(CRUEL) + 1):
        decoder = ChunkDecoder(4)
        deltas = decoder.feed(CRUEL[:cut]) + decoder.feed(CRUEL[cut:])
        assert_cruel(decoder, deltas)


def test_one_byte_at_a_time_gives_the_same_deltas() -> None:
    decoder = ChunkDecoder(4)
    deltas = [delta for place in range(len(CRUEL)) for delta in decoder.feed(CRUEL[place : place + 1])]
    assert_cruel(decoder, deltas)


@given(st.lists(st.integers(0, len(CRUEL)), max_size=12))
def test_any_splits_give_the_same_deltas(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CRUEL)]
    decoder = ChunkDecoder(4)
    deltas = []
    for start, stop in pairwise(places):
        deltas += decoder.feed(CRUEL[start:stop])
    assert_cruel(decoder, deltas)


def test_text_and_reasoning_of_one_chunk_are_two_deltas_reasoning_first() -> None:
    _, deltas = decoded(event({"content": "answer", "reasoning_content": "thought"}))
    assert deltas == [Delta(2, reasoning="thought"), Delta(3, text="answer")]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_goes_by_either_of_its_names(name: str) -> None:
    assert decoded(event({name: "hm"}))[1] == [Delta(2, reasoning="hm")]


def test_reasoning_under_both_names_is_said_once() -> None:
    assert decoded(event({"reasoning": "hm", "reasoning_content": "hm"}))[1] == [Delta(2, reasoning="hm")]


def test_a_refusal_has_a_voice_of_its_own() -> None:
    assert decoded(event({"refusal": "no", "content": None}))[1] == [Delta(2, refusal="no")]


def test_chunks_without_words_make_no_deltas() -> None:
    body = (
        event({"role": "assistant"})
        + event({"content": ""})
        + event({"content": None, "reasoning_content": None, "refusal": None})
        + event({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
        + event()
        + b'data: {"choices": null}\n\ndata: {}\n\ndata: {"choices":[{"delta":null}]}\n\ndata: {"choices":[{}]}\n\n'
    )
    assert decoded(body)[1] == []
    assert failure_of(body) is None


def test_only_the_first_of_several_choices_is_the_answer() -> None:
    body = json.dumps(
        {
            "choices": [
                {"index": index, "delta": {"content": str(index)}, "finish_reason": str(index)} for index in (1, 0)
            ]
        }
    )
    decoder, deltas = decoded(f"data: {body}\n\n".encode())
    assert deltas == [Delta(2, text="0")]
    assert decoder.finish_reason == "0"


@pytest.mark.parametrize(
    "body",
    [
        event(usage=USAGE) + say("a") + event(finish_reason="stop"),
        event({"content": "a"}, usage=USAGE) + event(finish_reason="stop"),
        say("a") + event(finish_reason="stop", usage=USAGE),
        say("a") + event(finish_reason="stop", usage=None) + event(usage=USAGE),
        # vLLM's continuous usage: the last one counts.
        event({"content": "a"}, usage={**USAGE, "total_tokens": 1}) + event(finish_reason="stop", usage=USAGE),
        # A later null takes nothing back.
        event(usage=USAGE) + event({"content": "a"}, "stop", usage=None),
    ],
)
def test_usage_may_come_in_any_chunk(body: bytes) -> None:
    decoder, deltas = decoded(body + DONE)
    assert decoder.usage == Usage(3, 5, 8)
    assert deltas == [Delta(2, text="a")]
    assert decoder.done


def test_usage_details_are_kept_and_unknown_fields_are_not() -> None:
    details = {"cached_tokens": 1, "audio_tokens": None}
    decoder, _ = decoded(event(usage={**USAGE, "prompt_tokens_details": details, "cost": 0.1}))
    assert decoder.usage == Usage(3, 5, 8, prompt_tokens_details=details)


@pytest.mark.parametrize(
    "usage",
    [
        7,
        "many",
        [],
        {},
        {"prompt_tokens": 3},
        {**USAGE, "prompt_tokens": "three"},
        {**USAGE, "prompt_tokens": "٣"},
        {**USAGE, "completion_tokens": None},
        {**USAGE, "completion_tokens": -1},
        {**USAGE, "total_tokens": 1.5},
        {**USAGE, "total_tokens": 10**400},
        {**USAGE, "prompt_tokens": 10**18},
        {**USAGE, "completion_tokens": MAX_TOKENS + 1},
        {**USAGE, "prompt_tokens": -(10**400)},
        {**USAGE, "prompt_tokens": 1e300},
        {**USAGE, "prompt_tokens": True},
    ],
)
def test_usage_of_another_form_costs_no_answer(usage: object) -> None:
    decoder, deltas = decoded(event({"content": "a"}, "stop", usage=usage) + DONE)
    assert deltas == [Delta(2, text="a")]
    assert (decoder.failure, decoder.usage, decoder.done, decoder.finish_reason) == (None, None, True, "stop")


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        ({"cached_tokens": 1, "cache_creation": {"ephemeral_5m": 0}}, {"cached_tokens": 1}),
        ({"cached_tokens": 1, "audio_tokens": "0", "speed": 1.5}, {"cached_tokens": 1}),
        ({"cached_tokens": 1, "audio_tokens": -1}, {"cached_tokens": 1}),
        ({"cached_tokens": 10**400, "audio_tokens": 10**18}, None),
        ({"cached_tokens": MAX_TOKENS, "audio_tokens": MAX_TOKENS + 1}, {"cached_tokens": MAX_TOKENS}),
        ({"cached_tokens": 1, "audio_tokens": None, "speed": 1.5}, {"cached_tokens": 1, "audio_tokens": None}),
        ({"cache_creation": {}}, None),
        (3, None),
        ([], None),
    ],
)
def test_an_odd_detail_costs_no_usage(details: object, kept: dict[str, int | None] | None) -> None:
    decoder, _ = decoded(event(usage={**USAGE, "completion_tokens_details": details}))
    assert decoder.usage == Usage(3, 5, 8, completion_tokens_details=kept)


def test_usage_that_is_nested_too_deep_costs_no_answer() -> None:
    nested = b"[" * 900 + b"]" * 900
    decoder, deltas = decoded(b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"deep":%b}}\n\n' % nested)
    assert (deltas, decoder.failure, decoder.usage) == ([Delta(2, text="a")], None, None)


def test_a_finish_reason_stays_when_later_chunks_have_none() -> None:
    decoder, _ = decoded(event({"content": "a"}, "length") + event({"content": ""}) + event(usage=USAGE) + DONE)
    assert decoder.finish_reason == "length"


def test_a_finish_reason_is_always_writable() -> None:
    decoder, _ = decoded(b'data: {"choices":[{"delta":{},"finish_reason":"st\\ud800op"}]}\n\n')
    assert decoder.finish_reason == "st\ufffdop"


FAILURES = [
    "error", "ERROR", "network_error", "model_error", "server_error", "engine_error", "insufficient_system_resource",
    "abort", "aborted", "cancelled", "CANCELED", "failed", "failure", "timeout", "time_out", "resource-exhausted",
    "service_unavailable", "engine_overloaded", "interrupted",
    "MALFORMED_FUNCTION_CALL", "function_call_filter: MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL",
]  # fmt: skip
FINISHES = [
    "stop", "length", "content_filter", "tool_calls", "function_call", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION",
    "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "model_length", "sensitive", "time_limit", "OTHER",
]  # fmt: skip


@pytest.mark.parametrize("word", FAILURES)
def test_a_word_for_failure_is_no_finish_and_what_came_before_is_kept(word: str) -> None:
    decoder, deltas = decoded(say("half ") + event({"content": "a sentence"}, word) + event(usage=USAGE) + DONE)
    assert deltas == [Delta(2, text="half "), Delta(3, text="a sentence")]
    assert decoder.failure is not None
    assert (decoder.failure.code, decoder.failure.retryable) == ("upstream_error", True)
    assert decoder.finish_reason is None


@pytest.mark.parametrize("word", FINISHES)
def test_any_other_word_is_a_finish_and_passed_on(word: str) -> None:
    decoder, _ = decoded(event({"content": "a"}, word) + DONE)
    assert (decoder.finish_reason, decoder.failure) == (word, None)


@pytest.mark.parametrize("finish_reason", ["error", "stop", None])
def test_an_error_within_the_choice_is_a_failure(finish_reason: str | None) -> None:
    choice = {"index": 0, "delta": {"content": "kept"}, "finish_reason": finish_reason}
    body = json.dumps({"choices": [{**choice, "error": {"code": 502, "message": "sk-secret"}}]})
    decoder, deltas = decoded(f"data: {body}\n\n".encode() + DONE)
    assert deltas == [Delta(2, text="kept")]
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_error"


def test_the_failure_of_a_choice_that_was_not_asked_for_costs_nothing() -> None:
    body = b'data: {"choices":[{"index":1,"delta":{},"finish_reason":"error","error":{}}]}\n\n'
    assert failure_of(say("a") + body) is None


@pytest.mark.parametrize(
    "event_of_error",
    [
        b'data: {"object": "error", "message": "boom", "type": "BadRequestError", "code": 400}\n\n',
        b'data: {"type": "error", "message": "boom"}\n\n',
        b'event: error\ndata: {"message": "boom"}\n\n',
        b"event: error\r\ndata: boom\r\n\r\n",
        b"data: boom\nevent:error\n\n",
        b"event: error\ndata: null\n\n",
        b'data: {"error": {"message": "boom"}, "choices": []}\n\n',
    ],
)
@pytest.mark.parametrize("before", [say("kept"), event({"content": "kept"}, "stop")])
def test_an_event_that_is_an_error_is_a_failure_also_behind_the_finish(event_of_error: bytes, before: bytes) -> None:
    decoder, deltas = decoded(before + event_of_error + DONE)
    assert deltas == [Delta(2, text="kept")]
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_error"


@pytest.mark.parametrize(
    ("written", "finish_reason"),
    [
        ({"type": "stop"}, "stop"),
        (["stop"], "stop"),
        ({"code": 1}, '{"code": 1}'),
        (1, "1"),
        (0, None),
        (False, None),
        ({}, None),
        ([], None),
    ],
)
def test_a_finish_reason_that_is_no_string_costs_no_text(written: object, finish_reason: str | None) -> None:
    body = json.dumps({"choices": [{"delta": {"content": "a"}, "finish_reason": written}]})
    decoder, deltas = decoded(f"data: {body}\n\n".encode())
    assert deltas == [Delta(2, text="a")]
    assert (decoder.finish_reason, decoder.failure) == (finish_reason, None)


def test_a_finish_reason_that_is_an_object_may_be_a_failure() -> None:
    assert failure_of(b'data: {"choices":[{"finish_reason":{"type":"ERROR"}}]}\n\n') == "upstream_error"


@pytest.mark.parametrize("sentinel", [b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data:  [DONE] \r\n\r\n"])
def test_nothing_counts_after_the_sentinel(sentinel: bytes) -> None:
    decoder, deltas = decoded(say("a") + sentinel + say("b") + b"data: garbage\n\n")
    assert deltas == [Delta(2, text="a")]
    assert decoder.done
    assert decoder.failure is None


@pytest.mark.parametrize(
    "error",
    [{"message": "overloaded", "code": 503}, {"message": "key sk-secret is wrong"}, "overloaded", {}, 500],
)
def test_an_error_of_the_upstreams_own_is_a_failure_without_its_words(error: object) -> None:
    decoder, deltas = decoded(say("kept") + f"data: {json.dumps({'error': error})}\n\n".encode() + say("b"))
    assert deltas == [Delta(2, text="kept")]
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_error"
    assert "overloaded" not in decoder.failure.message
    assert "secret" not in decoder.failure.message


@pytest.mark.parametrize("none", [None, "", False, 0, []])
def test_an_error_that_says_nothing_is_none(none: object) -> None:
    assert failure_of(event({"content": "a"}, error=none)) is None
    body = {"choices": [{"delta": {"content": "a"}, "error": none}]}
    assert texts_of(f"data: {json.dumps(body)}\n\n".encode()) == ["a"]


# What is odd and can be read


@pytest.mark.parametrize(
    ("content", "deltas"),
    [
        ([{"type": "text", "text": "Hello"}], [Delta(2, text="Hello")]),
        ([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}], [Delta(2, text="Hello")]),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}], [Delta(2, reasoning="Hm.")]),
        ([{"type": "thinking", "thinking": "Hm."}], [Delta(2, reasoning="Hm.")]),
        (
            [{"type": "text", "text": "Hello"}, {"type": "thinking", "thinking": "Hm."}],
            [Delta(2, reasoning="Hm."), Delta(3, text="Hello")],
        ),
        ([{"type": "reference", "reference_ids": [1]}, "Hello", {"type": "image_url"}, {}], [Delta(2, text="Hello")]),
        ([{"type": "text", "text": None}, {"type": "thinking"}], []),
        ([{"type": "output_text", "text": "Hel"}, {"text": "lo"}], [Delta(2, text="Hello")]),
        ([], []),
    ],
)
def test_content_may_be_a_list_of_parts(content: list[Any], deltas: list[Delta]) -> None:
    decoder, said = decoded(event({"content": content}) + say(" world"))
    assert decoder.failure is None
    assert said == [*deltas, Delta(2 + len(deltas), text=" world")]


@pytest.mark.parametrize(
    "odd",
    [
        b"data: null\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b'data: {"choices": {}}\n\n',
        b'data: {"choices": [{"index": 0, "delta": [], "finish_reason": null}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": "", "finish_reason": null}]}\n\n',
        b'data: {"type": "ping"}\n\n',
        b"event: ping\ndata: 2026-11-26 03:00:00.000000\n\n",
        b"event: heartbeat\r\ndata: <3\r\n\r\n",
        b"data: alive\nevent:ping\n\n",
    ],
)
def test_an_event_that_has_nothing_to_say_costs_no_answer(odd: bytes) -> None:
    assert texts_of(say("Hello") + odd + say(" world")) == ["Hello", " world"]


def test_the_name_of_an_event_is_that_events_alone() -> None:
    assert failure_of(b"event: ping\ndata: {1 o'clock\n\ndata: [2 o'clock\n\n") == "upstream_malformed"
    assert failure_of(b"event: ping\n\ndata: [2 o'clock\n\n") == "upstream_malformed"
    assert failure_of(b"event: ping\ndata: [2 o'clock\n\n") is None


@pytest.mark.parametrize("index", ["0", 0, 0.0, None])
def test_an_index_may_be_written_otherwise(index: object) -> None:
    body = json.dumps({"choices": [{"index": index, "delta": {"content": "a"}}]})
    assert texts_of(f"data: {body}\n\n".encode()) == ["a"]


def test_another_choice_is_passed_over_however_its_index_is_written() -> None:
    assert texts_of(b'data: {"choices": [{"index": "1", "delta": {"content": "a"}}]}\n\n') == []


@pytest.mark.parametrize(
    ("written", "text"),
    [(b"Fine \xf0\x9f\x8c", "Fine \ufffd"), (b"\xff", "\ufffd"), (b"a\x80b \xc3\xa9", "a\ufffdb é")],
)
def test_bytes_that_are_no_characters_become_replacement_characters(written: bytes, text: str) -> None:
    assert texts_of(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % written) == [text]


def test_a_whole_message_in_one_event_is_the_answer() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": USAGE})
    decoder, deltas = decoded(f"data: {body}\n\n".encode() + DONE)
    assert deltas == [Delta(2, text="Hello")]
    assert (decoder.finish_reason, decoder.usage) == ("stop", Usage(3, 5, 8))


def test_a_whole_message_behind_its_deltas_is_not_said_again() -> None:
    message = b'data: {"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}\n\n'
    decoder, deltas = decoded(say("Hel") + say("lo") + message)
    assert [delta.text for delta in deltas] == ["Hel", "lo"]
    assert decoder.finish_reason == "stop"


@pytest.mark.parametrize("junk", [b"data: {broken\n\n", b"data: \xff\n\n", b'data: {"choices": 1}\n\n', b"data: 7\n\n"])
def test_junk_behind_the_finish_takes_nothing_from_the_answer(junk: bytes) -> None:
    decoder, deltas = decoded(event({"content": "a"}, "stop") + junk + event(usage=USAGE) + DONE)
    assert deltas == [Delta(2, text="a")]
    assert (decoder.failure, decoder.finish_reason, decoder.done) == (None, "stop", True)
    assert decoder.usage == Usage(3, 5, 8)


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><html>",
        b"\n\r\n  <!DOCTYPE html><html>",
        b"\x1f\x8b\x08\x00",
    ],
)
def test_a_page_or_a_compressed_body_is_malformed_at_once_whatever_its_status(body: bytes) -> None:
    assert failure_of(body) == "upstream_malformed"
    decoder = ChunkDecoder(1)
    assert [decoder.feed(body[place : place + 1]) for place in range(len(body))]
    assert decoder.failure is not None


MESSAGE = {"role": "assistant", "content": "Hello"}
WHOLE = {"object": "chat.completion", "choices": [{"message": MESSAGE, "finish_reason": "stop"}], "usage": USAGE}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(WHOLE),
        json.dumps(WHOLE, indent=2).replace("\n", "\r\n"),
        "\n\n  " + json.dumps(WHOLE),
        "\ufeff" + json.dumps(WHOLE) + "\n",
        json.dumps([WHOLE]),
        json.dumps({**WHOLE, "choices": [{"message": MESSAGE}]}),
    ],
)
def test_a_whole_completion_in_place_of_a_stream_is_the_answer_at_every_byte_split(body: str) -> None:
    written = body.encode()
    for cut in range(len(written) + 1):
        decoder = ChunkDecoder(1)
        deltas = decoder.feed(written[:cut]) + decoder.feed(written[cut:]) + decoder.end()
        assert deltas == [Delta(2, text="Hello")]
        assert (decoder.failure, decoder.done, decoder.usage) == (None, True, Usage(3, 5, 8))


def test_a_whole_completion_that_failed_is_a_failure_with_its_text() -> None:
    body = json.dumps({"choices": [{"message": MESSAGE, "finish_reason": "error"}]})
    decoder, deltas = decoded(body.encode())
    assert deltas + decoder.end() == [Delta(2, text="Hello")]
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_error"


def test_many_values_in_one_event_take_no_time_to_speak_of() -> None:
    began = time.process_time()
    assert failure_of(b"data: " + b"1 " * (EVENT_BYTES // 4) + b"\n\n") is None
    assert time.process_time() - began < 5  # a quadratic reading takes minutes


@pytest.mark.parametrize("piece", [b"[\n" + b" " * 1000, b"[" + b"\n" * 1000])
def test_json_without_end_fills_no_memory(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChunkDecoder, "event_bytes", 50_000)
    decoder = ChunkDecoder(1)
    for _ in range(ChunkDecoder.event_bytes // 1000 + 2):
        decoder.feed(piece)
    assert decoder.failure is not None
    assert "too long" in decoder.failure.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}',
        b'{\n  "error": "no"\n}\n',
        b'  [{"error": "no"}]',
        b'{"choices": []}',
        b'{"choices": [{"mess',
        "\ufeff".encode() + b"{}",
        b"[" * 10_000,
        b"Not Found",
        b"data: not found\n\ndata: {",
        b'event: message\ndata: "Hello"\n\n',
        b'data: {"message": {"content": "another API\'s"}}\n\n',
        b"Not Found\r\n\r\ndatabase: down\r\n",
        zlib.compress(DONE),
        b"\x0b\x02\x80data\x03",
    ],
)
def test_a_body_of_which_nothing_can_be_read_is_malformed_at_its_end(body: bytes) -> None:
    decoder, deltas = decoded(body)
    assert deltas + decoder.end() == []
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_malformed"


@pytest.mark.parametrize("body", [b"", b"\n", b": alive\n\n", b"retry: 5\n\n", b"data", b"data: {"])
def test_an_event_stream_without_an_answer_is_truncated(body: bytes) -> None:
    decoder, deltas = decoded(body)
    assert deltas + decoder.end() == []
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_truncated"


def test_a_byte_order_mark_behind_blank_lines_takes_no_words() -> None:
    assert texts_of(b"\n\n" + "\ufeff".encode() + say("first")) == ["first"]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("last", [event({"content": "b"}, "stop"), say("b") + DONE])
def test_the_end_of_the_body_ends_the_last_event(last: bytes, ends: bytes) -> None:
    decoder, deltas = decoded(say("a") + last.rstrip(b"\n") + ends)
    deltas += decoder.end()
    assert [delta.text for delta in deltas] == ["a", "b"]
    assert decoder.failure is None
    assert decoder.done or decoder.finish_reason == "stop"


def test_an_error_that_the_end_of_the_body_ends_is_a_failure() -> None:
    decoder, _ = decoded(say("a") + b'data: {"error": {"message": "no"}}')
    assert decoder.end() == []
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_error"


def test_events_that_no_blank_lines_end_are_read() -> None:
    body = say("a") + event({"content": "b"}, "stop") + DONE + say("lost")
    decoder, deltas = decoded(body.replace(b"\n\n", b"\n"))
    assert [delta.text for delta in deltas] == ["a", "b"]
    assert decoder.done


ODD = [
    (b"data: <html>\n\n", None),
    (b"data: 1\n\n", None),
    (b"data: true\n\n", None),
    (b'data: "text"\n\n', None),
    (b'data: [{"choices": []}]\n\n', None),
    (b'data: {"choices": 1}\n\n', None),
    (b'data: {"choices": [1]}\n\n', None),
    (b'data: {"choices": [null]}\n\n', None),
    (b'data: {"choices": [{"delta": "a"}]}\n\n', "a"),
    (b'data: {"choices": [{"delta": {"content": 1}}]}\n\n', "1"),
    (b'data: {"choices": [{"delta": {"content": {"text": "a"}}}]}\n\n', "a"),
    (b'data: {"choices": [{"delta": {"content": [1]}}]}\n\n', None),
    (b'data: {"choices": [{"delta": {"content": [{"type": "text", "text": 1}]}}]}\n\n', "1"),
    (b'data: {"choices": [{"delta": [{"content": "a"}]}]}\n\n', "a"),
    (b'data: {"choices": [{"index": "first", "delta": {"content": "a"}}]}\n\n', "a"),
    (b'data: {"choices": [{"delta": {"content": true, "refusal": {"a": {}}}}]}\n\n', None),
    (b"event: message\ndata: oops\n\n", None),
    (b'data: {"choices": [{"delta": {"content": "a"}}]} {"choices": [{"delta": {"content": "b"}}]}\n\n', "ab"),
    (b'data: {"choices": [{"delta": {"content": "a\x01"}}]}\n\n', "a\x01"),
    (b"data: " + b"1" * 5000 + b"\n\n", None),
    (b'data: {"choices": [{"text": "a"}]}\n\n', "a"),
    (b"data: ping\ndata: alive\n\n", None),
    (b'data: ping\ndata: {"choices": [{"delta": {"content": "a"}}]}\n\n', "a"),
]


@pytest.mark.parametrize(("odd", "text"), ODD)
def test_an_odd_event_costs_no_more_than_itself(odd: bytes, text: str | None) -> None:
    said = "".join(str(each) for each in texts_of(say("kept ") + odd + say(" and on")))
    assert said == f"kept {text or ''} and on"


@pytest.mark.parametrize("done", [b"data: [done]\n\n", b'data: "[DONE]"\n\n', b"data: [DONE] bye\n\n"])
def test_the_sentinel_may_be_written_otherwise(done: bytes) -> None:
    decoder, _ = decoded(say("a") + done + say("b"))
    assert (decoder.done, decoder.failure) == (True, None)


@pytest.mark.parametrize("word", ["null", "none", "not_finished"])
def test_a_word_for_no_finish_reason_is_none(word: str) -> None:
    decoder, _ = decoded(event({"content": "a"}, word))
    assert decoder.finish_reason is None


CACHED = Usage(3, 5, 8, {"cached_tokens": 2})
WITH_AUDIO = Usage(3, 5, 8, {"audio_tokens": 1, "cached_tokens": 2})


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ({"prompt_tokens": "3", "completion_tokens": 5.0}, Usage(3, 5, 8)),
        ({"input_tokens": 3, "output_tokens": 5, "total_tokens": 9}, Usage(3, 5, 9)),
        ({**USAGE, "total_tokens": None}, Usage(3, 5, 8)),
        (
            {"input_tokens": 3, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 2}},
            Usage(3, 5, 8, {"cached_tokens": 2}),
        ),
        ({**USAGE, "prompt_cache_hit_tokens": 2, "prompt_cache_miss_tokens": 1}, Usage(3, 5, 8, {"cached_tokens": 2})),
        ({**USAGE, "num_cached_tokens": 0}, Usage(3, 5, 8, {"cached_tokens": 0})),
        ({**USAGE, "cached_tokens": 2, "prompt_tokens_details": {"audio_tokens": 1}}, WITH_AUDIO),
        ({**USAGE, "cached_tokens": 9, "prompt_tokens_details": {"audio_tokens": 1, "cached_tokens": 2}}, WITH_AUDIO),
        ({**USAGE, "cached_tokens": 2, "prompt_tokens_details": {"cached_tokens": None}}, CACHED),
        ({**USAGE, "cached_tokens": "2", "total_tokens": "8"}, CACHED),
        ({**USAGE, "cached_tokens": -1}, Usage(3, 5, 8)),
        ({**USAGE, "prompt_token_details": {"cached_tokens": 2}}, CACHED),
        ({**USAGE, "cache_read_input_tokens": 2}, CACHED),
        ({**USAGE, "reasoning_tokens": 4}, Usage(3, 5, 8, None, {"reasoning_tokens": 4})),
        # Anthropic counts the cache beside its `input_tokens`, and has no total.
        (
            {"input_tokens": 1, "output_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 4},
            Usage(7, 5, 12, {"cached_tokens": 2}),
        ),
        ({"input_tokens": 3, "output_tokens": 5, "total_tokens": 8, "cache_read_input_tokens": 2}, CACHED),
    ],
)
@pytest.mark.parametrize("place", ['"usage":{}', '"x_groq":{{"usage":{}}}'])
def test_usage_is_read_in_other_forms_and_places(written: dict[str, object], counted: Usage, place: str) -> None:
    decoder, _ = decoded(say("a") + f'data: {{"choices":[],{place.format(json.dumps(written))}}}\n\n'.encode())
    assert (decoder.usage, decoder.failure) == (counted, None)


GARBAGE = [
    b'data: {"choices": [oops\n\n',
    b"data: \x00\xff\xfe\n\n",
    b'event: completion.chunk\ndata: {"choices": [oops\n\n',
    b'data: lo"}}]}\n\n',
    b"data: [DONE\n\n",
    b"data: {'choices': []}\n\n",
    b"data: \xff\n\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_a_failure_and_what_came_before_is_kept(garbage: bytes) -> None:
    decoder, deltas = decoded(say("kept") + garbage + say("lost"))
    assert deltas == [Delta(2, text="kept")]
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_malformed"
    assert not decoder.done


@pytest.mark.parametrize("nest", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("place", [b'{"x":%b}', b'{"choices":%b}', b'{"usage":%b}', b'{"error":%b}', b"%b"])
def test_nesting_without_end_is_no_exception(nest: tuple[bytes, bytes], place: bytes) -> None:
    deep = 10 * sys.getrecursionlimit()
    value = place % (nest[0] * deep + b"1" + nest[1] * deep)
    assert failure_of(b"data: " + value + b"\n\n") in {"upstream_malformed", "upstream_error"}


@pytest.mark.parametrize(
    "endless",
    [
        b"data: " + b"x" * EVENT_BYTES,  # a line without an end
        b"x" * (EVENT_BYTES + 1),
        b"data: %b\n" % (b"x" * 1000) * (EVENT_BYTES // 1000 + 1),  # an event without an end
        b"data:\n" * (EVENT_BYTES // 8),
    ],
)
def test_an_event_that_never_ends_is_a_failure_and_fills_no_memory(endless: bytes) -> None:
    decoder = ChunkDecoder(1)
    assert decoder.feed(say("kept")) == [Delta(2, text="kept")]
    for place in range(0, len(endless), 65536):
        assert decoder.feed(endless[place : place + 65536]) == []
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_malformed"
    assert "too long" in decoder.failure.message


def test_what_came_before_an_event_that_never_ends_is_kept() -> None:
    decoder, deltas = decoded(say("kept") + b"data: " + b"x" * EVENT_BYTES)
    assert deltas == [Delta(2, text="kept")]
    assert decoder.failure is not None


def test_a_comment_of_any_number_is_no_endless_event() -> None:
    decoder = ChunkDecoder(1)
    for _ in range(EVENT_BYTES // 10_000 + 1):
        assert decoder.feed(b": ping\n\n" * 1250) == []
    assert decoder.feed(say("a")) == [Delta(2, text="a")]


def test_surrogates_are_joined_over_two_chunks() -> None:
    decoder, deltas = decoded(rb'data: {"choices":[{"delta":{"content":"a\ud83d"}}]}' + b"\n\n")
    assert deltas == [Delta(2, text="a")]
    assert decoder.feed(rb'data: {"choices":[{"delta":{"content":"\ude00b"}}]}' + b"\n\n") == [Delta(3, text="😀b")]


def test_a_chunk_of_half_a_character_takes_no_seq() -> None:
    _, deltas = decoded(rb'data: {"choices":[{"delta":{"content":"\ud83d"}}]}' + b"\n\n" + say("!"))
    assert deltas == [Delta(2, text="\ufffd!")]


def test_half_a_character_waits_in_its_own_voice() -> None:
    _, deltas = decoded(
        rb'data: {"choices":[{"delta":{"content":"\ud83d"}}]}'
        b"\n\n" + event({"reasoning": "hm"}) + rb'data: {"choices":[{"delta":{"content":"\ude00"}}]}' + b"\n\n"
    )
    assert deltas == [Delta(2, reasoning="hm"), Delta(3, text="😀")]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"\ude00", "\ufffd"),
        (r"a\ud83db", "a\ufffdb"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\ude00\ud83d!", "\ufffd\ufffd!"),
    ],
)
def test_a_surrogate_without_its_other_half_becomes_a_replacement_character(written: str, text: str) -> None:
    _, deltas = decoded(f'data: {{"choices":[{{"delta":{{"content":"{written}"}}}}]}}\n\n'.encode())
    assert deltas == [Delta(2, text=text)]


def test_surrogates_written_as_bytes_are_joined_too() -> None:
    # CESU-8, which no JSON may hold and some servers send.
    assert texts_of(b'data: {"choices":[{"delta":{"content":"\xed\xa0\xbd\xed\xb8\x80"}}]}\n\n') == ["😀"]


def test_half_a_character_at_the_end_becomes_a_replacement_character_once() -> None:
    decoder, _ = decoded(rb'data: {"choices":[{"delta":{"content":"\ud83d", "reasoning":"\ud83d"}}]}' + b"\n\n" + DONE)
    assert decoder.finish() == [Delta(2, reasoning="\ufffd"), Delta(3, text="\ufffd")]
    assert decoder.finish() == []


@given(st.lists(st.tuples(st.sampled_from(["content", "reasoning", "refusal"]), st.text(st.characters(), min_size=1))))
def test_seqs_have_no_gaps_and_no_character_is_lost(said: list[tuple[str, str]]) -> None:
    # json.dumps escapes each UTF-16 unit, lone surrogates among them, which these texts may hold.
    decoder, deltas = decoded(b"".join(event({voice: text}) for voice, text in said), last_seq=41)
    deltas += decoder.finish()
    assert decoder.failure is None
    assert [delta.seq for delta in deltas] == list(range(42, 42 + len(deltas)))
    assert decoder.last_seq == 41 + len(deltas)
    for voice in ("content", "reasoning", "refusal"):
        sent = "".join(text for name, text in said if name == voice)
        units = sent.encode("utf-16-le", "surrogatepass")
        name = "text" if voice == "content" else voice
        assert "".join(getattr(delta, name) or "" for delta in deltas) == units.decode("utf-16-le", "replace")


pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"data:", b"data: ", b"\n", b"\r", b"\r\n", b"\n\n", b":", b"[DONE]", b"\xef\xbb\xbf", *GARBAGE]),
    st.sampled_from([say("a"), event({"reasoning": "b"}), event(finish_reason="stop"), event(usage=USAGE), DONE]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "content", "usage", "error", "index", "finish_reason", "x"]), inner
            )
        ),
        max_leaves=10,
    ).map(lambda value: f"data: {json.dumps(value)}\n\n".encode()),
)


@given(st.lists(pieces, max_size=10).map(b"".join), st.lists(st.integers(0, 400), max_size=5))
def test_no_bytes_are_an_exception(body: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    decoder = ChunkDecoder(1)
    deltas: list[Delta] = []
    for start, stop in pairwise(places):
        deltas += decoder.feed(body[start:stop])
        if decoder.failure or decoder.done:
            break
    deltas += decoder.finish()
    assert [delta.seq for delta in deltas] == list(range(2, 2 + len(deltas)))
    if decoder.failure:
        assert decoder.failure.code in {"upstream_malformed", "upstream_error"}
