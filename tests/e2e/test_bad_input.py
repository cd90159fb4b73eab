"""Bad input gets a 4xx that names the field, in the contract's form, and costs nothing."""

import contextlib
import http.client
import json
import socket
from typing import Any

import pytest

from tests.e2e.client import JSON_LINES, SSE, TEXT, TIMEOUT_SECONDS, Reply, script
from tests.e2e.conftest import Stack
from tests.e2e.stack import eventually

UNKNOWN = "0" * 32
JSON = {"Content-Type": "application/json", "Accept": JSON_LINES}

BODIES: dict[str, tuple[Any, int, str, str | None]] = {
    "an empty query": ({"query": ""}, 422, "empty_query", "query"),
    "a query of blanks": ({"query": " \n"}, 422, "empty_query", "query"),
    "an over-long query": ({"query": "x" * 40_000}, 422, "query_too_long", "query"),
    "no query": ({}, 422, "invalid_input", "query"),
    "a query of another type": ({"query": 5}, 422, "invalid_input", "query"),
    "a lone surrogate": ({"query": "\ud800"}, 422, "invalid_input", "query"),
    "a lone surrogate in the history": (
        {"query": "x", "history": [{"role": "user", "content": "\udfff"}]},
        422,
        "invalid_input",
        "history.0.content",
    ),
    "an unknown field": ({"query": "x", "stream": True}, 422, "invalid_input", "stream"),
    "an unknown field whose name is no name": ({"query": "x", "a b": True}, 422, "invalid_input", None),
    "an unknown field of a turn": (
        {"query": "x", "history": [{"role": "user", "content": "x", "": 1}]},
        422,
        "invalid_input",
        "history.0",
    ),
    "a role of another's": (
        {"query": "x", "history": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]},
        422,
        "invalid_input",
        "history.1.role",
    ),
    "too long a history": (
        {"query": "x", "history": [{"role": "user", "content": "x"}] * 201},
        422,
        "history_too_long",
        "history",
    ),
    "a temperature of another type": ({"query": "x", "temperature": "1"}, 422, "invalid_input", "temperature"),
    "a temperature out of range": ({"query": "x", "temperature": 3}, 422, "invalid_input", "temperature"),
    "no tokens": ({"query": "x", "max_tokens": 0}, 422, "invalid_input", "max_tokens"),
    "an unknown model": ({"query": "x", "model": "gpt-0"}, 422, "unknown_model", "model"),
    "a list": ([1], 422, "invalid_input", None),
    "broken JSON": (b'{"query": ', 400, "invalid_json", None),
    "no body": (b"", 422, "invalid_input", "query"),
    "half a character of UTF-8": (b'{"query": "\xff"}', 400, "invalid_json", None),
    "an endless nesting": (b"[" * 100_000, 400, "invalid_json", None),
    "a body over the limit": ({"query": "x" * (1 << 20)}, 413, "body_too_large", None),
}


def assert_error(reply: Reply, status: int, code: str, field: str | None) -> None:
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    error = reply.json["error"]
    assert (error["code"], error.get("field")) == (code, field)
    assert error["message"]
    assert field is None or field in error["message"]
    assert error["request_id"] == reply.headers["X-Request-Id"]


@pytest.mark.parametrize("way", ["through nginx", "direct"])
@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_refused_by_name(stack: Stack, case: str, way: str) -> None:
    body, status, code, field = BODIES[case]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    client = stack.direct if way == "direct" else stack.client
    assert_error(client.request("POST", "/generate", data, JSON), status, code, field)


def test_a_body_over_the_limit_is_refused_also_if_it_does_not_say_its_length(stack: Stack) -> None:
    connection = stack.direct.send("GET", "/livez")
    connection.getresponse().read()
    piece = b"x" * (1 << 16)
    connection.request(
        "POST",
        "/generate",
        iter([b'{"query": "', *[piece] * 17, b'"}']),
        {**JSON, "Transfer-Encoding": "chunked"},
        encode_chunked=True,
    )
    response = connection.getresponse()
    assert_error(Reply(response.status, response.headers, response.read()), 413, "body_too_large", None)
    connection.close()


@pytest.mark.parametrize(
    ("target", "status", "code", "field"),
    [
        ("/generate", 422, "invalid_input", "query"),
        ("/generate?query=", 422, "empty_query", "query"),
        ("/generate?query=x&history=y", 422, "invalid_input", "history"),
        ("/generate?query=x&temperature=hot", 422, "invalid_input", "temperature"),
        ("/generate?query=x" + "&x=y" * 100, 422, "invalid_input", None),
        ("/generate?query=x&last_event_id=nonsense", 400, "bad_last_event_id", "Last-Event-ID"),
        (f"/generate?last_event_id={UNKNOWN}:1", 404, "unknown_answer", None),
        (f"/answers/{UNKNOWN}", 404, "unknown_answer", None),
        (f"/answers/{UNKNOWN}?stream=false", 404, "unknown_answer", None),
        (f"/answers/{UNKNOWN}?after=-1", 422, "invalid_input", "after"),
        (f"/answers/{UNKNOWN}?stream=maybe", 422, "invalid_input", "stream"),
        ("/answers/..%2f..%2fetc%2fpasswd", 400, "bad_request", None),
        ("/answers/short", 404, "unknown_answer", None),
        ("/answers/" + "A" * 32, 404, "unknown_answer", None),
    ],
)
def test_a_bad_address_is_refused_by_name(stack: Stack, target: str, status: int, code: str, field: str | None) -> None:
    assert_error(stack.client.request("GET", target), status, code, field)


@pytest.mark.parametrize(
    "event_id",
    ["x", ":", "1", f"{UNKNOWN}", f"{UNKNOWN}:", f"{UNKNOWN}:-1", f"{UNKNOWN}:1.5", f"{UNKNOWN}:01", f"{UNKNOWN}:1:1",
     f"{UNKNOWN}:99999999999999999999", f"../{UNKNOWN}:1", f"{UNKNOWN.replace('0', 'A')}:1", "\u00e9:1"],
)  # fmt: skip
def test_a_bad_last_event_id_is_refused_and_never_begins_an_answer(stack: Stack, event_id: str) -> None:
    before = len(stack.upstream.requests())
    body = json.dumps({"query": script(chunks=1)}).encode()
    reply = stack.client.request(
        "POST", "/generate", body, {**JSON, "Last-Event-ID": event_id.encode("latin-1").decode("latin-1")}
    )
    assert_error(reply, 400, "bad_last_event_id", "Last-Event-ID")
    assert len(stack.upstream.requests()) == before


def test_a_last_event_id_of_another_answer_or_of_the_future_is_refused(stack: Stack) -> None:
    with stack.client.ask(script(endless=True, pace=0.05)) as stream:
        next(stream.events())
        for client in (stack.client, stack.direct):
            other = client.request("GET", f"/answers/{stream.answer}", headers={"Last-Event-ID": f"{UNKNOWN}:1"})
            assert_error(other, 400, "bad_last_event_id", "Last-Event-ID")
            future = client.request("GET", f"/answers/{stream.answer}?after=100000")
            assert_error(future, 400, "bad_last_event_id", "Last-Event-ID")
        stack.client.stop(stream.answer)


@pytest.mark.parametrize("accept", ["image/png", "text/html", "application/json;q=0"])
def test_an_accept_that_allows_nothing_of_ours_is_refused(stack: Stack, accept: str) -> None:
    assert_error(stack.client.generate("x", accept=accept), 406, "not_acceptable", "Accept")


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("PUT", "/generate", "GET, POST"),
        ("PATCH", f"/answers/{UNKNOWN}", "DELETE, GET"),
        ("GET", f"/answers/{UNKNOWN}/stop", "POST"),
        ("POST", "/livez", "GET"),
    ],
)
def test_another_method_is_refused_and_told_which_are_not(stack: Stack, method: str, target: str, allowed: str) -> None:
    reply = stack.client.request(method, target)
    assert_error(reply, 405, "method_not_allowed", None)
    assert reply.headers["Allow"] == allowed


@pytest.mark.parametrize("way", ["through nginx", "direct"])
@pytest.mark.parametrize(
    "request_head",
    [
        b"FOO /generate HTTP/1.1",
        b"GET /generate?query=\xc3\xa9 HTTP/1.1",
        b"GET /answers/\xc3\xbf HTTP/1.1",
        b"GET /generate?query=x HTTP/1.1\r\nX-Request-Id: known\r\nX: \x01",
    ],
)
def test_what_is_no_http_to_the_service_alone_is_refused_too(stack: Stack, request_head: bytes, way: str) -> None:
    address = stack.service.address if way == "direct" else stack.nginx.address
    with socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as connection:
        connection.sendall(request_head + b"\r\nHost: x\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        reply = Reply(response.status, response.headers, response.read())
    assert_error(reply, 400, "bad_request", None)
    assert reply.headers["Cache-Control"] == "no-store"
    assert eventually(lambda: reply.headers["X-Request-Id"] in stack.service.log.read_text())
    warnings = [line for line in stack.service.log.read_text().splitlines() if "Invalid HTTP request" in line]
    assert [line for line in warnings if "request_id=" not in line] == []


@pytest.mark.parametrize("way", ["through nginx", "direct"])
def test_plain_text_is_not_sent_where_a_cut_would_look_like_its_end(stack: Stack, way: str) -> None:
    address = stack.service.address if way == "direct" else stack.nginx.address

    def ask(accept: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
        connection.request("GET", "/generate?query=x", headers={"Accept": accept, "X-Client-Protocol": "HTTP/1.1"})
        response = connection.getresponse()
        with contextlib.closing(connection):
            return response.status, response.headers["Content-Type"], response.read()

    status, kind, body = ask(TEXT)
    assert (status, kind) == (406, "application/json")
    assert "HTTP/1.1" in json.loads(body)["error"]["message"]
    assert TEXT not in json.loads(body)["error"]["message"]
    for accept, given in ((f"{TEXT}, {JSON_LINES}", JSON_LINES), (f"{TEXT}, */*;q=0.1", JSON_LINES), ("text/*", SSE)):
        status, kind, body = ask(accept)
        assert (status, kind) == (200, given)
        assert b'"done"' in body


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(stack: Stack) -> None:
    address = stack.service.address
    with socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as connection:
        head = "POST /generate HTTP/1.1", "Host: x", "X-Request-Id: half-a-body", "Content-Length: 100", "", "{"
        connection.sendall("\r\n".join(head).encode())

    def lines() -> list[str]:
        return [line for line in stack.service.log.read_text().splitlines() if "half-a-body" in line]

    [line] = eventually(lines)
    assert json.loads(line)["status"] == 499


@pytest.mark.parametrize("target", ["/generate/?query=x", f"/answers/{UNKNOWN}/", "/answers/"])
def test_an_address_has_one_form(stack: Stack, target: str) -> None:
    assert_error(stack.direct.request("GET", target), 404, "not_found", None)


@pytest.mark.parametrize("target", ["/metrics", "/docs", "/redoc", "/openapi.json", "/nothing"])
def test_what_is_not_for_the_outside_is_not_found_there(stack: Stack, target: str) -> None:
    reply = stack.client.request("GET", target)
    assert (reply.status, reply.json["error"]["code"]) == (404, "not_found")


def test_no_log_line_holds_what_was_asked_or_answered_or_the_key(stack: Stack) -> None:
    canary = "kanári-madár"
    stack.client.generate(script(texts=[canary]), history=[{"role": "user", "content": canary}])
    stack.client.request("GET", "/generate?query=kan%C3%A1ri-mad%C3%A1r&unknown=1")
    stack.client.generate(f"{canary}\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"))
    stack.client.generate(script(status=400, error={"message": canary}))
    [nginx, service] = [stack.nginx.log.read_text(), stack.service.log.read_text()]
    access = stack.nginx.log.with_name("access.log").read_text()
    for text in (nginx, service, access, stack.direct.request("GET", "/metrics").body.decode()):
        for word in (canary, "kan%C3%A1ri", "kan\\u00e1ri", "a-key-that-must-not-be-seen", script(texts=[])[:9]):
            assert word not in text
    assert access.count("\n") > 0
    assert '"event":"answer"' in service
