"""Map an upstream's error responses to `UpstreamError`.

Upstream messages are not passed on: they may hold a key or a part of the question.
"""

import re
from http import HTTPStatus

from service.errors import UpstreamError
from service.upstream.connection import BrokenConnectionError, Exchange, MalformedResponseError
from service.upstream.error_body import ErrorBody, read_error
from service.upstream.retry_after import retry_after

BAD_REQUEST = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses for a request with an unknown option."""

_CREDENTIALS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
)
_NOT_FOUND = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.GONE,  # a model that has been withdrawn
    HTTPStatus.NOT_IMPLEMENTED,  # a file server's response to a POST
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
)
_TIMED_OUT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT)
_STATES = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
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
_TOO_LONG_IN_WORDS = re.compile(
    r"context (?:length|window|size)|maximum (?:input|prompt) length|exceeds the maximum number of tokens"
    r"|(?:prompt|input|request|question) (?:is )?too (?:long|large)|too many (?:input )?tokens",
    re.IGNORECASE,
)
"""The same in a message, of servers whose code says nothing: vLLM, SGLang, DeepSeek, Mistral, xAI, Gemini. OpenAI says
it in a 429 where a question alone is above the tokens of a minute."""
_MAX_TOKENS_IN_WORDS = re.compile(r"max_(?:completion_|output_)?tokens")
"""Then the answer was to be too long, and not the question."""
_MODERATED = frozenset(
    {
        "content_filter",  # Azure
        "content_policy_violation",
        "responsibleaipolicyviolation",  # Azure
        "moderation_blocked",
        "invalid_prompt",  # OpenAI's reasoning models
        "data_inspection_failed",  # Qwen
        "datainspectionfailed",
        "sensitive_words_detected",  # New API, One API
    }
)
"""The `code` or `type`, in lower case, of a question that is refused because of its contents."""
_MODERATED_IN_WORDS = re.compile(r"\b(?:moderation|flagged|content policy|content management policy)\b", re.IGNORECASE)
"""The same in the message of a 403."""
_NO_CREDIT = frozenset(
    {
        "insufficient_quota",  # OpenAI, with 429
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_user_quota",  # New API, One API
        "insufficient_credits",
        "arrearage",  # Qwen
    }
)
"""The `code` or `type`, in lower case, of an account without credit."""
_NO_MODEL = frozenset({"model_not_found", "invalid_model", "deploymentnotfound", "unsupported_model"})
"""The `code` or `type`, in lower case, of a model that the server does not offer, where the status is not 404."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
"""A code that is told to users."""


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
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def status_error(exchange: Exchange, body: bytes) -> UpstreamError:
    """Return the error for a status that is not accepted."""
    status, said = exchange.status, read_error(body)
    after = retry_after(status, exchange.headers, body)
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:  # The upstream was not asked.
        error = UpstreamError("upstream_unreachable", "proxy_refused")
    else:
        error = _refusal(status, said) or _refusal_by_status(status, said.code) or _failure(status, after)
    return error.told_by_upstream(status, said.code, said.type)


def _refusal(status: int, said: ErrorBody) -> UpstreamError | None:
    """Return the error of a refusal that has a code of its own; None for another status."""
    if status in _NOT_FOUND:
        return UpstreamError("upstream_not_found")
    if not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    words = {said.code.lower(), said.type.lower()}
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or words & _TOO_LONG or _says_too_long(status, said.message):
        return UpstreamError("upstream_too_long")
    if words & _MODERATED or (status == HTTPStatus.FORBIDDEN and _says_moderated(said)):
        return UpstreamError("upstream_moderated")
    if status == HTTPStatus.PAYMENT_REQUIRED or words & _NO_CREDIT:
        return UpstreamError("upstream_no_credit")
    return UpstreamError("upstream_not_found") if words & _NO_MODEL else None


def _refusal_by_status(status: int, code: str) -> UpstreamError | None:
    """Return the error of any other refusal; None for a status that a retry may change."""
    if status in _CREDENTIALS:
        return UpstreamError("upstream_credentials")
    if status < HTTPStatus.BAD_REQUEST:
        return UpstreamError("upstream_redirected", status=status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _STATES:
        return None
    if _WORD.fullmatch(code):
        return UpstreamError("upstream_bad_request", "with_code", said=code)
    return UpstreamError("upstream_bad_request")


def _failure(status: int, after: str | None) -> UpstreamError:
    """Return the error for a status that a retry may change. `after` is when the upstream may be asked again."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return UpstreamError("upstream_rate_limited", retry_after=after)
    if status in _TIMED_OUT:
        return UpstreamError("upstream_timeout", "upstream_timeout", retry_after=after)
    return UpstreamError("upstream_unavailable", retry_after=after)


def _says_too_long(status: int, message: str) -> bool:
    return (
        status in (*BAD_REQUEST, HTTPStatus.TOO_MANY_REQUESTS)
        and _TOO_LONG_IN_WORDS.search(message) is not None
        and _MAX_TOKENS_IN_WORDS.search(message) is None
    )


def _says_moderated(said: ErrorBody) -> bool:
    return said.flagged or _MODERATED_IN_WORDS.search(said.message) is not None
