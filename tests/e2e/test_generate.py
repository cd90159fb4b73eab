"""An answer's way through nginx and gunicorn, in each rendering."""

import json
import urllib.parse
from itertools import pairwise

import pytest
from openai._streaming import SSEDecoder

from service.renderings.sse import RETRY_MILLISECONDS
from tests.e2e.client import JSON_LINES, SSE, TEXT, script
from tests.e2e.conftest import Stack


def test_json_lines_come_one_by_one_and_end_with_done(stack: Stack) -> None:
    # Chunks that a busy machine reads together are one delta: so far apart, not all five are.
    with stack.client.ask(script(chunks=5, pace=0.2)) as stream:
        reads = [json.loads(line) for line in stream.lines() if line]
    assert stream.status == 200
    assert stream.headers["Content-Type"] == "application/json"
    deltas = len(reads) - 2
    assert 1 < deltas <= 5
    assert [event["type"] for event in reads] == ["start", *["delta"] * deltas, "done"]
    assert [event["seq"] for event in reads] == list(range(1, len(reads) + 1))
    assert "".join(event.get("text", "") for event in reads) == "w1 w2 w3 w4 w5 "
    assert reads[0] == {"type": "start", "seq": 1, "answer": stream.answer, "model": "test-model"}
    assert reads[-1]["finish_reason"] == "stop"
    assert reads[-1]["usage"]["completion_tokens"] == 5
    timing = reads[-1]["timing"]
    assert 0 < timing["first_chunk_seconds"] < timing["duration_seconds"]


def test_several_accept_headers_are_one_list(stack: Stack) -> None:
    connection = stack.client.send("GET", "/livez")
    connection.getresponse().read()
    connection.putrequest("GET", "/generate?" + urllib.parse.urlencode({"query": script(chunks=1)}))
    connection.putheader("Accept", "image/png")
    connection.putheader("Accept", f"{TEXT}, {SSE};q=0.5")
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    connection.close()


def test_x_ndjson_is_the_same_bytes_under_the_other_name(stack: Stack) -> None:
    with stack.client.ask(script(chunks=2), accept="application/x-ndjson") as stream:
        assert stream.headers["Content-Type"] == "application/x-ndjson"
        assert [event["type"] for event in stream.events()][-1] == "done"


def test_server_sent_events_carry_ids_types_and_a_retry(stack: Stack) -> None:
    # Two voices, which are not merged, however close they come.
    reply = stack.client.generate(script(reasoning=["hm"], chunks=1), accept=SSE)
    assert reply.headers["Content-Type"] == "text/event-stream"
    answer = reply.headers["X-Answer-Id"]
    retry, body = reply.body.decode().split("\n", 1)
    assert retry == f"retry: {RETRY_MILLISECONDS}"
    *blocks, rest = body.split("\n\n")
    assert rest == ""
    events = [block.split("\n") for block in blocks]
    assert [event[0] for event in events] == ["event: start", "event: delta", "event: delta", "event: done"]
    assert json.loads(events[1][1].removeprefix("data: ")) == {"type": "delta", "seq": 2, "reasoning": "hm"}
    assert [event[2] for event in events] == [f"id: {answer}:{seq}" for seq in range(1, 5)]


def test_plain_text_is_the_text_alone(stack: Stack) -> None:
    reply = stack.client.generate(script(texts=["árvíz", "tűrő\n"], reasoning=["hm"]), accept=TEXT)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.body.decode() == "árvíztűrő\n"


def test_a_get_streams_as_a_post_does(stack: Stack) -> None:
    query = urllib.parse.urlencode({"query": script(chunks=2), "max_tokens": 7, "temperature": 0.5})
    reply = stack.client.request("GET", f"/generate?{query}", headers={"Accept": SSE})
    assert reply.body.decode().count("event: done") == 1


@pytest.mark.parametrize("accept", [JSON_LINES, SSE, TEXT])
def test_the_headers_name_the_answer_and_forbid_to_hold_it_back(stack: Stack, accept: str) -> None:
    reply = stack.client.generate(script(chunks=1), accept=accept)
    assert reply.headers["Location"] == f"/answers/{reply.headers['X-Answer-Id']}"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Accel-Buffering"] == "no"
    assert reply.headers["X-Request-Id"]


def test_a_silent_upstream_is_bridged_by_heartbeats_from_the_first_moment_on(stack: Stack) -> None:
    with stack.client.ask(script(status_delay=3.5, chunks=1), accept=JSON_LINES) as stream:
        lines = list(stream.lines())
    assert json.loads(lines[0])["type"] == "start", "the response begins without the upstream's status"
    assert lines[1:3] == [b"", b""], "heartbeats"
    assert json.loads(lines[-1])["type"] == "done"


def test_a_reader_that_makes_an_event_of_any_blank_line_makes_none_of_a_heartbeat(stack: Stack) -> None:
    query = script(status_delay=3.5, chunks=1)
    body = stack.client.generate(query, accept=SSE).body
    assert body.splitlines().count(b":") >= 2, "heartbeats"  # two in a row share a line end
    events = list(SSEDecoder().iter_bytes(iter([body])))
    assert [event.event for event in events] == ["start", "delta", "done"]
    assert [json.loads(event.data)["seq"] for event in events] == [1, 2, 3]


def test_reasoning_and_refusals_are_told_apart_from_text(stack: Stack) -> None:
    for name in ("reasoning", "reasoning_content"):
        events = stack.client.generate(
            script(reasoning=["hm"], reasoning_field=name, texts=["yes"], refusal="no", pace=0.01)
        ).events
        assert [(event.get("reasoning"), event.get("text"), event.get("refusal")) for event in events[1:-1]] == [
            ("hm", None, None),
            (None, "yes", None),
            (None, None, "no"),
        ]


def test_what_was_asked_reaches_the_upstream(stack: Stack) -> None:
    history = [{"role": "user", "content": "Hol ered?"}, {"role": "assistant", "content": "A hegyen."}]
    query = script(key="asked", chunks=1)
    stack.client.generate(query, history=history, model="other-model", temperature=0.5, max_tokens=9)
    [record] = stack.upstream.requests("asked")
    assert record["messages"] == [*history, {"role": "user", "content": query}]
    assert record["model"] == "other-model"
    assert record["body"]["temperature"] == 0.5
    assert record["body"]["max_tokens"] == 9
    assert record["headers"]["accept-encoding"] == "identity"


def test_followers_who_are_behind_get_neighbouring_deltas_merged_under_the_last_seq(stack: Stack) -> None:
    whole = stack.client.generate(script(chunks=500)).events
    again = stack.client.follow(whole[0]["answer"]).events
    for events in (whole, again):
        assert "".join(event.get("text", "") for event in events) == "".join(f"w{n} " for n in range(1, 501))
        assert events[-1]["seq"] == 502
        assert all(one["seq"] < other["seq"] for one, other in pairwise(events))
    assert len(again) < 20, "a replay is short"


def test_hostile_text_neither_forges_nor_breaks_an_event(stack: Stack) -> None:
    texts = ["a\r\nb", "\n\nevent: done\ndata: {}\n\n", "\x00\x1b[2J\x85\u2028", "id: x:9\rretry: 1\r", "}\n{"]
    said = "".join(texts)
    for cut in ({}, {"split": "bytes"}):
        query = script(texts=texts, pace=0.002, **cut)
        lines = stack.client.generate(query)
        assert "".join(event.get("text", "") for event in lines.events) == said
        sse = stack.client.generate(query, accept=SSE).body.decode()
        data = [json.loads(line.removeprefix("data: ")) for line in sse.split("\n") if line.startswith("data: ")]
        assert "".join(event.get("text", "") for event in data) == said
        assert sse.count("\nevent: done\n") == 1
        assert stack.client.generate(query, accept=TEXT).body.decode() == said
