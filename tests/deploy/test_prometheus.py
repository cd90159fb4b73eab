"""The Prometheus files are valid, use exposed metrics only, and each alert is tested and documented."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.telemetry import series

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "deploy" / "prometheus"
TESTS = ROOT / "tests" / "deploy" / "prometheus" / "alerts.test.yml"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([ROOT / "build/tools/promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DIRECTORY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_configuration_is_valid() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", DIRECTORY / "prometheus.yml")


def test_the_alerts_fire_and_stay_silent_as_they_should() -> None:
    promtool("test", "rules", TESTS)


def test_each_alert_is_seen_to_fire_and_to_stay_silent() -> None:
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in test.get("alert_rule_test", []):
            tried.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert tried == {alert["alert"]: {True, False} for alert in alerts()}


def test_each_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    headings = set(re.findall(r"^### (\w+)$", OPERATIONS, re.MULTILINE))
    assert headings == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        severity = alert["labels"]["severity"]
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}
        # The runbook names the same severity.
        assert f"### {alert['alert']}\n\n*{severity.capitalize()}.*" in OPERATIONS


def test_the_refusals_that_raise_an_alert_are_ones_that_there_are() -> None:
    [alert] = [alert for alert in alerts() if alert["alert"] == "FolyamRequestsRejected"]
    [reasons] = re.findall(r'reason=~"([^"]+)"', alert["expr"])
    codes = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
    # All that are for want of room, and a defect.
    for_want_of_room = {code for code in codes if code.startswith(("too_many", "log_"))}
    for_want_of_room -= {"too_many_requests", "too_many_messages", "too_many_answers_of_yours"}
    assert {code for code in codes if re.fullmatch(reasons, code)} == for_want_of_room | {"stop_pending", "internal"}


def test_each_metric_is_explained() -> None:
    table = OPERATIONS.partition("<!-- metrics -->")[2].partition("<!-- /metrics -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\|", table, re.MULTILINE)
    explained = {(name.removesuffix("_total"), kind, labels.strip()) for name, kind, labels in rows}
    ours = {metric for metric in vars(series).values() if isinstance(metric, MetricWrapperBase)}
    exposed = {
        (family.name, family.type, ", ".join(metric._labelnames)) for metric in ours for family in metric.describe()
    }
    assert explained == exposed


def test_what_one_prometheus_scrapes_is_each_replica() -> None:
    [scrape] = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["dns_sd_configs"] == [{"names": ["service"], "type": "A", "port": 8000, "refresh_interval": "15s"}]
