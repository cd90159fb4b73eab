"""Decode the token usage of a chat-completions server, in its own place or another, and in other forms."""

import contextlib
import re
from typing import Annotated, Any

import msgspec

from service.events import Usage

MAX_TOKENS = 1_000_000_000
"""Limit on a count of tokens. A higher one is a server's fault: neither a client nor a metric can represent 10^400."""

_NAMES = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
"""The names of the two counts, and those of the Responses API and of Anthropic's."""

_DIGITS = re.compile(r"[0-9]{1,10}")
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: dict[str, _Count | None] | None = None
    completion_tokens_details: dict[str, _Count | None] | None = None


_decode = msgspec.json.Decoder(_Usage).decode


def usage_of(raw: msgspec.Raw) -> Usage | None:
    """Return the usage without invalid details; None if it is invalid, which does not fail the answer."""
    with contextlib.suppress(ValueError, RecursionError):
        return Usage(*msgspec.structs.astuple(_decode(raw)))
    with contextlib.suppress(ValueError, RecursionError):
        written = msgspec.json.decode(raw)
        return _other_form(written) if isinstance(written, dict) else None
    return None


def _other_form(written: dict[str, Any]) -> Usage | None:
    """Return the usage with counts under other names, as strings or as floats, or without the total."""
    prompt, completion = (next((written[name] for name in names if name in written), None) for names in _NAMES)
    counts = [_count(prompt), _count(completion)]
    total = written.get("total_tokens")
    counts.append(_count(total) if total is not None else sum(count or 0 for count in counts))
    if None in counts:
        return None
    details = []
    for names in _NAMES:
        found = next((written[name] for each in names if (name := f"{each}_details") in written), None)
        items = found.items() if isinstance(found, dict) else ()
        details.append({name: count for name, count in items if count is None or _is_count(count)} or None)
    return Usage(*counts, *details)  # type: ignore[arg-type] # none of the counts is None


def _count(value: object) -> int | None:
    """Return a count that may be written as a string or a float; None if it is no count."""
    if isinstance(value, str):
        value = int(value) if _DIGITS.fullmatch(value) else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and _is_count(value) else None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS
