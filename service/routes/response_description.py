"""The OpenAPI description of `/v1/responses`, as far as other descriptions do not have it."""

from typing import Any

from service.routes.openapi import Described, errors
from service.routes.sameness import IDEMPOTENCY_KEY

RESPONSE_ID = "^resp_[0-9a-f]{32}$"

_ITEM = {
    "type": "object",
    "description": "A message, a call of a function, or its output.",
    "properties": {"type": {"type": "string"}, "role": {"type": "string"}},
}
_RESPONSE = {
    "type": "object",
    "description": "The response object of Open Responses.",
    "properties": {
        "id": {"type": "string", "pattern": RESPONSE_ID},
        "object": {"const": "response"},
        "status": {"enum": ["in_progress", "completed", "incomplete", "cancelled", "failed"]},
        "output": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["id", "object", "status", "output"],
}
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "string", "description": "The event, or `[DONE]` behind the last one."},
    },
    "required": ["data"],
}
BODY: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "The request of Open Responses, whose fields docs/doors/responses.md has.",
                    "properties": {
                        "model": {"type": ["string", "null"]},
                        "input": {"type": ["string", "array"], "items": _ITEM},
                        "stream": {"type": ["boolean", "null"]},
                        "background": {"type": ["boolean", "null"]},
                        "previous_response_id": {"type": ["string", "null"]},
                    },
                }
            }
        },
    },
}


DELETED: Described = {
    200: {"description": "The response is erased.", "content": {"application/json": {"schema": {"type": "object"}}}},
    **errors(401, 403, 404, 422),
}


def described(description: str, *, streams: bool = False) -> Described:
    """Return the description of a response object, or of its events, and of the errors."""
    content: dict[str, Any] = {"application/json": {"schema": _RESPONSE}}
    if streams:
        content["text/event-stream"] = {"itemSchema": _EVENT}
    return {200: {"description": description, "content": content}} | errors(401, 403, 404, 422)
