"""Errors as HTTP: `{"error": {"code", "message", "field"?, "request_id"}}`, whatever went wrong."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from service.context import context_of
from service.errors import TABLE, BadInput, FolyamError, HTTPError, UpstreamError, unknown_field
from service.telemetry import metrics

_METHOD_NOT_ALLOWED = 405
_BY_STATUS = {row.status: row.code for row in TABLE.values() if row.kind is HTTPError and row.status}


class UpstreamHTTPException(HTTPException):
    """The upstream's status is not 200, and the response has not begun."""

    def __init__(self, error: UpstreamError) -> None:
        super().__init__(error.status, detail=error.code, headers=error.headers())
        self.error = error


async def respond(request: Request, error: FolyamError) -> JSONResponse:
    """Return the error as the response, and count it."""
    context = context_of(request.scope)
    context.error = error.code
    metrics.rejected(error.code)
    return JSONResponse(error.body(context.request_id), status_code=error.status, headers=error.headers())


async def _on_http_exception(request: Request, error: StarletteHTTPException) -> JSONResponse:
    if isinstance(error, UpstreamHTTPException):
        return await respond(request, error.error)
    code = _BY_STATUS.get(error.status_code, "http_error")
    response = await respond(request, HTTPError(code, status=error.status_code))
    response.headers.update(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED and (methods := _methods(request)):
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def _methods(request: Request) -> set[str]:
    """Return what the address takes: Starlette names only what the first of its routes does."""
    route = request.scope.get("route")
    return {method.upper() for method in request.app.openapi()["paths"].get(getattr(route, "path", ""), {})}


async def _on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    """Refuse a parameter of the address. `service.question` checks the body."""
    first = error.errors()[0]
    # The location is ("query" | "path", parameter).
    field = str(first["loc"][1])
    if first["type"] == "extra_forbidden":
        return await respond(request, unknown_field("", field))
    # pydantic's sentence names what is wanted and never what was sent.
    return await respond(request, BadInput("invalid_input", "value", field=field, wanted=first["msg"]))


async def _on_any_error(request: Request, _error: Exception) -> JSONResponse:
    return await respond(request, FolyamError("internal"))


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    FolyamError: respond,
    HTTPException: _on_http_exception,
    StarletteHTTPException: _on_http_exception,
    RequestValidationError: _on_validation_error,
    Exception: _on_any_error,
}
