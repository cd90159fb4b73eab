"""Odd streams that servers were reported to send, and what becomes of each.

The files in `cases/` are whole responses. Each has siblings: the same kind of oddity in another form. The table in
`cases/README.md` says what the openai package makes of each.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.events import Usage
from tests.upstream.bodies import (
    DONE,
    HELLO,
    PLAIN,
    USAGE,
    WORLD,
    chunk,
    data,
    end,
    json_response,
    response,
    say,
    stream,
)

FILES = Path(__file__).parent / "cases"
COUNTED = Usage(3, 5, 8)
TEXT = "Hello world"


@dataclass(frozen=True)
class Case:
    """A response, and what becomes of it."""

    name: str
    raw: bytes
    text: str = TEXT
    reasoning: str = ""
    end: str = "done"
    """`done`, or the code of `failed`."""
    finish_reason: str = "stop"
    usage: Usage | None = None
    outcome: str = ""
    """The label of the metric, if it is another word than the terminal event."""


def _file(name: str, **expected: object) -> Case:
    return Case(name, (FILES / f"{name}.http").read_bytes(), **expected)  # type: ignore[arg-type]


def _failed(name: str, raw: bytes, text: str = "", code: str = "upstream_error") -> Case:
    return Case(name, raw, text=text, end=code)


def _unread(name: str, raw: bytes) -> Case:
    return _failed(name, raw, code="upstream_malformed")


def _parts() -> Iterator[Case]:
    yield _file("content-parts", reasoning="They greet.")
    yield _file("content-parts-text-only")
    both = [{"type": "thinking", "thinking": "They greet."}, {"type": "text", "text": "Hello"}]
    yield Case("content-parts: both in one list", stream(say(both), WORLD, end(), DONE), reasoning="They greet.")
    thought = data(chunk({"reasoning_content": [{"type": "text", "text": "They greet."}]}))
    yield Case("content-parts: in the reasoning", stream(thought, HELLO, WORLD, end(), DONE), reasoning="They greet.")
    parts = ["Hel", {"type": "reference", "reference_ids": [1]}, {"text": "lo"}, None, 7]
    yield Case("content-parts-text-only: strings and other parts", stream(say(parts), WORLD, end(), DONE))
    yield Case(
        "content-parts-text-only: a part alone", stream(say({"type": "text", "text": "Hello"}), WORLD, end(), DONE)
    )


def _no_chunks() -> Iterator[Case]:
    yield _file("data-null")
    for value in ("7", "[]", '"alive"'):
        yield Case(f"data-null: {value}", stream(HELLO, data(value), WORLD, end(), DONE))
    yield _file("ping-text")
    yield Case("ping-text: without a name", stream(data("2026-11-26 03:00"), HELLO, data("alive"), WORLD, end(), DONE))
    two = b"data: ping\n" + WORLD
    yield Case("ping-text: without a blank line", stream(HELLO, two, end(), DONE))
    anthropic = b'event: ping\ndata: {"type": "ping"}\n\n'
    yield Case("ping-text: as JSON", stream(anthropic, HELLO, anthropic, WORLD, end(), DONE))


def _types() -> Iterator[Case]:
    yield _file("delta-array")
    yield Case("delta-array: a delta in it", stream(data(chunk([{"content": "Hello"}])), WORLD, end(), DONE))
    yield Case("delta-array: false", stream(data('{"choices":[{"delta":false}]}'), HELLO, WORLD, end(), DONE))
    named = data('{"choices":{"0":{"delta":{"content":"Hello"}}}}')
    yield Case("delta-array: choices by name", stream(named, WORLD, end(), DONE))
    yield _file("index-string")
    yield Case("index-string: a word", stream(say("Hello", index="first"), WORLD, end(), DONE))
    yield Case("index-string: an object", stream(say("Hello", index={}), WORLD, end(), DONE))
    odd = data(chunk({"content": "Hello", "refusal": [], "reasoning": {"effort": 1}, "reasoning_content": False}))
    yield Case("index-string: other fields", stream(odd, WORLD, end(), DONE))
    yield Case(
        "index-string: a number as the text", stream(say("Hello"), say(7), say("!"), end(), DONE), text="Hello7!"
    )
    yield _file("bad-utf8", text="Fine \ufffd world")
    yield Case(
        "bad-utf8: Latin-1", stream(say("Hell~ world").replace(b"~", b"\xf3"), end(), DONE), text="Hell\ufffd world"
    )
    raw_control = data('{"choices":[{"delta":{"content":"Hello~world"}}]}').replace(b"~", b"\x0b")
    yield Case("bad-utf8: a raw control character", stream(raw_control, end(), DONE), text="Hello\x0bworld")
    yield _file("error-empty")
    for error in ("[]", "false", "0"):
        yield Case(f"error-empty: {error}", stream(say("Hello", error=json.loads(error)), WORLD, end(), DONE))


def _ends() -> Iterator[Case]:
    yield _file("junk-after-finish")
    yield Case("junk-after-finish: an event of another API", stream(HELLO, WORLD, end(), data('{"choices":[7]}'), DONE))
    yield Case("junk-after-finish: binary", stream(HELLO, WORLD, end(), b"data: \x00\xff\n\n", DONE))
    yield _file("finish-object", finish_reason="stop")
    written = stream(HELLO, WORLD, end(["stop"]), DONE)
    yield Case("finish-object: a list", written, finish_reason="stop")
    number = stream(HELLO, WORLD, end(1), DONE)
    yield Case("finish-object: a number", number, finish_reason="1", outcome="unknown")
    other = stream(HELLO, WORLD, end("paused_for_tea"), DONE)
    yield Case("finish-object: an unknown word", other, finish_reason="paused_for_tea", outcome="unknown")
    yield _file("finish-never", finish_reason="")
    yield Case("finish-never: empty", stream(HELLO, WORLD, end(""), DONE), finish_reason="")
    yield Case("finish-never: nothing said", stream(DONE), text="", finish_reason="", outcome="empty")
    empty = stream(end(usage=USAGE), DONE)
    yield Case("finish-never: nothing said, and usage", empty, text="", usage=COUNTED, outcome="empty")
    yield Case(
        "finish-never: no room to say anything",
        stream(end("length"), data(json.dumps({"choices": [], "usage": USAGE})), DONE),
        text="",
        finish_reason="length",
        usage=COUNTED,
        outcome="empty",
    )
    call = data(chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}))
    yield Case("finish-never: a tool call alone", stream(call, end(), DONE), text="")
    yield _file("last-event-unended")
    yield Case("last-event-unended: the text in it", stream(HELLO, say(" world", "stop").rstrip()))
    yield Case("last-event-unended: one line end", stream(HELLO, WORLD, end()[:-1]))
    yield _file("single-newline")
    yield Case("single-newline: CRLF", stream(PLAIN.replace(b"\n\n", b"\r\n")))
    yield Case("single-newline: CR", stream(PLAIN.replace(b"\n\n", b"\r")))


def _failures() -> Iterator[Case]:
    half = "The three reasons are: first"
    yield _file("finish-network", text=half, end="upstream_error")
    yield _failed("finish-network: abort", stream(say(half), end("abort"), DONE), half)
    yield _failed("finish-network: ERROR_TOXIC", stream(say(half), end("ERROR_TOXIC"), DONE), half)
    yield _file("finish-resource", text=half, end="upstream_error")
    yield _failed("finish-resource: overloaded", stream(say(half), end("overloaded"), DONE), half)
    malformed = "function_call_filter: MALFORMED_FUNCTION_CALL"
    yield _failed("finish-resource: a sentence", stream(say(half), end(malformed), DONE), half)
    yield _file("finish-error", text="Hello", end="upstream_error")
    inside = say("", error={"code": 502, "message": "gone"})
    yield _failed("finish-error: without the reason", stream(HELLO, inside, DONE), "Hello")
    groq = data(json.dumps({"choices": [], "x_groq": {"id": "r", "error": "over capacity"}}))
    yield _failed("finish-error: Groq's own place", stream(HELLO, groq, DONE), "Hello")
    yield _file("error-object", text="", end="upstream_error")
    yield _failed("error-object: behind a text", stream(HELLO, data('{"object":"error"}'), DONE), "Hello")
    listed = data('[{"error": {"code": 503, "message": "overloaded"}}]')
    yield _failed("error-object: in a list", stream(listed, DONE))


def _whole() -> Iterator[Case]:
    message = {"role": "assistant", "content": TEXT}
    whole = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    yield _file("message-event", usage=COUNTED)
    thought = {**message, "reasoning_content": "They greet."}
    both = data(json.dumps({"choices": [{"message": thought, "finish_reason": "stop"}]}))
    yield Case("message-event: with reasoning", stream(both, DONE), reasoning="They greet.")
    again = data(json.dumps(whole))
    yield Case("message-event: behind its deltas", stream(HELLO, WORLD, again, DONE))
    text = data('{"choices":[{"text":"Hello world","finish_reason":"stop"}]}')
    yield Case("message-event: a text of the older API", stream(text, DONE))
    yield _file("json-whole", usage=COUNTED)
    pretty = json.dumps({**whole, "usage": USAGE}, indent=2).encode()
    yield Case(
        "json-whole: in lines, behind blank ones",
        response(b"\n\n  " + pretty, content_type="application/json"),
        usage=COUNTED,
    )
    lines = b"".join(event.removeprefix(b"data: ") for event in (HELLO, WORLD, end(usage=USAGE)))
    yield Case("json-whole: chunks as JSON lines", response(lines, content_type="application/x-ndjson"), usage=COUNTED)
    yield _unread("json-whole: half of it", response(pretty[:-9], content_type="application/json"))
    yield _file("json-error-200", text="", end="upstream_malformed")
    yield _unread("json-error-200: an object", json_response({"error": {"message": "no", "code": 429}}))
    yield _unread("json-error-200: of another form", json_response({"detail": "Not Found"}))
    yield _unread("json-error-200: a page", response(b"<!DOCTYPE html><p>Not Found</p>", content_type="text/html"))
    yield _unread("json-error-200: words as events", stream(data("Hello"), data("world"), DONE))


def _usage() -> Iterator[Case]:
    yield _file("usage-details-nested", usage=Usage(3, 5, 8, {"cached_tokens": 0}))
    written = {"prompt_tokens": "3", "completion_tokens": 5.0, "total_tokens": None}
    yield Case(
        "usage-details-nested: strings",
        stream(HELLO, WORLD, end(), data(json.dumps({"choices": [], "usage": written})), DONE),
        usage=COUNTED,
    )
    other = {"input_tokens": 3, "output_tokens": 5}
    yield Case(
        "usage-details-nested: other names",
        stream(HELLO, WORLD, end(), data(json.dumps({"usage": other})), DONE),
        usage=COUNTED,
    )
    yield Case("usage-details-nested: in the choice", stream(HELLO, WORLD, end(usage=USAGE), DONE), usage=COUNTED)
    groq = json.loads(chunk({}, "stop")) | {"x_groq": {"id": "r", "usage": {**USAGE, "queue_time": 0.1}}}
    yield Case(
        "usage-details-nested: in Groq's own place", stream(HELLO, WORLD, data(json.dumps(groq)), DONE), usage=COUNTED
    )


def _compressed() -> Iterator[Case]:
    yield _file("gzip")
    halves = gzip.compress(HELLO) + gzip.compress(WORLD + end() + DONE)
    yield Case("gzip: two members", response(halves, "Content-Encoding: x-gzip"))
    yield Case("gzip: deflate", response(zlib.compress(PLAIN), "Content-Encoding: deflate"))
    raw = zlib.compress(PLAIN, wbits=-zlib.MAX_WBITS)
    yield Case("gzip: deflate without zlib's head", response(raw, "Content-Encoding: Deflate"))
    cut = gzip.compress(HELLO + WORLD + end() + DONE)[:-8]
    yield Case("gzip: without its end", response(cut, "Content-Encoding: gzip"))
    yield _unread("gzip: no gzip", response(b"\x1f\x8b" + PLAIN, "Content-Encoding: gzip"))
    yield _unread("gzip: br, which was not asked for", response(b"\x0b\x02\x80data\x03", "Content-Encoding: br"))
    bomb = gzip.compress(HELLO + (b": " + b"alive " * 1000 + b"\n\n") * 1400 + end() + DONE)
    yield Case("gzip: a bomb", response(bomb, "Content-Encoding: gzip"), text="Hello", end="upstream_malformed")


CASES = [
    case for cases in (_parts, _no_chunks, _types, _ends, _failures, _whole, _usage, _compressed) for case in cases()
]
