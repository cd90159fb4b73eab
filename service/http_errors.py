"""Errors as HTTP responses, in the form of the endpoint family.

docs/protocol.md describes the usual form. A family with another protocol has a form of its own for every error at its
addresses, also for an error of middleware or routing, before a route is known.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from service.context import context_of
from service.error_codes import TABLE
from service.errors import BadInput, FolyamError, HTTPError, UpstreamError, error_object, unknown_field
from service.telemetry import metrics

ErrorForm = Callable[[FolyamError, str], tuple[int, Mapping[str, Any]]]
"""From an error and the request's id, the status and the JSON body of the response."""

_METHOD_NOT_ALLOWED = 405
_BAD_REQUEST = 400
_UNPROCESSABLE = 422
_REUSED_KEY = "idempotency_key_reused"
"""The code that is 422 at every address, as the draft of the Idempotency-Key header has it."""
_SERVER_ERROR = 500
_RETRIED = frozenset({408, 409, 429})
"""Statuses below 500 after which the OpenAI SDKs ask again by themselves, unless `x-should-retry` forbids it."""
_CODES = {"unauthorized": "invalid_api_key", "not_found": "unknown_url"}
"""The codes that the clients of doors know, in place of the service's own."""
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_BY_STATUS = {row.status: row.code for row in TABLE.values() if row.kind == "HTTPError" and row.status}


class UpstreamHTTPException(HTTPException):
    """The upstream's status is not 200, and the response has not begun."""

    def __init__(self, error: UpstreamError) -> None:
        super().__init__(error.status, detail=error.code, headers=error.headers())
        self.error = error


def use_error_form(app: FastAPI, prefix: str, form: ErrorForm) -> None:
    """Set the form of every error at the address `prefix` and below it. The longest matching prefix counts."""
    forms = {**_forms(app), prefix: form}
    app.state.error_forms = dict(sorted(forms.items(), key=lambda item: len(item[0]), reverse=True))


async def respond(request: Request, error: FolyamError) -> JSONResponse:
    """Return the error as the response, and count it."""
    context = context_of(request.scope)
    context.error = error.code
    metrics.rejected(error.code)
    status, body = _form(request)(error, context.request_id)
    headers = error.headers()
    if not error.retryable and (status >= _SERVER_ERROR or status in _RETRIED):
        headers["X-Should-Retry"] = "false"
    return JSONResponse(body, status_code=status, headers=headers)


def door_form(error: FolyamError, request_id: str) -> tuple[int, Mapping[str, Any]]:
    """Return the error as the clients of doors expect it: 400 for bad input, their codes, and an upstream's words.

    What the upstream said about the request helps the client that asked. It is shown to nobody else.
    """
    status = _BAD_REQUEST if error.status == _UNPROCESSABLE and error.code != _REUSED_KEY else error.status
    code, message, param = _CODES.get(error.code, error.code), error.message, error.field
    if isinstance(error, UpstreamError) and (told := error.told) is not None:
        status, message, param = _BAD_REQUEST, told.message, told.param or None
        code = told.code or ("context_length_exceeded" if code == "upstream_too_long" else code)
    said = error_object(status, code, message, param)
    if error.field:
        said["field"] = error.field
    return status, {"error": {**said, "request_id": request_id}}


def _usual_form(error: FolyamError, request_id: str) -> tuple[int, Mapping[str, Any]]:
    return error.status, error.body(request_id)


def _forms(app: FastAPI) -> dict[str, ErrorForm]:
    return getattr(app.state, "error_forms", {})


def _form(request: Request) -> ErrorForm:
    path: str = request.scope["path"]
    matching = (form for prefix, form in _forms(request.app).items() if f"{path}/".startswith(f"{prefix}/"))
    return next(matching, _usual_form)


async def _on_http_exception(request: Request, error: StarletteHTTPException) -> JSONResponse:
    if isinstance(error, UpstreamHTTPException):
        return await respond(request, error.error)
    code = _BY_STATUS.get(error.status_code, "http_error")
    response = await respond(request, HTTPError(code, status=error.status_code))
    response.headers.update(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED and (methods := _methods(request)):
        response.headers["Allow"] = ", ".join(methods)
    return response


def _methods(request: Request) -> list[str]:
    """Return the methods of the address. Starlette's own 405 names only those of the first matching route."""

    def is_taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if is_taken(method)]


async def _on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    """Respond to an invalid parameter of the address. `service.question` checks the body."""
    first = error.errors()[0]
    # The location is ("query" | "path", parameter).
    field = str(first["loc"][1])
    if first["type"] == "extra_forbidden":
        return await respond(request, unknown_field("", field))
    # pydantic's message states the valid form and never the value.
    return await respond(request, BadInput("invalid_input", "value", field=field, wanted=first["msg"]))


_HANDLERS: Mapping[type, Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    FolyamError: respond,
    HTTPException: _on_http_exception,
    StarletteHTTPException: _on_http_exception,
    RequestValidationError: _on_validation_error,
}


async def response_to(request: Request, error: Exception) -> Response | None:
    """Return the error as the response; None for an error that is no response's but a defect."""
    for kind in type(error).__mro__:
        if (handler := _HANDLERS.get(kind)) is not None:
            return await handler(request, error)
    return None
