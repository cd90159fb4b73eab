"""The events of OpenAI's Responses API, decoded. tests/test_responses_upstream.py has a server of them."""

import json
from typing import Any

import pytest

from service.answer import Attached
from service.events import Delta, Run, Usage
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


@pytest.mark.parametrize("kind", ["function_call", "custom_tool_call"])
def test_a_call_of_a_tool_is_noticed(kind: str) -> None:
    item = {"type": kind, "name": "f", "arguments": "{}"}
    _, decoder = decoded(EVENTS[0] + event(1, "response.output_item.done", item=item) + EVENTS[-1])
    assert decoder.has_tool_calls
    _, decoder = decoded(event(1, "response.completed", response={"output": [item]}))
    assert decoder.has_tool_calls


def test_an_event_that_is_too_long_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResponsesDecoder, "event_bytes", 100)
    assert responses_events.EVENT_BYTES > 1 << 20
    decoder = ResponsesDecoder(1, AT)
    decoder.feed(b"data: " + b"x" * 200)
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_malformed"
