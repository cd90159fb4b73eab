"""Each error's response, byte by byte, because clients depend on them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from service.app import create_app
from service.config import Settings
from service.error_codes import TABLE
from tests.in_process import REQUEST_ID, Reply, ask, running
from tests.listening import listening
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDED = json.loads(Path(__file__).with_name("error_responses.json").read_text(encoding="utf-8"))
"""Status, headers and body of each case, under the request id `REQUEST_ID`."""

SETTINGS = {
    "FOLYAM_MAX_BODY_BYTES": "20000",
    "FOLYAM_MAX_QUERY_CHARACTERS": "100",
    "FOLYAM_MAX_HISTORY_TURNS": "2",
    "FOLYAM_STATUS_SECONDS": "0.5",
    "FOLYAM_RETRIES": "0",
    "FOLYAM_ALLOW_SYSTEM": "false",
}
POST = ("POST", "/generate")
JSON = [("content-type", "application/json")]
UNKNOWN = "0" * 32


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def question(**script: Any) -> bytes:  # noqa: ANN401 (the fields of Script)
    return body(query=command(**script))


CASES: dict[str, tuple[Any, ...]] = {
    "no body": (*POST, b""),
    "no JSON": (*POST, b"{", JSON),
    "another type of body": (*POST, b"{}", [("content-type", "text/plain")]),
    "a list": (*POST, b"[]", JSON),
    "null": (*POST, b"null", JSON),
    "no query": (*POST, b"{}", JSON),
    "half a character": (*POST, b'{"query":"\\ud800"}', JSON),
    "half a character in a name": (*POST, b'{"query":"x","\\ud800":1}', JSON),
    "an unknown field": (*POST, body(query="x", stream=True), JSON),
    "an unknown field of a turn": (*POST, body(query="x", history=[{"role": "user", "content": "", "x": 1}]), JSON),
    "a field whose name is no word": (*POST, body(query="x", **{"a b": 1}), JSON),
    "a turn's field whose name is no word": (
        *POST,
        body(query="x", history=[{"role": "user", "content": "", "": 1}]),
        JSON,
    ),
    "a temperature": (*POST, body(query="x", temperature=3), JSON),
    "a turn": (*POST, body(query="x", history=[1]), JSON),
    "a system's turn": (*POST, body(query="x", history=[{"role": "system", "content": ""}]), JSON),
    "a blank query": (*POST, body(query=" "), JSON),
    "a long query": (*POST, body(query="x" * 101), JSON),
    "a long history": (*POST, body(query="x", history=[{"role": "user", "content": ""}] * 3), JSON),
    "an unknown model": (*POST, body(query="x", model="y"), JSON),
    "a long body": (*POST, body(query="x" * 20000), JSON),
    "another site": (*POST, body(query="x"), [*JSON, ("sec-fetch-site", "cross-site")]),
    "another rendering": (*POST, body(query="x"), [*JSON, ("accept", "image/png")]),
    "plain text over HTTP/1.0": (
        *POST,
        body(query="x"),
        [*JSON, ("accept", "text/plain"), ("x-client-protocol", "HTTP/1.0")],
    ),
    "no event id": (*POST, body(query="x"), [*JSON, ("last-event-id", "x")]),
    "no answer to go on with": (*POST, body(query="x"), [*JSON, ("last-event-id", f"{UNKNOWN}:1")]),
    "an address without a query": ("GET", "/generate"),
    "an address with another parameter": ("GET", "/generate?query=x&stream=1"),
    "an address with a parameter whose name is no word": ("GET", "/generate?query=x&a%20b=1"),
    "an address with a temperature": ("GET", "/generate?query=x&temperature=hot"),
    "an address with too many parameters": ("GET", "/generate?query=x" + "&x" * 100),
    "an unknown answer": ("GET", f"/answers/{UNKNOWN}"),
    "no answer's id": ("GET", "/answers/x"),
    "after of another type": ("GET", f"/answers/{UNKNOWN}?after=-1"),
    "no such address": ("GET", "/nothing"),
    "another method": ("PUT", "/generate"),
    "another method of an answer": ("POST", f"/answers/{UNKNOWN}"),
    "another method of a stop": ("GET", f"/answers/{UNKNOWN}/stop"),
    "another method of livez": ("POST", "/livez"),
    "another method of metrics": ("POST", "/metrics"),
    "the upstream: 400": (*POST, question(status=400), JSON),
    "the upstream: 400 with a code": (*POST, question(status=400, error={"message": "x", "code": "bad_tool"}), JSON),
    "the upstream: 401": (*POST, question(status=401), JSON),
    "the upstream: 402": (*POST, question(status=402), JSON),
    "the upstream: 403 of moderation": (*POST, question(status=403, error={"metadata": {"reasons": ["x"]}}), JSON),
    "the upstream: 404": (*POST, question(status=404), JSON),
    "the upstream: 307": (*POST, question(status=307), JSON),
    "the upstream: 413": (*POST, question(status=413), JSON),
    "the upstream: 429": (*POST, question(status=429, headers={"Retry-After": "7"}), JSON),
    "the upstream: 500": (*POST, question(status=500), JSON),
    "the upstream: 504": (*POST, question(status=504), JSON),
    "the upstream: no answer": (*POST, question(status_delay=3600), JSON),
}

ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a finish that names a failure": ("upstream_error", {"finish_reason": "error"}),
    "an error before the first chunk": ("upstream_error", {"error_after": 0}),
    "an error": ("upstream_error", {"error_after": 1}),
    "a page": ("upstream_malformed", {"raw": "PGh0bWw+", "content_type": "text/html"}),
    "no JSON": ("upstream_malformed", {"garbage_after": 0}),
    "a cut before the first chunk": ("upstream_cut", {"cut_after": 0}),
    "a cut": ("upstream_cut", {"cut_after": 1}),
    "nothing": ("upstream_truncated", {"raw": ""}),
    "half an answer": ("upstream_truncated", {"truncate_after": 1}),
    "silence before the first chunk": ("upstream_timeout", {"stall_after": 0}),
    "silence": ("upstream_timeout", {"stall_after": 1}),
    "a long answer": ("answer_too_long", {"text": "x" * 2000}),
}
"""Failures once the upstream has accepted the question: the code of each, and the script of the upstream."""

END_SETTINGS = {
    "FOLYAM_FIRST_CHUNK_SECONDS": "0.2",
    "FOLYAM_SILENCE_SECONDS": "0.2",
    "FOLYAM_MAX_ANSWER_BYTES": "10000",
    "FOLYAM_RETRIES": "0",
    "FOLYAM_STATUS_WAIT_SECONDS": "600",
}

UNANSWERED = {
    "upstream_unreachable": {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
    "answer_timeout": {"FOLYAM_ANSWER_SECONDS": "0.2"},
}
"""Settings with which a question fails before the upstream has accepted it, by the code of the failure."""

LIMITS = {
    "too many answers": {"FOLYAM_MAX_ANSWERS": "1"},
    "too many answers of one client": {"FOLYAM_MAX_ANSWERS_PER_CLIENT": "1"},
    "too many followers": {"FOLYAM_MAX_FOLLOWERS": "1"},
}


def recorded(reply: Reply) -> dict[str, Any]:
    """The reply in the record's form, without the headers that are the same everywhere."""
    headers = dict(reply.headers)
    assert headers.pop("x-request-id") == REQUEST_ID
    assert headers.pop("content-length") == str(len(reply.body))
    return {"status": reply.status, "headers": headers, "body": reply.body.decode()}


def app_with(directory: Path, upstream: UpstreamProcess, **settings: str) -> FastAPI:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", upstream.base_url)
        patch.setenv("FOLYAM_LOG_URL", (directory / "answers").as_uri())
        for name, value in settings.items():
            patch.setenv(name, value)
        return create_app(Settings())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> AsyncIterator[FastAPI]:
    async with running(app_with(tmp_path_factory.mktemp("errors"), upstream, **SETTINGS)) as app:
        yield app


async def test_there_is_a_record_of_each_case_and_no_other() -> None:
    assert set(RECORDED) == {*CASES, *LIMITS, "no key", "two keys"}


@pytest.mark.parametrize("case", CASES)
async def test_an_error_is_as_it_was_recorded(app: FastAPI, case: str) -> None:
    assert recorded(await ask(app, *CASES[case])) == RECORDED[case]


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer x")] * 2], ids=["no key", "two keys"])
async def test_a_request_without_a_key_is_as_it_was_recorded(
    tmp_path: Path, upstream: UpstreamProcess, headers: list[tuple[str, str]]
) -> None:
    async with running(app_with(tmp_path, upstream, FOLYAM_API_KEYS="a-key-0123456789abcdef")) as app:
        reply = await ask(app, "GET", f"/answers/{UNKNOWN}", b"", headers)
    assert recorded(reply) == RECORDED["two keys" if headers else "no key"]


@pytest.mark.parametrize("case", LIMITS)
async def test_a_question_over_a_limit_is_as_it_was_recorded(
    tmp_path: Path, upstream: UpstreamProcess, case: str
) -> None:
    key = case.replace(" ", "-")
    async with running(app_with(tmp_path, upstream, **LIMITS[case])) as app:
        under_way = asyncio.create_task(ask(app, *POST, question(key=key, stall_after=1), JSON))
        await until(lambda: bool(upstream.requests(key)))
        reply = await ask(app, *POST, question(chunks=1), JSON)
        under_way.cancel()
        await asyncio.wait([under_way])
    assert recorded(reply) == RECORDED[case]


# When the upstream has accepted the question, and when it has not


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def waiting_app(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> AsyncIterator[FastAPI]:
    """The application, which waits for the upstream's status as long as it takes."""
    async with running(app_with(tmp_path_factory.mktemp("ends"), upstream, **END_SETTINGS)) as app:
        yield app


@pytest.mark.parametrize("case", ENDS)
async def test_a_failure_of_an_accepted_question_is_the_end_of_its_answer(waiting_app: FastAPI, case: str) -> None:
    code, script = ENDS[case]
    reply = await asyncio.wait_for(ask(waiting_app, *POST, question(**script), JSON), DEADLINE_SECONDS)
    last = json.loads(reply.body.splitlines()[-1])
    assert (reply.status, last["type"], last["code"]) == (200, "failed", code)
    assert "answer" in TABLE[code].sources
    assert last["retryable"] == TABLE[code].retryable


@pytest.mark.parametrize("code", UNANSWERED)
async def test_a_failure_before_the_upstreams_status_is_the_response(
    tmp_path: Path, upstream: UpstreamProcess, code: str
) -> None:
    async with running(app_with(tmp_path, upstream, **{**END_SETTINGS, **UNANSWERED[code]})) as app:
        reply = await asyncio.wait_for(ask(app, *POST, question(status_delay=3600), JSON), DEADLINE_SECONDS)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (TABLE[code].status, code)


async def test_bytes_that_are_no_http_are_the_response(tmp_path: Path, upstream: UpstreamProcess) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"no HTTP\r\n\r\n")

    async with listening(answer) as address:
        url = f"http://{address}/v1"
        async with running(app_with(tmp_path, upstream, **{**END_SETTINGS, "OPENAI_BASE_URL": url})) as app:
            reply = await asyncio.wait_for(ask(app, *POST, question(), JSON), DEADLINE_SECONDS)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (502, "upstream_malformed")


async def test_the_table_says_which_upstreams_errors_come_as_a_response() -> None:
    responses = {json.loads(reply["body"])["error"]["code"]: reply["status"] for reply in RECORDED.values()}
    assert responses == {code: TABLE[code].status for code in responses}
    responses |= {code: TABLE[code].status for code in (*UNANSWERED, "upstream_malformed")}
    of_upstreams = {code: row for code, row in TABLE.items() if row.kind == "UpstreamError"}
    ends = {code for code, _ in ENDS.values()}
    assert {code for code, row in of_upstreams.items() if "service" in row.sources} == responses.keys() & of_upstreams
    assert {code for code, row in of_upstreams.items() if row.sources == ("answer",)} == ends - responses.keys()
