"""The errors, drawn once.

    FolyamError                     a code, a sentence fit for a user, an HTTP status
    ├── BadInput            4xx     the request is wrong; names the field
    ├── Unauthorized        401     the request has none of the keys that are asked for
    ├── UnknownAnswer       404     no such answer, or it has expired, or it is another key's
    ├── TooMany             429     this client has enough under way; a retry makes sense
    ├── Unavailable         503     this worker cannot take the request now; a retry makes sense
    └── UpstreamError       4xx 5xx the upstream did not answer, or not to the end
        ├── (before the first byte) becomes the response's status
        └── (later)                 becomes the answer's `failed` event

Foreign exceptions are turned into these where they arise, and never shown to a client.
"""

import re

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


class FolyamError(Exception):
    """An error with a code for programs and a sentence for people. Neither carries what anybody wrote."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        field: str | None = None,
        retryable: bool = False,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status
        self.field = field
        self.retryable = retryable
        self.retry_after = retry_after

    def body(self, request_id: str | None) -> dict[str, dict[str, str]]:
        """Return the error in the contract's form."""
        error = {"code": self.code, "message": self.message}
        if self.field:
            error["field"] = self.field
        if request_id:
            error["request_id"] = request_id
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        headers = {"Cache-Control": "no-store"}
        if self.retry_after:
            headers["Retry-After"] = self.retry_after
        return headers


class BadInput(FolyamError):
    """The request is wrong, and the client can right it."""

    def __init__(self, code: str, message: str, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(code, message, status=status, field=field)


def unknown_field(parent: str, name: str) -> BadInput:
    """Return the error for an unknown field of the object at `parent`, which is empty for the outermost object."""
    if _NAME.fullmatch(name):
        field = f"{parent}.{name}" if parent else name
        return BadInput("invalid_input", f"{field}: There is no such field.", field=field)
    # A name that is no word may be any text, of any length. Errors do not repeat what was sent.
    message = "There is an unknown field."
    return BadInput("invalid_input", f"{parent}: {message}" if parent else message, field=parent or None)


class Unauthorized(FolyamError):
    """The request has none of the keys that are asked for."""

    def __init__(self) -> None:
        super().__init__(
            "unauthorized", "A key is needed, as Authorization: Bearer <key>.", status=401, field="Authorization"
        )

    def headers(self) -> dict[str, str]:
        """Add what RFC 9110 wants with a 401."""
        return {**super().headers(), "WWW-Authenticate": 'Bearer realm="folyam"'}


class UnknownAnswer(FolyamError):
    """No such answer, or no longer, or not for who asks."""

    def __init__(self) -> None:
        super().__init__("unknown_answer", "There is no such answer, or it has expired.", status=404)


class TooMany(FolyamError):
    """This client has enough under way."""

    def __init__(self, code: str, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(code, message, status=429, retryable=True, retry_after=str(retry_after_seconds))


class Unavailable(FolyamError):
    """Not now, but soon."""

    def __init__(self, code: str, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(code, message, status=503, retryable=True, retry_after=str(retry_after_seconds))


class UpstreamError(FolyamError):
    """The upstream did not answer, or not to the end. `reason` is the metric label."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 502,
        retryable: bool = True,
        retry_after: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(code, message, status=status, retryable=retryable, retry_after=retry_after)
        self.reason = reason or code.removeprefix("upstream_")


UPSTREAM_REASONS = (
    "answer_timeout",
    "answer_too_long",
    "bad_request",
    "breaker",
    "connect_timeout",
    "credentials",
    "cut",
    "error",
    "first_chunk_timeout",
    "malformed",
    "not_found",
    "rate_limited",
    "redirected",
    "silence_timeout",
    "status_timeout",
    "too_long",
    "truncated",
    "unavailable",
    "unreachable",
    "upstream_timeout",
)
"""Every `reason` that there is."""

CODES = (
    "answer_timeout",
    "answer_too_long",
    "bad_last_event_id",
    "body_too_large",
    "cross_site",
    "draining",
    "empty_query",
    "history_too_long",
    "http_error",
    "internal",
    "invalid_input",
    "invalid_json",
    "log_full",
    "log_unavailable",
    "method_not_allowed",
    "not_acceptable",
    "not_found",
    "query_too_long",
    "stop_pending",
    "too_many_answers",
    "too_many_answers_of_yours",
    "too_many_followers",
    "unauthorized",
    "unknown_answer",
    "unknown_model",
    "upstream_bad_request",
    "upstream_credentials",
    "upstream_cut",
    "upstream_error",
    "upstream_malformed",
    "upstream_not_found",
    "upstream_rate_limited",
    "upstream_redirected",
    "upstream_timeout",
    "upstream_too_long",
    "upstream_truncated",
    "upstream_unavailable",
    "upstream_unreachable",
)
"""Every `code` of an error that has an HTTP status."""
