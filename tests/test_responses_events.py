"""The events of OpenAI's Responses API, decoded. tests/test_responses_upstream.py has a server of them."""

import json
from typing import Any

import pytest

from service.answer import AnswerState, Attached
from service.events import Delta, Run, ToolCall, Usage
from service.upstream import responses_events
from service.upstream.responses_events import ResponsesDecoder

AT = "http://upstream/v1"
RUN = Run("resp_1", AT)
WHOLE = "Fine 🌊 and naïve. It flows."
THOUGHT = "They ask 🌊.\n\nSo?"


def event(number: int, kind: str, **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **fields})}\n\n".encode()


def say(number: int, delta: str, kind: str = "output_text") -> bytes:
    return event(number, f"response.{kind}.delta", delta=delta)


EVENTS = [
    event(0, "response.created", response={"id": "resp_1", "status": "queued"}),
    event(1, "response.in_progress", response={"id": "resp_1", "status": "in_progress"}),
    event(2, "response.reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
    say(3, "They ask ", "reasoning_summary_text"),
    say(4, "\ud83c", "reasoning_summary_text"),
    say(5, "\udf0a.", "reasoning_summary_text"),
    event(6, "response.reasoning_summary_part.added", summary_index=1, part={"type": "summary_text", "text": ""}),
    say(7, "So?", "reasoning_summary_text"),
    event(8, "keepalive"),
    say(9, "Fine \ud83c"),
    say(10, "\udf0a and na"),
    say(11, "ïve."),
    say(12, " It flows."),
    event(
        13,
        "response.completed",
        response={"status": "completed", "usage": {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}},
    ),
]


def decoded(data: bytes, decoder: ResponsesDecoder | None = None, step: int = 1 << 20) -> tuple[list[Delta], Any]:
    decoder = decoder or ResponsesDecoder(1, AT)
    got: list[Delta] = []
    for at in range(0, len(data), step):
        got += decoder.feed(data[at : at + step])
    if not decoder.done and decoder.failure is None:
        got += decoder.end()
    return got, decoder


def said(deltas: list[Delta], voice: str) -> str:
    return "".join(getattr(delta, voice) or "" for delta in deltas)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_run_is_announced_and_its_pieces_are_numbered_on(step: int) -> None:
    got, decoder = decoded(b"".join(EVENTS), step=step)
    assert got[0] == Delta(2, run=RUN)
    assert [delta.seq for delta in got] == list(range(2, len(got) + 2))
    assert (said(got, "text"), said(got, "reasoning")) == (WHOLE, THOUGHT)
    assert (decoder.done, decoder.finish_reason, decoder.usage) == (True, "completed", Usage(3, 5, 8))


@pytest.mark.parametrize("behind", range(1, len(EVENTS)))
@pytest.mark.parametrize("takes_numbers", [True, False])
def test_a_run_that_is_cut_anywhere_goes_on_exactly(behind: int, *, takes_numbers: bool) -> None:
    first = ResponsesDecoder(1, AT)
    first.keeps_halves = False
    got, _ = decoded(b"".join(EVENTS[:behind]), first)
    known = Attached(RUN, len(said(got, "text")), len(said(got, "reasoning")), 0)
    start = first.place.start(known)
    assert start is not None
    again = ResponsesDecoder(got[-1].seq, AT, known, first.place)
    rest, _ = decoded(b"".join(EVENTS[start + 1 if takes_numbers else 0 :]), again)
    got += rest
    assert again.done
    assert (said(got, "text"), said(got, "reasoning")) == (WHOLE, THOUGHT)
    assert [delta.seq for delta in got] == list(range(2, len(got) + 2))


def test_a_half_of_a_character_is_asked_for_again() -> None:
    first = ResponsesDecoder(1, AT)
    first.keeps_halves = False
    got, _ = decoded(b"".join(EVENTS[:10]), first)
    assert said(got, "text") == "Fine "
    assert first.place.start(Attached(RUN, 5, len(THOUGHT), 0)) == 8, "the event with the half is asked for again"


def test_a_log_that_lacks_what_was_read_starts_at_the_start() -> None:
    first = ResponsesDecoder(1, AT)
    decoded(b"".join(EVENTS[:12]), first)
    assert first.place.start(Attached(RUN, 3, len(THOUGHT), 0)) is None


def test_what_is_known_is_left_out_however_the_run_was_cut_before() -> None:
    got, _ = decoded(b"".join(EVENTS), ResponsesDecoder(7, AT, Attached(RUN, 7, 9, 0)))
    assert (said(got, "text"), said(got, "reasoning")) == (WHOLE[7:], THOUGHT[9:])
    assert got[0].seq == 8


@pytest.mark.parametrize("background", [True, None])
def test_a_run_needs_an_id_that_fits_an_address(background: bool | None) -> None:  # noqa: FBT001 (a value of the field)
    for good in ("resp_1", "a" * 1024, "cmVzcF8x=="):
        created = event(0, "response.created", response={"id": good, "background": background})
        assert decoded(created)[0] == [Delta(2, run=Run(good, AT))]
    for bad in ("", "..", "a b", "a\n", "á", "a" * 1025, "?x=1", 7, None):
        assert decoded(event(0, "response.created", response={"id": bad}))[0] == []


@pytest.mark.parametrize("kind", ["response.failed", "response.cancelled"])
def test_a_run_that_ended_without_an_answer_is_no_answer(kind: str) -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    status, error = kind.removeprefix("response."), {"code": "server_error", "message": "It broke."}
    end = event(2, kind, response={"status": status, "error": error if status == "failed" else None, "usage": usage})
    got, decoder = decoded(EVENTS[0] + say(1, "A") + end)
    assert said(got, "text") == "A"
    assert (decoder.failure.code, decoder.run_ended, decoder.done) == ("upstream_error", True, False)
    assert decoder.usage == Usage(1, 2, 3)
    assert decoder.failure.upstream_code == ("server_error" if status == "failed" else "")


def test_a_cancelled_run_that_is_called_incomplete_is_no_answer() -> None:
    _, decoder = decoded(EVENTS[0] + event(1, "response.incomplete", response={"status": "cancelled"}))
    assert (decoder.failure.code, decoder.run_ended) == ("upstream_error", True)


@pytest.mark.parametrize("nested", [True, False])
def test_an_error_is_the_streams_alone_unless_it_comes_again(*, nested: bool) -> None:
    error = {"code": "overloaded", "message": "Slow down."}
    end = event(1, "error", **({"error": error} if nested else error))
    _, decoder = decoded(EVENTS[0] + end)
    assert (decoder.failure.code, decoder.failure.upstream_code, decoder.run_ended) == (
        "upstream_error",
        "overloaded",
        False,
    )
    _, decoder = decoded(EVENTS[0] + end, ResponsesDecoder(1, AT, Attached(RUN, 0, 0, 0)))
    assert decoder.run_ended


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
def test_a_stream_without_a_last_event_is_cut(end: bytes) -> None:
    got, decoder = decoded(EVENTS[0] + say(1, "A") + end)
    assert said(got, "text") == "A"
    assert (decoder.failure.code, decoder.run_ended) == ("upstream_truncated", False)


def item(number: int, at: int, kind: str = "added", arguments: str = "", **fields: Any) -> bytes:  # noqa: ANN401
    """An event about the item of a call."""
    call = {"type": "function_call", "id": f"fc_{at}", "call_id": f"call_{at}", "name": f"tool_{at}", **fields}
    return event(number, f"response.output_item.{kind}", output_index=at, item={**call, "arguments": arguments})


def argue(number: int, at: int, delta: str) -> bytes:
    return event(number, "response.function_call_arguments.delta", output_index=at, item_id=f"fc_{at}", delta=delta)


def argued(number: int, at: int, arguments: str) -> bytes:
    kind = "response.function_call_arguments.done"
    return event(number, kind, output_index=at, item_id=f"fc_{at}", arguments=arguments)


FIRST, SECOND = '{"city":"Győr 🌊"}', '{"a":{"b":1}}'
OUTPUT = [
    {"type": "message", "content": [{"type": "output_text", "text": "Let me see."}]},
    {"type": "function_call", "call_id": "call_1", "name": "tool_1", "arguments": FIRST},
    {"type": "function_call", "call_id": "call_2", "name": "tool_2", "arguments": SECOND},
]
CALLS = [
    ToolCall(index=0, id="call_1", name="tool_1", arguments=FIRST),
    ToolCall(index=1, id="call_2", name="tool_2", arguments=SECOND),
]
CALLING = [
    EVENTS[0],
    say(1, "Let me see."),
    item(2, 1),
    argue(3, 1, '{"city":"Győr \ud83c'),
    item(4, 2),
    argue(5, 2, '{"a":{"b"'),
    argue(6, 1, "\udf0a"),
    argue(7, 1, '"}'),
    argued(8, 1, FIRST),
    item(9, 1, "done", FIRST),
    argue(10, 2, ":1}}"),
    argued(11, 2, SECOND),
    item(12, 2, "done", SECOND),
    event(13, "response.completed", response={"status": "completed", "output": OUTPUT}),
]


def called(deltas: list[Delta]) -> list[ToolCall]:
    state = AnswerState()
    state.advance(deltas)
    return state.tool_calls


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_calls_of_tools_are_put_together(step: int) -> None:
    got, decoder = decoded(b"".join(CALLING), step=step)
    assert (said(got, "text"), called(got)) == ("Let me see.", CALLS)
    assert (decoder.finish_reason, decoder.has_tool_calls) == ("tool_calls", True)


@pytest.mark.parametrize("behind", range(1, len(CALLING)))
@pytest.mark.parametrize("takes_numbers", [True, False])
@pytest.mark.parametrize("has_place", [True, False])
def test_a_run_that_is_cut_in_a_call_goes_on_exactly(behind: int, *, takes_numbers: bool, has_place: bool) -> None:
    first = ResponsesDecoder(1, AT)
    first.keeps_halves = False
    got, _ = decoded(b"".join(CALLING[:behind]), first)
    lengths = tuple(len(call.arguments) for call in called(got))
    known = Attached(RUN, len(said(got, "text")), 0, 0, tool_calls=lengths)
    start = first.place.start(known) if has_place else None
    assert (start is not None) == has_place
    again = ResponsesDecoder(got[-1].seq, AT, known, first.place if has_place else None)
    rest, _ = decoded(b"".join(CALLING[start + 1 if takes_numbers and start is not None else 0 :]), again)
    got += rest
    assert (said(got, "text"), called(got)) == ("Let me see.", CALLS)
    assert (again.finish_reason, again.has_tool_calls) == ("tool_calls", True)
    assert [delta.seq for delta in got] == list(range(2, len(got) + 2))


@pytest.mark.parametrize("left_out", [{2, 4}, {3, 5, 6, 7, 10}, {8, 9, 11, 12}, {*range(2, 13)}, {*range(1, 13)}])
def test_calls_are_read_from_whatever_events_a_server_sends(left_out: set[int]) -> None:
    got, decoder = decoded(b"".join(each for number, each in enumerate(CALLING) if number not in left_out))
    assert (said(got, "text") or "Let me see.", decoder.finish_reason) == ("Let me see.", "tool_calls")
    assert sorted(called(got), key=lambda call: call.id) == CALLS


def test_the_calls_of_a_response_in_place_of_a_stream_are_read() -> None:
    got, decoder = decoded(json.dumps({"object": "response", "status": "completed", "output": OUTPUT}).encode())
    assert (said(got, "text"), called(got), decoder.finish_reason) == ("Let me see.", CALLS, "tool_calls")


def test_a_call_that_a_limit_cut_short_keeps_the_reason() -> None:
    end = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    got, decoder = decoded(b"".join(CALLING[:6]) + event(6, "response.incomplete", response=end))
    assert decoder.finish_reason == "max_output_tokens"
    assert called([*got, *decoder.finish()])[0].arguments == '{"city":"Győr \ufffd'


def test_a_call_of_another_kind_of_tool_is_noticed_only() -> None:
    call = {"type": "custom_tool_call", "name": "f", "input": "x"}
    got, decoder = decoded(EVENTS[0] + event(1, "response.output_item.done", item=call) + EVENTS[-1])
    assert (decoder.has_tool_calls, decoder.finish_reason, called(got)) == (True, "completed", [])
    got, decoder = decoded(event(1, "response.completed", response={"output": [call]}))
    assert (decoder.has_tool_calls, decoder.finish_reason, called(got)) == (True, "completed", [])


def test_an_event_that_is_too_long_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResponsesDecoder, "event_bytes", 100)
    assert responses_events.EVENT_BYTES > 1 << 20
    decoder = ResponsesDecoder(1, AT)
    decoder.feed(b"data: " + b"x" * 200)
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_malformed"
