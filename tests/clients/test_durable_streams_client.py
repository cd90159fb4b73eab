"""Durable Streams' own client, unmodified, reads answers that were asked for elsewhere."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.renderings.durable_streams import offset_of
from tests.clients.conftest import Stack
from tests.e2e.client import script
from tests.e2e.cutter import Cutter, random_limits
from tests.e2e.logfile import assert_equals_log, read_log
from tests.e2e.stack import NODE, READY_SECONDS, ROOT, eventually
from tests.tables import Report

CHUNKS = 300
PACE_SECONDS = 0.01
CUTS = 6
HEADERS_BYTES = 1000
MODES = ["true", "long-poll", "sse"]


def follow(address: object, answer: str, mode: str, offset: str = "-1") -> dict[str, Any]:
    """Return what the client has seen at the end."""
    program = ROOT / "tests" / "clients" / "durable-streams.mjs"
    node = subprocess.run(
        [NODE, program, f"http://{address}/v1/stream/{answer}", offset, mode],
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    seen: dict[str, Any] = json.loads(node.stdout)
    return seen


@contextmanager
def ending(stack: Stack, key: str) -> Iterator[None]:
    """Let the answer end if the block fails, so that nothing waits for it."""
    try:
        yield
    except BaseException:
        stack.upstream.end(key)
        raise


@pytest.mark.parametrize("mode", MODES)
def test_it_has_the_whole_answer_once_however_often_it_is_cut(stack: Stack, mode: str, report: Report) -> None:
    query = script(chunks=CHUNKS, pace=PACE_SECONDS, reasoning=["Hm. ", "á"], refusal="no")
    with (
        stack.client.ask(query) as asked,
        Cutter(stack.nginx.address, random_limits(5, CUTS, HEADERS_BYTES, 6 * HEADERS_BYTES)) as cutter,
    ):
        seen = follow(cutter.address, asked.answer, mode)
    assert_equals_log(seen["items"], log=read_log(stack.logs, asked.answer))
    assert cutter.cuts > 0
    assert seen["items"][-1]["type"] == "done"
    report.add(mode, f"{cutter.cuts} cuts", f"{len(seen['errors'])} errors", f"{seen['batches']} batches")


@pytest.mark.parametrize("mode", [*MODES, "false"])
def test_it_continues_from_the_middle_of_an_answer_that_has_ended(stack: Stack, mode: str) -> None:
    answer = stack.client.generate(script(chunks=20)).headers["X-Answer-Id"]
    log = read_log(stack.logs, answer)
    seen = follow(stack.nginx.address, answer, mode, offset_of(log[9]["seq"]))
    assert_equals_log(log[:10], seen["items"], log=log)
    assert seen["errors"] == []


def test_server_sent_events_go_on_over_a_reload_of_the_service_without_an_error(
    stack: Stack, request: pytest.FixtureRequest
) -> None:
    key = request.node.name
    program = ROOT / "tests" / "clients" / "durable-streams.mjs"
    with stack.client.ask(script(key=key, endless=True, pace=PACE_SECONDS)) as asked:
        url = f"http://{stack.nginx.address}/v1/stream/{asked.answer}"
        with subprocess.Popen([NODE, program, url, "-1", "sse"], stdout=subprocess.PIPE) as node, ending(stack, key):
            eventually(lambda: len(read_log(stack.logs, asked.answer)) > 20)
            old = set(stack.service.workers())
            stack.service.process.send_signal(signal.SIGHUP)
            eventually(lambda: not set(stack.service.workers()) & old, READY_SECONDS)
            eventually(lambda: "restart" in [event["type"] for event in read_log(stack.logs, asked.answer)])
            stack.upstream.end(key)
            out, _ = node.communicate(timeout=60)
    seen = json.loads(out)
    assert_equals_log(seen["items"], log=read_log(stack.logs, asked.answer))
    assert seen["errors"] == []
