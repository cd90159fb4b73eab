"""Raw responses of upstreams that refuse a question or answer it unusually, and what the openai client makes of them.

`tests/cases/` has the responses that were reported, from the status line to the last byte; those below are of the same
kinds. The upstream sends one and closes the connection.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from structlog.testing import capture_logs

from service.app import create_app
from service.config import Settings
from tests.in_process import Reply, running
from tests.in_process import ask as request
from tests.upstream.raw import GOOD_STREAM, RawRequest, RawUpstream, chunk

REPORTED = Path(__file__).with_name("cases")
WORDS = "what somebody asked"
"""Quoted in the upstreams' messages. It must appear in no response and no line of the log."""
QUESTIONS = 5
"""As many as open the breaker if it counts them."""


def response(status: str, body: str, *headers: str, of_type: str = "application/json") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {of_type}", f"Content-Length: {len(body.encode())}", *headers]
    return ("\r\n".join([*head, "", ""]) + body).encode()


def error(status: str, *headers: str, **said: object) -> bytes:
    return response(status, json.dumps({"error": {"message": WORDS, **said}}), *headers)


def stream(status: str, *events: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\n\r\n".encode() + b"".join(events)


WHOLE = (chunk({"content": "Hello"}), chunk({"content": " world"}), chunk({}, "stop"), b"data: [DONE]\n\n")
HELLO = "done: Hello world"


@dataclass(frozen=True)
class Case:
    """A response, and what becomes of it."""

    reader: str
    """The response's status and code; or the last event's type with the text or the code."""
    client: str
    """What the stock client gives: the text, or its exception."""
    sent: bytes = b""
    """Empty: the file of the case's name in `tests/cases/`."""
    asked: int = 1
    client_asked: int = 1
    retry_after: str | None = None
    logged: tuple[object, ...] = ()
    """The upstream's status, its code, and its type, as the service's log has them."""
    why: str = ""
    """Why the client differs."""


RETRIES = (
    "It retries 429 and each status from 500 on twice. A retry of a 429 here is the reader's, who is told the time."
)
NO_ERROR = "It reads no error without a field `error`, and takes the end of the body for the end of the answer."
NO_STREAM = "It looks for events, finds none, and takes the end of the body for the end of an empty answer."
ITS_REDIRECTS = "It follows them, as a GET where the method changes."

CASES = {
    # Statuses of success
    "s201": Case(HELLO, HELLO),
    "202 in chunks": Case(
        HELLO,
        HELLO,
        b"HTTP/1.1 202 Accepted\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in WHOLE)
        + b"0\r\n\r\n",
    ),
    "203 of a proxy": Case(HELLO, HELLO, stream("203 Non-Authoritative Information", *WHOLE)),
    # Redirects
    "s308": Case(HELLO, HELLO, asked=2, client_asked=2),
    "307 beside its place": Case(
        HELLO, HELLO, response("307 Temporary Redirect", "", "Location: ../../moved/here"), asked=2, client_asked=2
    ),
    "308 with a body": Case(
        HELLO, HELLO, response("308 Permanent Redirect", WORDS, "Location: /moved/here"), asked=2, client_asked=2
    ),
    "301": Case(
        "502 upstream_redirected",
        "NotFoundError 404",
        response("301 Moved Permanently", "", "Location: /moved/here"),
        client_asked=2,
        logged=(301, None, None),
        why=ITS_REDIRECTS,
    ),
    "308 to nowhere": Case(
        "502 upstream_redirected",
        "APIStatusError 308",
        response("308 Permanent Redirect", ""),
        logged=(308, None, None),
    ),
    # About the question
    "s413": Case("413 upstream_too_long", "APIStatusError 413", logged=(413, "rate_limit_exceeded", "tokens")),
    "413 of a proxy": Case(
        "413 upstream_too_long",
        "APIStatusError 413",
        response("413 Request Entity Too Large", f"<html>{WORDS}</html>", of_type="text/html"),
        logged=(413, None, None),
    ),
    "400 for a context that is full": Case(
        "413 upstream_too_long",
        "BadRequestError 400",
        response("400 Bad Request", '{"object":"error","message":"maximum context length is 8","code":400}'),
        logged=(400, "400", None),
    ),
    "402": Case(
        "402 upstream_no_credit",
        "APIStatusError 402",
        error("402 Payment Required", code=402),
        logged=(402, "402", None),
    ),
    "403 of moderation": Case(
        "403 upstream_moderated",
        "PermissionDeniedError 403",
        error("403 Forbidden", code=403, metadata={"reasons": ["violence"], "flagged_input": WORDS}),
        logged=(403, "403", None),
    ),
    "404 for a model": Case(
        "502 upstream_not_found",
        "NotFoundError 404",
        error("404 Not Found", code="model_not_found", type="invalid_request_error"),
        logged=(404, "model_not_found", "invalid_request_error"),
    ),
    "422": Case(
        "400 upstream_bad_request",
        "UnprocessableEntityError 422",
        response("422 Unprocessable Entity", json.dumps({"detail": [{"loc": ["body"], "msg": WORDS}]})),
        logged=(422, None, None),
    ),
    # Not now
    "s429-frac": Case(
        "429 upstream_rate_limited",
        "RateLimitError 429",
        client_asked=3,
        retry_after="2",
        logged=(429, "rate_limit_exceeded", None),
        why=RETRIES,
    ),
    "529 with a fraction": Case(
        "502 upstream_unavailable",
        "InternalServerError 529",
        error("529 Overloaded", "Retry-After: 2.001", type="overloaded_error"),
        client_asked=3,
        retry_after="3",
        logged=(529, None, "overloaded_error"),
        why=RETRIES,
    ),
    "503 with milliseconds": Case(
        "502 upstream_unavailable",
        "InternalServerError 503",
        error("503 Service Unavailable", "retry-after-ms: 1001", code="x y"),
        client_asked=3,
        retry_after="2",
        logged=(503, None, None),
        why=RETRIES,
    ),
    "s429-zero": Case(
        "429 upstream_rate_limited",
        "RateLimitError 429",
        client_asked=3,
        retry_after="1",
        logged=(429, "rate_limit_exceeded", None),
        why=RETRIES,
    ),
    "429 with a date of the past": Case(
        "429 upstream_rate_limited",
        "RateLimitError 429",
        error("429 Too Many Requests", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
        client_asked=3,
        retry_after="1",
        logged=(429, None, None),
        why=RETRIES,
    ),
    "429 with a limit that is reset": Case(
        "429 upstream_rate_limited",
        "RateLimitError 429",
        error("429 Too Many Requests", "x-ratelimit-remaining-tokens: 0", "x-ratelimit-reset-tokens: 1m0.5s"),
        client_asked=3,
        retry_after="61",
        logged=(429, None, None),
        why=RETRIES,
    ),
    # Errors with a status of success
    "error-object": Case("failed: upstream_error", "done: ", logged=(200, "400", "BadRequestError"), why=NO_ERROR),
    "an event named error": Case(
        "failed: upstream_error",
        "APIError",
        stream("200 OK", b'event: error\ndata: {"error": {"message": "no", "code": "overloaded"}}\n\n'),
        logged=(200, "overloaded", None),
    ),
    "an error behind a word": Case(
        "failed: upstream_error",
        "APIError",
        stream("200 OK", WHOLE[0], b'data: {"error": {"message": "no", "code": 502}, "choices": []}\n\n'),
        logged=(200, "502", None),
    ),
    "json-error-200": Case("failed: upstream_malformed", "done: ", logged=(200, None, None), why=NO_STREAM),
    "an error's page with 200": Case(
        "failed: upstream_malformed",
        "done: ",
        response("200 OK", f"<html>{WORDS}</html>", of_type="text/html"),
        logged=(200, None, None),
        why=NO_STREAM,
    ),
    "an error in the form of FastAPI with 201": Case(
        "failed: upstream_malformed",
        "done: ",
        response("201 Created", json.dumps({"detail": WORDS})),
        logged=(201, None, None),
        why=NO_STREAM,
    ),
}
"""By name. Differences between the service and the client are explained."""


def sent(name: str) -> bytes:
    return CASES[name].sent or (REPORTED / f"{name}.http").read_bytes()


@asynccontextmanager
async def upstream_of(name: str) -> AsyncIterator[RawUpstream]:
    """An upstream that responds so to each question that begins with the case's name, and answers others."""

    def respond(asked: RawRequest) -> bytes:
        if asked.method != "POST":
            return response("404 Not Found", "{}")
        return sent(name) if asked.query.startswith(name) and not asked.path.startswith("/moved") else GOOD_STREAM

    async with RawUpstream(respond) as server:
        yield server


@asynccontextmanager
async def service_of(base_url: str, directory: Path, **settings: str) -> AsyncIterator["Service"]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", base_url)
        patch.setenv("FOLYAM_LOG_URL", (directory / "answers").as_uri())
        patch.setenv("FOLYAM_STATUS_WAIT_SECONDS", "30")
        for name, value in settings.items():
            patch.setenv(name, value)
        app = create_app(Settings())
    async with running(app) as app:
        yield Service(app)


class Service:
    """The application, as a reader sees it."""

    def __init__(self, app: object) -> None:
        self._app = app

    async def ask(self, query: str, **fields: str) -> Reply:
        body = json.dumps({"query": query, **fields}).encode()
        return await request(self._app, "POST", "/generate", body, [("content-type", "application/json")])  # type: ignore[arg-type]


def outcome(reply: Reply) -> str:
    if reply.status != 200:
        return f"{reply.status} {json.loads(reply.body)['error']['code']}"
    events = [json.loads(line) for line in reply.body.splitlines() if line]
    if events[-1]["type"] == "failed":
        return f"failed: {events[-1]['code']}"
    return f"{events[-1]['type']}: {''.join(event.get('text', '') for event in events)}"


async def outcome_of_client(upstream: RawUpstream, query: str) -> str:
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key="key") as client:
        try:
            chunks = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": query}], stream=True
            )
            text = [choice.delta.content or "" async for each in chunks for choice in each.choices or ()]
        except openai.APIStatusError as refused:
            return f"{type(refused).__name__} {refused.status_code}"
        except openai.APIError as failed:
            return type(failed).__name__
    return f"done: {''.join(text)}"


@pytest.mark.parametrize("name", CASES)
def test_a_difference_to_the_stock_client_is_explained(name: str) -> None:
    case = CASES[name]
    differs = case.asked != case.client_asked or case.reader.startswith("done") != case.client.startswith("done")
    assert bool(case.why) == differs


@pytest.mark.parametrize("name", CASES)
async def test_a_reader_gets(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    async with upstream_of(name) as upstream, service_of(upstream.base_url, tmp_path) as service:
        with capture_logs() as lines:
            reply = await service.ask(name)
    assert outcome(reply) == case.reader
    assert len(upstream.requests) == case.asked
    assert reply.headers.get("retry-after") == case.retry_after
    [line] = [line for line in lines if line["event"] == "answer"]
    fields = tuple(line.get(f"upstream_{field}") for field in ("status", "code", "type"))
    assert fields == (case.logged or (None, None, None))
    assert WORDS not in f"{lines}{reply.body.decode()}"


@pytest.mark.parametrize("name", CASES)
async def test_the_stock_client_gets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    monkeypatch.setattr(openai.AsyncOpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.0)
    async with upstream_of(name) as upstream:
        assert await outcome_of_client(upstream, name) == case.client
    assert len(upstream.requests) == case.client_asked


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.reader != HELLO])
async def test_the_next_question_is_answered_after_several(name: str, tmp_path: Path) -> None:
    async with upstream_of(name) as upstream, service_of(upstream.base_url, tmp_path) as service:
        assert outcome(await service.ask("good")) == HELLO
        for number in range(QUESTIONS):
            assert outcome(await service.ask(f"{name} {number}")) == CASES[name].reader
            assert upstream.asked(f"{name} {number}") == 1
        expected = "502 upstream_unavailable" if name.startswith("5") else HELLO  # the breaker is for those alone
        assert outcome(await service.ask("another")) == expected
