"""Tell an upstream's refusals from its failures, by status, code, type and words. Pure.

A refusal is about the question or the account. Asking again does not help, whether it comes as a status or as an event
in the middle of an answer.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

from service.errors import UpstreamError
from service.upstream.error_body import ErrorBody

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

_TOO_LONG = frozenset(
    {"context_length_exceeded", "string_above_max_length", "exceed_context_size_error", "request_too_large"}
)
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
        "billing_error",
    }
)
"""The `code` or `type`, in lower case, of an account without credit."""
_NO_MODEL = frozenset({"model_not_found", "invalid_model", "deploymentnotfound", "unsupported_model"})
"""The `code` or `type`, in lower case, of a model that the server does not offer, where the status is not 404."""
_BAD_KEY = frozenset(
    {
        "authentication_error",
        "invalid_api_key",
        "invalid_authentication",
        "permission_denied",
        "permission_error",
        "unauthenticated",
    }
)
"""The `code` or `type`, in lower case, of refused credentials, in an event."""
_INVALID = frozenset({"invalid_argument", "invalid_parameter_error", "invalid_request", "invalid_request_error"})
"""The `code` or `type`, in lower case, of a request that is wrong, in an event."""
_PASSING = re.compile(r"rate_?limit|overload|unavailable|capacity|exhausted|time_?d?_?out|server_error|internal")
"""Words in a code that says more than the type beside it."""
_ANY_EXCEPTION = "badrequesterror"
"""The type, in lower case, that vLLM gives any exception in the middle of a stream, with the code 400."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
"""A code that is told to users."""
_CLIENT_ERROR = re.compile(r"4[0-9]{2}", re.ASCII)
_OF_A_FOLYAM: Mapping[str, Callable[[], UpstreamError]] = {
    "answer_too_long": lambda: UpstreamError("answer_too_long"),
    "upstream_bad_request": lambda: UpstreamError("upstream_bad_request"),
    "upstream_credentials": lambda: UpstreamError("upstream_credentials"),
    "upstream_moderated": lambda: UpstreamError("upstream_moderated"),
    "upstream_no_credit": lambda: UpstreamError("upstream_no_credit"),
    "upstream_not_found": lambda: UpstreamError("upstream_not_found"),
    "upstream_too_long": lambda: UpstreamError("upstream_too_long"),
}
"""The codes of refusals that another Folyam passes on, as a response or as the end of an answer."""


def refusal(status: int, said: ErrorBody) -> UpstreamError | None:
    """Return the error of a refusal; None for a status that a retry may change."""
    return refusal_of_folyam(said.code) or _refusal_by_words(status, said) or _refusal_by_status(status, said.code)


def refusal_of_folyam(code: str) -> UpstreamError | None:
    """Return the error of a refusal that another Folyam passes on; None for another code."""
    refused = _OF_A_FOLYAM.get(code)
    return None if refused is None else refused()


def reported(said: ErrorBody) -> UpstreamError:
    """Return the error for an event in a stream: a refusal, or else a failure, after which the answer may go on.

    The status was one of success. Some servers write the real one into the event, as its code.
    """
    status = int(said.code) if _CLIENT_ERROR.fullmatch(said.code) else HTTPStatus.BAD_REQUEST
    error = _refusal_by_words(status, said)
    words = {said.code.lower(), said.type.lower()}
    if error is None and words & _BAD_KEY:
        error = UpstreamError("upstream_credentials")
    if error is None and (words & _INVALID or status != HTTPStatus.BAD_REQUEST or said.code == "400"):
        is_passing = _ANY_EXCEPTION in words or _PASSING.search(said.code.lower())
        error = None if is_passing else _refusal_by_status(status, said.code)
    return (error or UpstreamError("upstream_error")).told_by_upstream(None, said.code, said.type)


def _refusal_by_words(status: int, said: ErrorBody) -> UpstreamError | None:
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


def _says_too_long(status: int, message: str) -> bool:
    return (
        status in (*BAD_REQUEST, HTTPStatus.TOO_MANY_REQUESTS)
        and _TOO_LONG_IN_WORDS.search(message) is not None
        and _MAX_TOKENS_IN_WORDS.search(message) is None
    )


def _says_moderated(said: ErrorBody) -> bool:
    return said.flagged or _MODERATED_IN_WORDS.search(said.message) is not None
