"""The middleware of every request: its id and log line, the check of its key, the limits on its input.

Pure ASGI, so that it runs until the last byte of the response and not only until the headers.
"""

import asyncio
import re
from collections.abc import Awaitable
from os import urandom

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import http_errors
from service.context import RequestContext, context_of
from service.errors import BadInput, FolyamError
from service.keys import Caller, Keys
from service.logging import bound_logger
from service.telemetry import tracing

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths without a log line: probes and scrapes come every few seconds and would drown the other lines."""

_OPEN = frozenset({*_QUIET, "/docs", "/redoc", "/openapi.json"})
"""Paths that need no key: they cost nothing and show no answers. nginx passes on only /livez and /readyz."""
SERVER_ERROR = 500
MAX_PARAMETERS = 100
"""Limit on the parameters of an address. No route has more than five."""

_logger = structlog.get_logger()


class RequestLine:
    """Gives each request an id, sends it back as X-Request-Id, and logs one line when the response has ended.

    The line has the route's pattern and never the query string or the body, which are people's words.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived_at = asyncio.get_running_loop().time()
        headers = dict(reversed(scope["headers"]))  # of each name the first
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else urandom(8).hex()
        quiet = scope["path"] in _QUIET
        context = RequestContext(request_id, arrived_at, headers, tracing.NO_SPAN, receive, send)
        response = _Response(send, context)
        context.send = response.send
        if not quiet:
            traceparent = context.header(b"traceparent") or ""
            context.span = tracing.start_request(scope["method"], traceparent, request_id)
        scope.setdefault("state", {})["context"] = context
        try:
            await self._app(scope, receive, response.send)
        except Exception:
            # Handled here, because uvicorn would print the exception's text.
            _logger.exception("request_broke", request_id=request_id)
            if not context.begun:  # A response that has begun is cut.
                error = await http_errors.respond(Request(scope), FolyamError("internal"))
                await error(scope, receive, response.send)
        finally:
            # They refer to the scope, and the scope to the context: a cycle for the garbage collector.
            del context.receive, context.send
            if not quiet:
                _record(scope, context, response)


class _Response:
    """Passes a response on and counts its bytes. `send` is called once for each chunk."""

    __slots__ = ("_context", "_send", "bytes", "status", "whole")

    def __init__(self, send: Send, context: RequestContext) -> None:
        self._send = send
        self._context = context
        self.status = 0
        self.bytes = 0
        self.whole = False

    def send(self, message: Message) -> Awaitable[None]:
        # No coroutine of its own: each one that a chunk passes through takes a thousand instructions.
        if message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            self._context.begun = True
            request_id = self._context.request_id.encode("ascii")
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
        return self._send(message)


class Gate:
    """Checks the request's key and address, limits its body, and turns exceptions into responses."""

    def __init__(
        self, app: ASGIApp, keys: Keys, *, most_bytes: int, doors: tuple[str, ...], most_door_bytes: int
    ) -> None:
        self._app = app
        self._keys = keys
        self._most_bytes = most_bytes
        self._doors = doors
        self._most_door_bytes = most_door_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        try:
            if self._keys and scope["path"] not in _OPEN:
                context.caller = self._caller(scope)
            _check_parameters(scope)
            await self._app(scope, self._limited(receive, scope["path"]), send)
        except Exception as error:
            # Not once the response has begun. `RequestLine` then logs the error, and the response is cut.
            response = None if context.begun else await http_errors.response_to(Request(scope), error)
            if response is None:
                raise
            await response(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        """Return the caller, before any of the body is read.

        Raises:
            Unauthorized: the request has no accepted key.
        """
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        # Reject duplicate Authorization headers: proxies and the service might pick different ones.
        return self._keys.caller(values[0].decode("latin-1") if len(values) == 1 else "")

    def _limited(self, receive: Receive, path: str) -> Receive:
        """Return a `receive` that raises where the application reads, so the error has the form of the protocol."""
        most = left = self._most_door_bytes if path.startswith(self._doors) else self._most_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise FolyamError("body_too_large", most=most)
            return message

        return limited


def _check_parameters(scope: Scope) -> None:
    """Reject an address with too many parameters before they are parsed.

    Each becomes several objects, and an unknown one an error: 128 KiB of them blocked the event loop for 0.2 s.

    Raises:
        BadInput: it has more than MAX_PARAMETERS.
    """
    if scope["query_string"].count(b"&") >= MAX_PARAMETERS:
        raise BadInput("invalid_input", "parameters", most=MAX_PARAMETERS)


def _record(scope: Scope, context: RequestContext, response: _Response) -> None:
    """Log the request's line and end its span."""
    route = getattr(scope.get("route"), "path", None)
    bound_logger().info(
        "request",
        request_id=context.request_id,
        method=scope["method"],
        route=route,
        status=response.status,
        whole=response.whole,
        bytes=response.bytes,
        seconds=round(asyncio.get_running_loop().time() - context.arrived_at, 4),
        answer=context.answer_id,
        rendering=context.rendering,
        error=context.error,
        **tracing.log_fields(context.span),
    )
    tracing.end_request(
        context.span,
        f"{scope['method']} {route}" if route else scope["method"],
        route=route,
        status=response.status or None,
        answer_id=context.answer_id,
        rendering=context.rendering,
        whole=response.whole,
        error=context.error or "internal" if response.status >= SERVER_ERROR else None,
    )
