"""Decode an event that msgspec rejects: slowly, and as much of it as can be read.

Every field may have another type than the API says. A field that is not needed, or has no text, is left out.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from service.upstream.chunk_json import NULL, Choice, Chunk, Message, is_error

_NO_CHUNK = re.compile(r"[^\x00-\x1f\x7f\ufffd{}\[\]]*")
"""Text that no chunk is and no part of one: a gateway's `ping`, a date, a comment."""


def _integer(digits: str) -> float:
    """Return the integer; inf where it is too long to be anything but a fault."""
    return int(digits) if len(digits) < 20 else float(digits)  # noqa: PLR2004 (64 bits have 19 digits)


# Not strict: some servers write line ends and other control characters unescaped into strings.
_scan = json.JSONDecoder(strict=False, parse_int=_integer).raw_decode
_BLANKS = re.compile(r"\s*")


def decode_loosely(event: bytes) -> Chunk:
    """Return the event as one chunk: several of them in a list, or one behind the other, are put together.

    An event without a chunk, such as `null` or a text, is a chunk without choices.

    Raises:
        ValueError, RecursionError: the event cannot be read, and may be a chunk.
    """
    try:
        text = event.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = event.decode("utf-8", "replace")
    try:
        values = _values(text)
    except ValueError:
        if _NO_CHUNK.fullmatch(text):
            return Chunk()
        lines = text.split("\n")
        if len(lines) == 1:
            raise
        # Some servers write no blank line behind an event, and these lines are several events.
        values = [value for line in lines if not _NO_CHUNK.fullmatch(line) for value in _values(line)]
    return _merged(list(_mappings(values)))


def _values(text: str) -> list[Any]:
    """Return the JSON values of the text, which stand one behind the other."""
    values = []
    place = _BLANKS.match(text).end()  # type: ignore[union-attr] # it always matches
    while place < len(text):
        value, end = _scan(text, place)
        values.append(value)
        place = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
    return values


def _mappings(value: object) -> Iterator[dict[str, Any]]:
    """Yield the objects in lists, however deep."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _mappings(inner)


def _merged(chunks: list[dict[str, Any]]) -> Chunk:
    merged = Chunk()
    for chunk in chunks:
        if "choices" in chunk:
            merged.choices = (merged.choices or []) + [_choice(choice) for choice in _elements(chunk["choices"])]
        for name in ("usage", "error", "x_groq"):
            raw = _raw(chunk.get(name))
            if raw is not NULL and not (name == "error" and is_error(merged.error)):
                setattr(merged, name, raw)
        if "error" in (chunk.get("object"), chunk.get("type")) and not is_error(merged.error):
            merged.error = _raw(chunk)
    return merged


def _elements(value: object) -> Iterable[dict[str, Any]]:
    """Return the objects of a list, or of an object in its place: PHP writes some lists so."""
    if isinstance(value, dict):
        value = list(value.values())
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _choice(choice: dict[str, Any]) -> Choice:
    return Choice(
        delta=_message(choice.get("delta")),
        message=_message(choice.get("message")),
        text=_text(choice.get("text")),
        finish_reason=_word(choice.get("finish_reason")),
        index=_index(choice.get("index")),
        error=_raw(choice.get("error")),
        usage=_raw(choice.get("usage")),
    )


def _message(said: object) -> Message | None:
    if isinstance(said, list):  # PHP writes an object without fields as [].
        said = next((each for each in said if isinstance(each, dict)), None)
    if isinstance(said, str):
        return Message(said)
    if not isinstance(said, dict):
        return None
    content = said.get("content")
    thinking = _in_parts(content)[1] if isinstance(content, list) else ""
    return Message(
        _text(content),
        _text(said.get("reasoning_content")),
        thinking or _text(said.get("reasoning")),
        _text(said.get("refusal")),
        _raw(said.get("tool_calls")),
    )


def _text(value: object) -> str | None:
    """Return the text of a string, a part or a list of parts. A number is one too: PHP may write digits so."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _in_parts(value)[0]
    if isinstance(value, dict):
        return _in_parts([value])[0]
    return json.dumps(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _in_parts(content: list[Any]) -> tuple[str, str]:
    """Return the text and the thinking of a list of parts, the form of Mistral's reasoning models.

    Parts without text, such as references and images, are skipped.
    """
    text: list[str] = []
    thinking: list[str] = []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict) and part.get("type") == "thinking":
            thinking.append(_text(part.get("thinking")) or "")
        elif isinstance(part, dict):  # the type is `text`, `output_text` (other servers), or missing
            text.append(_text(part.get("text")) or "")
    return "".join(text), "".join(thinking)


def _word(reason: object) -> str | None:
    """Return a finish reason; in place of an object or a list, the first string in it."""
    if isinstance(reason, str) or not reason:
        return str(reason) if reason else None
    inner = list(reason.values()) if isinstance(reason, dict) else reason if isinstance(reason, list) else []
    return next((each for each in inner if isinstance(each, str)), None) or json.dumps(reason)


def _index(value: object) -> int:
    try:
        return int(value)  # type: ignore[call-overload,no-any-return] # anything else raises
    except (TypeError, ValueError, OverflowError):
        return 0


def _raw(value: object) -> msgspec.Raw:
    return NULL if value is None else msgspec.Raw(json.dumps(value).encode())
