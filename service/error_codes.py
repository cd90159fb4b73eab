"""The table of error codes: the status, the sentences and the class of each. A leaf: it imports nothing of ours.

`python -m service.error_codes` prints the table as docs/protocol/errors.json has it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "FolyamError",
    "BadInput",
    "HTTPError",
    "Unauthorized",
    "UnknownAnswer",
    "TooMany",
    "Unavailable",
    "UpstreamError",
]
"""A class of `service.errors`."""
Source = Literal["service", "answer", "nginx"]
"""The origin of a code: a response of the service, an answer's `failed` event, nginx's own response."""


@dataclass(frozen=True, slots=True)
class Row:
    """One error code: its status, its sentences and its use."""

    code: str
    status: int | None
    """The HTTP status. None if only an answer's end has this code, or if the status varies."""
    sentences: str | Mapping[str, str]
    """One sentence, or one for each case. `{…}` are placeholders for the values of the call."""
    kind: Kind = "FolyamError"
    """The name of the class in `service.errors`."""
    retryable: bool = False
    retry_after: str | None = None
    """Seconds, unless the call gives another time."""
    reasons: tuple[str, ...] = ()
    """The labels of the metric for upstreams' errors, the usual one first."""
    sources: tuple[Source, ...] = ("service",)

    def sentence(self, case: str) -> str:
        """Return the sentence of a case.

        Raises:
            LookupError: there is no such case.
        """
        if not isinstance(self.sentences, str):
            return self.sentences[case]
        if case and case not in self.reasons:
            raise LookupError(case)
        return self.sentences

    def data(self) -> dict[str, Any]:
        """Return the row as docs/protocol/errors.json has it."""
        return {
            "code": self.code,
            "status": self.status,
            "sentences": [self.sentences] if isinstance(self.sentences, str) else list(self.sentences.values()),
            "retryable": self.retryable,
            "retry_after": self.retry_after and int(self.retry_after),
            "sources": list(self.sources),
        }


def _bad_input(code: str, sentences: str | Mapping[str, str], *, status: int = 422) -> Row:
    return Row(code, status, sentences, "BadInput")


def _upstream(
    code: str, status: int | None, sentences: str | Mapping[str, str], *reasons: str, again: bool = True
) -> Row:
    """Return a row of `UpstreamError`. Without a status, the error only arises once the upstream has accepted."""
    return Row(
        code,
        status,
        sentences,
        "UpstreamError",
        retryable=again,
        reasons=reasons or (code.removeprefix("upstream_"),),
        sources=("service", "answer") if status else ("answer",),
    )


def _unavailable(
    code: str, sentence: str, *, retry_after: str = "1", sources: tuple[Source, ...] = ("service",)
) -> Row:
    return Row(code, 503, sentence, "Unavailable", retryable=True, retry_after=retry_after, sources=sources)


_BODY_TOO_LARGE = "The request's body may have at most {most} bytes."

_ROWS = (
    # The request.
    _bad_input("invalid_json", "The body is not valid JSON.", status=400),
    _bad_input(
        "invalid_input",
        {
            "value": "{field}: {wanted}.",
            "required": "{field}: This field is required.",
            "unknown_field": "{field}: There is no such field.",
            "unknown_name": "There is an unknown field.",
            "unknown_name_within": "{field}: There is an unknown field.",
            "surrogate": "The text must not contain half of a surrogate pair.",
            "surrogate_within": "{field}: The text must not contain half of a surrogate pair.",
            "body": "The body must be a JSON object, sent as application/json.",
            "no_body": "The body must be a JSON object with a query.",
            "no_query": "query is missing.",
            "no_messages": "{field}: This service keeps no chats, so a request must have all messages, and not only the"
            " last one.",
            "parameters": "The address may have at most {most} parameters.",
        },
    ),
    _bad_input(
        "fields_too_large", "The body's fields may have at most {most} bytes beside its messages and tools.", status=413
    ),
    _bad_input("too_many_messages", "{field}: There may be at most {most} messages.", status=400),
    _bad_input("unsupported_parameter", "{field}: This field is not supported.", status=400),
    _bad_input("unsupported_value", "{field}: This value is not supported.", status=400),
    _bad_input("previous_response_not_found", "There is no such response, or it has expired.", status=400),
    _bad_input("empty_query", "query must not be empty."),
    _bad_input("query_too_long", "query must have at most {most} characters."),
    _bad_input("history_too_long", "history must have at most {most} turns."),
    _bad_input("unknown_model", "model is not one that this service offers."),
    _bad_input("model_not_found", "model is not one that this service offers.", status=404),
    _bad_input(
        "bad_last_event_id",
        {
            "form": "Last-Event-ID must be <answer id>:<seq>.",
            "answer": "Last-Event-ID is of another answer.",
            "ahead": "Last-Event-ID, or after, is ahead of the answer.",
        },
        status=400,
    ),
    _bad_input(
        "idempotency_key_reused",
        "The Idempotency-Key was sent before, with another request. Each request needs its own.",
    ),
    _bad_input("answer_restarted", "The answer was begun anew since then. Read it from its start.", status=400),
    Row("unauthorized", 401, "A key is needed, as Authorization: Bearer <key>.", "Unauthorized"),
    Row("cross_site", 403, "Another site may not ask for an answer."),
    Row("not_found", 404, "There is nothing at this address.", "HTTPError"),
    Row("unknown_answer", 404, "There is no such answer, or it has expired.", "UnknownAnswer"),
    Row("method_not_allowed", 405, "This address does not take that method.", "HTTPError"),
    Row(
        "not_acceptable",
        406,
        {
            "any": "Accept must allow one of {offered}.",
            "http_1_0": "Accept must allow one of {offered}. Plain text needs HTTP/1.1 or later: a cut would look like"
            " its end.",
        },
    ),
    Row("answer_stopped", 410, "The answer was stopped before its end."),
    Row("body_too_large", 413, _BODY_TOO_LARGE),
    Row("http_error", None, "The request cannot be served.", "HTTPError"),
    # The service.
    Row("internal", 500, "Something went wrong here.", retryable=True, sources=("service", "answer")),
    _unavailable("draining", "The service is restarting. Try again in a moment."),
    _unavailable(
        "log_full",
        "There is no room left for answers. Try again later.",
        retry_after="10",
        sources=("service", "answer"),
    ),
    _unavailable("log_unavailable", "The service cannot store or read answers now.", sources=("service", "answer")),
    _unavailable("stop_pending", "The answer will stop, but has not stopped yet."),
    _unavailable("too_many_answers", "Too many answers are under way. Try again in a moment."),
    Row(
        "too_many_answers_of_yours",
        429,
        "You have too many answers under way. Let one of them end first.",
        "TooMany",
        retryable=True,
        retry_after="1",
    ),
    _unavailable("too_many_bodies", "Too much is being asked at once. Try again in a moment."),
    _unavailable("too_many_followers", "Too many answers are being read. Try again in a moment."),
    # The upstream.
    _upstream(
        "upstream_bad_request",
        400,
        {
            "": "The model's server refused the request.",
            "with_code": "The model's server refused the request ({said}).",
        },
        again=False,
    ),
    _upstream("upstream_too_long", 413, "The question is too long for the model's server.", again=False),
    _upstream(
        "upstream_moderated", 403, "The model's server refused the question because of its contents.", again=False
    ),
    _upstream("upstream_no_credit", 402, "This service's account at the model's server is out of credit.", again=False),
    _upstream("upstream_rate_limited", 429, "The model's server takes no more requests for now."),
    _upstream("upstream_credentials", 502, "The model's server refused this service's credentials.", again=False),
    _upstream("upstream_not_found", 502, "The model's server does not know the model or the address.", again=False),
    _upstream(
        "upstream_redirected",
        502,
        "The model's server redirects to another address ({status}), to which the question is not sent.",
        again=False,
    ),
    _upstream("upstream_unavailable", 502, "The model's server cannot answer now.", "unavailable", "breaker"),
    _upstream(
        "upstream_unreachable",
        502,
        "The model's server cannot be reached.",
        "unreachable",
        "proxy_unreachable",
        "proxy_refused",
    ),
    _upstream("upstream_error", None, "The model's server reported an error instead of going on."),
    _upstream(
        "upstream_malformed",
        502,
        {
            "response": "The model's server sent a response that is not valid HTTP.",
            "stream": "The model's server sent something other than a stream of events.",
            "event": "The model's server sent an event that cannot be read.",
            "event_length": "The model's server sent an event that is too long.",
        },
    ),
    _upstream("upstream_cut", None, "The connection to the model's server was cut."),
    _upstream("upstream_truncated", None, "The model's server ended its answer without finishing it."),
    _upstream(
        "upstream_timeout",
        504,
        {
            "connect_timeout": "The model's server could not be reached in time.",
            "status_timeout": "The model's server did not answer in time.",
            "upstream_timeout": "The model's server did not answer in time.",
            "first_chunk_timeout": "The model's server accepted the question but did not begin to answer in time.",
            "silence_timeout": "The model's server stopped sending in the middle of its answer.",
        },
        "upstream_timeout",
        "connect_timeout",
        "status_timeout",
        "first_chunk_timeout",
        "silence_timeout",
    ),
    _upstream("answer_timeout", 504, "The answer took too long and was cut."),
    _upstream("answer_too_long", None, "The answer grew too long and was cut.", again=False),
    Row(
        "interrupted",
        None,
        "The answer was interrupted and could not be continued.",
        retryable=True,
        sources=("answer",),
    ),
)


def _nginx(
    code: str,
    status: int,
    sentence: str,
    *,
    again: bool = False,
    retry_after: str | None = None,
    sources: tuple[Source, ...] = ("nginx",),
) -> Row:
    """Return a row of nginx's own error. It is retryable if `again`, or if there is a `retry_after`."""
    retryable = again or retry_after is not None
    return Row(code, status, sentence, "HTTPError", retryable=retryable, retry_after=retry_after, sources=sources)


_NGINX_ROWS = (
    # `service.worker` sends it, too, for a request that nginx accepts and the HTTP parser does not.
    _nginx("bad_request", 400, "The request could not be understood.", sources=("service", "nginx")),
    _nginx("forbidden", 403, "Access to this address is forbidden."),
    _nginx("not_found", 404, "There is nothing here."),
    _nginx("method_not_allowed", 405, "This address does not take that method."),
    _nginx("request_timeout", 408, "The request took too long to arrive.", again=True),
    _nginx("precondition_failed", 412, "The file does not meet the conditions of the request."),
    _nginx("body_too_large", 413, _BODY_TOO_LARGE),
    _nginx("uri_too_long", 414, "The address is too long. Send the query with POST."),
    _nginx("misdirected_request", 421, "This connection is for another host."),
    _nginx("too_many_requests", 429, "Too many requests. Please try again in a moment.", retry_after="2"),
    _nginx("headers_too_large", 431, "The request headers are too large."),
    _nginx("internal_error", 500, "Something went wrong here. Please try again.", again=True),
    _nginx("not_implemented", 501, "This transfer encoding is not supported."),
    _nginx(
        "service_unreachable",
        502,
        "The service is not running or just restarting. Please try again in a moment.",
        retry_after="2",
    ),
    _nginx(
        "service_unavailable",
        503,
        "The service cannot take the request now. Please try again in a moment.",
        retry_after="2",
    ),
    _nginx("service_timeout", 504, "The service did not answer in time. Please try again.", retry_after="2"),
    _nginx("http_version_not_supported", 505, "This version of HTTP is not supported."),
)

TABLE: Mapping[str, Row] = {row.code: row for row in _ROWS}
"""Every code that the service raises."""
NGINX: Mapping[str, Row] = {row.code: row for row in _NGINX_ROWS}
"""Every code of nginx.conf. Some are also codes of the service."""


def response_codes() -> list[str]:
    """Return the codes of the application's responses, which the metric of rejected requests counts."""
    return [row.code for row in TABLE.values() if "service" in row.sources]


def upstream_reasons() -> list[str]:
    """Return the labels of the metric for upstreams' errors."""
    return [reason for row in TABLE.values() for reason in row.reasons]


def table() -> str:
    """Return both tables as docs/protocol/errors.json has them."""
    rows = [row.data() for row in (*TABLE.values(), *NGINX.values())]
    return json.dumps(rows, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    print(table())  # noqa: T201 (python -m service.error_codes writes docs/protocol/errors.json)
