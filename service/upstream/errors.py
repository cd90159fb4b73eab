"""Map an upstream's error responses to `UpstreamError`.

Upstream messages are not passed on: they may hold a key or a part of the question.
"""

from http import HTTPStatus

from service.errors import UpstreamError
from service.upstream.connection import BrokenConnectionError, Exchange, MalformedResponseError
from service.upstream.error_body import read_error
from service.upstream.refusals import refusal
from service.upstream.retry_after import retry_after

_TIMED_OUT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT)


def broken_body(error: BrokenConnectionError) -> UpstreamError:
    """Return the error for a broken body. Bytes that are not HTTP are not a cut: a retry would be paid for again."""
    if isinstance(error, MalformedResponseError):
        broken = UpstreamError("upstream_malformed", "response")
    else:
        broken = UpstreamError("upstream_cut")
    broken.__cause__ = error
    return broken


def is_accepted(status: int) -> bool:
    """Return whether the body is an answer. Some frameworks respond to a POST with 201."""
    return 200 <= status < 300  # noqa: PLR2004 (`HTTPStatus` is asked a dozen times as slowly, each answer twice)


def status_error(exchange: Exchange, body: bytes) -> UpstreamError:
    """Return the error for a status that is not accepted."""
    status, said = exchange.status, read_error(body)
    after = retry_after(status, exchange.headers, body)
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:  # The upstream was not asked.
        error = UpstreamError("upstream_unreachable", "proxy_refused")
    else:
        error = refusal(status, said) or _failure(status, after)
    return error.told_by_upstream(status, said.code, said.type)


def _failure(status: int, after: str | None) -> UpstreamError:
    """Return the error for a status that a retry may change. `after` is when the upstream may be asked again."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return UpstreamError("upstream_rate_limited", retry_after=after)
    if status in _TIMED_OUT:
        return UpstreamError("upstream_timeout", "upstream_timeout", retry_after=after)
    return UpstreamError("upstream_unavailable", retry_after=after)
