"""The npm package `@microsoft/fetch-event-source` in Chromium loses and doubles nothing where its connections are cut.

It notes an event's id when it has read the line, and gives the event to the page at the blank line behind it. A cut
between the two costs it that event, whatever the server does. So the cuts are everywhere but there.
"""

import json
import urllib.parse
from typing import Any

from playwright.sync_api import Browser, Page, Route

from tests.e2e.client import script
from tests.e2e.conftest import Stack
from tests.e2e.cutter import Cutter, random_limits
from tests.e2e.logfile import assert_equals_log, read_log
from tests.e2e.stack import ROOT
from tests.tables import Report

PACKAGE = ROOT / "frontend" / "node_modules" / "@microsoft" / "fetch-event-source" / "lib" / "esm"
ANSWERS = 4
"""Side by side: a browser opens six connections to a host."""
CHUNKS = 500
PACE_SECONDS = 0.02
MAX_CUTS = 80
ENOUGH_CUTS = 12
"""With `id` as the first line of an event, about every second cut loses one."""
HEADERS_BYTES = 1500
"""Past the response's headers and its first event: a client that has not seen an id asks anew."""

IN_THE_PAGE = """
async (queries) => {
  const { fetchEventSource } = await import("/fetch-event-source/index.js");
  const ended = new Error("There is nothing more.");
  const follow = async (query) => {
    const seen = [];
    await fetchEventSource("/generate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query }),
      async onopen({ status }) {
        if (status === 204) throw ended;
      },
      onmessage: ({ data }) => seen.push(data),
      onerror(error) {
        if (error === ended) throw error;
        return 10; // milliseconds until the next try
      },
    }).catch((error) => {
      if (error !== ended) throw error;
    });
    return seen;
  };
  return Promise.all(queries.map(follow));
}
"""


def open_page(browser: Browser, url: str) -> Page:
    """Open a page of the service's origin in which the package can be imported."""
    page = browser.new_page()
    page.set_default_timeout(60_000)

    def serve(route: Route) -> None:
        name = urllib.parse.urlsplit(route.request.url).path.rpartition("/")[2].removesuffix(".js")
        route.fulfill(path=PACKAGE / f"{name}.js", content_type="text/javascript")

    page.route("**/fetch-event-source/*", serve)
    page.goto(f"{url}/livez")
    return page


def test_it_ends_with_whole_answers_once_wherever_they_are_cut(stack: Stack, browser: Browser, report: Report) -> None:
    keys = [f"fetch-event-source {number}" for number in range(ANSWERS)]
    queries = [script(key=key, chunks=CHUNKS, pace=PACE_SECONDS) for key in keys]
    limits = random_limits(13, MAX_CUTS, HEADERS_BYTES, 3 * HEADERS_BYTES)
    with Cutter(stack.nginx.address, limits, keeps_blank_lines=True) as cutter:
        page = open_page(browser, f"http://{cutter.address}")
        everything: list[list[str]] = page.evaluate(IN_THE_PAGE, queries)
        page.close()
    assert cutter.cuts >= ENOUGH_CUTS
    for key, messages in zip(keys, everything, strict=True):
        assert "" not in messages, "it makes an empty event of any blank line that ends none"
        events: list[dict[str, Any]] = [json.loads(data) for data in messages]
        log = read_log(stack.logs, events[0]["answer"])
        assert_equals_log(events, log=log)
        assert log[-1]["type"] == "done"
        assert len(stack.upstream.requests(key)) == 1, "one generation"
    report.add(f"{len(everything)} answers", f"{cutter.cuts} cuts", f"{sum(map(len, everything))} events")
