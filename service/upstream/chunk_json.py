"""Decode one event of a chat-completions stream: the JSON of a chunk, its usage, an error in its place.

msgspec decodes the usual chunk in one pass. `decode_loosely` decodes a chunk that msgspec rejects, slowly and
tolerantly.
"""

import contextlib
import json
from typing import Annotated, Any

import msgspec

from service.events import Usage

MAX_TOKENS = 1_000_000_000
"""Limit on a count of tokens. A higher one is a server's fault: neither a client nor a metric can represent 10^400."""

NULL = msgspec.Raw(b"null")
_NO_ERROR = (b"null", b'""', b"false", b"0", b"[]")
"""Values of `error` without an error, from servers that always send the field. `{}` is an error: JavaScript serializes
an exception so."""


class Message(msgspec.Struct, gc=False):
    """A part of the answer."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


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


class _Other(msgspec.Struct):
    """An event without choices."""

    kind: Any = msgspec.field(name="object", default=None)
    type: Any = None


decode = msgspec.json.Decoder(Chunk).decode
_decode_other = msgspec.json.Decoder(_Other).decode
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: dict[str, _Count | None] | None = None
    completion_tokens_details: dict[str, _Count | None] | None = None


_decode_usage = msgspec.json.Decoder(_Usage).decode


def is_error(raw: msgspec.Raw) -> bool:
    """Return whether the value of an `error` field is an error."""
    return bytes(raw) not in _NO_ERROR


def decode_loosely(event: bytes) -> Chunk:
    """Decode an irregular chunk: with a lone surrogate, invalid UTF-8, or an index that is a string.

    Raises:
        ValueError, AttributeError, TypeError, RecursionError: the event is not a chunk.
    """
    try:
        text = event.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = event.decode("utf-8", "replace")
    chunk = json.loads(text)
    if not chunk:
        return Chunk()
    choices = [_tidied(choice) for choice in chunk.get("choices") or ()]
    raw = {name: _raw(chunk.get(name)) for name in ("usage", "error")}
    return Chunk(msgspec.convert(choices, list[Choice], strict=False) or None, **raw)


def _tidied(choice: dict[str, Any]) -> dict[str, Any]:
    """Return the choice in the usual form."""
    tidied = {**choice, "error": _raw(choice.get("error"))}
    for name in ("delta", "message"):
        said = choice.get(name) or None  # PHP writes an object without fields as [].
        if said is not None and isinstance(said.get("content"), list):
            text, thinking = _in_parts(said["content"])
            said = {**said, "content": text, "reasoning": thinking or said.get("reasoning")}
        tidied[name] = said
    reason = choice.get("finish_reason") or None
    tidied["finish_reason"] = reason if reason is None or isinstance(reason, str) else json.dumps(reason)
    return tidied


def _in_parts(content: list[Any]) -> tuple[str, str]:
    """Return the text and the thinking of a list of parts, the form of Mistral's reasoning models.

    Parts without text, such as references and images, are skipped.
    """
    text: list[str] = []
    thinking: list[str] = []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif part.get("type") == "thinking":
            inner = part.get("thinking") or ""
            thinking.append(inner if isinstance(inner, str) else _in_parts(inner)[0])
        else:  # the type is `text`, `output_text` (other servers), or missing
            text.append(part.get("text") or "")
    return "".join(text), "".join(thinking)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def usage_of(raw: msgspec.Raw) -> Usage | None:
    """Return the usage without invalid details; None if it is invalid, which does not fail the answer."""
    with contextlib.suppress(ValueError, RecursionError):
        return Usage(*msgspec.structs.astuple(_decode_usage(raw)))
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        usage = msgspec.json.decode(raw)
        for name in ("prompt_tokens_details", "completion_tokens_details"):
            details = usage.get(name)
            counts = details.items() if isinstance(details, dict) else ()
            usage[name] = {key: count for key, count in counts if count is None or _is_count(count)} or None
        return Usage(*msgspec.structs.astuple(msgspec.convert(usage, _Usage)))
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def is_error_event(event: bytes) -> bool:
    """Return whether an event without choices is an error: `{"object": "error", …}`, of older vLLM and FastChat."""
    try:
        other = _decode_other(event)
    except (ValueError, RecursionError):
        return False
    return "error" in (other.kind, other.type)
