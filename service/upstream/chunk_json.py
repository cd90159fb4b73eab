"""Decode one event of a chat-completions stream: the JSON of a chunk, or an error in its place.

msgspec decodes the usual chunk in one pass. `service.upstream.odd_chunks` decodes those that it rejects.
"""

import json
from typing import Any

import msgspec

NULL = msgspec.Raw(b"null")
_NOTHING = (b"null", b'""', b"false", b"0", b"[]")
"""Values of `error` without an error, from servers that always send the field. `{}` is an error: JavaScript serializes
an exception so."""


class Function(msgspec.Struct, gc=False):
    """A part of a call of a tool."""

    name: str | None = None
    arguments: msgspec.Raw = NULL
    """A string; from some servers the object that it should have."""


class CallPart(msgspec.Struct, gc=False):
    """An element of `tool_calls`. One of another kind than a function's has no `function`."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Message(msgspec.Struct, gc=False):
    """A part of the answer."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None
    function_call: Function | None = None
    """The only call, in the form before tools."""


class Choice(msgspec.Struct, gc=False):
    """One of a chunk's choices."""

    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None
    index: int | None = 0
    error: msgspec.Raw = NULL


class Chunk(msgspec.Struct, gc=False):
    """The data of one event."""

    choices: list[Choice] | None = None
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class RareChoice(msgspec.Struct):
    """What few choices have."""

    text: str | None = None
    """The text of the older completions API."""
    usage: msgspec.Raw = NULL
    index: int | None = 0


class Groq(msgspec.Struct):
    """Groq's own place for the usage, and for an error that ended the stream."""

    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class Rarities(msgspec.Struct):
    """What few chunks have. Each field of `Chunk` costs every chunk some 100 instructions, so these are read apart."""

    choices: list[RareChoice] | None = None
    x_groq: Groq | None = None


class _Other(msgspec.Struct):
    """An event without choices."""

    kind: Any = msgspec.field(name="object", default=None)
    type: Any = None


decode = msgspec.json.Decoder(Chunk).decode
decode_rarities = msgspec.json.Decoder(Rarities).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_other = msgspec.json.Decoder(_Other).decode


def is_error(raw: msgspec.Raw) -> bool:
    """Return whether the value of an `error` field is an error."""
    return bytes(raw) not in _NOTHING


def is_error_event(event: bytes) -> bool:
    """Return whether an event without choices is an error: `{"object": "error", …}`, of older vLLM and FastChat."""
    try:
        other = _decode_other(event)
    except (ValueError, RecursionError):
        return False
    return "error" in (other.kind, other.type)


def arguments_of(raw: msgspec.Raw) -> str:
    """Return a call's arguments: the string, with lone surrogates, or the JSON of a value in place of one.

    Raises:
        ValueError: it is a string that cannot be read.
    """
    written = bytes(raw)
    if written == b"null":
        return ""
    if not written.startswith(b'"'):
        return written.decode("utf-8", "replace")
    try:
        return _decode_text(written)
    except ValueError:
        return str(json.loads(written))
