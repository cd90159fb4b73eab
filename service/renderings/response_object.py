"""The response object of the Responses API: what it repeats of the request, and what it tells of the answer.

Open Responses (https://www.openresponses.org/specification) requires 32 fields in it, null only where it says so. A
request that left a field out gets the default here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from service.events import Done, Failed, Start, Stopped, Terminal, Usage
from service.finish_reasons import Meaning, meaning_of
from service.request import decoded

Json = dict[str, Any]

PREFIX = "resp_"
"""A response's id is this and the answer's id."""
DOOR = "responses"
"""The door's name in `Via.door`, in the setting of open doors, and as the metric label."""

INSTRUCTED = "folyam:instructed"
"""The field of `Via.echo` that is there, and true, if the first message of the request is its instructions."""

DEFAULTS: Mapping[str, Any] = {
    "previous_response_id": None,
    "instructions": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "reasoning": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": True,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}
"""The fields that a request sets, as a request without them leaves them."""

_REASONS = {Meaning.LENGTH: "max_output_tokens", Meaning.FILTERED: "content_filter"}
_NUMBERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
}
"""Numbers of a chat-completions request, and the fields that repeat them if another door was asked."""


def status_of(end: Terminal | None) -> str:
    """Return the `status` of the response."""
    match end:
        case None:
            return "in_progress"
        case Stopped():
            return "cancelled"
        case Failed():
            return "failed"
        case Done(finish_reason=reason):
            return "incomplete" if meaning_of(reason) in _REASONS else "completed"


def response_object(start: Start, output: Sequence[Json], end: Terminal | None = None, status: str = "") -> Json:
    """Return the response of an answer with these output items. Without an end it is in progress.

    `status` is for the status of a response that has not begun.
    """
    status = status or status_of(end)
    return {
        "id": PREFIX + start.answer,
        "object": "response",
        "created_at": int(start.at),
        "completed_at": _completed_at(start, end) if status == "completed" else None,
        "status": status,
        "background": start.via is not None and start.via.background,
        "error": _error(end) if isinstance(end, Failed) else None,
        "incomplete_details": _incomplete_details(end),
        "model": start.model,
        "output": output,
        "usage": _usage(end.usage) if end is not None and end.usage else None,
        **DEFAULTS,
        **_echo(start),
    }


def _echo(start: Start) -> Mapping[str, Any]:
    """Return what the response repeats of the request. Another door's answer has no echo in the form of this API."""
    if start.via is not None and start.via.door == DOOR:
        return {field: value for field, value in start.via.echo.items() if field in DEFAULTS}
    asked = start.asked()
    if asked is None:
        return {}
    said = ((field, decoded(asked.parameters.get(name))) for name, field in _NUMBERS.items())
    return {field: value for field, value in said if type(value) in (int, float)}


def _completed_at(start: Start, end: Terminal | None) -> int | None:
    return int(start.at + end.timing.duration_seconds) if end is not None and end.timing else None


def _error(end: Failed) -> Json:
    # The API's codes are a closed list. SDKs take any `type`.
    code = "rate_limit_exceeded" if end.code == "upstream_rate_limited" else "server_error"
    return {"code": code, "message": end.message, "type": end.code}


def _incomplete_details(end: Terminal | None) -> Json | None:
    if not isinstance(end, Done):
        return None
    reason = _REASONS.get(meaning_of(end.finish_reason))
    return {"reason": reason} if reason else None


def _usage(usage: Usage) -> Json:
    of_input, of_output = usage.prompt_tokens_details or {}, usage.completion_tokens_details or {}
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": of_input.get("cached_tokens") or 0,
            "cache_write_tokens": of_input.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": of_output.get("reasoning_tokens") or 0},
        "total_tokens": usage.total_tokens,
    }
