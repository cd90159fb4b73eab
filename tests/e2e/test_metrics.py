"""The two headline histograms are right over both workers, by the client's own clock."""

import signal
import time
from pathlib import Path

import psutil

from tests.e2e.client import SSE, Client, script
from tests.e2e.conftest import Stack
from tests.e2e.stack import READY_SECONDS, Service, eventually
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

ANSWERS = 16
FIRST_CHUNK_SECONDS = 0.25
PACE_SECONDS = 0.01
CHUNKS = 20

MODEL = '{model="other-model"}'
OUTCOME = '{model="other-model",outcome="done"}'


def test_time_to_first_chunk_and_duration_agree_with_the_clients_clock(stack: Stack, report: Report) -> None:
    before = stack.direct.metrics()
    first_chunks, durations = [], []
    for number in range(ANSWERS):
        began_at = time.monotonic()
        commands = script(first_chunk_delay=FIRST_CHUNK_SECONDS, pace=PACE_SECONDS, chunks=CHUNKS)
        with stack.client.ask(commands, model="other-model", accept=SSE) as stream:
            lines = stream.lines()
            while not next(lines).startswith(b"event: delta"):
                pass
            first_chunks.append(time.monotonic() - began_at)
            for _ in lines:
                pass
            durations.append(time.monotonic() - began_at)
        # Both workers' counts are in each scrape, whichever worker it comes to.
        wanted = before.get(f"folyam_streams_finished_total{OUTCOME}", 0) + number + 1
        assert stack.direct.metrics()[f"folyam_streams_finished_total{OUTCOME}"] == wanted
    after = stack.direct.metrics()

    def gained(name: str) -> float:
        return after[name] - before.get(name, 0)

    for name, labels, own in (
        ("folyam_time_to_first_chunk_seconds", MODEL, first_chunks),
        ("folyam_stream_duration_seconds", OUTCOME, durations),
    ):
        assert gained(f"{name}_count{labels}") == ANSWERS
        mean, client = gained(f"{name}_sum{labels}") / ANSWERS, sum(own) / ANSWERS
        # The client also waits for nginx and for its own turn on a busy machine, and it waits for nothing less.
        assert mean <= client < 1.5 * mean
        report.add(name, f"service {mean * 1000:.1f} ms", f"client {client * 1000:.1f} ms", f"{ANSWERS} answers")
    own_share = gained(f"folyam_time_to_first_chunk_seconds_sum{MODEL}")
    upstream_share = gained(f"folyam_upstream_time_to_first_chunk_seconds_sum{MODEL}")
    assert ANSWERS * FIRST_CHUNK_SECONDS < upstream_share < own_share
    assert gained(f"folyam_streams_started_total{MODEL}") == ANSWERS
    assert gained('folyam_tokens_total{model="other-model",type="completion"}') == ANSWERS * CHUNKS


def test_the_times_between_chunks_are_counted_one_by_one(stack: Stack) -> None:
    """On demand: chunks that come together, as they do on a busy machine, have no time between them."""
    name, key = f"folyam_time_between_chunks_seconds_count{MODEL}", "between"
    before = stack.direct.metrics().get(name, 0)
    with stack.client.ask(script(key=key, chunks=CHUNKS, on_demand=True), model="other-model") as stream:
        events = stream.events()
        assert next(events)["type"] == "start"
        for number in range(1, CHUNKS + 1):
            stack.upstream.step(key)
            assert next(events)["text"] == f"w{number} "
        stack.upstream.step(key)
        stack.upstream.step(key)
        assert [event["type"] for event in events] == ["done"]
    eventually(lambda: stack.direct.metrics()["folyam_streams_in_flight"] == 0)
    assert stack.direct.metrics()[name] == before + CHUNKS - 1


def test_the_gauges_count_what_is_running_on_both_workers(stack: Stack) -> None:
    eventually(lambda: stack.direct.metrics()["folyam_streams_in_flight"] == 0)
    streams = [stack.client.ask(script(endless=True, pace=0.05)) for _ in range(8)]
    others = [stack.client.open("GET", f"/answers/{stream.answer}") for stream in streams[:4]]
    eventually(lambda: stack.direct.metrics()["folyam_streams_in_flight"] == 8)
    eventually(lambda: stack.direct.metrics()["folyam_followers"] == 12)
    stops = stack.direct.metrics().get("folyam_stop_seconds_count", 0)
    for stream in streams:
        stack.client.stop(stream.answer)
        stream.close()
    for other in others:
        other.close()
    eventually(lambda: stack.direct.metrics()["folyam_streams_in_flight"] == 0)
    eventually(lambda: stack.direct.metrics()["folyam_followers"] == 0)
    assert stack.direct.metrics()["folyam_stop_seconds_count"] == stops + 8


def test_resumes_refusals_and_failures_are_counted_by_their_names(stack: Stack) -> None:
    names = (
        'folyam_resumes_total{rendering="sse"}',
        'folyam_requests_rejected_total{reason="empty_query"}',
        'folyam_upstream_errors_total{model="test-model",reason="credentials"}',
        'folyam_streams_finished_total{model="test-model",outcome="failed"}',
    )
    before = stack.direct.metrics()
    answer = stack.client.generate(script(chunks=3)).events[0]["answer"]
    stack.client.follow(answer, after=2, accept=SSE)
    stack.client.generate("")
    stack.client.generate(script(status=401))
    after = stack.direct.metrics()
    assert {name: after[name] - before.get(name, 0) for name in names} == dict.fromkeys(names, 1)
    assert after['folyam_build_info{version="0.1.0"}'] == 1


def taken_over(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if "takeovers" in name)


def test_counts_outlive_their_workers_and_only_a_killed_one_is_counted_as_dead(
    tmp_path: Path, upstream: UpstreamProcess
) -> None:
    with Service(tmp_path, tmp_path / "answers", upstream.base_url) as service:
        client = Client(service.address)
        done = 'folyam_streams_finished_total{model="test-model",outcome="done"}'

        def replaced(old: list[int]) -> bool:
            now = service.workers()
            return len(now) == 2 and not set(now) & set(old) and client.metrics()["folyam_streams_limit"] == 800

        for number in range(1, 4):
            client.generate(script())
            old = service.workers()
            service.process.send_signal(signal.SIGHUP)
            eventually(lambda old=old: replaced(old), READY_SECONDS)  # type: ignore[misc]
            assert client.metrics()[done] == number
        assert client.metrics()["folyam_worker_deaths_total"] == 0
        running = client.ask(script(endless=True, pace=0.05))
        eventually(lambda: client.metrics()["folyam_streams_in_flight"] == 1)
        [victim] = [
            worker
            for worker in service.workers()
            if any(running.answer in file.path for file in psutil.Process(worker).open_files())
        ]
        psutil.Process(victim).kill()
        eventually(lambda: client.metrics()["folyam_worker_deaths_total"] == 1, READY_SECONDS)
        # Its answer is in flight again, once, with another.
        eventually(lambda: taken_over(client.metrics()) == 1, READY_SECONDS)
        assert client.metrics()["folyam_streams_in_flight"] == 1
        assert client.metrics()[done] == 3
        client.stop(running.answer)
        running.close()
        eventually(lambda: client.metrics()["folyam_streams_in_flight"] == 0)
