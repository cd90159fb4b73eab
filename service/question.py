"""The body of `POST /generate`: decode it, name its first error, and translate it into a `Request`.

Decoding stops at the first error. FastAPI builds objects from the whole body and an error for each invalid one: a
history of 340,000 times `{}`, 1 MiB in all, took 2.3 seconds and 600 MiB of a worker. msgspec decodes by type.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from service.errors import BadInput, unknown_field
from service.request import GenerateRequest, Request, Turn

MAX_TEMPERATURE = 2
MAX_TOKENS = 1_000_000


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /generate`."""

    query: str
    history: tuple[Turn, ...] = ()
    model: str | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=MAX_TEMPERATURE)] | None = None
    max_tokens: Annotated[float, msgspec.Meta(ge=1, le=MAX_TOKENS, multiple_of=1)] | None = None
    """JSON has one kind of number: 5.0 is an integer."""


_decode: Callable[[bytes], Question | None] = msgspec.json.Decoder(Question | None).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax only

_HALF = re.compile(
    rb"\\u[dD](?:[89abAB]XX(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]XX\\u[dD])[c-fC-F]XX)".replace(b"X", b"[0-9a-fA-F]")
)
"""Escape of half a surrogate pair, which JSON's grammar allows and UTF-8 cannot encode"""
_MARK = "\uffff"
"""Replacement for such an escape: a code point that is not a character"""
_MOST_MARKS = 10_000
"""Limit on replaced escapes. A body with more of them is rejected as invalid JSON."""

_WANTED = {  # the message for each field, for every error in it
    "query": "Should be a string",
    "history": "Should be an array of turns",
    "role": "Should be user or assistant, or system where the service allows it",
    "content": "Should be a string",
    "model": "Should be a string or null",
    "temperature": f"Should be a number from 0 to {MAX_TEMPERATURE}, or null",
    "max_tokens": f"Should be a whole number from 1 to {MAX_TOKENS:,}, or null",
}

_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_AT = re.compile(rf" - at `\$((?:\.(?:{'|'.join(_WANTED)})|\[[0-9]{{1,9}}\]){{1,3}})`\Z")
"""Parts of msgspec's messages that are used. Other parts may repeat a value that was sent."""
_MOST_AT = 100
"""Length of the longest path, in characters"""


def decode(body: bytes) -> Question | None:
    """Return the question in the body; None for the JSON `null`.

    Raises:
        BadInput: the body is not JSON, or not a question.
    """
    body = body.removeprefix(codecs.BOM_UTF8)  # Some clients on Windows send it. RFC 8259 lets a parser ignore it.
    try:
        return _decode(body)
    except (ValueError, RecursionError):
        raise _reason(body) from None


def to_request(
    query: str,
    *,
    model: str,
    history: Sequence[Turn] = (),
    temperature: float | None = None,
    max_tokens: float | None = None,
    traceparent: str = "",
) -> Request:
    """Return the question as a request: its history as messages, its query as the last message."""
    tokens = None if max_tokens is None else int(max_tokens)
    return GenerateRequest(query, model, tuple(history), temperature, tokens, traceparent).neutral()


def _reason(body: bytes) -> BadInput:
    """Return the error for a body that cannot be decoded.

    Invalid JSON takes precedence over an invalid question, although msgspec stops at the first error of either kind.
    """
    marked = _HALF.sub(rb"\\uffff", body, count=_MOST_MARKS)
    try:
        _skip(marked.decode())
    except (ValueError, RecursionError):
        return BadInput("invalid_json")
    try:
        question = _decode(marked)
    except msgspec.ValidationError as error:
        return _misfit(str(error))
    field = _marked_field(question) if question else None
    return BadInput("invalid_input", "surrogate_within" if field else "surrogate", field=field)


def _misfit(said: str) -> BadInput:
    """Return the error for a body that does not fit its type, from msgspec's message."""
    path = ""
    if at := _AT.search(said, max(0, len(said) - _MOST_AT)):
        path = at[1].removeprefix(".").replace("[", ".").replace("]", "")
        said = said[: at.start()]
    if named := _NAMED.fullmatch(said):
        how, name = named.groups()
        if how == "contains unknown":
            return unknown_field(path, name)
        field = f"{path}.{name}" if path else name
        return BadInput("invalid_input", "required", field=field)
    if not path:
        return BadInput("invalid_input", "body")
    wanted = _WANTED.get(path.rpartition(".")[2], "Should be an object with a role and a content")
    return BadInput("invalid_input", "value", field=path, wanted=wanted)


def _marked_field(question: Question) -> str | None:
    if _MARK in question.query:
        return "query"
    for number, turn in enumerate(question.history):
        if _MARK in turn.content:
            return f"history.{number}.content"
    return "model" if _MARK in (question.model or "") else None
