"""What an upstream says instead of answering, as errors of ours that tell nothing of its own words."""

import re
from http import HTTPStatus

import msgspec

from service.connection import Exchange
from service.errors import UpstreamError

BAD_REQUEST = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""The statuses of a request whose parameters are not liked."""

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_RETRY_AFTER = re.compile(r"[0-9]{1,9}|[A-Za-z0-9 ,:-]{20,40}", re.ASCII)  # seconds, or a date


def timed_out(phase: str, what: str) -> UpstreamError:
    """Return ours for an upstream that did not do something in time; the phase is for the metrics."""
    return UpstreamError(
        "upstream_timeout", f"The model's server {what} in time.", status=504, reason=f"{phase}_timeout"
    )


def status_error(exchange: Exchange, body: bytes) -> UpstreamError:
    """Return ours for an upstream's status. Its message is not passed on: it may hold a key or what others wrote."""
    status = exchange.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after = _header(exchange, b"retry-after")
        return UpstreamError(
            "upstream_rate_limited",
            "The model's server takes no more requests for now.",
            status=429,
            retry_after=retry_after if _RETRY_AFTER.fullmatch(retry_after) else None,
        )
    if status in BAD_REQUEST:
        code = _error_code(body)
        return UpstreamError(
            "upstream_bad_request",
            "The model's server refused the request's parameters" + (f" ({code})." if code else "."),
            status=400,
            retryable=False,
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UpstreamError(
            "upstream_credentials", "The model's server refused this service's credentials.", retryable=False
        )
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        return timed_out("upstream", "did not answer")
    if status == HTTPStatus.NOT_FOUND:
        return UpstreamError(
            "upstream_not_found", "The model's server does not know the model or the address.", retryable=False
        )
    return UpstreamError("upstream_unavailable", "The model's server cannot answer now.")


def _header(exchange: Exchange, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in exchange.headers if name.lower() == wanted), "")


def _error_code(body: bytes) -> str | None:
    """Return the `code` of an error in OpenAI's form, where it is one: `{"error": {"code": ...}}`."""
    try:
        code = msgspec.json.decode(body, type=_Refusal).error.code
    except (ValueError, RecursionError):
        return None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


class _ErrorDetail(msgspec.Struct):
    code: object = None


class _Refusal(msgspec.Struct):
    error: _ErrorDetail
