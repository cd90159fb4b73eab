"""The errors that the service raises.

    FolyamError                     a code, an HTTP status, a sentence fit for a user
    ├── BadInput            4xx     the request is wrong; names the field
    ├── HTTPError           any     the HTTP layer refused the request: no such address, another method
    ├── Unauthorized        401     the request has none of the required keys
    ├── UnknownAnswer       404     the answer is unknown, expired or not the caller's
    ├── TooMany             429     this client is at its limit; retry later
    ├── Unavailable         503     temporarily unavailable; retry later
    ├── UpstreamError       4xx 5xx the upstream did not answer, or not to the end
    │   ├── (before the first byte) becomes the response's status
    │   └── (later)                 becomes the answer's `failed` event
    └── AnswerFailed        4xx 5xx the answer has failed, and is asked for as a whole

An error is raised by its code; `service.error_codes` has the rest. Foreign exceptions are turned into these where they
arise, and never shown to a client.
"""

import re
from typing import Any, NamedTuple, Self

from service.error_codes import TABLE

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_SERVER_ERROR = 500
_BAD_GATEWAY = 502

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


class FolyamError(Exception):
    """An error with a code for programs and a sentence for people. Neither repeats a client's or a model's words.

    Args:
        code: A code of the table.
        case: The key of the code's sentence, if it has several.
        field: The part of the request to blame: a field, a parameter or a header.
        retry_after: Seconds, in place of the table's.
        values: Values of the sentence's other placeholders, such as a limit.

    Raises:
        LookupError: the table has no such code or case, or the sentence needs another value.
        TypeError: the code belongs to another class.
    """

    def __init__(
        self, code: str, case: str = "", *, field: str | None = None, retry_after: str | None = None, **values: object
    ) -> None:
        super().__init__(code)
        row = TABLE[code]
        if row.kind not in (kind.__name__ for kind in type(self).__mro__):
            raise TypeError(f"{code} is {row.kind}, not {type(self).__name__}")
        self.code = code
        self._case = case
        self.message = row.sentence(case).format_map({"field": field, **values})
        self.status = row.status or 0
        self.field = field
        self.retryable = row.retryable
        self.retry_after = retry_after or row.retry_after

    def body(self, request_id: str) -> dict[str, dict[str, Any]]:
        """Return the error in the form of docs/protocol.md."""
        error = error_object(self.status, self.code, self.message, self.field)
        if self.field:
            error["field"] = self.field
        return {"error": {**error, "request_id": request_id}}

    def log_fields(self) -> dict[str, object]:
        """Return the cause for the service's log: an exception's class, and never its text, which may hold anything."""
        cause = self.__cause__
        while cause is not None and cause.__cause__ is not None:
            cause = cause.__cause__
        return {"exception": type(cause).__qualname__} if cause else {}

    def headers(self) -> dict[str, str]:
        """Return the response's headers."""
        headers = {"Cache-Control": "no-store"}
        if self.retry_after:
            headers["Retry-After"] = self.retry_after
        return headers


class BadInput(FolyamError):
    """The request is wrong, and the client can correct it."""


class HTTPError(FolyamError):
    """The HTTP layer refused the request. Only `http_error` takes its status from the call."""

    def __init__(self, code: str, *, status: int | None = None) -> None:
        super().__init__(code)
        self.status = self.status or status or 0


class Unauthorized(FolyamError):
    """The request has none of the required keys."""

    def __init__(self) -> None:
        super().__init__("unauthorized", field="Authorization")

    def headers(self) -> dict[str, str]:
        """Add the challenge, which RFC 9110 requires with a 401."""
        return {**super().headers(), "WWW-Authenticate": 'Bearer realm="folyam"'}


class UnknownAnswer(FolyamError):
    """The answer is unknown, expired or not the caller's."""

    def __init__(self) -> None:
        super().__init__("unknown_answer")


class TooMany(FolyamError):
    """This client is at its limit."""


class Unavailable(FolyamError):
    """Temporarily unavailable; retry later."""


class Told(NamedTuple):
    """What an upstream's refusal says to the client that asked. It may quote the request: never log or store it."""

    message: str
    """One line, of bounded length, without the service's secrets."""
    code: str = ""
    param: str = ""


class UpstreamError(FolyamError):
    """The upstream did not answer, or not to the end.

    The attributes are for the service's log: the upstream's status, and the code and the type of its error.
    """

    told: Told | None = None
    """A refusal's own words: no other attribute has them."""

    upstream_status: int | None = None
    upstream_code = ""
    upstream_type = ""

    @property
    def is_client_error(self) -> bool:
        """Whether the upstream's status says that the request is wrong: it has answered, and is up."""
        return self.upstream_status is not None and 400 <= self.upstream_status < 500  # noqa: PLR2004 (HTTP's classes)

    def log_fields(self) -> dict[str, object]:
        """Add what the upstream said."""
        said = {
            "upstream_status": self.upstream_status,
            "upstream_code": self.upstream_code,
            "upstream_type": self.upstream_type,
        }
        return {**super().log_fields(), **{name: value for name, value in said.items() if value}}

    def told_by_upstream(self, status: int | None, code: str, kind: str) -> Self:
        """Set the upstream's status, and the words of its error, each fit for a log or empty. Return the error."""
        self.upstream_status = status
        self.upstream_code = code
        self.upstream_type = kind
        return self

    @property
    def reason(self) -> str:
        """The metric's label: the case if it is one of the code's labels, else the code's first label."""
        reasons = TABLE[self.code].reasons
        return self._case if self._case in reasons else reasons[0]


class AnswerFailed(FolyamError):
    """The answer has failed, as its `failed` event says."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        Exception.__init__(self, code)
        row = TABLE.get(code)  # A newer version may have written the event.
        self.code = code
        self.message = message
        self.status = row.status or _BAD_GATEWAY if row else _BAD_GATEWAY
        self.field = None
        self.retryable = retryable
        self.retry_after = row.retry_after if row else None


def error_object(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """Return an error in the form that every protocol here has, for its response or for a message in its stream."""
    kind = "server_error" if status >= _SERVER_ERROR else _TYPES.get(status, "invalid_request_error")
    return {"message": message, "type": kind, "param": param, "code": code}


def unknown_field(parent: str, name: str) -> BadInput:
    """Return the error for an unknown field of the object at `parent`, which is empty for the outermost object."""
    if _NAME.fullmatch(name):
        return BadInput("invalid_input", "unknown_field", field=f"{parent}.{name}" if parent else name)
    # Any other name may be a text of any length. Errors do not repeat input.
    if parent:
        return BadInput("invalid_input", "unknown_name_within", field=parent)
    return BadInput("invalid_input", "unknown_name")
