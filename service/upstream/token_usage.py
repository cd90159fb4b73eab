"""Decode the token usage of a chat-completions server, in its own place or another, and in other forms."""

import contextlib
import re
from typing import Annotated, Any, NamedTuple

import msgspec

from service.events import Usage

MAX_TOKENS = 1_000_000_000
"""Limit on a count of tokens. A higher one is a server's fault: neither a client nor a metric can represent 10^400."""


class _Part(NamedTuple):
    """The names of one half of the usage."""

    counts: tuple[str, ...]
    """The API's own, and that of the Responses API and of Anthropic's."""
    details: tuple[str, ...]
    detail: str
    """The detail that some servers write beside the counts."""
    beside: tuple[str, ...]
    """Its names there."""


_PROMPT = _Part(
    ("prompt_tokens", "input_tokens"),
    ("prompt_tokens_details", "input_tokens_details", "prompt_token_details"),  # the last: Mistral
    "cached_tokens",
    # DeepSeek, Mistral, Moonshot, Anthropic
    ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"),
)
_COMPLETION = _Part(
    ("completion_tokens", "output_tokens"),
    ("completion_tokens_details", "output_tokens_details"),
    "reasoning_tokens",
    ("reasoning_tokens",),
)
_ANTHROPIC_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Tokens of the prompt that Anthropic does not count among its `input_tokens`."""

_DIGITS = re.compile(r"[0-9]{1,10}")
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
_Details = dict[str, int | None] | None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: dict[str, _Count | None] | None = None
    completion_tokens_details: dict[str, _Count | None] | None = None
    # Details in other places, for which the usage is read anew.
    prompt_token_details: Any = None
    prompt_cache_hit_tokens: Any = None
    num_cached_tokens: Any = None
    cached_tokens: Any = None
    cache_read_input_tokens: Any = None
    reasoning_tokens: Any = None


_FIELDS = 5
"""Number of the fields that `Usage` has, too."""
_NO_OTHERS = (None,) * (len(_Usage.__struct_fields__) - _FIELDS)
_decode = msgspec.json.Decoder(_Usage).decode


def usage_of(raw: msgspec.Raw) -> Usage | None:
    """Return the usage without invalid details; None if it is invalid, which does not fail the answer."""
    with contextlib.suppress(ValueError, RecursionError):
        read = msgspec.structs.astuple(_decode(raw))
        if read[_FIELDS:] == _NO_OTHERS:
            return Usage(*read[:_FIELDS])
    with contextlib.suppress(ValueError, RecursionError):
        written = msgspec.json.decode(raw)
        return _other_form(written) if isinstance(written, dict) else None
    return None


def _other_form(written: dict[str, Any]) -> Usage | None:
    """Return the usage with counts under other names, as strings or as floats, or without the total."""
    prompt, completion = (
        _count(next((written[name] for name in part.counts if name in written), None))
        for part in (_PROMPT, _COMPLETION)
    )
    if prompt is None or completion is None:
        return None
    if not {"prompt_tokens", "total_tokens"} & written.keys():
        prompt += sum(_count(written.get(name)) or 0 for name in _ANTHROPIC_CACHE)
    told = written.get("total_tokens")
    total = prompt + completion if told is None else _count(told)
    if total is None:
        return None
    return Usage(prompt, completion, total, _details(written, _PROMPT), _details(written, _COMPLETION))


def _details(written: dict[str, Any], part: _Part) -> _Details:
    """Return the valid details, with the one that is missing among them if it is written beside them."""
    found = next((written[name] for name in part.details if name in written), None)
    items = found.items() if isinstance(found, dict) else ()
    details = {name: count for name, count in items if count is None or _is_count(count)}
    if details.get(part.detail) is None:
        counts = [count for name in part.beside if (count := _count(written.get(name))) is not None]
        if counts:
            details[part.detail] = counts[0]
    return details or None


def _count(value: object) -> int | None:
    """Return a count that may be written as a string or a float; None if it is no count."""
    if isinstance(value, str):
        value = int(value) if _DIGITS.fullmatch(value) else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and _is_count(value) else None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS
