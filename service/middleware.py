"""The middleware of every request: its id and log line, the check of its key, the limits on its input.

Pure ASGI, so that it runs until the last byte of the response and not only until the headers.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import http_errors
from service.context import RequestContext, context_of
from service.errors import BadInput, FolyamError, Unauthorized
from service.keys import Keys
from service.telemetry import tracing

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths without a log line: probes and scrapes come every few seconds and would drown the other lines."""

_OPEN = frozenset({*_QUIET, "/docs", "/redoc", "/openapi.json"})
"""Paths that need no key: they cost nothing and show no answers. nginx passes on only /livez and /readyz."""
SERVER_ERROR = 500
MAX_PARAMETERS = 100
"""Limit on the parameters of an address. No route has more than five."""

_logger = structlog.get_logger()


class BodyLimit:
    """Limits the request's body. It raises where the application reads, so the error has the form of the protocol."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._most_bytes:
                    raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


class ParameterLimit:
    """Rejects an address with too many parameters before they are parsed.

    Each becomes several objects, and an unknown one an error: 128 KiB of them blocked the event loop for 0.2 s.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["query_string"].count(b"&") >= MAX_PARAMETERS:
            error = BadInput("invalid_input", "parameters", most=MAX_PARAMETERS)
            response = await http_errors.respond(Request(scope), error)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


class KeyCheck:
    """Sets the context's `caller`. Rejects a request without a key before any of its body is read."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            # Reject duplicate Authorization headers: proxies and the service might pick different ones.
            values = Headers(scope=scope).getlist("authorization")
            try:
                context_of(scope).caller = self._keys.caller(values[0] if len(values) == 1 else "")
            except Unauthorized as error:
                response = await http_errors.respond(Request(scope), error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        quiet = scope["path"] in _QUIET
        span = tracing.NO_SPAN
        if not quiet:
            span = tracing.start_request(scope["method"], headers, request_id)
        response = _Response(send, request_id)
        context = RequestContext(request_id, arrived_at, span, response.send)
        scope.setdefault("state", {})["context"] = context
        try:
            await self._app(scope, receive, response.send)
        except Exception:
            # Handled here, because uvicorn would print the exception's text.
            _logger.exception("request_broke", request_id=request_id)
            if not response.status:  # A response that has begun is cut.
                error = await http_errors.respond(Request(scope), FolyamError("internal"))
                await error(scope, receive, response.send)
        finally:
            del context.send  # It refers to the scope, and the scope to the context: a cycle for the garbage collector.
            if not quiet:
                _record(scope, context, response)


class _Response:
    """Passes a response on and counts its bytes. `send` is called once for each chunk."""

    __slots__ = ("_request_id", "_send", "bytes", "status", "whole")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
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
            MutableHeaders(scope=message)["X-Request-Id"] = self._request_id
        return self._send(message)


def _record(scope: Scope, context: RequestContext, response: _Response) -> None:
    """Log the request's line and end its span."""
    route = getattr(scope.get("route"), "path", None)
    _logger.info(
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
