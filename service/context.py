"""The context of one request, shared by middleware and routes."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from service.follower import Sink
from service.keys import ANYBODY, Caller
from service.telemetry.tracing import Span

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's `receive`."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
"""ASGI's `send`."""


@dataclass(slots=True)
class RequestContext:
    """One request's context. The middleware creates it; routes add fields of the request's log line."""

    request_id: str
    arrived_at: float
    """The request's arrival by the event loop's clock."""
    headers: Mapping[bytes, bytes]
    """The first value of each header, by its name in lower case. Starlette's look-up of an absent one is slow."""
    span: Span
    receive: Receive
    """Receives directly from the server, without the limit on the body: for what waits for the client's disconnect, and
    passes over a body that no route reads."""
    send: Send
    """Sends the response's body directly through the outermost middleware. The layers between it and the route see only
    the start of the response."""
    sink: Sink | None = None
    """Takes bytes of the response's body without a task, once the body has begun."""
    begun: bool = False
    """Whether the response has begun."""
    caller: Caller = ANYBODY
    answer_id: str | None = None
    rendering: str | None = None
    """The rendering's name."""
    error: str | None = None
    """The error's code."""

    def header(self, name: bytes) -> str | None:
        """Return the first value of the header; None without one."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def context_of(scope: Mapping[str, Any]) -> RequestContext:
    """Return the request's context, which the outermost middleware has set."""
    context: RequestContext = scope["state"]["context"]
    return context
