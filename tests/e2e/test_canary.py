"""Marker words in keys, prompts, questions and answers appear in their own places only."""

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.client import SSE, TEXT, Reply, script
from tests.e2e.conftest import Stack
from tests.e2e.indiscreet import IN_THE_LOOP, IN_THE_PRODUCER, IN_THE_ROUTE
from tests.e2e.stack import ROOT, Nginx, Service, eventually
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

UPSTREAM_KEY = "canary-upstream-key-81f0"
CLIENT_KEY = "canary-client-key-22ab"
WRONG_KEY = "canary-wrong-key-93cd"
SYSTEM_PROMPT = "canary-system-prompt-44ef"
CLIENT_SYSTEM_PROMPT = "canary-clients-system-prompt-55ab"
QUERY = "canary-query-66cd"
HISTORY = "canary-history-77ef"
ANSWER = "canary-answer-88ab"
CANARIES = (UPSTREAM_KEY, CLIENT_KEY, WRONG_KEY, SYSTEM_PROMPT, CLIENT_SYSTEM_PROMPT, QUERY, HISTORY, ANSWER)
IN_THE_LOG = {CLIENT_SYSTEM_PROMPT, QUERY, HISTORY, ANSWER}
"""What an answer's log holds, for a take-over: a question and its answer. The service's own prompt and keys it has from
its settings."""

ECHO = {
    "message": f"{UPSTREAM_KEY} {SYSTEM_PROMPT} {QUERY}",
    "code": "canary_query_66cd",
    "type": QUERY,
    "param": ANSWER,
}
SAYS: dict[str, object] = {
    "texts": [ANSWER],
    "error": ECHO,
    "headers": {"X-Debug": UPSTREAM_KEY, "Server": SYSTEM_PROMPT},
}
UPSTREAMS: dict[str, dict[str, object]] = {
    "says it": {},
    "refuses": {"status": 400},
    "refuses the key": {"status": 401},
    "is busy": {"status": 429, "headers": {"Retry-After": QUERY}},
    "breaks": {"status": 500},
    "breaks late": {"status": 500, "status_delay": 1.0},
    "breaks off": {"error_after": 1},
    "sends garbage": {"garbage_after": 1, "garbage": f"data: {{{ANSWER} {QUERY}\n\n"},
    "is cut": {"cut_after": 1},
    "ends too soon": {"truncate_after": 1},
    "breaks the producer": {"texts": [f"{IN_THE_PRODUCER} {ANSWER}"]},
}
JSON = {"Content-Type": "application/json", "Authorization": f"Bearer {CLIENT_KEY}"}
PERSONAL = [{"role": "system", "content": CLIENT_SYSTEM_PROMPT}, {"role": "user", "content": HISTORY}]


@contextmanager
def core_dumps_allowed() -> Iterator[None]:
    """Allow core dumps of the processes that the block starts."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)


@pytest.fixture
def kept(tmp_path: Path, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    metrics = tmp_path / "metrics"
    settings = {
        "OPENAI_API_KEY": UPSTREAM_KEY,
        "FOLYAM_API_KEYS": CLIENT_KEY,
        "FOLYAM_SYSTEM_PROMPT": SYSTEM_PROMPT,
        "FOLYAM_ALLOW_SYSTEM": "true",
        "FOLYAM_STATUS_WAIT_SECONDS": "0.5",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "GUNICORN_CMD_ARGS": "--worker-class tests.e2e.indiscreet.IndiscreetWorker",
    }
    with (
        core_dumps_allowed(),
        # Executed, because the limit on core dumps and the command line are the point.
        Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings, is_forked=False) as service,
        Nginx(tmp_path, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


def answered(stack: Stack) -> list[Reply]:
    """Questions with every canary in them, of upstreams that repeat their input, with every kind of end."""
    replies = []
    for how in UPSTREAMS.values():
        for accept in ("application/json", SSE, TEXT):
            query = script(**{**SAYS, **how, "key": QUERY})
            for secret in (UPSTREAM_KEY, SYSTEM_PROMPT):  # Told to the upstream in a form that is not found in the log.
                query = query.replace(secret, f"\\u{ord(secret[0]):04x}{secret[1:]}")
            body = json.dumps({"query": query, "history": PERSONAL}).encode()
            reply = stack.client.request("POST", "/generate", body, JSON | {"Accept": accept})
            replies.append(reply)
            if answer := reply.headers["X-Answer-Id"]:
                replies.append(stack.client.request("GET", f"/answers/{answer}?stream=false", headers=JSON))
    return replies


def asked_at_doors(stack: Stack) -> list[Reply]:
    """The same questions in other clients' protocols, which tell a client what the upstream says of its request."""
    replies = []
    for how in UPSTREAMS.values():
        query = script(**{**SAYS, **how, "key": QUERY})
        for secret in (UPSTREAM_KEY, SYSTEM_PROMPT):
            query = query.replace(secret, f"\\u{ord(secret[0]):04x}{secret[1:]}")
        for streamed in (False, True):
            body = json.dumps(
                {"model": "test-model", "stream": streamed, "messages": [*PERSONAL, {"role": "user", "content": query}]}
            )
            replies.append(stack.client.request("POST", "/v1/chat/completions", body.encode(), JSON))
    return replies


def refused(stack: Stack) -> list[Reply]:
    """Requests that are wrong in some way, with canaries wherever one can be put."""
    where = quote(QUERY)
    body = json.dumps({"query": QUERY}).encode()
    requests: list[tuple[str, str, bytes | None, dict[str, str]]] = [
        ("GET", f"/generate?query={where}&{where}={where}", None, JSON),
        ("GET", f"/generate?query={where}&model={where}", None, JSON),
        ("GET", f"/generate?query={where}&temperature={where}", None, JSON),
        ("GET", f"/generate?last_event_id={where}", None, JSON),
        ("GET", f"/answers/short?stream={where}", None, JSON),
        ("GET", f"/nowhere?{where}", None, JSON),
        ("PUT", f"/generate?query={where}", None, JSON),
        ("TRACE", f"/generate?query={where}", None, JSON),
        ("GET", f"/generate?query={where * 3000}", None, JSON),
        ("GET", f"/generate?query={where}", None, JSON | {"Accept": f"text/{QUERY}"}),
        ("GET", f"/generate?query={where}", None, JSON | {"Last-Event-ID": QUERY}),
        ("GET", f"/generate?query={where}", None, JSON | {"Cookie": CLIENT_KEY, "Sec-Fetch-Site": "cross-site"}),
        ("GET", f"/generate?query={where}", None, JSON | {"X-Request-Id": f"{QUERY} {CLIENT_KEY}", "Range": QUERY}),
        ("GET", f"/generate?query={where}", None, {"Authorization": f"Bearer {WRONG_KEY}"}),
        ("GET", f"/generate?query={where}", None, {"Authorization": f"Basic {CLIENT_KEY}", "Referer": f"http://x/{QUERY}"}),
        ("POST", "/generate", body[:-1], JSON),
        ("POST", "/generate", json.dumps({QUERY: QUERY}).encode(), JSON),
        ("POST", "/generate", json.dumps({"query": [QUERY]}).encode(), JSON),
        ("POST", "/generate", json.dumps({"query": f"{QUERY}\ud800"}).encode(), JSON),
        ("POST", "/generate", json.dumps({"query": QUERY, "history": [{"role": QUERY}]}).encode(), JSON),
        ("POST", "/generate", json.dumps({"query": QUERY, "model": QUERY}).encode(), JSON),
        ("POST", "/generate", json.dumps({"query": QUERY * 3000}).encode(), JSON),
        ("POST", "/generate", json.dumps({"query": QUERY * 100_000}).encode(), JSON),
        ("POST", "/generate", body, JSON | {"Content-Type": f"text/{QUERY}"}),
        ("POST", "/generate", json.dumps({"query": f"{IN_THE_ROUTE} {QUERY}"}).encode(), JSON),
    ]  # fmt: skip
    return [client.request(*request) for client in (stack.client, stack.direct) for request in requests]


def crash(stack: Stack) -> None:
    """Make a worker end by an error of memory, in the middle of an answer."""
    before = set(stack.service.workers())
    query = script(key="crash", texts=[ANSWER] * 50, pace=0.05)
    with stack.client.open("POST", "/generate", json.dumps({"query": query}).encode(), JSON) as stream:
        next(stream.events())
        for pid in before:
            os.kill(pid, signal.SIGSEGV)
        eventually(lambda: len(set(stack.service.workers()) - before) == len(before), 30)
    eventually(lambda: stack.direct.request("GET", "/readyz").status == 200, 30)


def test_no_canary_is_found_where_it_does_not_belong(kept: Stack, tmp_path: Path, report: Report) -> None:
    dumps = set(ROOT.glob("core*"))
    answers, at_doors, refusals = answered(kept), asked_at_doors(kept), refused(kept)
    in_the_loop = script(texts=["x"], key=IN_THE_LOOP)
    kept.client.request("POST", "/generate", json.dumps({"query": f"{in_the_loop}"}).encode(), JSON)
    crash(kept)
    refusals.append(kept.direct.request("GET", "/metrics"))

    # It came as far as it should have: an answer to its owner, and defects that were met.
    assert sum(ANSWER.encode() in reply.body for reply in answers) >= len(UPSTREAMS)
    assert {reply.status for reply in answers} >= {200, 400, 429, 502}
    assert {reply.status for reply in refusals} >= {200, 400, 401, 403, 404, 405, 406, 413, 414, 422, 500}
    log = kept.service.log.read_text()
    for name in ("answer_broke", "request_broke", "event_loop"):
        assert f'"event":"{name}"' in log, name

    for reply in answers:
        said = f"{reply.headers}\n{reply.body.decode()}"
        assert [canary for canary in CANARIES if canary in said and canary != ANSWER] == []
    told = [reply for reply in at_doors if QUERY.encode() in reply.body]
    assert {reply.status for reply in told} == {400}
    assert {reply.json["error"]["code"] for reply in told} == {"canary_query_66cd"}
    for reply in at_doors:
        said = f"{reply.headers}\n{reply.body.decode()}"
        assert {canary for canary in CANARIES if canary in said} <= {ANSWER, QUERY}
    for reply in refusals:
        said = f"{reply.headers}\n{reply.body.decode()}"
        assert [canary for canary in CANARIES if canary in said] == [], said
    searched = 0
    for path in tmp_path.rglob("*"):  # logs of gunicorn, nginx and the service, answers, metrics, nginx's places
        if path.is_file():
            searched += 1
            held = {canary for canary in CANARIES if canary.encode() in path.read_bytes()}
            belongs = IN_THE_LOG if path.parent == kept.logs and path.suffix == ".jsonl" else set()
            assert held <= belongs, f"{path.name}: {held - belongs}"
    assert set(ROOT.glob("core*")) == dumps
    # The processes' arguments, which any user of the machine can read.
    for pid in (kept.service.process.pid, *kept.service.workers(), kept.nginx.process.pid):
        arguments = (Path("/proc") / str(pid) / "cmdline").read_bytes()
        assert not any(canary.encode() in arguments for canary in CANARIES)
    report.add(
        f"{len(CANARIES)} canaries",
        f"{len(answers) + len(at_doors) + len(refusals)} responses",
        f"{searched} files",
        "0 strays",
    )
