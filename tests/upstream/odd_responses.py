"""Odd streams in the form of the Responses API: siblings of those that servers send in chat completions' form.

Each is a whole response of a server without background mode, so that none is followed again.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.events import Usage
from tests.upstream.bodies import DONE, data, json_response, response, stream

COUNTS = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
TEXT = "Hello world"
COUNTED = Usage(3, 5, 8)


@dataclass(frozen=True)
class Case:
    """A response, and what becomes of it."""

    name: str
    raw: bytes
    text: str = TEXT
    reasoning: str = ""
    end: str = "done"
    """`done`, or the code of `failed`."""
    finish_reason: str = "completed"
    usage: Usage | None = COUNTED
    outcome: str = ""
    """The label of the metric, if it is another word than the terminal event."""
    by_openai: str = "the same"
    """What the openai package makes of it."""


def event(kind: str, **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
    """An event with its name."""
    return f"event: {kind}\n".encode() + data(json.dumps({"type": kind, **fields}))


def say(delta: object, kind: str = "output_text", **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
    return event(f"response.{kind}.delta", delta=delta, **fields)


def end(status: str = "completed", **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
    return event(f"response.{status}", response={"status": status, "usage": COUNTS, **fields})


BEGIN = event("response.created", response={"id": "resp_1", "background": False})
HELLO, WORLD = say("Hello"), say(" world")
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": TEXT}]}
WHOLE = {"id": "resp_1", "background": False, "object": "response", "status": "completed", "output": [MESSAGE]}


def _failed(name: str, raw: bytes, text: str = "", code: str = "upstream_error", **more: Any) -> Case:  # noqa: ANN401
    return Case(name, raw, text=text, end=code, **more)


def _deltas() -> Iterator[Case]:
    differs = "'', completed, usage"
    parts = [{"type": "output_text", "text": "Hel"}, "lo", None, 7]
    yield Case(
        "delta: a list of parts", stream(say(parts), WORLD, end()), text="Hello world", by_openai="'', then TypeError"
    )
    yield Case("delta: a part", stream(say({"text": "Hello"}), WORLD, end()), by_openai="'', then TypeError")
    yield Case("delta: a number", stream(say(7), say("!"), end()), text="7!", by_openai="'', then TypeError")
    yield Case("delta: null", stream(say(None), HELLO, WORLD, end()))
    yield Case("number: a text", stream(say("Hello", sequence_number="1"), say(" world", sequence_number=[]), end()))
    yield Case(
        "reasoning: both kinds",
        stream(say("Th", "reasoning_text"), say("ink", "reasoning_summary_text"), HELLO, WORLD, end()),
        reasoning="Think",
    )
    unnamed = data(json.dumps({"delta": "Hello"}))
    yield Case(
        "type: in the event's name alone",
        stream(b"event: response.output_text.delta\n" + unnamed, WORLD, end()),
        by_openai=f"{TEXT[5:]!r}, completed, usage",
    )
    yield Case("type: without the event's name", stream(HELLO.split(b"\n", 1)[1], WORLD, end()))
    yield Case("no deltas: the text in the last event", stream(BEGIN, end(output=[MESSAGE])), by_openai=differs)
    thought = {"type": "reasoning", "summary": [{"text": "One"}, {"text": "Two"}]}
    yield Case(
        "no deltas: with reasoning", stream(end(output=[thought, MESSAGE])), reasoning="One\n\nTwo", by_openai=differs
    )
    yield Case("no deltas: no text either", stream(BEGIN, end()), text="", outcome="empty")


def _no_events() -> Iterator[Case]:
    for value in ("null", "7", "[]", '"alive"'):
        odd = stream(HELLO, data(value), WORLD, end())
        yield Case(f"no event: {value}", odd, by_openai="'Hello', then AttributeError")
    for value in ("ping", "2026-11-26 03:00"):
        odd = stream(HELLO, data(value), WORLD, end())
        yield Case(f"no event: {value}", odd, by_openai="'Hello', then JSONDecodeError")
    yield Case("no event: comments", stream(b": ping\n\n", HELLO, b": ping\n\n", WORLD, end()))
    yield Case(
        "no event: a named ping",
        stream(HELLO, b"event: ping\ndata: now\n\n", WORLD, end()),
        by_openai="'Hello', then JSONDecodeError",
    )
    yield Case(
        "no event: an unknown type", stream(HELLO, event("response.tea", delta={"a": 1}, error={}), WORLD, end())
    )


def _bytes() -> Iterator[Case]:
    broken = say("Hell~ world").replace(b"~", b"\xf3")
    yield Case(
        "bytes: Latin-1", stream(broken, end()), text="Hell\ufffd world", by_openai="'', then UnicodeDecodeError"
    )
    yield Case(
        "bytes: half a character",
        stream(say("Hell\ud83d"), end()),
        text="Hell\ufffd",
        by_openai="'Hell\\ud83d', completed, usage",
    )
    yield Case(
        "bytes: two halves",
        stream(say("\ud83c"), say("\udf0a"), end()),
        text="🌊",
        by_openai="'\\ud83c\\udf0a', completed, usage",
    )
    raw_control = say("Hello~world").replace(b"~", b"\x0b")
    yield Case(
        "bytes: a control character",
        stream(raw_control, end()),
        text="Hello\x0bworld",
        by_openai="'', then JSONDecodeError",
    )
    yield Case("lines: CRLF", stream((HELLO + WORLD + end()).replace(b"\n", b"\r\n")))
    yield Case("lines: CR", stream((HELLO + WORLD + end()).replace(b"\n", b"\r")))
    yield Case("lines: single", stream((HELLO + WORLD + end()).replace(b"\n\n", b"\n")), by_openai="'', None")
    yield Case(
        "lines: the last event without a blank one", stream(HELLO, WORLD, end().rstrip()), by_openai=f"{TEXT!r}, None"
    )
    packed = gzip.compress(HELLO + WORLD + end())
    yield Case("gzip", response(packed, "Content-Encoding: gzip"))


def _ends() -> Iterator[Case]:
    yield Case("end: [DONE] behind it", stream(HELLO, WORLD, end(), DONE))
    yield Case(
        "end: junk behind it",
        stream(HELLO, WORLD, end(), b"data: \x00\xff\n\n"),
        by_openai="'Hello world', then UnicodeDecodeError",
    )
    cut = end("incomplete", incomplete_details={"reason": "max_output_tokens"})
    yield Case(
        "end: incomplete",
        stream(HELLO, WORLD, cut),
        finish_reason="max_output_tokens",
        by_openai=f"{TEXT!r}, incomplete, usage",
    )
    mixed = event("response.completed", response={"status": "incomplete", "incomplete_details": {"reason": "length"}})
    yield Case(
        "end: incomplete by its status alone",
        stream(HELLO, WORLD, mixed),
        finish_reason="length",
        usage=None,
        by_openai=f"{TEXT!r}, incomplete",
    )
    yield Case(
        "end: incomplete without a reason",
        stream(HELLO, WORLD, end("incomplete")),
        finish_reason="incomplete",
        outcome="unknown",
    )
    yield _failed("end: none", stream(HELLO), "Hello", "upstream_truncated", by_openai="'Hello', None")
    yield _failed("end: [DONE] alone", stream(HELLO, DONE), "Hello", "upstream_truncated", by_openai="'Hello', None")
    failed = end("failed", error={"code": "server_error", "message": "It broke."})
    yield _failed("end: failed", stream(HELLO, failed), "Hello", by_openai="'Hello', failed, usage")
    yield _failed("end: cancelled", stream(HELLO, end("cancelled")), "Hello", by_openai="'Hello', None")
    error = {"code": "overloaded", "message": "Slow down."}
    yield _failed("error: as documented", stream(HELLO, event("error", **error)), "Hello", by_openai="'Hello', None")
    yield _failed(
        "error: in an object", stream(HELLO, event("error", error=error)), "Hello", by_openai="'Hello', then APIError"
    )
    yield _failed(
        "error: without a type",
        stream(HELLO, data(json.dumps({"error": error}))),
        "Hello",
        by_openai="'Hello', then APIError",
    )
    broken = HELLO.replace(b"}", b"")
    yield _failed(
        "broken: an event",
        stream(HELLO, broken, WORLD, end()),
        "Hello",
        "upstream_malformed",
        by_openai="'Hello', then JSONDecodeError",
    )


def _usage() -> Iterator[Case]:
    strings = {"input_tokens": "3", "output_tokens": 5.0, "total_tokens": None}
    yield Case("usage: strings", stream(HELLO, WORLD, end(usage=strings)))
    names = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    yield Case("usage: the names of chat completions", stream(HELLO, WORLD, end(usage=names)))
    yield Case("usage: null", stream(HELLO, WORLD, end(usage=None)), usage=None)
    yield Case("usage: a list", stream(HELLO, WORLD, end(usage=[])), usage=None)
    impossible = stream(HELLO, WORLD, end(usage={"input_tokens": -1}))
    yield Case("usage: below zero", impossible, usage=None, by_openai=f"{TEXT!r}, completed, usage")


def _no_streams() -> Iterator[Case]:
    whole = {**WHOLE, "usage": COUNTS}
    yield Case("whole: in place of a stream", json_response(whole), by_openai="'', None")
    pretty = b"\n\n  " + json.dumps(whole, indent=2).encode()
    yield Case("whole: in lines", response(pretty, content_type="application/json"), by_openai="'', None")
    lines = b"".join(each.split(b"data: ")[1] for each in (HELLO, WORLD, end()))
    yield Case(
        "whole: events as JSON lines", response(lines, content_type="application/x-ndjson"), by_openai="'', None"
    )
    failed = json_response({**whole, "status": "failed", "output": [], "error": {"code": "server_error"}})
    yield _failed("whole: failed", failed, by_openai="'', None")
    for name, raw in {
        "an error": json_response({"error": {"message": "no", "code": 429}}),
        "half of it": response(pretty[:-9], content_type="application/json"),
        "a page": response(b"<!DOCTYPE html><p>Not Found</p>", content_type="text/html"),
        "words as events": stream(data("Hello"), data("world"), DONE),
        "the chunks of chat completions": stream(data('{"choices":[{"delta":{"content":"Hello"}}]}'), DONE),
    }.items():
        by_openai = "'', then JSONDecodeError" if name == "words as events" else "'', None"
        yield _failed(f"no stream: {name}", raw, code="upstream_malformed", by_openai=by_openai)


CASES = [case for cases in (_deltas, _no_events, _bytes, _ends, _usage, _no_streams) for case in cases()]
