"""Map an upstream's error responses to `UpstreamError`.

Upstream messages are not passed on: they may hold a key or a part of the question.
"""

import math
import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from service.errors import UpstreamError
from service.upstream.connection import BrokenConnectionError, Exchange, MalformedResponseError

BAD_REQUEST = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses for a request with an unknown option."""

_CREDENTIALS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,  # an account without credit: DeepSeek, OpenRouter
    HTTPStatus.FORBIDDEN,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
)
_NOT_FOUND = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.GONE,  # a model that has been withdrawn
    HTTPStatus.NOT_IMPLEMENTED,  # a file server's response to a POST
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
)
_TIMED_OUT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT)
_PASSING = (
    HTTPStatus.CONFLICT,  # a lock timeout; OpenAI's own libraries retry
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.LOCKED,
    HTTPStatus.FAILED_DEPENDENCY,  # a generation that broke: Hugging Face's TGI
    HTTPStatus.TOO_EARLY,
    498,  # no capacity: Groq
    499,  # a proxy whose own connection ended
)
"""4xx statuses about the upstream's state instead of the question."""

_TOO_LONG = frozenset({"context_length_exceeded", "string_above_max_length", "exceed_context_size_error"})
"""The `code` of a 400 for a question that is too long (OpenAI and compatible servers), or its `type` (llama.cpp)."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def broken_body(error: BrokenConnectionError) -> UpstreamError:
    """Return the error for a broken body. Bytes that are not HTTP are not a cut: a retry would be paid for again."""
    if isinstance(error, MalformedResponseError):
        return UpstreamError("upstream_malformed", "response")
    return UpstreamError("upstream_cut")


def is_accepted(status: int) -> bool:
    """Return whether the body is an answer. Some frameworks respond to a POST with 201."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def status_error(exchange: Exchange, body: bytes) -> UpstreamError:
    """Return the error for a status that is not accepted."""
    status = exchange.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return UpstreamError("upstream_rate_limited", retry_after=_retry_after(exchange))
    if status in _TIMED_OUT:
        return UpstreamError("upstream_timeout", "upstream_timeout")
    if status in _PASSING or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NOT_FOUND):
        return UpstreamError("upstream_unavailable")
    return _refused(status, body)


def _refused(status: int, body: bytes) -> UpstreamError:
    """Return the error for a status that a retry would not change."""
    if status in _CREDENTIALS:
        return UpstreamError("upstream_credentials")
    if status in _NOT_FOUND:
        return UpstreamError("upstream_not_found")
    if status < HTTPStatus.BAD_REQUEST:
        return UpstreamError("upstream_redirected", status=status)
    code, kind = _error_words(body)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or not _TOO_LONG.isdisjoint((code, kind)):
        return UpstreamError("upstream_too_long")
    if code:
        return UpstreamError("upstream_bad_request", "with_code", said=code)
    return UpstreamError("upstream_bad_request")


def _retry_after(exchange: Exchange) -> str | None:
    """Return Retry-After in whole seconds, at least 1; None where the upstream sends none that is usable.

    A date is turned into seconds, because the client's clock may be wrong. 0 and past dates are dropped: clients would
    retry without a pause, while without the header they use their own backoff.
    """
    given = next((value.decode("latin-1") for name, value in exchange.headers if name.lower() == b"retry-after"), "")
    if _SECONDS.fullmatch(given):
        seconds = float(given)
    else:
        try:
            date = parsedate_to_datetime(given)
            # HTTP's dates are UTC. A date of the old form has no zone and would be parsed in the machine's.
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return str(math.ceil(seconds)) if seconds > 0 else None


class _ErrorDetail(msgspec.Struct):
    code: object = None
    type: object = None


class _Refusal(msgspec.Struct):
    error: _ErrorDetail


def _error_words(body: bytes) -> tuple[str, str]:
    """Return `code` and `type` of an error in OpenAI's form, each "" unless it is a word."""
    try:
        error = msgspec.json.decode(body, type=_Refusal).error
    except (ValueError, RecursionError):
        return "", ""
    code, kind = (word if isinstance(word, str) and _WORD.fullmatch(word) else "" for word in (error.code, error.type))
    return code, kind
