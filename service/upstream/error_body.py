"""Read the error that an upstream describes in JSON. Pure.

Its message may quote the question or a key. It is read to find out what kind of error it is. It is never logged, and
told to nobody but, by a door, the client whose request it is about (`service.upstream.errors`).
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

_WORD = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
"""A code. Anything else, such as a sentence, may be what people wrote."""

_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}", re.ASCII)

_FLAGGED = ("flagged_input", "reasons")
"""Fields of an error's `metadata` when moderation flagged the question (OpenRouter)."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error in an upstream's words. Fields that it lacks are empty."""

    code: str = ""
    """A word or a number, fit for a log."""
    type: str = ""
    """The same."""
    message: str = ""
    """Never log it."""
    param: str = ""
    """The part of the request that is to blame."""
    flagged: bool = False
    """Whether moderation flagged the question."""


def read_error(body: bytes) -> ErrorBody:
    """Return the error in a response's body, or the value of an event's `error`.

    Servers write `{"error": {"code", "type", "message"}}` (OpenAI), a list of it (Gemini), `status` in place of `type`
    (Google), the fields without `error` around them (older vLLM, Mistral), `{"error": "…"}` (Ollama), or `detail`
    (FastAPI). A body in any other form is an empty error.
    """
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ErrorBody()
    if isinstance(said, list):
        said = said[0] if said else None
    if isinstance(said, dict):
        said = said.get("error") or said.get("detail") or said
    if isinstance(said, str):
        return ErrorBody(message=said)
    return _in_fields(said) if isinstance(said, dict) else ErrorBody()


def _in_fields(said: dict[str, Any]) -> ErrorBody:
    message, metadata, param = said.get("message"), said.get("metadata"), said.get("param")
    return ErrorBody(
        word(said.get("code")),
        word(said.get("type")) or word(said.get("status")),
        message if isinstance(message, str) else "",
        param=param if isinstance(param, str) and _PARAM.fullmatch(param) else "",
        flagged=isinstance(metadata, dict) and any(name in metadata for name in _FLAGGED),
    )


def word(value: object) -> str:
    """Return the value if it is a number or one word, fit for a log; else an empty string."""
    text = str(value) if type(value) in (str, int) else ""
    return text if _WORD.fullmatch(text) else ""
