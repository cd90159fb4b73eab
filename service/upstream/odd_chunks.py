"""Decode an event that msgspec rejects: slowly, and as much of it as can be read.

Every field may have another type than the API says. A field that is not needed, or has no text, is left out.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from service.upstream.chunk_json import (
    NULL,
    CallPart,
    Choice,
    Chunk,
    Function,
    Groq,
    Message,
    RareChoice,
    Rarities,
    is_error,
)

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
    chunk = Chunk()
    for written in objects_in(event):
        if "choices" in written:
            chunk.choices = (chunk.choices or []) + [_choice(choice) for choice in _elements(written["choices"])]
        if written.get("usage") is not None:
            chunk.usage = raw_of(written["usage"])
        is_failure = "error" in (written.get("object"), written.get("type"))
        error = raw_of(written if is_failure else written.get("error"))
        if not is_error(chunk.error) and error is not NULL:
            chunk.error = error
    return chunk


def decode_rarities_loosely(event: bytes) -> Rarities:
    """Return what few chunks have, of the same event.

    Raises:
        ValueError, RecursionError: the event cannot be read.
    """
    rarities = Rarities([])
    for written in objects_in(event):
        rarities.choices += [_rare_choice(choice) for choice in _elements(written.get("choices"))]  # type: ignore[operator]
        groq = written.get("x_groq")
        if isinstance(groq, dict):
            rarities.x_groq = Groq(raw_of(groq.get("usage")), raw_of(groq.get("error")))
    return rarities


def objects_in(event: bytes) -> list[dict[str, Any]]:
    """Return the JSON objects of an event: in lists, or one behind the other; none if it is another value or a text.

    Raises:
        ValueError, RecursionError: the event cannot be read, and may be an object.
    """
    try:
        text = event.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = event.decode("utf-8", "replace")
    try:
        values = _values(text)
    except ValueError:
        if _NO_CHUNK.fullmatch(text):
            return []
        lines = text.split("\n")
        if len(lines) == 1:
            raise
        # Some servers write no blank line behind an event, and these lines are several events.
        values = [value for line in lines if not _NO_CHUNK.fullmatch(line) for value in _values(line)]
    return list(_mappings(values))


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


def _elements(value: object) -> Iterable[dict[str, Any]]:
    """Return the objects of a list, or of an object in its place: PHP writes some lists so."""
    if isinstance(value, dict):
        value = list(value.values())
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _choice(choice: dict[str, Any]) -> Choice:
    return Choice(
        delta=_message(choice.get("delta")),
        message=_message(choice.get("message")),
        finish_reason=_word(choice.get("finish_reason")),
        index=_index(choice.get("index")),
        error=raw_of(choice.get("error")),
    )


def _rare_choice(choice: dict[str, Any]) -> RareChoice:
    return RareChoice(text_of(choice.get("text")), raw_of(choice.get("usage")), _index(choice.get("index")))


def _mapping(said: object) -> dict[str, Any] | None:
    if isinstance(said, list):  # PHP writes an object without fields as [].
        said = next((each for each in said if isinstance(each, dict)), None)
    return said if isinstance(said, dict) else None


def _message(written: object) -> Message | None:
    if isinstance(written, str):
        return Message(written)
    said = _mapping(written)
    if said is None:
        return None
    content = said.get("content")
    thinking = _in_parts(content)[1] if isinstance(content, list) else ""
    return Message(
        text_of(content),
        text_of(said.get("reasoning_content")),
        thinking or text_of(said.get("reasoning")),
        text_of(said.get("refusal")),
        [_call(call) for call in _elements(said.get("tool_calls"))] or None,
        _function(said.get("function_call")),
    )


def _call(call: dict[str, Any]) -> CallPart:
    index = call.get("index")
    return CallPart(None if index is None else _index(index), text_of(call.get("id")), _function(call.get("function")))


def _function(value: object) -> Function | None:
    function = _mapping(value)
    return None if function is None else Function(text_of(function.get("name")), raw_of(function.get("arguments")))


def text_of(value: object) -> str | None:
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
            thinking.append(text_of(part.get("thinking")) or "")
        elif isinstance(part, dict):  # the type is `text`, `output_text` (other servers), or missing
            text.append(text_of(part.get("text")) or "")
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


def raw_of(value: object) -> msgspec.Raw:
    """Return the JSON of a value that this module has read."""
    return NULL if value is None else msgspec.Raw(json.dumps(value).encode())
