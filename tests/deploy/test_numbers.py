"""Numbers in several files that must fit together: a change of one without the others fails.

Who stops whom, and when: an answer may go on for the drain; the worker ends soon after; gunicorn kills a little later;
and the platform, which would kill everything, later still. Who waits for whom: each hop longer than the one behind it.
"""

import functools
import json
import math
import re
import runpy
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local import run
from deploy.local.web import ClientLimits
from service import worker
from service.config import Settings
from service.producer import OVERDUE_GRACE_SECONDS

ROOT = Path(__file__).parents[2]
NGINX = (ROOT / "nginx.conf").read_text()
DOCS = ROOT / "docs" / "deploy"
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
MIB = 1 << 20


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FOLYAM_{name.upper()}", raising=False)
    return Settings()


@pytest.fixture
def gunicorn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("FOLYAM_DRAIN_SECONDS", raising=False)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nonexistent")
    return runpy.run_path(str(ROOT / "deploy" / "gunicorn.conf.py"))


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh]?)", text)
    assert match, text
    return int(match[1]) * UNITS[match[2]]


def directive(name: str) -> str:
    [value] = re.findall(rf"^\s*{name}\s+([^;]+);", NGINX, re.MULTILINE)
    return str(value)


def code(page: str, language: str) -> list[str]:
    """The page's blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def unit_value(unit: str, key: str) -> str:
    [value] = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
    return str(value)


@functools.cache
def manifests(overlay: str) -> list[dict[str, Any]]:
    command: list[str | Path] = [ROOT / "build/tools/kustomize", "build", ROOT / "deploy/kubernetes/overlays" / overlay]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, check=True).stdout))


def pod(overlay: str, name: str) -> dict[str, Any]:
    [found] = [each for each in manifests(overlay) if each["kind"] == "Deployment" and each["metadata"]["name"] == name]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def composed(service: str) -> list[dict[str, Any]]:
    """The service of docker-compose.yml, where there is that file."""
    files = [yaml.safe_load(path.read_text()) for path in ROOT.glob("docker-compose.yml")]
    return [file["services"][service] for file in files]


def grace(spec: dict[str, Any]) -> float:
    """Return the seconds that a pod's program has between the signal and the kill."""
    [container] = spec["containers"]
    return float(spec["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"])


# Grace periods: each one contains the next


def test_an_answer_ends_before_its_worker_and_the_worker_before_gunicorn_kills_it(
    settings: Settings, gunicorn: dict[str, Any]
) -> None:
    asked_to_close = worker.FolyamWorker.CONFIG_KWARGS["timeout_graceful_shutdown"]
    assert settings.drain_seconds < asked_to_close < gunicorn["graceful_timeout"]
    assert asked_to_close == math.floor(settings.drain_seconds + worker.AFTER_DRAIN_SECONDS)


def test_make_run_waits_for_gunicorn(gunicorn: dict[str, Any], settings: Settings) -> None:
    assert gunicorn["graceful_timeout"] - settings.drain_seconds < run.GUNICORN_GRACE_SECONDS


def test_a_draining_worker_shows_a_sign_of_life_often_enough(gunicorn: dict[str, Any]) -> None:
    assert gunicorn["timeout"] > 3 * worker.NOTIFY_SECONDS


@pytest.mark.parametrize("overlay", ["managed-valkey", "one-node", "trial", "valkey"])
def test_kubernetes_kills_after_gunicorn_would(overlay: str, gunicorn: dict[str, Any]) -> None:
    assert grace(pod(overlay, "folyam-service")) > gunicorn["graceful_timeout"]


@pytest.mark.parametrize("overlay", ["managed-valkey", "one-node", "trial", "valkey"])
def test_kubernetes_lets_nginx_bring_its_streams_to_their_end(overlay: str) -> None:
    assert grace(pod(overlay, "folyam-nginx")) > seconds(directive("worker_shutdown_timeout"))


@pytest.mark.parametrize("overlay", ["managed-valkey", "one-node", "trial", "valkey"])
def test_a_pod_is_not_restarted_for_one_worker_that_hangs(overlay: str, gunicorn: dict[str, Any]) -> None:
    [container] = pod(overlay, "folyam-service")["containers"]
    probe = container["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > gunicorn["timeout"]


def test_compose_kills_after_gunicorn_would(gunicorn: dict[str, Any]) -> None:
    for service in composed("service"):
        text = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", service["stop_grace_period"])
        assert seconds(text) > gunicorn["graceful_timeout"]


def test_systemd_kills_after_gunicorn_and_nginx_would(gunicorn: dict[str, Any]) -> None:
    service, nginx = code("server.md", "ini")
    assert seconds(unit_value(service, "TimeoutStopSec")) > gunicorn["graceful_timeout"]
    assert seconds(unit_value(nginx, "TimeoutStopSec")) > seconds(directive("worker_shutdown_timeout"))
    # A shell or a wrapper that is told in its place would not pass it on.
    assert unit_value(service, "KillMode") == "mixed"
    assert unit_value(nginx, "KillSignal") == "SIGQUIT"


def test_fly_kills_after_gunicorn_would(gunicorn: dict[str, Any]) -> None:
    service, nginx = map(tomllib.loads, code("fly.md", "toml"))
    assert service["kill_timeout"] > gunicorn["graceful_timeout"]
    assert (service["kill_signal"], nginx["kill_signal"]) == ("SIGTERM", "SIGQUIT")


def test_cloud_run_kills_after_gunicorn_would(monkeypatch: pytest.MonkeyPatch) -> None:
    platform_kills_after = 10
    [manifest] = map(yaml.safe_load, code("cloud-run.md", "yaml"))
    [service] = [each for each in manifest["spec"]["template"]["spec"]["containers"] if each["name"] == "service"]
    [drain] = [each["value"] for each in service["env"] if each["name"] == "FOLYAM_DRAIN_SECONDS"]
    monkeypatch.setenv("FOLYAM_DRAIN_SECONDS", drain)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nonexistent")
    assert runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))["graceful_timeout"] <= platform_kills_after


# Timeouts: each one is longer than the next


def hops() -> dict[str, float]:
    """Return the read timeout of each proxy on the way, by the file that sets it."""
    [ingress] = yaml.safe_load_all((ROOT / "deploy/kubernetes/components/ingress/ingress.yaml").read_text())
    annotations = ingress["metadata"]["annotations"]
    [_, idle] = annotations["alb.ingress.kubernetes.io/load-balancer-attributes"].split("=")
    return {
        "nginx.conf": seconds(directive("proxy_read_timeout")),
        "ingress, nginx": float(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]),
        "ingress, haproxy": seconds(annotations["haproxy.org/timeout-server"]),
        "ingress, alb": float(idle),
    }


def test_every_proxy_waits_longer_than_the_longest_silence(settings: Settings) -> None:
    # Plain text has no signs of life, so that is a whole answer.
    for hop, limit in hops().items():
        assert limit > settings.answer_seconds + OVERDUE_GRACE_SECONDS, hop
        assert limit > 2 * settings.heartbeat_seconds, hop


def test_signs_of_life_come_within_the_shortest_silence_that_is_usual(settings: Settings) -> None:
    # nginx, Amazon's load balancers, Fly: 60 s. HAProxy: 50 s. Twice, so that one may be late.
    assert 2 * settings.heartbeat_seconds < 50


def test_no_proxy_limits_a_response_to_less_than_an_answer_may_take(settings: Settings) -> None:
    [route] = [each for each in manifests("one-node") if each["kind"] == "HTTPRoute"]
    assert [rule["timeouts"] for rule in route["spec"]["rules"]] == [{"request": "0s"}]  # none
    [manifest] = map(yaml.safe_load, code("cloud-run.md", "yaml"))
    assert settings.answer_seconds < manifest["spec"]["template"]["spec"]["timeoutSeconds"] <= 3600
    assert settings.answer_seconds < seconds(directive("worker_shutdown_timeout"))
    assert f"timeoutSec: {directive('proxy_read_timeout').removesuffix('s')}" in (DOCS / "kubernetes.md").read_text()


def test_the_upstreams_time_outs_fit_into_an_answers(settings: Settings) -> None:
    waits = (settings.connect_seconds, settings.status_seconds, settings.first_chunk_seconds, settings.silence_seconds)
    assert sum(waits) < settings.answer_seconds
    assert settings.status_wait_seconds < settings.heartbeat_seconds


def test_a_stop_is_answered_before_any_proxy_gives_up() -> None:
    from service.answers import STOP_TIMEOUT_SECONDS  # noqa: PLC0415 (beside what it is held against)

    assert min(hops().values()) > STOP_TIMEOUT_SECONDS


# How much


def test_every_hop_takes_a_body_as_long_as_the_service_does(settings: Settings) -> None:
    [ingress] = yaml.safe_load_all((ROOT / "deploy/kubernetes/components/ingress/ingress.yaml").read_text())
    at_ingress = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    image = dict(re.findall(r"(FOLYAM_MAX\w*_BODY_BYTES) (\d+)", (ROOT / "deploy" / "nginx" / "start.sh").read_text()))
    assert int(at_ingress.removesuffix("m")) * MIB == settings.max_api_body_bytes > settings.max_body_bytes
    assert ClientLimits().body_bytes == settings.max_body_bytes
    assert ClientLimits().api_body_bytes == settings.max_api_body_bytes
    written = re.findall(r"client_max_body_size +\$\{(\w+)\}", (ROOT / "nginx.conf").read_text())
    assert written == ["FOLYAM_MAX_BODY_BYTES", "FOLYAM_MAX_API_BODY_BYTES"]
    limits = {
        "FOLYAM_MAX_BODY_BYTES": settings.max_body_bytes,
        "FOLYAM_MAX_API_BODY_BYTES": settings.max_api_body_bytes,
    }
    for name, limit in limits.items():
        assert int(image[name]) == limit
        assert compose["services"]["nginx"]["environment"][name] == f"${{{name}:-{limit}}}"


def test_the_bodies_that_one_address_may_send_at_once_fit_into_nginxs_memory() -> None:
    connections = ClientLimits().connections
    bodies = connections * int(directive("client_body_buffer_size").removesuffix("k")) << 10
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    limit = compose["services"]["nginx"]["deploy"]["resources"]["limits"]["memory"]
    assert bodies < 0.6 * int(limit.removesuffix("m")) * MIB


def test_the_volume_holds_what_is_kept_and_what_is_running(settings: Settings) -> None:
    [claim] = [each for each in manifests("one-node") if each["kind"] == "PersistentVolumeClaim"]
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    # And is not more than nine tenths full with it, at which there is an alert.
    assert settings.retention_bytes + 800 * settings.max_answer_bytes * 0.1 < 0.9 * size


def test_more_pods_come_before_the_ones_there_are_refuse(settings: Settings) -> None:
    [scaler] = [each for each in manifests("one-node") if each["kind"] == "HorizontalPodAutoscaler"]
    [metric] = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "folyam_streams_in_flight"
    environment = dict(
        line.split("=") for line in (ROOT / "deploy/kubernetes/base/settings.env").read_text().splitlines()[1:]
    )
    limit = int(environment["FOLYAM_WORKERS"]) * settings.max_answers
    assert int(metric["pods"]["target"]["averageValue"]) <= limit / 2


def test_enough_files_may_be_open(settings: Settings) -> None:
    service, nginx = code("server.md", "ini")
    followers = settings.max_followers * 2  # a connection, and a file
    producers = settings.max_answers * 3  # a connection, a file, and its lock's
    assert int(unit_value(service, "LimitNOFILE")) > 2 * (followers + producers)
    assert int(unit_value(nginx, "LimitNOFILE")) >= int(directive("worker_rlimit_nofile"))
    # Compose leaves it to the engine, which allows half a million, and where it allows less no container would start.
    assert not [container for container in composed("nginx") if "ulimits" in container]


def test_the_servers_unit_fills_in_all_that_nginx_conf_asks_for() -> None:
    _, nginx = code("server.md", "ini")
    asked = set(re.findall(r"\$\{(FOLYAM_[A-Z_]+)\}", NGINX))
    assert set(re.findall(r"\$\$\{(FOLYAM_[A-Z_]+)\}", nginx)) == asked
    assert {
        name for line in re.findall(r"^Environment=(.*)", nginx, re.MULTILINE) for name in re.findall(r"(\w+)=", line)
    } == asked


def test_where_everybody_has_one_address_that_address_may_do_what_all_may(settings: Settings) -> None:
    [manifest] = map(yaml.safe_load, code("cloud-run.md", "yaml"))
    spec = manifest["spec"]["template"]["spec"]
    cloud = {each["name"]: each.get("value", "") for container in spec["containers"] for each in container["env"]}
    service, nginx = map(tomllib.loads, code("fly.md", "toml"))
    fly = service["env"] | nginx["env"]
    for environment in (cloud, fly):
        assert int(environment["FOLYAM_MAX_ANSWERS_PER_CLIENT"]) == settings.max_answers
    assert int(cloud["FOLYAM_CLIENT_CONNECTIONS"]) >= spec["containerConcurrency"]
    assert int(fly["FOLYAM_CLIENT_CONNECTIONS"]) >= nginx["http_service"]["concurrency"]["hard_limit"]


def test_the_dashboard_scrapes_no_more_finely_than_prometheus() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    [prometheus] = source["datasources"]
    assert prometheus["jsonData"]["timeInterval"] == scrape
    [monitor] = [each for each in manifests("one-node") if each["kind"] == "ServiceMonitor"]
    assert {endpoint["interval"] for endpoint in monitor["spec"]["endpoints"]} == {scrape}
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/folyam.json").read_text())
    assert seconds(dashboard["refresh"]) >= seconds(scrape)
