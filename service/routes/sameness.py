"""What a request's headers say about whether it is the same as an earlier one."""

import re
from typing import Any

from service.context import RequestContext
from service.errors import BadInput
from service.names import Same, digest_of
from service.request import Request

_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_REPEATED = re.compile(r"0*[1-9][0-9]*", re.ASCII)
"""A retry count above 0. `int` raises for more than 4,300 digits, and for digits such as `²`."""

IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names the request. The same key with the same request joins the same answer, from its start,"
    " whether it runs or has ended. With another request, the response is 422.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "minLength": 1, "maxLength": 255},
}
"""The header as OpenAPI has it."""


def idempotency_key(context: RequestContext) -> str | None:
    """Return the request's `Idempotency-Key`; None without one.

    Raises:
        BadInput: it is not 1 to 255 visible characters of ASCII.
    """
    key = context.header(b"idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        wanted = "Should be 1 to 255 visible characters of ASCII"
        raise BadInput("invalid_input", "value", field="Idempotency-Key", wanted=wanted)
    return key


def repeats(context: RequestContext) -> bool:
    """Return whether the client repeats a request by itself if the response is cut in its head, as OpenAI's SDKs do."""
    return b"x-stainless-retry-count" in context.headers


async def same_request(context: RequestContext, request: Request, *, chat: str | None = None) -> Same | None:
    """Return by what the request may be the same as an earlier one: its key, a retry of OpenAI's SDKs, or its chat.

    None if it has nothing of these. Those SDKs send `x-stainless-retry-count`, 0 at first, and repeat by themselves if
    a connection breaks before the status.

    Raises:
        BadInput: see `idempotency_key`.
    """
    count, key = context.header(b"x-stainless-retry-count"), idempotency_key(context)
    if count is None and key is None and chat is None:
        return None
    return Same(
        await digest_of(request.model, request.messages, request.parameters),
        key=key,
        retry=None if count is None else _REPEATED.fullmatch(count) is not None,
        chat=chat,
    )
