"""nginx.conf, in the nginx that `make run` uses and in the one on PATH, if there is one."""

import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane
import pytest

from deploy.local import ports, web
from service.error_codes import NGINX
from service.errors import error_object
from tests.deploy.backend import Backend, Request, chunk, respond

ROOT = Path(__file__).parents[2]
WORDS = "what-a-person-wrote"
TIMEOUT_SECONDS = 10
LIMITS = web.ClientLimits(connections=20, requests=40)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Nginx:
    port: int
    directory: Path

    def request(self, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, body, named)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.directory.glob("*.log"))

    def logged(self, text: str) -> bool:
        return eventually(lambda: text in self.logs())


def eventually(condition: object) -> bool:
    assert callable(condition)
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def programs() -> list[str]:
    return [str(web.program()), *filter(None, [shutil.which("nginx")])]


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="module", params=programs(), ids=lambda path: Path(path).parent.name)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def nginx(program: str, backend: Backend, tmp_path: Path) -> Iterator[Nginx]:
    with started(program, backend, tmp_path) as nginx:
        yield nginx


@contextlib.contextmanager
def started(program: str, backend: Backend, tmp_path: Path, *changes: tuple[str, str]) -> Iterator[Nginx]:
    page = tmp_path / "dist of the page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html><title>Folyam</title>")
    (page / "assets" / "index-1a2b.js").write_text("export {}\n" * 1000)
    directory = tmp_path / "nginx"
    directory.mkdir()
    listen = ports.free()
    text = web.configuration(
        (ROOT / "nginx.conf").read_text(),
        listen=listen,
        service=ports.Address("127.0.0.1", backend.port),
        web_root=page,
        directory=directory,
        limits=LIMITS,
    )
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (directory / "nginx.conf").write_text(text)
    with (tmp_path / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"], stderr=log, stdout=log
        )
    try:
        # Written when it listens at all of its addresses. That one of them is taken says nothing of the others.
        assert eventually((directory / "nginx.pid").exists), (tmp_path / "nginx.log").read_text()
        yield Nginx(listen.port, tmp_path)
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)


def error_of(reply: Reply) -> dict[str, str]:
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    error: dict[str, str] = json.loads(reply.body)["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert reply.headers["X-Request-Id"] == error["request_id"]
    return error


def test_the_page_is_asked_for_anew_and_its_assets_never_again(nginx: Nginx) -> None:
    page = nginx.request("/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache"
    assert nginx.request("/", If_None_Match=page.headers["ETag"]).status == 304

    asset = nginx.request("/assets/index-1a2b.js", Accept_Encoding="gzip")
    assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert asset.headers["Content-Encoding"] == "gzip"
    assert asset.headers["Content-Type"].startswith("text/javascript")


def test_a_missing_asset_is_not_kept_for_a_year(nginx: Nginx) -> None:
    reply = nginx.request("/assets/index-gone.js")
    assert reply.status == 404
    assert error_of(reply)["code"] == "not_found"


@pytest.mark.parametrize("target", ["/", "/assets/index-1a2b.js", "/generate", "/nowhere"])
def test_every_response_has_the_security_headers_once(nginx: Nginx, target: str) -> None:
    headers = nginx.request(target).headers
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Referrer-Policy") == ["no-referrer"]
    assert headers.get_all("Server") == ["nginx"]
    (policy,) = headers.get_all("Content-Security-Policy", [])
    for part in (
        "default-src 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ):
        assert part in policy.split("; ")
    assert "unsafe" not in policy


def test_the_opener_policy_is_sent_where_a_browser_can_keep_it(nginx: Nginx) -> None:
    """Elsewhere it would complain in its console. Only where it trusts the address, it sends Sec-Fetch-Site."""
    trusted = nginx.request("/", Sec_Fetch_Site="none")
    assert trusted.headers.get_all("Cross-Origin-Opener-Policy") == ["same-origin"]
    assert nginx.request("/").headers.get_all("Cross-Origin-Opener-Policy") is None


@pytest.mark.parametrize(
    "target", ["/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "//metrics", "/x/../metrics"]
)
def test_what_is_for_the_inside_is_not_served(nginx: Nginx, backend: Backend, target: str) -> None:
    assert nginx.request(target).status == 404
    assert backend.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "/generate?query=x&y=%C3%A9",
        "/answers/abc?stream=false",
        "/limits",
        "/livez",
        "/readyz",
        "/v1",
        "/v1/models?x",
        "/v1/stream/abc?offset=-1",
        "/v1/chat/completions/chatcmpl-x",
        "/api/chat/a%2Fb%C3%A9/stream?y=%2F",
        "/ag-ui",
    ],
)
def test_the_service_receives_the_request_as_it_was(nginx: Nginx, backend: Backend, target: str) -> None:
    assert nginx.request(target, Last_Event_ID="abc:3", Sec_Fetch_Site="cross-site").body == b"ok"
    (request,) = backend.requests
    assert request.line == f"GET {target} HTTP/1.1"
    assert request.headers["last-event-id"] == "abc:3"
    assert request.headers["sec-fetch-site"] == "cross-site"
    assert request.headers["host"] == f"127.0.0.1:{nginx.port}"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_the_service_learns_the_readers_protocol_from_nginx_alone(nginx: Nginx, backend: Backend, version: str) -> None:
    raw_request(nginx, f"GET /generate {version}\r\nHost: x\r\nX-Client-Protocol: HTTP/7\r\nConnection: close\r\n\r\n")
    (request,) = backend.requests
    assert request.line == "GET /generate HTTP/1.1"
    assert request.headers["x-client-protocol"] == version


def test_a_client_cannot_say_who_it_is(nginx: Nginx, backend: Backend) -> None:
    nginx.request("/generate", X_Forwarded_For="1.2.3.4", X_Forwarded_Proto="https", Forwarded="for=1.2.3.4")
    (request,) = backend.requests
    assert request.headers["x-forwarded-for"] == "127.0.0.1"
    assert request.headers["x-forwarded-proto"] == "http"
    assert "forwarded" not in request.headers


@pytest.mark.parametrize("sent", ["", "with space", 'quote"', "x" * 65, "zwölf"])
def test_an_unusable_request_id_is_replaced(nginx: Nginx, backend: Backend, sent: str) -> None:
    nginx.request("/generate", X_Request_Id=sent)
    (request,) = backend.requests
    assert len(request.headers["x-request-id"]) == 32
    assert request.headers["x-request-id"].isalnum()
    assert nginx.logged(request.headers["x-request-id"])


def test_a_good_request_id_goes_all_the_way(nginx: Nginx, backend: Backend) -> None:
    nginx.request("/generate", X_Request_Id="from-the.client_1")
    assert backend.requests[0].headers["x-request-id"] == "from-the.client_1"
    assert nginx.logged("from-the.client_1")
    assert error_of(nginx.request("/nowhere", X_Request_Id="another"))["request_id"] == "another"


def test_the_services_own_errors_pass_as_they_are(nginx: Nginx, backend: Backend) -> None:
    for status in ("404 Not Found", "429 Too Many Requests", "502 Bad Gateway", "503 Unavailable", "504 Timeout"):
        backend.answer = respond(status, b"its own", "Retry-After: 7", "Cache-Control: no-store")
        reply = nginx.request("/generate")
        assert f"{reply.status}" == status[:3]
        assert reply.body == b"its own"
        assert reply.headers["Retry-After"] == "7"
        assert reply.headers.get_all("Cache-Control") == ["no-store"]


def test_the_services_wish_not_to_be_buffered_reaches_the_next_proxy(nginx: Nginx, backend: Backend) -> None:
    backend.answer = respond("200 OK", b"ok", "X-Accel-Buffering: no")
    assert nginx.request("/generate").headers.get_all("X-Accel-Buffering") == ["no"]


def test_streams_are_not_compressed(nginx: Nginx, backend: Backend) -> None:
    backend.answer = respond("200 OK", b"{}\n" * 1000, "Content-Type: application/json")
    assert nginx.request("/generate", Accept_Encoding="gzip").headers["Content-Encoding"] is None
    assert "accept-encoding" not in backend.requests[0].headers


def directives(block: list[dict[str, Any]], name: str, *last: str) -> list[dict[str, Any]]:
    """The directives of that name whose arguments end so."""
    return [each for each in block if each["directive"] == name and each["args"][-len(last) :] == list(last)]


def test_nginxs_own_errors_are_those_of_the_table() -> None:
    [configuration] = crossplane.parse(str(ROOT / "nginx.conf"), single=True, strict=False)["config"]
    [http] = directives(configuration["parsed"], "http")
    [server] = directives(http["block"], "server")
    [errors] = directives(http["block"], "map", "$folyam_error")
    written = {case["directive"]: json.loads(f"{{{case['args'][0]}}}") for case in errors["block"]}

    caught = [page["args"][:-1] for page in directives(server["block"], "error_page", "/.error")]
    # An answer under another status is `=status`, behind the statuses that get it.
    sent = {status for args in caught for status in ([args[-1][1:]] if args[-1].startswith("=") else args)}
    assert sent == {str(row.status) for row in NGINX.values()}
    told = {status: written.get(status, written["default"]) for status in sent}
    assert told == {
        str(row.status): error_object(row.status or 0, row.code, str(row.sentences).format(most="$folyam_most_bytes"))
        for row in NGINX.values()
    }

    [retries] = directives(http["block"], "map", "$folyam_retry_after")
    [(passing, seconds)] = [(case["directive"], case["args"][0]) for case in retries["block"] if case["args"][0]]
    for row in NGINX.values():
        matches = re.search(passing.removeprefix("~"), f"/.error {row.status}") is not None
        assert row.retry_after == (seconds if matches else None)


def test_a_service_that_is_down_gives_a_json_error(nginx: Nginx, backend: Backend) -> None:
    backend.answer = lambda connection, _: connection.close()
    reply = nginx.request("/generate", "POST", b"{}")
    assert reply.status == 502
    assert error_of(reply)["code"] == "service_unreachable"
    assert reply.headers.get_all("Retry-After") == ["2"], "it may be there again soon"


def test_the_services_own_retry_after_passes_alone(nginx: Nginx, backend: Backend) -> None:
    backend.answer = respond("503 Busy", b"{}", "Retry-After: 9")
    assert nginx.request("/generate", "POST", b"{}").headers.get_all("Retry-After") == ["9"]


def test_a_body_over_the_limit_gives_a_json_error_and_is_not_passed_on(nginx: Nginx, backend: Backend) -> None:
    assert nginx.request("/generate", "POST", b"x" * (1 << 20)).status == 200
    reply = nginx.request("/generate", "POST", b"x" * ((1 << 20) + 1))
    assert reply.status == 413
    error = error_of(reply)
    assert (error["code"], error["message"]) == ("body_too_large", "The request's body may have at most 1048576 bytes.")
    assert len(backend.requests) == 1


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/nothing", "/api/chat", "/ag-ui"])
def test_other_clients_protocols_have_a_longer_body(nginx: Nginx, backend: Backend, target: str) -> None:
    assert nginx.request(target, "POST", b"x" * (1 << 20) * 2).status == 200
    reply = nginx.request(target, "POST", b"x" * ((32 << 20) + 1))
    error = error_of(reply)
    assert (reply.status, error["message"]) == (413, "The request's body may have at most 33554432 bytes.")
    assert len(backend.requests) == 1


def test_an_address_that_is_too_long_gives_a_json_error(nginx: Nginx) -> None:
    assert nginx.request("/generate?query=" + "x" * 30_000).status == 200
    reply = nginx.request("/generate?query=" + "x" * 40_000)
    assert reply.status == 414
    assert error_of(reply)["code"] == "uri_too_long"


def reply_on(connection: socket.socket) -> Reply:
    response = http.client.HTTPResponse(connection)
    response.begin()
    with contextlib.closing(response):
        return Reply(response.status, response.headers, response.read())


def raw_request(nginx: Nginx, request: str) -> Reply:
    with socket.create_connection(("127.0.0.1", nginx.port), TIMEOUT_SECONDS) as connection:
        connection.sendall(request.encode("latin-1"))
        return reply_on(connection)


@pytest.mark.parametrize(
    ("request_line", "header", "status", "code"),
    [
        ("GET / HTTP/1.1", "Host: y", 400, "bad_request"),
        ("GET /\x01 HTTP/1.1", "X: y", 400, "bad_request"),
        ("get / HTTP/1.1", "X: y", 400, "bad_request"),
        ("POST /generate HTTP/1.1", "Content-Length: x", 400, "bad_request"),
        ("CONNECT x:80 HTTP/1.1", "X: y", 405, "method_not_allowed"),
        ("GET / HTTP/1.1", 'If-Match: "another"', 412, "precondition_failed"),
        ("GET / HTTP/1.1", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 412, "precondition_failed"),
        ("GET / HTTP/1.1", "X: " + "y" * 40_000, 431, "headers_too_large"),
        ("GET / HTTP/1.1", "\r\n".join(["X: " + "y" * 20_000] * 8), 431, "headers_too_large"),
        ("POST /generate HTTP/1.1", "Cookie: " + "y" * 40_000, 431, "headers_too_large"),
        ("POST /generate HTTP/1.1", "Transfer-Encoding: gzip", 501, "not_implemented"),
        ("GET / HTTP/2.0", "X: y", 505, "http_version_not_supported"),
    ],
)
def test_a_request_that_nginx_refuses_gets_a_json_error(
    nginx: Nginx, backend: Backend, request_line: str, header: str, status: int, code: str
) -> None:
    reply = raw_request(nginx, f"{request_line}\r\nHost: x\r\n{header}\r\n\r\n")
    assert (reply.status, error_of(reply)["code"]) == (status, code)
    assert backend.requests == []


def test_a_range_is_passed_over(nginx: Nginx) -> None:
    whole = nginx.request("/")
    for wanted in ("bytes=1-2", "bytes=9999-"):
        reply = nginx.request("/", Range=wanted)
        assert (reply.status, reply.body) == (200, whole.body)


def self_signed(path: Path) -> Path:
    """Make a certificate that signs itself, and its key beside it."""
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={path.stem}"
    subprocess.run(
        [*command.split(), "-keyout", path.with_suffix(".key"), "-out", path], check=True, capture_output=True
    )
    return path


@pytest.mark.parametrize("way", ["plain HTTP", "no client certificate", "an unknown client certificate"])
def test_a_request_that_fails_at_tls_gets_a_json_error(
    program: str, backend: Backend, tmp_path: Path, way: str
) -> None:
    certificate, another = self_signed(tmp_path / "server.pem"), self_signed(tmp_path / "another.pem")
    address = ports.free()
    server = (
        f"listen {address} ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate.with_suffix('.key')};"
        f" ssl_client_certificate {certificate}; ssl_verify_client on;"
    )
    with started(program, backend, tmp_path, ("include server.d/*.conf;", server)), contextlib.ExitStack() as opened:
        connection = opened.enter_context(socket.create_connection((address.host, address.port), TIMEOUT_SECONDS))
        if way != "plain HTTP":
            tls = ssl.create_default_context(cafile=str(certificate))
            tls.check_hostname = False
            if way == "an unknown client certificate":
                tls.load_cert_chain(another, another.with_suffix(".key"))
            connection = opened.enter_context(tls.wrap_socket(connection))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = reply_on(connection)
    assert (reply.status, error_of(reply)["code"]) == (400, "bad_request")


def test_the_page_cannot_be_posted_to(nginx: Nginx) -> None:
    reply = nginx.request("/", "POST", b"x")
    assert reply.status == 405
    assert error_of(reply)["code"] == "method_not_allowed"
    assert reply.headers.get_all("Allow") == ["GET, HEAD"]


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/generate?query=x", "GET, POST"),
        ("/answers/abc", "DELETE, GET"),
        ("/answers/abc/stop", "POST"),
        ("/readyz", "GET"),
        ("/v1/chat/completions", "POST"),
        ("/v1/chat/completions/chatcmpl-x", "GET"),
        ("/v1/models/x", "GET"),
        ("/v1/responses", "POST"),
        ("/v1/responses/resp_x?stream=true", "DELETE, GET"),
        ("/v1/responses/resp_x/cancel", "POST"),
        ("/v1/stream/x?offset=-1", "GET, HEAD"),
        ("/api/chat", "POST"),
        ("/api/chat/x/stream", "GET"),
        ("/api/chat/x%2Fy/stop", "POST"),
        ("/ag-ui", "POST"),
        ("/", "GET, HEAD"),
    ],
)
def test_a_trace_is_refused_with_what_is_allowed(nginx: Nginx, backend: Backend, target: str, allowed: str) -> None:
    reply = nginx.request(target, "TRACE")
    assert (reply.status, reply.headers.get_all("Allow")) == (405, [allowed])
    assert backend.requests == []


def test_what_people_write_is_in_no_log(nginx: Nginx, backend: Backend) -> None:
    def cut(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))

    for number, answer in enumerate([respond("200 OK", b""), lambda *_: None, cut]):
        backend.answer = answer
        for target in (f"/generate?query={WORDS}", f"/answers/a?{WORDS}", f"/nowhere?{WORDS}"):
            with contextlib.suppress(http.client.IncompleteRead):
                nginx.request(target, X_Request_Id=f"last-{number}", Referer=f"http://localhost/?{WORDS}")
    nginx.request("/generate", "POST", WORDS.encode() * 100_000)
    nginx.request(f"/generate?query={WORDS}" + "x" * 40_000)
    assert nginx.logged("last-2")
    assert nginx.logged('"status":"414"')
    assert WORDS not in nginx.logs()
    lines = [json.loads(line) for line in (nginx.directory / "access.log").read_text().splitlines()]
    assert {line["path"] for line in lines} >= {"/generate", "/answers/a", "/nowhere"}


def test_a_stream_that_the_service_cuts_is_seen_to_be_cut(nginx: Nginx, backend: Backend) -> None:
    def cut(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"half of it"))

    backend.answer = cut
    with pytest.raises(http.client.IncompleteRead):
        nginx.request("/generate")


def test_chunks_arrive_one_by_one(nginx: Nginx, backend: Backend) -> None:
    go_on = threading.Event()

    def two(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"1"))
        go_on.wait(TIMEOUT_SECONDS)
        connection.sendall(chunk(b"2") + chunk(b""))

    backend.answer = two
    connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=TIMEOUT_SECONDS)
    connection.request("GET", "/generate")
    response = connection.getresponse()
    assert response.read(1) == b"1"
    go_on.set()
    assert response.read() == b"2"
    connection.close()


def test_a_reader_that_stalls_stops_the_service_and_fills_no_disk(nginx: Nginx, backend: Backend) -> None:
    sent = 0
    stalled = threading.Event()

    def endless(connection: socket.socket, _request: Request) -> None:
        nonlocal sent
        connection.settimeout(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 256 << 20:
                connection.sendall(chunk(b"x" * 65536))
                sent += 65536
        except TimeoutError:
            stalled.set()
            raise

    backend.answer = endless
    with socket.create_connection(("127.0.0.1", nginx.port), TIMEOUT_SECONDS) as reader:
        reader.sendall(b"GET /generate HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stalled.wait(TIMEOUT_SECONDS)
        assert sent < 32 << 20
    assert [path for path in (nginx.directory / "nginx" / "proxy").rglob("*") if path.is_file()] == []


def test_the_service_learns_at_once_that_the_reader_has_left(nginx: Nginx, backend: Backend) -> None:
    told = threading.Event()
    left = threading.Event()

    def wait_for_the_end(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))
        left.wait(TIMEOUT_SECONDS)
        try:
            connection.recv(1)
        finally:
            told.set()

    backend.answer = wait_for_the_end
    with socket.create_connection(("127.0.0.1", nginx.port), TIMEOUT_SECONDS) as reader:
        reader.sendall(b"GET /generate HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reader.recv(1)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left.set()
    assert told.wait(TIMEOUT_SECONDS)


def test_a_slow_sender_does_not_occupy_the_service(nginx: Nginx, backend: Backend) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port), TIMEOUT_SECONDS) as sender:
        sender.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        assert nginx.request("/livez").body == b"ok"
        assert backend.connections == 1
        sender.sendall(b"}")
        assert sender.recv(100).startswith(b"HTTP/1.1 200")


def connect_from(address: str, nginx: Nginx) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", nginx.port, TIMEOUT_SECONDS, source_address=(address, 0))


def status_from(address: str, nginx: Nginx) -> int:
    connection = connect_from(address, nginx)
    try:
        connection.request("GET", "/generate")
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_address_has_only_so_many_requests_under_way(nginx: Nginx, backend: Backend) -> None:
    go_on = threading.Event()

    def wait(connection: socket.socket, _request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))
        go_on.wait(TIMEOUT_SECONDS)

    backend.answer = wait
    with contextlib.ExitStack() as opened:
        for _ in range(LIMITS.connections):
            connection = opened.enter_context(contextlib.closing(connect_from("127.0.0.2", nginx)))
            connection.request("GET", "/generate")
            assert connection.getresponse().status == 200
        assert status_from("127.0.0.3", nginx) == 200, "another address is served"
        connection = opened.enter_context(contextlib.closing(connect_from("127.0.0.2", nginx)))
        connection.request("GET", "/generate")
        response = connection.getresponse()
        reply = Reply(response.status, response.headers, response.read())
        assert (reply.status, error_of(reply)["code"]) == (429, "too_many_requests")
        assert reply.headers.get_all("Retry-After") == ["2"]
        go_on.set()
    backend.answer = respond("200 OK", b"ok")
    assert eventually(lambda: status_from("127.0.0.2", nginx) == 200)


def refused_of_a_flood(address: str, nginx: Nginx) -> int:
    """Send many requests without waiting for a response; return how many were refused."""
    request = b"GET /favicon.svg HTTP/1.1\r\nHost: x\r\n"
    with contextlib.closing(connect_from(address, nginx)) as connection:
        connection.connect()
        assert connection.sock is not None
        connection.sock.sendall(20 * LIMITS.requests * (request + b"\r\n") + request + b"Connection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.sock.recv(1 << 16), b""))
    return received.count(b"HTTP/1.1 429 ")


def test_one_address_sends_only_so_many_requests_in_a_second(nginx: Nginx) -> None:
    assert [status_from("127.0.0.2", nginx) for _ in range(LIMITS.requests)] == [200] * LIMITS.requests
    assert refused_of_a_flood("127.0.0.2", nginx), "it goes on as fast as it can"
    assert status_from("127.0.0.3", nginx) == 200
    assert eventually(lambda: status_from("127.0.0.2", nginx) == 200), "it may, once it has slowed down"


def test_headers_that_never_end_are_given_up(program: str, backend: Backend, tmp_path: Path) -> None:
    change = ("client_header_timeout 15s", "client_header_timeout 1s")
    with started(program, backend, tmp_path, change) as nginx:
        with socket.create_connection(("127.0.0.1", nginx.port), TIMEOUT_SECONDS) as sender:
            sender.sendall(b"GET /generate HTTP/1.1\r\nHost: x\r\nX: ")
            assert eventually(lambda: _is_closed(sender)), "a byte now and then does not keep it"
        assert backend.requests == []


def _is_closed(sender: socket.socket) -> bool:
    sender.settimeout(0.1)
    try:
        sender.sendall(b"x")
        return not sender.recv(1 << 10)
    except TimeoutError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True


def _is_reset(reader: socket.socket) -> bool:
    try:
        assert reader.recv(1 << 16), "an end, as if it were whole"
    except ConnectionResetError:
        return True
    return False


def test_a_reader_that_stalls_is_let_go_in_time(program: str, backend: Backend, tmp_path: Path) -> None:
    cut = threading.Event()

    def endless(connection: socket.socket, _request: Request) -> None:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(1 << 16):
                connection.sendall(chunk(b"x" * 65536))
        except (BrokenPipeError, ConnectionResetError):
            cut.set()

    backend.answer = endless
    with started(program, backend, tmp_path, ("send_timeout              60s", "send_timeout 1s")) as nginx:
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.closing(reader):
            reader.settimeout(TIMEOUT_SECONDS)
            reader.connect(("127.0.0.1", nginx.port))
            reader.sendall(b"GET /generate HTTP/1.1\r\nHost: x\r\n\r\n")
            assert cut.wait(TIMEOUT_SECONDS), "the service is told"
            # A reset, which frees the kernel's memory and looks like no end.
            assert eventually(lambda: _is_reset(reader))
