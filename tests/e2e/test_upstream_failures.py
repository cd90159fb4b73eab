"""After any failure of the upstream the client gets the true end, and the text so far is kept."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local import ports
from tests.e2e.client import Client, script
from tests.e2e.conftest import Stack
from tests.e2e.logfile import read_log
from tests.e2e.stack import Nginx, Service
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

IMPATIENT = {
    "FOLYAM_STATUS_SECONDS": "1",
    "FOLYAM_FIRST_CHUNK_SECONDS": "1",
    "FOLYAM_SILENCE_SECONDS": "1",
    "FOLYAM_CONNECT_SECONDS": "1",
    "FOLYAM_ANSWER_SECONDS": "5",
    "FOLYAM_MAX_ANSWER_BYTES": "100000",
}

BEFORE_THE_FIRST_BYTE: dict[str, tuple[dict[str, Any], int, str]] = {
    "status 400": ({"status": 400}, 400, "upstream_bad_request"),
    "status 401": ({"status": 401}, 502, "upstream_credentials"),
    "status 402": ({"status": 402}, 402, "upstream_no_credit"),
    "status 403 of moderation": (
        {"status": 403, "error": {"metadata": {"reasons": ["x"]}}},
        403,
        "upstream_moderated",
    ),
    "status 403": ({"status": 403}, 502, "upstream_credentials"),
    "status 404": ({"status": 404}, 502, "upstream_not_found"),
    "status 413": ({"status": 413}, 413, "upstream_too_long"),
    "status 308": ({"status": 308}, 502, "upstream_redirected"),
    "status 429": ({"status": 429, "headers": {"Retry-After": "7"}}, 429, "upstream_rate_limited"),
    "status 500": ({"status": 500}, 502, "upstream_unavailable"),
    "status 503": ({"status": 503}, 502, "upstream_unavailable"),
    "a status that never comes": ({"status_delay": 60}, 504, "upstream_timeout"),
}
IN_THE_STREAM: dict[str, tuple[dict[str, Any], str, str]] = {
    "a first chunk that never comes": ({"first_chunk_delay": 60}, "", "upstream_timeout"),
    "silence in the middle": ({"stall_after": 3}, "w1 w2 w3 ", "upstream_timeout"),
    "reset in the middle": ({"cut_after": 3, "pace": 0.01}, "w1 w2 w3 ", "upstream_cut"),
    "closed in the middle": ({"cut_after": 3, "cut": "fin"}, "w1 w2 w3 ", "upstream_cut"),
    "a clean end without a finish": (
        {"chunks": 3, "finish_reason": None, "no_done": True},
        "w1 w2 w3 ",
        "upstream_truncated",
    ),
    "a word for failure": ({"chunks": 3, "finish_reason": "network_error"}, "w1 w2 w3 ", "upstream_error"),
    "a clean end in mid-event": ({"truncate_after": 3}, "w1 w2 w3 ", "upstream_truncated"),
    "garbage in the middle": ({"garbage_after": 3}, "w1 w2 w3 ", "upstream_malformed"),
    "binary in the middle": (
        {"garbage_after": 3, "garbage": "data: \xff\xfe\x00\n\n"},
        "w1 w2 w3 ",
        "upstream_malformed",
    ),
    "a line without an end": ({"huge_after": 3}, "w1 w2 w3 ", "upstream_malformed"),
    "an error in the middle": ({"error_after": 3}, "w1 w2 w3 ", "upstream_error"),
    "an answer without an end, quick": ({"endless": True}, "", "answer_too_long"),
    "an answer without an end, slow": ({"endless": True, "pace": 0.1}, "", "answer_timeout"),
    "a page of HTML": ({"raw": "PGh0bWw+", "content_type": "text/html"}, "", "upstream_malformed"),
}
GOOD_ENDS: dict[str, dict[str, Any]] = {
    "[DONE] without a finish": {"chunks": 3, "finish_reason": None},
    "no [DONE]": {"chunks": 3, "no_done": True},
    "no usage": {"chunks": 3, "usage": False},
    "comments between": {"chunks": 3, "comments": True},
    "CRLF": {"chunks": 3, "newline": "\r\n"},
    "lone CR": {"chunks": 3, "newline": "\r"},
    "byte by byte": {"chunks": 3, "split": "bytes"},
    "another finish": {"chunks": 3, "finish_reason": "length"},
    "options refused": {"chunks": 3, "refuses": {"stream_options": {"message": "Unknown parameter: stream_options"}}},
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("impatient")
    settings = {**IMPATIENT, "FOLYAM_STATUS_WAIT_SECONDS": "30", "FOLYAM_MODELS": "other-model"}
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Client]:
    """A service whose responses begin without the upstream's status."""
    directory = tmp_path_factory.mktemp("hasty")
    settings = {**IMPATIENT, "FOLYAM_STATUS_WAIT_SECONDS": "0"}
    with Service(directory, directory / "answers", upstream.base_url, workers=1, settings=settings) as service:
        yield Client(service.address)


@pytest.mark.parametrize("case", BEFORE_THE_FIRST_BYTE)
def test_a_failure_before_the_first_byte_is_an_http_error(impatient: Stack, report: Report, case: str) -> None:
    commands, status, code = BEFORE_THE_FIRST_BYTE[case]
    reply = impatient.client.generate(script(**commands))
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Retry-After"] == commands.get("headers", {}).get("Retry-After")
    assert reply.json["error"]["message"].endswith(".")
    assert reply.json["error"]["request_id"] == reply.headers["X-Request-Id"]
    report.add(case, f"HTTP {reply.status}", code, reply.headers["Retry-After"] or "", "")


@pytest.mark.parametrize("case", BEFORE_THE_FIRST_BYTE)
def test_the_same_failure_is_an_event_once_the_response_has_begun(hasty: Client, case: str) -> None:
    commands, _, code = BEFORE_THE_FIRST_BYTE[case]
    reply = hasty.generate(script(**commands))
    assert reply.status == 200
    assert [event["type"] for event in reply.events] == ["start", "failed"]
    assert reply.events[-1]["code"] == code


def test_a_refused_connection_is_an_http_error(tmp_path: Path, report: Report, upstream: UpstreamProcess) -> None:
    closed = f"http://{ports.free()}/v1"
    with Service(tmp_path, tmp_path / "answers", closed, workers=1) as service:
        reply = Client(service.address).generate("x")
    assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_unreachable")
    report.add("a refused connection", "HTTP 502", "upstream_unreachable", "", "")
    fallback = {"FOLYAM_FALLBACK_BASE_URL": upstream.base_url, "FOLYAM_FALLBACK_MODEL": "spare"}
    with Service(tmp_path, tmp_path / "answers", closed, workers=1, settings=fallback) as service:
        events = Client(service.address).generate(script(key="spare", chunks=2)).events
    assert events[-1]["type"] == "done", "the second upstream answers"
    assert upstream.requests("spare")[0]["model"] == "spare"


@pytest.mark.parametrize("case", IN_THE_STREAM)
def test_a_failure_in_the_stream_is_told_and_what_had_arrived_is_kept(
    impatient: Stack, report: Report, case: str
) -> None:
    commands, text, code = IN_THE_STREAM[case]
    key = f"failure {case}"
    reply = impatient.client.generate(script(key=key, **commands))
    *_, last = events = reply.events
    assert reply.status == 200
    assert (last["type"], last["code"]) == ("failed", code)
    said = "".join(event.get("text", "") for event in events)
    assert said == text or (not text and said.startswith("w1 "[: len(said)]))
    log = read_log(impatient.logs, events[0]["answer"])
    assert log[-1] == last
    assert "".join(event.get("text", "") for event in log) == said
    begun = bool(said)
    records = impatient.upstream.wait_closed(key, 10)
    assert not begun or len(records) == 1, "what has begun is never asked for again"
    if commands.get("endless"):
        assert records[0]["closed_by"] == "client"
    report.add(case, "HTTP 200", f"failed: {code}", "retryable" if last["retryable"] else "", repr(said[:12]))


@pytest.mark.parametrize("case", GOOD_ENDS)
def test_a_server_of_other_habits_is_understood(impatient: Stack, report: Report, case: str) -> None:
    # By another model: what a model's server takes is remembered.
    model = "other-model" if case == "options refused" else "test-model"
    events = impatient.client.generate(script(**GOOD_ENDS[case]), model=model).events
    assert events[-1]["type"] == "done"
    assert events[-1]["finish_reason"] == (GOOD_ENDS[case].get("finish_reason", "stop") or "")
    assert "".join(event.get("text", "") for event in events) == "w1 w2 w3 "
    report.add(case, "HTTP 200", f"done: {events[-1]['finish_reason']}", "", "'w1 w2 w3 '")


@pytest.mark.parametrize("failure", [{"status": 503}, {"cut_after": 0}], ids=["503", "cut before the first chunk"])
def test_a_failure_before_the_first_chunk_is_tried_again(impatient: Stack, failure: dict[str, Any]) -> None:
    key = f"again {failure}"
    events = impatient.client.generate(script(key=key, chunks=3, first=[failure])).events
    assert [event["seq"] for event in events if event["type"] != "delta"] == [1, 5]
    assert events[-1]["type"] == "done"
    assert len(impatient.upstream.requests(key)) == 2


def test_no_time_out_ends_a_slow_answer_that_goes_on(impatient: Stack) -> None:
    begun_at = time.monotonic()
    events = impatient.client.generate(script(chunks=5, pace=0.5, first_chunk_delay=0.5)).events
    assert events[-1]["type"] == "done"
    assert time.monotonic() - begun_at > 2 * float(IMPATIENT["FOLYAM_SILENCE_SECONDS"])
