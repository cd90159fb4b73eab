"""A stop or a disconnect closes the upstream's connection, from any worker and in every phase."""

import time
from typing import Any

import pytest

from tests.e2e.client import Stream, question, script
from tests.e2e.conftest import Pair
from tests.e2e.logfile import read_log
from tests.e2e.stack import eventually
from tests.tables import Report

PHASES: dict[str, dict[str, Any]] = {
    "before the status": {"status_delay": 60},
    "before the first chunk": {"first_chunk_delay": 60},
    "in mid-stream": {"pace": 0.02, "endless": True},
    "in a silence": {"stall_after": 3},
}
SECOND = 1.0
"""The contract's time limit for a stop. A test allows ten times as much."""


@pytest.mark.parametrize("worker", [0, 1], ids=["same worker", "other worker"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_closes_the_upstream_and_is_told_to_every_follower(
    pair: Pair, report: Report, phase: str, worker: int
) -> None:
    key = f"stop {phase} {worker}"
    # The start event comes before the status: status_wait_seconds is two.
    with (
        pair.clients[0].ask(script(key=key, **PHASES[phase])) as stream,
        pair.clients[1].open("GET", f"/answers/{stream.answer}") as other,
    ):
        pair.upstream.wait_opened(key)
        asked_at = time.monotonic()
        reply = pair.clients[worker].stop(stream.answer)
        [record] = pair.upstream.wait_closed(key, 10 * SECOND)
        assert reply.status == 200
        assert reply.json["state"] == "stopped", "it answers once the terminal event is in the log"
        assert record["closed_by"] == "client"
        for each in (stream, other):
            *_, last = each.events()
            figures = {name: reply.json[name] for name in ("usage", "usage_complete", "timing")}
            assert last == {"type": "stopped", "seq": reply.json["last_seq"], "by": "user"} | figures
            assert figures["usage_complete"] is False, "the upstream told no usage"
            assert figures["timing"]["duration_seconds"] > 0
    again = pair.clients[1 - worker].stop(stream.answer)
    assert again.json == reply.json, "a second stop changes nothing"
    report.add(f"stop {phase}", ["same worker", "other worker"][worker], milliseconds(record["closed_at"] - asked_at))


@pytest.mark.parametrize("phase", PHASES)
def test_the_last_follower_that_leaves_closes_the_upstream(pair: Pair, report: Report, phase: str) -> None:
    key = f"leave {phase}"
    body, headers = question(script(key=key, **PHASES[phase]))
    connection = pair.clients[0].send("POST", "/generate", body, headers)
    if phase == "before the status":
        pair.upstream.wait_opened(key)
    else:
        stream = Stream(connection)
        events = stream.events()
        next(events)
        if phase != "before the first chunk":
            assert next(events)["type"] == "delta"
    left_at = time.monotonic()
    connection.close()
    if phase != "before the status":
        stream.close()
    [record] = pair.upstream.wait_closed(key, 10 * SECOND)
    assert record["closed_by"] == "client"
    report.add(f"leave {phase}", "same worker", milliseconds(record["closed_at"] - left_at))


def test_a_follower_on_another_worker_keeps_the_answer_going_and_its_leaving_ends_it(
    pair: Pair, report: Report
) -> None:
    key = "follower elsewhere"
    stream = pair.clients[0].ask(script(key=key, endless=True, pace=0.02))
    other = pair.clients[1].open("GET", f"/answers/{stream.answer}")
    events = other.events()
    next(events)
    stream.close()
    # Well over the time after which an unwatched answer is ended here: it is watched.
    begun = next(events)["seq"]
    while next(events)["seq"] < begun + 50:
        pass
    left_at = time.monotonic()
    other.close()
    [record] = pair.upstream.wait_closed(key, 10 * SECOND)
    assert record["closed_by"] == "client"
    log = eventually(lambda: ended(pair, stream.answer))
    assert log[-1]["by"] == "unwatched"
    report.add("leave in mid-stream", "other worker", milliseconds(record["closed_at"] - left_at))


def test_an_answer_that_ended_is_not_stopped_any_more(pair: Pair) -> None:
    events = pair.clients[0].generate(script(chunks=2)).events
    answer = events[0]["answer"]
    for client in pair.clients:
        assert client.stop(answer).json["state"] == "done"
    assert read_log(pair.logs, answer) == events or len(read_log(pair.logs, answer)) == events[-1]["seq"]


@pytest.mark.parametrize("worker", [0, 1], ids=["same worker", "other worker"])
def test_erasing_stops_and_leaves_nothing(pair: Pair, worker: int) -> None:
    key = f"erase {worker}"
    with pair.clients[0].ask(script(key=key, endless=True, pace=0.02)) as stream:
        next(stream.events())
        erased = pair.clients[worker].request("DELETE", f"/answers/{stream.answer}")
        assert erased.status == 204
        assert erased.headers.get_all("Cache-Control") == ["no-store"]
        [record] = pair.upstream.wait_closed(key, 10 * SECOND)
        assert record["closed_by"] == "client"
        *_, last = stream.events()
        assert last["type"] == "stopped", "who follows is told"
    for client in pair.clients:
        assert client.request("GET", f"/answers/{stream.answer}").status == 404
    assert not list(pair.logs.glob(f"{stream.answer}*"))


def ended(pair: Pair, answer: str) -> list[dict[str, object]]:
    log = read_log(pair.logs, answer)
    return log if log[-1]["type"] in ("done", "stopped", "failed") else []


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:7.1f} ms"
