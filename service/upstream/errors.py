"""Map an upstream's error responses to `UpstreamError`.

Upstream messages may hold a key or a part of the question. Only what an upstream says of a request that it finds wrong
is told to the client that asked, by some doors: the error has it as `told`.
"""

from collections.abc import Iterable
from http import HTTPStatus

from service.errors import Told, UpstreamError
from service.upstream.connection import BrokenConnectionError, Exchange, MalformedResponseError
from service.upstream.error_body import ErrorBody, read_error
from service.upstream.refusals import BAD_REQUEST, refusal
from service.upstream.retry_after import retry_after

MOST_TOLD_CHARACTERS = 1000
"""Length of an upstream's message that is told."""
_ABOUT_THE_REQUEST = frozenset({"upstream_bad_request", "upstream_moderated", "upstream_too_long"})
_WINDOW = 12
"""Length of a part of a secret that is recognized, in characters."""
_SHORTEST = 8
"""Length of the shortest secret. A shorter one is no secret, such as the key that a local server is sent."""
_MASK = "***"

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


def status_error(exchange: Exchange, body: bytes, secrets: Iterable[str] = ()) -> UpstreamError:
    """Return the error for a status that is not accepted. `secrets` are never told."""
    status, said = exchange.status, read_error(body)
    after = retry_after(status, exchange.headers, body)
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:  # The upstream was not asked.
        error = UpstreamError("upstream_unreachable", "proxy_refused")
    else:
        error = refusal(status, said) or _failure(status, after)
    if (status in BAD_REQUEST or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE) and error.code in _ABOUT_THE_REQUEST:
        error.told = _told(said, secrets)
    return error.told_by_upstream(status, said.code, said.type)


def _told(said: ErrorBody, secrets: Iterable[str]) -> Told | None:
    message = " ".join("".join([each if each.isprintable() else " " for each in said.message]).split())
    if not message:
        return None
    message = message[: 2 * MOST_TOLD_CHARACTERS]
    for secret in secrets:
        message = masked(message, secret)
    return Told(message[:MOST_TOLD_CHARACTERS], "" if said.code.isdecimal() else said.code, said.param)


def masked(text: str, secret: str) -> str:
    """Return the text without the secret, and without each part of it that has at least `_WINDOW` characters."""
    secret = " ".join(secret.split())
    width = min(_WINDOW, len(secret))
    if width < _SHORTEST:
        return text
    shown: list[str] = []
    end = 0  # of what is masked so far
    for place, character in enumerate(text):
        if text[place : place + width] in secret and place + width <= len(text):
            if place >= end:
                shown.append(_MASK)
            end = place + width
        elif place >= end:
            shown.append(character)
    return "".join(shown)


def _failure(status: int, after: str | None) -> UpstreamError:
    """Return the error for a status that a retry may change. `after` is when the upstream may be asked again."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return UpstreamError("upstream_rate_limited", retry_after=after)
    if status in _TIMED_OUT:
        return UpstreamError("upstream_timeout", "upstream_timeout", retry_after=after)
    return UpstreamError("upstream_unavailable", retry_after=after)
