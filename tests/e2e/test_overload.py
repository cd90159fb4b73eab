"""Beyond its limits the service rejects at once, in the protocol's form and with Retry-After."""

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.web import ClientLimits
from tests.e2e.client import Client, Stream, script
from tests.e2e.conftest import Stack
from tests.e2e.stack import Nginx, Service, eventually
from tests.upstream.process import UpstreamProcess


@pytest.fixture
def small(tmp_path: Path, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    settings = {
        "FOLYAM_MAX_ANSWERS": "3",
        "FOLYAM_MAX_ANSWERS_PER_CLIENT": "2",
        "FOLYAM_MAX_FOLLOWERS": "4",
        "FOLYAM_CORS_ORIGINS": "https://example.org",
    }
    with (
        Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as service,
        Nginx(tmp_path, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Streams that are open to the test's end."""
    with ExitStack() as streams:
        yield streams


def ask_as(opened: ExitStack, client: Client, address: str, query: str) -> tuple[int, str | None, str]:
    """Ask the service as nginx does for a client of that address; return the status, Retry-After and error's code."""
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    stream = opened.enter_context(client.open("POST", "/generate", json.dumps({"query": query}).encode(), headers))
    code = "" if stream.status == 200 else json.loads(stream.read())["error"]["code"]
    return stream.status, stream.headers["Retry-After"], code


def test_too_many_answers_of_one_client_are_429_and_of_all_503(small: Stack, opened: ExitStack) -> None:
    endless = script(endless=True, pace=0.05)
    mine = [opened.enter_context(small.client.ask(endless)) for _ in range(2)]
    refused = small.client.generate(endless)
    assert (refused.status, refused.headers.get_all("Retry-After")) == (429, ["1"])
    assert refused.json["error"]["code"] == "too_many_answers_of_yours"
    assert ask_as(opened, small.direct, "192.0.2.1", endless)[0] == 200, "another client is served"
    assert ask_as(opened, small.direct, "192.0.2.2", endless) == (503, "1", "too_many_answers")
    small.client.stop(mine[0].answer)
    assert eventually(lambda: ask_as(opened, small.direct, "192.0.2.2", script(chunks=1))[0] == 200)
    rejected = small.direct.metrics()
    assert rejected['folyam_requests_rejected_total{reason="too_many_answers"}'] >= 1
    assert rejected['folyam_requests_rejected_total{reason="too_many_answers_of_yours"}'] == 1


def test_what_a_client_says_of_its_address_is_not_believed(small: Stack, opened: ExitStack) -> None:
    endless = script(endless=True, pace=0.05)
    statuses = [ask_as(opened, small.client, f"192.0.2.{number}", endless)[0] for number in range(3)]
    assert statuses == [200, 200, 429]


def test_neither_is_what_is_said_by_another_than_nginx(small: Stack, opened: ExitStack) -> None:
    """gunicorn's port is for this machine's nginx. For any other peer the address is that of its connection."""
    body = json.dumps({"query": script(endless=True, pace=0.05)}).encode()
    statuses = []
    for number in range(3):
        address = small.service.address
        connection = http.client.HTTPConnection(address.host, address.port, 20, source_address=("127.0.0.2", 0))
        opened.callback(connection.close)
        headers = {"Content-Type": "application/json", "X-Forwarded-For": f"192.0.2.{number}"}
        connection.request("POST", "/generate", body, headers)
        statuses.append(connection.getresponse().status)
    assert statuses == [200, 200, 429]


def follow(stack: Stack, answer: str) -> Stream:
    return stack.client.open("GET", f"/answers/{answer}")


def test_too_many_followers_are_503_and_leave_the_others_alone(small: Stack, opened: ExitStack) -> None:
    with small.client.ask(script(endless=True, pace=0.05)) as stream:
        followers = [opened.enter_context(follow(small, stream.answer)) for _ in range(3)]
        refused = small.client.request("GET", f"/answers/{stream.answer}")
        assert (refused.status, refused.headers.get_all("Retry-After")) == (503, ["1"])
        assert refused.json["error"]["code"] == "too_many_followers"
        followers[0].close()
        assert eventually(lambda: opened.enter_context(follow(small, stream.answer)).status == 200)
        small.client.stop(stream.answer)
        assert [*stream.events()][-1]["type"] == "stopped"


def test_only_pages_of_the_named_origins_may_read(small: Stack, stack: Stack) -> None:
    for client, origin, allowed in (
        (small.client, "https://example.org", "https://example.org"),
        (small.client, "https://example.com", None),
        (stack.client, "https://example.org", None),
    ):
        reply = client.request("GET", "/livez", headers={"Origin": origin})
        assert reply.headers["Access-Control-Allow-Origin"] == allowed


def test_a_longer_body_passes_where_the_setting_allows_it(
    tmp_path: Path, upstream: UpstreamProcess, web_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"FOLYAM_MAX_BODY_BYTES": "5000000", "FOLYAM_MAX_QUERY_CHARACTERS": "4000000"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with (
        Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as service,
        Nginx(tmp_path, service.address, web_root, ClientLimits.read()) as nginx,
    ):
        client = Client(nginx.address)
        assert client.generate(script(chunks=1) + " " * 2_000_000).events[-1]["type"] == "done"
        refused = client.generate("x" * 5_000_000)
        assert (refused.status, refused.json["error"]["code"]) == (413, "body_too_large")
