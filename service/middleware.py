"""What every request passes: its id and its one line in the log, the question whose it is, the bounds on its input.

Pure ASGI, so that it lasts until the last byte and not until the headers.
"""

import asyncio
import re
import secrets

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
"""Asked for every few seconds by machines: a line each would drown the others."""

_OPEN = frozenset({*_QUIET, "/docs", "/redoc", "/openapi.json"})
"""What needs no key: nothing that costs, and nothing of anybody's. nginx shows the outside only /livez and /readyz."""
SERVER_ERROR = 500
MOST_PARAMETERS = 100
"""No address of the service takes more than five."""

_logger = structlog.get_logger()


class BodyLimit:
    """Refuses a body over the limit where the application reads it, so that the refusal is the contract's error."""

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
    """Refuses an address with too many parameters before they are read.

    Each becomes some objects, and an unknown one an error: 128 KiB of them took a fifth of a second of the event loop.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["query_string"].count(b"&") >= MOST_PARAMETERS:
            error = BadInput("invalid_input", "parameters", most=MOST_PARAMETERS)
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
            # Two would be one too many: whoever looks first could take another one than who looks next.
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

    The line has the route's pattern and never the query string or the body: those are people's words.
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
            span = tracing.start_request(scope["method"], headers.get("traceparent", ""), request_id)
        status = 0
        sent = 0
        whole = False

        async def observe(message: Message) -> None:
            nonlocal status, sent, whole
            if message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            elif message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        context = RequestContext(request_id, arrived_at, span, observe)
        scope.setdefault("state", {})["context"] = context
        try:
            await self._app(scope, receive, observe)
        except Exception:
            # Not left to uvicorn, which would print the exception's text.
            _logger.exception("request_broke", request_id=request_id)
            if not status:  # A response that has begun is cut.
                response = await http_errors.respond(Request(scope), FolyamError("internal"))
                await response(scope, receive, observe)
        finally:
            del context.send  # It leads back to the scope, and only the collector would free the two.
            if not quiet:
                route = getattr(scope.get("route"), "path", None)
                _logger.info(
                    "request",
                    request_id=request_id,
                    method=scope["method"],
                    route=route,
                    status=status,
                    whole=whole,
                    bytes=sent,
                    seconds=round(asyncio.get_running_loop().time() - arrived_at, 4),
                    answer=context.answer_id,
                    rendering=context.rendering,
                    error=context.error,
                    **tracing.log_fields(span),
                )
                tracing.end_request(
                    span,
                    f"{scope['method']} {route}" if route else scope["method"],
                    route=route,
                    status=status or None,
                    answer_id=context.answer_id,
                    rendering=context.rendering,
                    whole=whole,
                    error=context.error or "internal" if status >= SERVER_ERROR else None,
                )
