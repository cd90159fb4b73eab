"""The dashboard and the rules, in a real Prometheus that scrapes a real service under load."""

import json
import math
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.e2e.client import SSE, Client, script
from tests.e2e.prometheus import Prometheus
from tests.e2e.stack import ROOT, Service, eventually
from tests.upstream.process import UpstreamProcess

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/folyam.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$job": ".*", "$model": ".*", "$__rate_interval": "1m"}
UNWATCHED_SECONDS = 1
ONLY_ON_A_SERVER = {"Time of an append"}
"""Panels about appends that take time. Files, which are watched here, have none; a quantile of none is no number."""


@dataclass(frozen=True)
class Watched:
    service: Service
    client: Client
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    settings = {"FOLYAM_UNWATCHED_SECONDS": str(UNWATCHED_SECONDS), "FOLYAM_RETRIES": "0"}
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Prometheus(directory / "prometheus", service.address) as prometheus,
    ):
        watched = Watched(service, Client(service.address), prometheus)
        # Once: every counter has been scraped at zero before, so that its first event is an increase.
        prometheus.wait_for_scrapes(2)
        everything_happens(watched.client)
        prometheus.wait_for_scrapes(2)
        yield watched


def everything_happens(client: Client) -> None:
    """Cause each outcome of an answer, a resume, a stop, a disconnect and a rejected question."""
    whole = client.generate(script(chunks=20, pace=0.01)).events[0]["answer"]
    client.follow(whole, after=2, accept=SSE)
    client.generate(script(cut_after=3))
    client.generate("")
    stopped = client.ask(script(endless=True, pace=0.01))
    client.stop(stopped.answer)
    stopped.close()
    left = client.ask(script(endless=True, pace=0.01))
    left.close()
    eventually(lambda: client.read(left.answer)["state"] == "stopped", 20)


def expressions() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_a_panel_shows_something(watched: Watched, title: str, expression: str) -> None:
    shown = watched.prometheus.query(filled_in(expression))
    values = [float(series["value"][1]) for series in shown]
    if title in ONLY_ON_A_SERVER:
        assert values, title
        return
    assert any(math.isfinite(value) for value in values), f"{title}: {shown}"


def test_what_the_panels_show_is_what_happened(watched: Watched) -> None:
    def value(expression: str) -> float:
        [series] = watched.prometheus.query(expression)
        return float(series["value"][1])

    assert value('sum(folyam_streams_finished_total{outcome="done"})') == 1
    assert value('sum(folyam_streams_finished_total{outcome="failed"})') == 1
    assert value('sum(folyam_streams_finished_total{outcome="stopped"})') == 2
    assert value("folyam:streams_failed:ratio5m") == pytest.approx(0.25, abs=0.1)
    # Each failed by the upstream's doing.
    assert value("folyam:streams_failed_here:ratio5m") == pytest.approx(0, abs=0.05)
    assert value("sum(folyam_unwatched_chunks_total)") > UNWATCHED_SECONDS / 0.01 / 4
    assert value("folyam:own_time_to_first_chunk_seconds:mean5m") < 1
    assert value("folyam:streams:use") == 0
    assert 0 < value("folyam:log:use") < 0.01


def test_rules_and_dashboard_ask_for_nothing_that_is_not_there(watched: Watched) -> None:
    exposed = {name.partition("{")[0] for name in watched.client.metrics()}
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text()
    recorded = set(re.findall(r"record: (\S+)", rules))
    texts = {
        "rules.yml": rules,
        "alerts.yml": (ROOT / "deploy/prometheus/alerts.yml").read_text(),
        "folyam.json": " ".join(expression for _, expression in expressions()),
    }
    for file, text in texts.items():
        plain = re.sub(r"\{\{.*?\}\}", "", text).replace("folyam:(streams|followers|log_disk):use", "")
        asked = set(re.findall(r"\bfolyam(?:_[a-z0-9_]+|:[a-z0-9_:]+)", plain))
        assert asked - exposed - recorded == set(), file
        assert len(asked) > 10, file
    # And a variable's query.
    [models] = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "model"]
    assert models["definition"] == "label_values(folyam_streams_started_total, model)"
    # Each recorded series is used: an unused rule costs as much as a used one.
    rest = texts["alerts.yml"] + texts["folyam.json"] + re.sub(r"record: \S+", "", rules)
    assert {name for name in recorded if name not in rest} <= {"folyam:log_disk:use"}


def test_a_killed_worker_raises_an_alert_and_nothing_else_does(watched: Watched) -> None:
    def firing() -> set[str]:
        alerts = watched.prometheus.alerts()
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    assert firing() == set()
    psutil.Process(watched.service.workers()[0]).send_signal(signal.SIGKILL)
    # It takes two scrapes, one before and one after: an increase is from one to the next.
    eventually(lambda: firing() == {"FolyamWorkerDied"}, 30)
    eventually(lambda: len(watched.service.workers()) == 2, 30)
