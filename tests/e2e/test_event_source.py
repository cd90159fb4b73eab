"""A stock EventSource, with no code of ours, starts an answer, survives its connection's cuts, and ends."""

import json
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.client import script
from tests.e2e.conftest import Stack
from tests.e2e.cutter import Cutter, random_limits
from tests.e2e.logfile import assert_equals_log, read_log
from tests.e2e.stack import NODE, ROOT, eventually
from tests.tables import Report

CUTS = 6
CHUNKS = 500
PACE_SECONDS = 0.02
HEADERS_BYTES = 1500
"""Behind the response's headers and its first event, and the page that asks: a client that has not seen an id cannot
name it."""

IN_THE_PAGE = """
(address) => new Promise((resolve) => {
  const source = new EventSource(address);
  const events = [];
  let opens = 0;
  source.onopen = () => { opens += 1; };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) resolve({events, opens});
  };
  for (const type of ["start", "delta", "restart", "done", "stopped", "failed"]) {
    source.addEventListener(type, (event) => events.push(JSON.parse(event.data)));
  }
})
"""

Follow = Callable[[str], dict[str, Any]]


def in_chromium(browser: Browser) -> Follow:
    def follow(address: str) -> dict[str, Any]:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(urllib.parse.urljoin(address, "/livez"))
        seen: dict[str, Any] = page.evaluate(IN_THE_PAGE, address)
        page.close()
        return seen

    return follow


def in_node(address: str) -> dict[str, Any]:
    node = subprocess.run(
        [NODE, ROOT / "tests/e2e/eventsource.mjs", address], stdout=subprocess.PIPE, timeout=60, check=True
    )
    seen: dict[str, Any] = json.loads(node.stdout)
    return seen


@pytest.fixture(params=["chromium", "node"])
def follow(request: pytest.FixtureRequest) -> Follow:
    return in_chromium(request.getfixturevalue("browser")) if request.param == "chromium" else in_node


def test_it_ends_with_the_whole_answer_once_however_often_it_is_cut(
    stack: Stack, follow: Follow, request: pytest.FixtureRequest, report: Report
) -> None:
    key = request.node.name
    query = urllib.parse.urlencode({"query": script(key=key, chunks=CHUNKS, pace=PACE_SECONDS)})
    with Cutter(stack.nginx.address, random_limits(7, CUTS, HEADERS_BYTES, 3 * HEADERS_BYTES)) as cutter:
        begun_at = time.monotonic()
        seen = follow(f"http://{cutter.address}/generate?{query}")
        took = time.monotonic() - begun_at
    answer = seen["events"][0]["answer"]
    log = read_log(stack.logs, answer)
    assert cutter.cuts == CUTS
    assert_equals_log(seen["events"], log=log)
    assert log[-1]["type"] == "done"
    assert len(stack.upstream.requests(key)) == 1, "one generation"
    # The stream's end makes it come once more; the 204 tells it to stay away.
    statuses = eventually(lambda: whole(requests_for(stack, answer), opens=seen["opens"]))
    assert statuses[-1] == 204
    client = key.partition("[")[2].rstrip("]")
    report.add(client, f"{cutter.cuts} cuts", f"{len(log)} events", "1 generation", f"{took:.1f} s")


def requests_for(stack: Stack, answer: str) -> list[int]:
    """The statuses of the requests for an answer, from the service's log."""
    lines = [json.loads(line) for line in stack.service.log.read_text().splitlines() if line.startswith("{")]
    return [line["status"] for line in lines if line["event"] == "request" and line["answer"] == answer]


def whole(statuses: list[int], opens: int) -> list[int]:
    """The statuses, once there is one for each time that the stream was opened and one for its end."""
    return statuses if statuses.count(200) == opens and 204 in statuses else []


def test_it_is_told_of_a_failure_and_stays_away(stack: Stack, follow: Follow, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    query = urllib.parse.urlencode({"query": script(key=key, chunks=5, cut_after=3)})
    seen = follow(f"{stack.client.url}/generate?{query}")
    assert [event["type"] for event in seen["events"]][-1] == "failed"
    assert seen["opens"] == 1
    assert len(stack.upstream.requests(key)) == 1
