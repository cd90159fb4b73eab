"""What middleware and routes hand to each other in one request."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from service.keys import ANYBODY, Caller
from service.telemetry.tracing import Span

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
"""ASGI's `send`."""


@dataclass(slots=True)
class RequestContext:
    """One request's context. The middleware begins it; routes add what the request's line in the log tells."""

    request_id: str
    arrived_at: float
    """When the request came, by the event loop's clock."""
    span: Span
    send: Send
    """Sends the response's body past the layers between the outermost middleware and the route, which see only its
    start."""
    caller: Caller = ANYBODY
    answer_id: str | None = None
    rendering: str | None = None
    """The rendering's name."""
    error: str | None = None
    """The error's code."""


def context_of(scope: Mapping[str, Any]) -> RequestContext:
    """Return the context of a request that has passed the outermost middleware."""
    context: RequestContext = scope["state"]["context"]
    return context
