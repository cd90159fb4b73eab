"""With API keys every request needs one, and an answer belongs to its key only, on any worker and at any time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.client import Client, Reply, script
from tests.e2e.conftest import Stack
from tests.e2e.stack import Nginx, Service
from tests.upstream.process import UpstreamProcess

MINE, YOURS = "mine-0123456789abcdef", "yours-0123456789abcdef"
JSON = {"Content-Type": "application/json"}


def bearer(key: str) -> dict[str, str]:
    return {**JSON, "Authorization": f"Bearer {key}"}


def settings(directory: Path) -> dict[str, str]:
    file = directory / "keys"
    file.write_text(f"\n{YOURS}\n")
    return {
        "FOLYAM_API_KEYS": MINE,
        "FOLYAM_API_KEYS_FILE": str(file),
        "FOLYAM_MAX_ANSWERS_PER_CLIENT": "1",
        "FOLYAM_ALLOW_SYSTEM": "true",
        "FOLYAM_CORS_ORIGINS": "https://example.org",
    }


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("locked")
    answers = directory / "answers"
    with (
        Service(directory, answers, upstream.base_url, workers=1, settings=settings(directory)) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


def ask(client: Client, headers: Mapping[str, str], query: str, **fields: object) -> Reply:
    return client.request("POST", "/generate", json.dumps({"query": query, **fields}).encode(), headers)


@pytest.fixture(scope="module")
def answer(locked: Stack) -> str:
    """An answer of MINE that has ended."""
    reply = ask(locked.client, bearer(MINE), script(chunks=2))
    assert reply.status == 200
    return str(reply.headers["X-Answer-Id"])


def ways(answer: str) -> list[tuple[str, str, dict[str, str]]]:
    """Everything that can be done to an answer; the last erases it."""
    return [
        ("GET", f"/answers/{answer}", {}),
        ("GET", f"/answers/{answer}?stream=false", {}),
        ("GET", f"/answers/{answer}?after=1", {}),
        ("GET", f"/generate?last_event_id={answer}:1", {}),
        ("POST", "/generate", {"Last-Event-ID": f"{answer}:1"}),
        ("POST", f"/answers/{answer}/stop", {}),
        ("DELETE", f"/answers/{answer}", {}),
    ]


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer wrong-0123456789abcdef", f"Basic {MINE}", f"Bearer {MINE},"]
)
def test_without_a_right_key_nothing_is_asked_or_told(locked: Stack, answer: str, authorization: str | None) -> None:
    headers = JSON | ({} if authorization is None else {"Authorization": authorization})
    before = len(locked.upstream.requests())
    everything = [*ways(answer), ("POST", "/generate", {}), ("GET", "/generate?query=x", {}), ("GET", "/nowhere", {})]
    for method, target, more in everything:
        for client in (locked.direct, locked.client):
            if client.url == locked.client.url and target == "/nowhere":
                continue  # nginx knows that there is nothing.
            body = b'{"query": "x"}' if method == "POST" else None
            reply = client.request(method, target, body, headers | more)
            assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, 'Bearer realm="folyam"'), target
            assert (reply.json["error"]["code"], reply.json["error"]["field"]) == ("unauthorized", "Authorization")
            assert reply.json["error"]["request_id"] == reply.headers["X-Request-Id"]
    assert len(locked.upstream.requests()) == before


def test_two_authorizations_are_none(locked: Stack) -> None:
    connection = locked.direct.send("GET", "/livez")
    connection.getresponse().read()
    connection.putrequest("GET", "/generate?query=x")
    connection.putheader("Authorization", f"Bearer {MINE}")
    connection.putheader("Authorization", f"Bearer {YOURS}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_a_body_is_not_read_from_who_has_no_key(locked: Stack) -> None:
    reply = locked.direct.request("POST", "/generate", b"[" * 2_000_000, JSON)
    assert reply.status == 401


def test_another_keys_answer_is_unknown(locked: Stack, answer: str) -> None:
    unknown = "0" * 32
    for (method, target, more), (_, nowhere, other) in zip(ways(answer), ways(unknown), strict=True):
        yours = locked.client.request(method, target, headers=bearer(YOURS) | more)
        nothing = locked.client.request(method, nowhere, headers=bearer(YOURS) | other)
        assert (yours.status, yours.json["error"]["code"]) == (404, "unknown_answer"), target
        assert {**yours.json["error"], "request_id": ""} == {**nothing.json["error"], "request_id": ""}
    assert (
        locked.client.request("GET", f"/answers/{answer}?stream=false", headers=bearer(MINE)).json["text"] == "w1 w2 "
    )


def test_another_keys_running_answer_is_unknown_at_every_place(locked: Stack) -> None:
    query = script(key="running", endless=True, pace=0.05)
    with locked.client.open("POST", "/generate", json.dumps({"query": query}).encode(), JSON | bearer(MINE)) as stream:
        answer = next(stream.events())["answer"]
        for after in (0, 1, 9_999):
            for target, more in (
                (f"/answers/{answer}?after={after}", {}),
                (f"/answers/{answer}", {"Last-Event-ID": f"{answer}:{after}"}),
                (f"/generate?last_event_id={answer}:{after}", {}),
            ):
                reply = locked.client.request("GET", target, headers=bearer(YOURS) | more)
                assert (reply.status, reply.json["error"]["code"]) == (404, "unknown_answer"), target
        mine = locked.client.request("GET", f"/answers/{answer}?after=9999", headers=bearer(MINE))
        assert (mine.status, mine.json["error"]["code"]) == (400, "bad_last_event_id")
    locked.client.request("DELETE", f"/answers/{answer}", headers=bearer(MINE))


def test_its_own_key_may_do_everything(locked: Stack) -> None:
    answer = ask(locked.client, bearer(YOURS), script(chunks=2)).headers["X-Answer-Id"]
    statuses = [locked.client.request(method, target, headers=bearer(YOURS) | more).status
                for method, target, more in ways(str(answer))]  # fmt: skip
    assert statuses == [200, 200, 200, 200, 200, 200, 204]


def test_ownership_holds_in_another_process_with_the_same_keys(
    locked: Stack, answer: str, tmp_path: Path, upstream: UpstreamProcess
) -> None:
    with Service(tmp_path, locked.logs, upstream.base_url, workers=1, settings=settings(tmp_path)) as another:
        client = Client(another.address)
        assert client.request("GET", f"/answers/{answer}", headers=bearer(MINE)).status == 200
        assert client.request("GET", f"/answers/{answer}", headers=bearer(YOURS)).status == 404
        running = locked.client.open(
            "POST", "/generate", json.dumps({"query": script(endless=True, pace=0.05)}).encode(), bearer(YOURS)
        )
        with running:
            next(running.events())
            assert client.request("POST", f"/answers/{running.answer}/stop", headers=bearer(MINE)).status == 404
            assert client.request("POST", f"/answers/{running.answer}/stop", headers=bearer(YOURS)).status == 200


def test_the_log_holds_whose_it_is_and_no_key_and_followers_are_not_told(locked: Stack, answer: str) -> None:
    text = (locked.logs / f"{answer}.jsonl").read_text()
    owner = json.loads(text.splitlines()[0])["owner"]
    assert len(owner) == 64
    assert MINE not in text
    told = locked.client.request("GET", f"/answers/{answer}", headers=bearer(MINE)).body
    assert b"owner" not in told
    assert owner.encode() not in told


def test_a_client_is_its_key_and_not_its_address(locked: Stack) -> None:
    endless = script(endless=True, pace=0.05)
    opened = [
        locked.client.open("POST", "/generate", json.dumps({"query": endless}).encode(), bearer(key))
        for key in (MINE, YOURS, MINE)
    ]
    statuses = [stream.status for stream in opened]
    for stream in opened[:2]:
        locked.client.request("DELETE", f"/answers/{stream.answer}", headers=bearer(MINE))
        locked.client.request("DELETE", f"/answers/{stream.answer}", headers=bearer(YOURS))
    for stream in opened:
        stream.close()
    assert statuses == [200, 200, 429]


def test_probes_and_metrics_need_no_key(locked: Stack) -> None:
    assert [locked.direct.request("GET", target).status for target in ("/livez", "/readyz", "/metrics")] == [200] * 3


def test_a_named_origins_page_is_told_that_it_needs_a_key_and_may_send_one(locked: Stack) -> None:
    origin = {"Origin": "https://example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    assert locked.client.request("OPTIONS", "/generate", headers=origin | asked).status == 200
    refused = ask(locked.client, JSON | origin, "x")
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://example.org")
    assert ask(locked.client, bearer(MINE) | origin, script(chunks=1)).status == 200


SYSTEM = {"role": "system", "content": "Speak Hungarian."}
USER = {"role": "user", "content": "x"}


def test_a_system_prompt_reaches_the_model_where_it_is_allowed(locked: Stack, upstream: UpstreamProcess) -> None:
    query = script(key="with-a-system-prompt", chunks=1)
    assert ask(locked.client, bearer(MINE), query, history=[SYSTEM, USER]).status == 200
    [request] = upstream.requests("with-a-system-prompt")
    assert request["messages"][:2] == [SYSTEM, USER]


@pytest.mark.parametrize("history", [[USER, SYSTEM], [SYSTEM, SYSTEM]])
def test_only_the_first_turn_may_be_the_systems(locked: Stack, history: list[dict[str, str]]) -> None:
    reply = ask(locked.client, bearer(MINE), "x", history=history)
    assert (reply.status, reply.json["error"]["field"]) == (422, "history.1.role")
