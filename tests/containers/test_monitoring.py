"""Prometheus in the stack: the dashboard's queries have results, and an alert fires."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.containers.following import follow_to_the_end
from tests.containers.project import Project, docker, eventually
from tests.e2e.client import JSON_LINES, Client, script

REPLICAS = 2
TIMEOUT_SECONDS = 150.0
"""Time for several scrapes and the evaluations after them."""

WORKERS = """
import os
for entry in os.listdir("/proc"):
    if entry.isdigit() and open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[1] == "1":
        print(entry)
"""


def expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each panel's title and queries, for all jobs and models, as Grafana would send them."""
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", ".*").replace("$model", ".*")
            yield panel["title"], expression.replace("$__rate_interval", "1m")
        yield from expressions(panel.get("panels", []))


def use(client: Client) -> None:
    """Ask three questions: one is answered, one fails, one is rejected."""
    assert client.generate(script(chunks=20, pace=0.02)).events[-1]["type"] == "done"
    assert client.generate(script(status=401)).status == 502
    assert client.request("POST", "/generate", b"{}", {"Content-Type": "application/json"}).status == 422


@pytest.fixture(scope="module")
def used(paced: Project) -> Project:
    """A stack in which everything has happened once: ends of every kind, a refusal, a killed container."""
    paced.up("--build", "--wait", "--scale", f"service={REPLICAS}")
    client = paced.client
    # Prometheus must scrape the counters at zero first: `increase` needs two samples.
    eventually(lambda: len(paced.prometheus("folyam_worker_deaths_total==0")) == REPLICAS)
    use(client)
    with client.ask(script(endless=True, pace=0.05)) as stream:
        assert stream.read()
        assert client.stop(stream.answer).status == 200
    with ThreadPoolExecutor() as threads:
        following = threads.submit(follow_to_the_end, client, script(chunks=100, pace=0.05))
        [busy] = eventually(
            lambda: [each for each, one in paced.replicas().items() if one.metrics()["folyam_streams_in_flight"] > 0]
        )
        docker("kill", busy)
        answer, _ = following.result()
    assert client.follow(answer, 3, JSON_LINES).events[-1]["type"] == "done"
    paced.up("--wait", "--scale", f"service={REPLICAS}")
    return paced


def test_no_panel_of_the_dashboard_is_without_data(used: Project) -> None:
    dashboard = json.loads((used.directory / "deploy" / "grafana" / "dashboards" / "folyam.json").read_text())
    without = [*expressions(dashboard["panels"])]
    assert len(without) > 10
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while without := [(title, asked) for title, asked in without if not used.prometheus(asked)]:
        assert time.monotonic() < deadline, f"no data: {without}"
        # A rate wants something to happen between one scrape and the next.
        use(used.client)


def test_an_alert_fires_for_a_worker_that_was_killed(used: Project) -> None:
    [some, *_] = used.replicas()
    worker = docker("exec", some, "python", "-c", WORKERS).split()[0]
    docker("exec", some, "sh", "-c", f"kill -9 {worker}")
    fires = 'ALERTS{alertname="FolyamWorkerDied",alertstate="firing",severity="ticket"}'
    eventually(lambda: used.prometheus(fires), TIMEOUT_SECONDS)
