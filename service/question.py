"""The JSON that `POST /generate` takes, decoded in one pass that stops at the first thing that is wrong.

FastAPI makes objects of all that a body holds and then an error of each wrong one. A history of 340,000 times `{}`,
which is 1 MiB, took 2.3 seconds and 600 MiB of a worker that way. msgspec decodes by type and makes nothing else.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from service.errors import BadInput, unknown_field
from service.request import GenerateRequest, Request, Turn

HOTTEST = 2
MOST_TOKENS = 1_000_000


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /generate`."""

    query: str
    history: tuple[Turn, ...] = ()
    model: str | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=HOTTEST)] | None = None
    max_tokens: Annotated[float, msgspec.Meta(ge=1, le=MOST_TOKENS, multiple_of=1)] | None = None
    """JSON has one kind of number: 5.0 is an integer."""


_decode: Callable[[bytes], Question | None] = msgspec.json.Decoder(Question | None).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax, and makes nothing

_HALF = re.compile(
    rb"\\u[dD](?:[89abAB]XX(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]XX\\u[dD])[c-fC-F]XX)".replace(b"X", b"[0-9a-fA-F]")
)
"""The escape of half a surrogate pair, which JSON's grammar allows and UTF-8 cannot carry."""
_MARK = "\uffff"
"""Stands for it: a code point that is no character."""
_MOST_MARKS = 10_000
"""Halves that are looked for. A body with more of them is refused as invalid JSON."""

_WANTED = {  # the sentence for each field, whatever is wrong with it
    "query": "Should be a string",
    "history": "Should be an array of turns",
    "role": "Should be user or assistant, or system where the service allows it",
    "content": "Should be a string",
    "model": "Should be a string or null",
    "temperature": f"Should be a number from 0 to {HOTTEST}, or null",
    "max_tokens": f"Should be a whole number from 1 to {MOST_TOKENS:,}, or null",
}

_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_AT = re.compile(rf" - at `\$((?:\.(?:{'|'.join(_WANTED)})|\[[0-9]{{1,9}}\]){{1,3}})`\Z")
"""The parts of msgspec's messages that are used. The others may repeat a value."""
_MOST_AT = 100
"""Characters of the longest path."""


def decode(body: bytes) -> Question | None:
    """Return the question in the body; None for the JSON `null`.

    Raises:
        BadInput: the body is no JSON, or no question.
    """
    body = body.removeprefix(codecs.BOM_UTF8)  # which some clients on Windows send, and RFC 8259 lets a reader ignore
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
    """Return the request that a question makes: the history as its messages, the query as the last one."""
    tokens = None if max_tokens is None else int(max_tokens)
    return GenerateRequest(query, model, tuple(history), temperature, tokens, traceparent).neutral()


def _reason(body: bytes) -> BadInput:
    """Return the error for a body that cannot be decoded.

    msgspec stops at what it meets first. That the body is no JSON counts more than that it is no question.
    """
    marked = _HALF.sub(rb"\\uffff", body, count=_MOST_MARKS)
    try:
        _skip(marked.decode())
    except (ValueError, RecursionError):
        return BadInput("invalid_json", "The body is not valid JSON.", status=400)
    try:
        question = _decode(marked)
    except msgspec.ValidationError as error:
        return _misfit(str(error))
    field = _marked_field(question) if question else None
    message = "The text must not hold half a character."
    return BadInput("invalid_input", f"{field}: {message}" if field else message, field=field)


def _misfit(said: str) -> BadInput:
    """Return the error for a body that does not fit its type, by what msgspec says of it."""
    path = ""
    if at := _AT.search(said, max(0, len(said) - _MOST_AT)):
        path = at[1].removeprefix(".").replace("[", ".").replace("]", "")
        said = said[: at.start()]
    if named := _NAMED.fullmatch(said):
        how, name = named.groups()
        if how == "contains unknown":
            return unknown_field(path, name)
        field = f"{path}.{name}" if path else name
        return BadInput("invalid_input", f"{field}: This field is required.", field=field)
    if not path:
        return BadInput("invalid_input", "The body must be a JSON object, sent as application/json.")
    wanted = _WANTED.get(path.rpartition(".")[2], "Should be an object with a role and a content")
    return BadInput("invalid_input", f"{path}: {wanted}.", field=path)


def _marked_field(question: Question) -> str | None:
    if _MARK in question.query:
        return "query"
    for number, turn in enumerate(question.history):
        if _MARK in turn.content:
            return f"history.{number}.content"
    return "model" if _MARK in (question.model or "") else None
