"""A cut stream resumes behind the last received event, on any worker, without gaps or duplicates."""

import signal
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.client import JSON_LINES, SSE, TEXT, TIMEOUT_SECONDS, Stream, question, resume_headers, script
from tests.e2e.conftest import Pair, Stack
from tests.e2e.logfile import Event, assert_equals_log, json_events, read_log, sse_events, unmerged

PARSERS: dict[str, Callable[[bytes], list[Event]]] = {JSON_LINES: json_events, SSE: sse_events}


@pytest.mark.parametrize("accept", [JSON_LINES, SSE])
def test_every_place_of_an_ended_answer_is_resumed_exactly_on_both_workers(pair: Pair, accept: str) -> None:
    first = pair.clients[0].generate(script(chunks=30, reasoning=["a", "b"], pace=0.001), accept=accept)
    answer = first.headers["X-Answer-Id"]
    log = read_log(pair.logs, answer)
    assert_equals_log(PARSERS[accept](first.body), log=log)
    for client in pair.clients:
        for place in range(len(log)):
            rest = client.follow(answer, place, accept)
            assert_equals_log(log[:place], PARSERS[accept](rest.body), log=log)
        assert client.follow(answer, len(log), accept).status == 204


@pytest.mark.parametrize("worker", [0, 1])
@pytest.mark.parametrize("accept", [JSON_LINES, SSE])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(received=st.integers(0, 3000), again=st.integers(0, 1500))
def test_a_running_answer_cut_at_any_byte_is_resumed_exactly(
    stack: Stack, pair: Pair, accept: str, worker: int, received: int, again: int
) -> None:
    """Cut twice: once as it began, once in what was resumed. `received` and `again` are bytes."""
    del stack
    parse = PARSERS[accept]
    # Two of them leave for a moment, and have no other follower in that time: the answer must not count as unwatched.
    with pair.clients[1 - worker].ask(script(chunks=40, pace=0.004), accept=accept) as kept:
        answer = kept.answer
        pieces: list[list[Event]] = []
        for limit, client in (
            (received, pair.clients[0]),
            (again, pair.clients[worker]),
            (1 << 30, pair.clients[worker]),
        ):
            last = max((event["seq"] for piece in pieces for event in piece), default=0)
            stream = client.open("GET", f"/answers/{answer}", headers=resume_headers(answer, last, accept))
            pieces.append(parse(take(stream, limit)))
            if pieces[-1] and pieces[-1][-1]["type"] == "done":
                break
    assert_equals_log(*pieces, log=read_log(pair.logs, answer))


def take(stream: Stream, limit: int) -> bytes:
    """Return what comes up to so many bytes, and leave."""
    body = b""
    while len(body) < limit and (data := stream.read()):
        body += data
    stream.reset() if len(body) >= limit else stream.close()
    return body[:limit]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("accept", [JSON_LINES, SSE])
def test_curl_ended_by_a_signal_goes_on_where_it_was(stack: Stack, accept: str, number: signal.Signals) -> None:
    body, _ = question(script(chunks=40, pace=0.02))
    # Started in the background, a test run has been told to ignore Ctrl-C, and hands that down.
    command = [
        "env",
        "--default-signal=INT",
        "curl",
        "-sN",
        "-H",
        "Content-Type: application/json",
        "-H",
        f"Accept: {accept}",
    ]
    address = f"{stack.client.url}/generate"
    with subprocess.Popen([*command, "-d", body, address], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        seen = b"".join(curl.stdout.readline() for _ in range(20))
        curl.send_signal(number)
        seen += curl.stdout.read()
    first = PARSERS[accept](seen)
    answer, last = first[0]["answer"], first[-1]["seq"]
    assert first[-1]["type"] == "delta", "it was cut in the middle"
    # The same request again, which now goes on in place of asking anew.
    resume = ["-H", f"Last-Event-ID: {answer}:{last}"]
    again = [*command, *resume, "-d", body.decode(), address]
    rest = subprocess.run(again, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_SECONDS)
    assert_equals_log(first, PARSERS[accept](rest.stdout), log=read_log(stack.logs, answer))


def test_a_request_with_a_last_event_id_never_asks_the_upstream(stack: Stack) -> None:
    query = script(key="once", chunks=3)
    answer = stack.client.generate(query).events[0]["answer"]
    body, headers = question(query)
    for client in (stack.client, stack.direct):
        for place, status in ((0, 200), (2, 200), (5, 204)):
            event_id = f"{answer}:{place}"
            posted = client.request("POST", "/generate", body, {**headers, "Last-Event-ID": event_id})
            got = client.request("GET", f"/generate?query=x&last_event_id={event_id}")
            assert (posted.status, got.status) == (status, status)
    assert len(stack.upstream.requests("once")) == 1


def test_plain_text_goes_on_from_an_offset_too(pair: Pair) -> None:
    whole = pair.clients[0].generate(script(chunks=20, pace=0.001), accept=TEXT)
    answer = whole.headers["X-Answer-Id"]
    rest = pair.clients[1].request("GET", f"/answers/{answer}?after=11", headers={"Accept": TEXT})
    assert whole.body.endswith(rest.body)
    assert rest.body.startswith(b"w11 ")


def test_what_is_read_as_a_whole_is_the_log(pair: Pair) -> None:
    reply = pair.clients[0].generate(script(chunks=20))
    answer = reply.events[0]["answer"]
    end = reply.events[-1]
    for client in pair.clients:
        assert client.read(answer) == {
            "id": answer,
            "state": "done",
            "text": "".join(f"w{n} " for n in range(1, 21)),
            "last_seq": 22,
            "usage": end["usage"],
            "timing": end["timing"],
        }


def test_the_helper_that_compares_with_the_log_sees_a_gap_and_a_double() -> None:
    log: list[Event] = [
        {"type": "start", "seq": 1},
        *({"type": "delta", "seq": seq, "text": f"w{seq} "} for seq in range(2, 6)),
        {"type": "done", "seq": 6},
    ]
    merged = [log[0], {"type": "delta", "seq": 4, "text": "w2 w3 w4 "}, log[4], log[5]]
    assert unmerged(merged, log) == log
    for wrong in (
        [log[0], {"type": "delta", "seq": 4, "text": "w3 w4 "}, log[4], log[5]],
        [log[0], log[1], log[1], *log[2:]],
        [log[0], *log[2:]],
        log[:-1],
    ):
        with pytest.raises(AssertionError):
            assert_equals_log(wrong, log=log)


def test_a_body_beside_a_last_event_id_is_not_looked_at(stack: Stack) -> None:
    events = stack.client.generate(script(chunks=2, pace=0.05)).events
    headers = {"Content-Type": JSON_LINES, **resume_headers(events[0]["answer"], 1)}
    for body in (b"", b"{", b'{"unknown": 1}'):
        assert stack.client.request("POST", "/generate", body, headers).events[-1] == events[-1]
