"""The manifests as built by kustomize: valid by the strict schemas, and with the restrictions that they claim."""

import functools
import ipaddress
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from deploy.local import web
from tests.e2e.stack import NODE

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())
VERSION = "1.37"
Manifest = dict[str, Any]


def kustomize(directory: Path) -> list[Manifest]:
    done = subprocess.run(
        [ROOT / "build/tools/kustomize", "build", directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@functools.cache
def overlay(name: str) -> list[Manifest]:
    return kustomize(KUBERNETES / "overlays" / name)


@functools.cache
def everything() -> list[Manifest]:
    """All manifests that there are, those of components that no overlay has among them."""
    manifests = [manifest for name in OVERLAYS for manifest in overlay(name)]
    for component in COMPONENTS:
        directory = KUBERNETES / "components" / component
        for name in yaml.safe_load((directory / "kustomization.yaml").read_text()).get("resources", []):
            manifests += yaml.safe_load_all((directory / name).read_text())
    return manifests


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def is_custom(manifest: Manifest) -> bool:
    return manifest["apiVersion"].partition("/")[0] in {"gateway.networking.k8s.io", "monitoring.coreos.com"}


def custom_problems(manifests: list[Manifest]) -> str:
    """What is wrong with custom resources; empty if nothing is."""
    done = subprocess.run(
        [NODE, ROOT / "tests/deploy/kubernetes/validate.cjs"],
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip()


def test_all_manifests_are_valid_in_strict_mode() -> None:
    for manifest in everything():
        if not is_custom(manifest):
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    custom = [manifest for manifest in everything() if is_custom(manifest)]
    assert {manifest["kind"] for manifest in custom} == {"HTTPRoute", "ServiceMonitor"}
    assert custom_problems(custom) == ""


def test_the_validators_see_a_field_that_does_not_exist() -> None:
    [deployment] = [each for each in of_kind(overlay("one-node"), "Deployment") if "nginx" in each["metadata"]["name"]]
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="redinessProbe"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)
    for kind in ("HTTPRoute", "ServiceMonitor"):
        [custom] = of_kind(overlay("one-node"), kind)
        assert "nonsense" in custom_problems([custom | {"spec": custom["spec"] | {"nonsense": 1}}])


def pods(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    deployed = of_kind(manifests, "Deployment") + of_kind(manifests, "StatefulSet")
    return [(each["metadata"]["name"], each["spec"]["template"]["spec"]) for each in deployed]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_runs_without_root_privileges_or_anything_to_write_to_but_its_volumes(name: str) -> None:
    for _, pod in pods(overlay(name)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"].keys() == {"memory"}
    [namespace] = of_kind(overlay(name), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_name_in_the_manifests_exists(name: str) -> None:
    manifests = overlay(name)
    services = {service["metadata"]["name"]: service for service in of_kind(manifests, "Service")}
    for service in services.values():
        [pod] = [
            pod
            for deployed, pod in pods(manifests)
            if deployed == service["spec"]["selector"]["app.kubernetes.io/name"]
        ]
        [port] = service["spec"]["ports"]
        assert port["targetPort"] in {each["name"] for each in pod["containers"][0]["ports"]}
    [nginx] = [pod for deployed, pod in pods(manifests) if deployed == "folyam-nginx"]
    environment = {each["name"]: each["value"] for each in nginx["containers"][0]["env"]}
    host, _, port = environment["FOLYAM_SERVICE"].partition(":")
    asked, namespace, *rest = host.split(".")
    assert rest == ["svc", "cluster", "local"]
    assert services[asked]["metadata"]["namespace"] == namespace
    assert services[asked]["spec"]["ports"][0]["port"] == int(port)
    for route in of_kind(manifests, "HTTPRoute"):
        [backend] = route["spec"]["rules"][0]["backendRefs"]
        assert services[backend["name"]]["spec"]["ports"][0]["port"] == backend["port"]
    for ingress in of_kind(everything(), "Ingress"):
        [path] = ingress["spec"]["rules"][0]["http"]["paths"]
        backend = path["backend"]["service"]
        assert services[backend["name"]]["spec"]["ports"][0]["name"] == backend["port"]["name"]
    claims = {claim["metadata"]["name"] for claim in of_kind(manifests, "PersistentVolumeClaim")}
    wanted = {
        volume["persistentVolumeClaim"]["claimName"]
        for _, pod in pods(manifests)
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert wanted == claims
    claimed = {
        each["metadata"]["name"]: {claim["metadata"]["name"] for claim in each["spec"]["volumeClaimTemplates"]}
        for each in of_kind(manifests, "StatefulSet")
    }
    for deployed, pod in pods(manifests):
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | claimed.get(deployed, set())


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_probe_asks_the_upstream_and_each_pod_has_them(name: str) -> None:
    for deployed, pod in pods(overlay(name)):
        [container] = pod["containers"]
        if deployed == "folyam-valkey":
            for kind in ("livenessProbe", "readinessProbe"):
                assert container[kind]["tcpSocket"] == {"port": container["ports"][0]["name"]}
            continue
        paths = {kind: container[kind]["httpGet"]["path"] for kind in ("livenessProbe", "readinessProbe")}
        expected = {
            "folyam-service": ("/livez", "/readyz"),
            "folyam-nginx": ("/", "/"),
            "folyam-model": ("/health", "/health"),
        }
        assert tuple(paths.values()) == expected[deployed]


def test_only_nginx_and_prometheus_reach_the_service() -> None:
    policies = of_kind(overlay("one-node"), "NetworkPolicy")
    [default] = [
        policy
        for policy in policies
        if not policy["spec"]["podSelector"]
        and "ingress" not in policy["spec"]
        and policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ]
    assert "egress" not in default["spec"]
    allowed = [
        rule
        for policy in policies
        if policy["spec"]["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": "folyam-service"}
        for rule in policy["spec"].get("ingress", [])
    ]
    assert [rule["from"] for rule in allowed] == [
        [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "folyam-nginx"}}}],
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    ]


def egress_of_the_service(name: str) -> list[Manifest]:
    return [
        rule
        for policy in of_kind(overlay(name), "NetworkPolicy")
        if policy["spec"]["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": "folyam-service"}
        for rule in policy["spec"].get("egress", [])
    ]


def test_only_the_service_reaches_valkey_which_reaches_nothing() -> None:
    [policy] = [
        each
        for each in of_kind(overlay("valkey"), "NetworkPolicy")
        if each["spec"]["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": "folyam-valkey"}
    ]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy["spec"]
    [rule] = policy["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "folyam-service"}}}]
    port = [{"protocol": "TCP", "port": 6379}]
    assert rule["ports"] == port
    valkey = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "folyam-valkey"}}}]
    assert {"to": valkey, "ports": port} in egress_of_the_service("valkey")
    [managed] = [each for each in egress_of_the_service("managed-valkey") if each["ports"] == port]
    # Private addresses only.
    for block in managed["to"]:
        assert ipaddress.ip_network(block["ipBlock"]["cidr"]).is_private


def mebibytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text.lower()).groups()  # type: ignore[union-attr]
    return int(number) * {"mb": 1, "m": 1, "mi": 1, "gb": 1024, "g": 1024, "gi": 1024}[unit]


def test_the_one_valkey_keeps_running_answers_and_what_it_has_acknowledged() -> None:
    [valkey] = of_kind(overlay("valkey"), "StatefulSet")
    assert valkey["spec"]["replicas"] == 1
    [container] = valkey["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((ROOT / "deploy/compose/valkey.yml").read_text().replace("!override ", ""))
    composed = compose["services"]["valkey"]
    assert container["image"] == composed["image"]
    limits = (container["resources"]["limits"]["memory"], composed["deploy"]["resources"]["limits"]["memory"])
    for arguments, limit in zip((composed["command"], container["args"]), reversed(limits), strict=True):
        options = dict(zip(arguments[::2], arguments[1::2], strict=True))
        assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "volatile-ttl")
        assert options["--tcp-keepalive"] == "60"
        # A rewrite of the file may take as much again.
        assert 2 * mebibytes(options["--maxmemory"]) <= mebibytes(limit)
    # The users' file has the rights that are tried in tests/eventlog/valkey.
    assert options["--aclfile"].startswith(container["volumeMounts"][1]["mountPath"])


def test_replicas_share_a_log_or_there_is_one() -> None:
    for name in OVERLAYS:
        [service] = [
            each for each in of_kind(overlay(name), "Deployment") if each["metadata"]["name"] == "folyam-service"
        ]
        volumes = {volume["name"]: volume for volume in service["spec"]["template"]["spec"]["volumes"]}
        if "answers" not in volumes:
            [container] = service["spec"]["template"]["spec"]["containers"]
            [url] = [each["valueFrom"] for each in container["env"] if each["name"] == "FOLYAM_LOG_URL"]
            assert url == {"secretKeyRef": {"name": "folyam-log", "key": "url"}}
            # On any node, and not all on one.
            assert "affinity" not in service["spec"]["template"]["spec"]
            [spread] = service["spec"]["template"]["spec"]["topologySpreadConstraints"]
            assert spread["topologyKey"] == "kubernetes.io/hostname"
            assert of_kind(overlay(name), "PersistentVolumeClaim") == []
        elif "persistentVolumeClaim" in volumes["answers"]:
            # On one node: the claim is for one, and the pods go where the others are.
            [claim] = of_kind(overlay(name), "PersistentVolumeClaim")
            assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
            [term] = service["spec"]["template"]["spec"]["affinity"]["podAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]
            assert term["topologyKey"] == "kubernetes.io/hostname"
            assert (
                term["labelSelector"]["matchLabels"].items()
                <= service["spec"]["template"]["metadata"]["labels"].items()
            )
        else:
            assert service["spec"]["replicas"] == 1
            assert of_kind(overlay(name), "HorizontalPodAutoscaler") == []


def test_nginx_takes_the_readers_address_from_the_proxy_in_front(tmp_path: Path) -> None:
    [given] = [
        each["data"]["real-ip.conf"]
        for each in of_kind(overlay("one-node"), "ConfigMap")
        if "real-ip.conf" in each["data"]
    ]
    whole = f"events {{}} http {{ server {{ listen 127.0.0.1:8080; {given} }} }}"
    (tmp_path / "nginx.conf").write_text(f"error_log stderr; pid nginx.pid; {whole}")
    for directory in ("logs", "client_body_temp"):
        (tmp_path / directory).mkdir()
    command: list[str | Path] = [web.program(), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [mounted] = [
        mount["mountPath"]
        for name, pod in pods(overlay("one-node"))
        if name == "folyam-nginx"
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] == "server"
    ]
    assert mounted == "/etc/folyam/server.d"


def test_the_files_are_tidy() -> None:
    directories = [ROOT / "deploy" / name for name in ("grafana", "kubernetes", "prometheus")]
    done = subprocess.run(
        [
            ROOT / ".venv/bin/yamllint",
            "--strict",
            "-c",
            ROOT / ".yamllint.yaml",
            *directories,
            Path(__file__).parent / "prometheus",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
