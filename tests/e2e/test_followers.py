"""Any number of followers see the same answer, and none slows another."""

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil

from tests.e2e.client import JSON_LINES, SSE, Client, script
from tests.e2e.conftest import Stack
from tests.e2e.logfile import assert_equals_log, json_events, read_log, sse_events
from tests.e2e.stack import eventually
from tests.tables import Report

FOLLOWERS = 20
STALLED_BYTES = 32 << 20
"""Many times the buffers on the way: two of the kernel's sockets, nginx's and uvicorn's."""
MEMORY_BYTES = 24 << 20
"""Limit on a worker's growth while it serves a stalled reader and others. The answer itself is longer."""


def test_twenty_followers_on_both_workers_receive_the_same_events_of_one_generation(stack: Stack) -> None:
    before = served_by(stack)
    with stack.client.ask(script(key="twenty", chunks=100, pace=0.02)) as stream:
        next(stream.events())
        started = threading.Barrier(FOLLOWERS)

        def follow(number: int) -> list[dict[str, object]]:
            started.wait()
            accept = (JSON_LINES, SSE)[number % 2]
            body = stack.client.follow(stream.answer, accept=accept).body
            return (json_events, sse_events)[number % 2](body)

        with ThreadPoolExecutor(FOLLOWERS) as threads:
            everything = list(threads.map(follow, range(FOLLOWERS)))
        answer = stream.answer
    log = read_log(stack.logs, answer)
    assert len(log) == 102
    for seen in everything:
        assert_equals_log(seen, log=log)
    assert len(stack.upstream.requests("twenty")) == 1
    after = eventually(lambda: both_worked(before, served_by(stack)))
    assert after, "both workers served followers"


def served_by(stack: Stack) -> dict[int, float]:
    """CPU seconds of each worker: one that served nothing used next to none."""
    return {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in stack.service.workers()}


def both_worked(before: dict[int, float], after: dict[int, float]) -> bool:
    return all(after[pid] - before[pid] > 0.02 for pid in before)


def test_a_stalled_reader_holds_up_the_service_and_not_a_disk(stack: Stack, report: Report) -> None:
    """nginx must not spool the stream to a disk. The service's send then blocks, and its memory does not grow."""
    text = "x" * 4000
    query = script(key="stalled", chunks=STALLED_BYTES // len(text), text=text)
    long_answer = stack.client.generate(query)
    assert long_answer.events[-1]["type"] == "done"
    answer, length = long_answer.events[0]["answer"], len(long_answer.body)
    paced = script(chunks=50, pace=0.01)
    quiet = stack.client.generate(paced).events
    memory = stack.service.memory()
    stalled = [stall(stack.client, answer) for _ in range(10)]
    try:
        # Where nginx spooled, it would have taken everything from the service, which would then have no follower left.
        followers = eventually(lambda: followed_by(stack, 10))

        # Others do not notice: theirs come no more in heaps than before. Stalled readers would hold up each try, and a
        # busy machine only some.
        def flows() -> bool:
            events = stack.client.generate(paced).events
            assert events[-1]["seq"] == 52
            return len(events) > len(quiet) / 3

        eventually(flows, 60)
        assert followers == 10
        assert followed_by(stack, 10), "they are still held up, and cost the service an offset each"
        spooled = sum(path.stat().st_size for path in stack.nginx.log.parent.glob("nginx/proxy/**/*") if path.is_file())
        assert spooled == 0
        growth = stack.service.memory() - memory
        assert growth < MEMORY_BYTES
        report.add("stalled readers", "each of bytes", "spooled by nginx", "service's memory grew by bytes")
        report.add(len(stalled), length, spooled, growth)
    finally:
        for connection in stalled:
            connection.close()
    eventually(lambda: stack.direct.metrics()["folyam_followers"] == 0)


def followed_by(stack: Stack, number: int) -> float:
    followers = stack.direct.metrics()["folyam_followers"]
    return followers if followers == number else 0


def stall(client: Client, answer: str) -> http.client.HTTPConnection:
    """Ask for an answer and read nothing of it."""
    connection = http.client.HTTPConnection(client.address.host, client.address.port)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it connects, or it counts no more
    connection.sock.connect((client.address.host, client.address.port))
    connection.request("GET", f"/answers/{answer}")
    return connection
