"""A deployment goes unnoticed: answers go on, or are handed over, and their followers lose nothing."""

import http.client
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.client import JSON_LINES, SSE, TEXT, Client, Stream, question, resume_headers, script
from tests.e2e.conftest import Stack
from tests.e2e.logfile import Event, assert_equals_log, read_log
from tests.e2e.stack import READY_SECONDS, Nginx, Service, eventually
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

STREAMS = 30
CHUNKS = 120
PACE_SECONDS = 0.05
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))
ENDS = ("done", "stopped", "failed")


@contextmanager
def drained_in(seconds: int, directory: Path, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    settings = {"FOLYAM_DRAIN_SECONDS": str(seconds), "FOLYAM_CONTINUE": "assistant"}
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


@pytest.fixture(scope="module")
def short_drain(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    with drained_in(1, tmp_path_factory.mktemp("drain"), upstream, web_root) as stack:
        yield stack


@pytest.fixture
def long_drain(tmp_path: Path, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    with drained_in(60, tmp_path, upstream, web_root) as stack:
        yield stack


def follow_to_the_end(client: Client, query: str, begun: threading.Barrier) -> tuple[str, list[list[Event]]]:
    """Ask, and resume for as long as no terminal event has come, as a client is meant to."""
    body, headers = question(query)
    stream = Stream(client.send("POST", "/generate", body, headers))
    answer = stream.answer
    pieces: list[list[Event]] = [[]]
    deadline = time.monotonic() + 60
    begun.wait()
    while True:
        try:
            for event in stream.events():
                pieces[-1].append(event)
        except (http.client.HTTPException, OSError):
            pass  # Cut: what came whole counts.
        finally:
            stream.close()
        last = max(event["seq"] for piece in pieces for event in piece)
        if pieces[-1] and pieces[-1][-1]["type"] in ENDS:
            return answer, pieces
        assert time.monotonic() < deadline
        stream = Stream(client.send("GET", f"/answers/{answer}", headers=resume_headers(answer, last)))
        assert stream.status == 200
        pieces.append([])


def test_a_reload_under_running_streams_loses_doubles_and_fails_nothing(short_drain: Stack, report: Report) -> None:
    old = short_drain.service.workers()
    begun = threading.Barrier(STREAMS + 1)
    query = script(key="reload", endless=True, pace=PACE_SECONDS)
    with ThreadPoolExecutor(STREAMS) as threads:
        answers = [threads.submit(follow_to_the_end, short_drain.client, query, begun) for _ in range(STREAMS)]
        begun.wait()
        short_drain.service.process.send_signal(signal.SIGHUP)
        # New requests are served all the while.
        while set(short_drain.service.workers()) & set(old):
            reply = short_drain.client.generate(script(chunks=1))
            assert reply.status == 200, reply.body
            assert reply.events[-1]["type"] == "done"
        short_drain.upstream.end("reload")
        results = [answer.result() for answer in answers]
    for answer, pieces in results:
        log = read_log(short_drain.logs, answer)
        assert_equals_log(*pieces, log=log)
        assert log[-1]["type"] == "done"
        words = "".join(event.get("text", "") for event in log).split()
        assert words == [f"w{n}" for n in range(1, len(words) + 1)]
    resumes = sum(len(pieces) - 1 for _, pieces in results)
    assert resumes >= STREAMS, "the drain was shorter than the answers, so all were handed over"
    report.add("HUP", f"{STREAMS} streams", f"{resumes} resumes", "0 lost", "0 doubled", "0 failed")


def test_an_answer_that_ends_within_the_drain_is_not_cut(long_drain: Stack) -> None:
    old = set(long_drain.service.workers())
    with long_drain.client.ask(script(key="within", endless=True, pace=0.01)) as stream:
        events = stream.events()
        next(events)
        long_drain.service.process.send_signal(signal.SIGHUP)
        # The one that writes the answer is the last of the old ones.
        eventually(lambda: len(set(long_drain.service.workers()) & old) == 1, READY_SECONDS)
        long_drain.upstream.end("within")
        assert [*events][-1]["type"] == "done"
    eventually(lambda: not set(long_drain.service.workers()) & old, READY_SECONDS)
    assert len(long_drain.upstream.requests("within")) == 1


@pytest.mark.parametrize("accept", [JSON_LINES, SSE, TEXT])
def test_a_response_that_the_drain_cuts_does_not_look_whole(short_drain: Stack, accept: str) -> None:
    with short_drain.client.ask(script(endless=True, pace=PACE_SECONDS), accept=accept) as stream:
        stream.read()
        short_drain.service.process.send_signal(signal.SIGHUP)
        with pytest.raises(http.client.IncompleteRead):
            deque(iter(stream.read, b""))


def test_a_whole_stop_leaves_answers_that_the_next_start_carries_on(
    tmp_path: Path, upstream: UpstreamProcess, report: Report
) -> None:
    settings = {"FOLYAM_DRAIN_SECONDS": "0", "FOLYAM_CONTINUE": "assistant"}
    answers = tmp_path / "answers"
    with Service(tmp_path / "one", answers, upstream.base_url, settings=settings) as service:
        streams = [Client(service.address).ask(script(chunks=CHUNKS, pace=PACE_SECONDS)) for _ in range(5)]
        seen = [[next(events) for _ in range(10)] for events in (stream.events() for stream in streams)]
        service.stop()
    with Service(tmp_path / "two", answers, upstream.base_url, settings=settings) as service:
        for stream, first in zip(streams, seen, strict=True):
            rest = Client(service.address).follow(stream.answer, first[-1]["seq"]).events
            log = read_log(answers, stream.answer)
            assert_equals_log(first, rest, log=log)
            assert "".join(event.get("text", "") for event in log) == WHOLE
            stream.close()
    report.add(
        "stop and start", f"{len(streams)} streams", f"{len(streams)} resumes", "0 lost", "0 doubled", "0 failed"
    )


def test_a_worker_that_leaves_says_so_and_keeps_serving_what_it_has(tmp_path: Path, upstream: UpstreamProcess) -> None:
    settings = {"FOLYAM_DRAIN_SECONDS": "20"}
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as service:
        client = Client(service.address)
        idle = client.send("GET", "/livez")  # a connection that was there before
        idle.getresponse().read()
        with client.ask(script(chunks=60, pace=0.05)) as stream:
            next(stream.events())
            service.process.send_signal(signal.SIGTERM)
            assert [*stream.events()][-1]["type"] == "done", "it goes on to its end"
        idle.close()
        assert service.process.wait(READY_SECONDS) == 0
