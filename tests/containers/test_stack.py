"""`docker compose up` on a clean clone, with nothing set."""

import json
import re
import shlex
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import pytest

from tests.containers.conftest import CANARY_IN_FILE, Canaries, Times, base_of
from tests.containers.project import COMMAND_SECONDS, ROOT, Project, docker, eventually, inspect, label
from tests.tables import Report

PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=\r\n]{100,}")

# The model writes 512 tokens at most: 6 s on two quiet cores.
ANSWER_SECONDS = 180

TRY = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
        print(address)
    except OSError:
        pass
"""


def test_the_readmes_command_streams_an_answer_of_the_real_model(local: Project) -> None:
    [command] = re.findall(r"^  (curl -N .*/generate)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    command = command.replace("localhost:8080", f"localhost:{local.door.port}")
    printed = subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=ANSWER_SECONDS).stdout
    events = [json.loads(line) for line in printed.splitlines() if line]
    assert events[0]["model"] == "smollm2-135m-instruct"
    assert events[-1]["type"] == "done"
    assert len([event for event in events if event["type"] == "delta"]) > 5


def test_the_figures_are_shown(started: tuple[Project, Times], report: Report) -> None:
    project, times = started
    report.add("docker compose up, images built on the way", f"{times.up:.1f} s", "")
    report.add("the first word", f"{times.first_word:.1f} s", "from the command")
    for name, stage in (("service", "python"), ("nginx", "nginx"), ("model", "python")):
        image, base = inspect(f"{project.name}-{name}", base_of(stage))
        size, ours = image["Size"] / 1e6, (image["Size"] - base["Size"]) / 1e6
        assert ours > 0
        report.add(f"the image of {name}", f"{size:.0f} MB", f"{ours:.1f} of them on top of its base")


def test_the_page_is_served_and_the_inside_is_not(local: Project) -> None:
    assert b"<title>" in local.client.request("GET", "/").body
    assert local.client.request("GET", "/readyz").status == 200
    for inside in ("/metrics", "/docs", "/openapi.json"):
        assert local.client.request("GET", inside).status == 404


def test_prometheus_has_both_headline_histograms_by_model_and_outcome(local: Project) -> None:
    assert local.client.generate("Hello").events[-1]["type"] == "done"
    model = 'model="smollm2-135m-instruct"'
    eventually(lambda: local.prometheus(f"folyam_time_to_first_chunk_seconds_count{{{model}}}>0"))
    eventually(lambda: local.prometheus(f'folyam_stream_duration_seconds_count{{{model},outcome="done"}}>0'))
    buckets = {sample["metric"]["le"] for sample in local.prometheus("folyam_time_to_first_chunk_seconds_bucket")}
    assert {"0.01", "81.92", "+Inf"} <= buckets
    assert len(local.prometheus('up{job="folyam"}==1')) == 1


def test_every_container_is_unprivileged_and_read_only(local: Project) -> None:
    containers = local.containers()
    assert {label(each, "service") for each in containers} >= {"nginx", "service", "model", "prometheus"}
    for container in containers:
        name, host = container["Name"], container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert not host["Privileged"], name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert container["Config"]["User"].split(":")[0] not in {"", "0", "root"}, name
        # And as the kernel has it.
        said = docker("exec", container["Id"], "cat", "/proc/1/status")
        status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
        assert "0" not in status["Uid"].split(), name
        assert "0" not in status["Gid"].split(), name
        assert {int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {0}, name
        assert status["NoNewPrivs"].strip() == "1", name
        wrote = docker(
            "exec", container["Id"], "sh", "-c", "for d in / /etc /usr /var; do echo >$d/x && echo $d; done; true"
        )
        assert wrote == "", name


def test_every_container_is_healthy_and_its_logs_are_bounded(local: Project) -> None:
    eventually(lambda: {each["State"]["Health"]["Status"] for each in local.containers()} == {"healthy"})
    for container in local.containers():
        assert container["HostConfig"]["LogConfig"]["Config"]["max-size"] == "10m"
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_only_the_intended_ports_answer_from_outside(local: Project) -> None:
    containers = local.containers()
    published = {
        f"{label(each, 'service')} {binding['HostIp']}"
        for each in containers
        for bindings in each["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    assert {name.split()[0] for name in published} <= {"nginx", "grafana"}
    assert {name for name in published if name.startswith("grafana")} <= {"grafana 127.0.0.1"}
    # From a container in a network of its own, as a neighbour on this machine has it.
    ports = ("3000", "5173", "8000", "8080", "8443", "9090")
    addresses = [
        network["IPAddress"] for each in containers for network in each["NetworkSettings"]["Networks"].values()
    ]
    inner = [f"{address}:{port}" for address in addresses for port in ports]
    door = f"host.docker.internal:{local.door.port}"
    run = [
        "run",
        "--rm",
        "--add-host",
        "host.docker.internal:host-gateway",
        f"{local.name}-service",
        "python",
        "-c",
        TRY,
    ]
    with ThreadPoolExecutor(8) as threads:
        parts = [[door, *inner[start::8]] for start in range(8)]
        answering = {line for said in threads.map(lambda part: docker(*run, *part), parts) for line in said.split()}
    assert answering == {door}


def test_no_key_is_in_an_image_a_log_or_a_metric(local: Project, canaries: Canaries, tmp_path: Path) -> None:
    secrets = [*canaries.environment.values(), canaries.key_file.read_text().strip()]
    [service] = local.containers("service")
    assert any(secrets[0] in line for line in service["Config"]["Env"]), "the key did reach the service"
    for name, stage in (("service", "python"), ("nginx", "nginx"), ("model", "python")):
        image = f"{local.name}-{name}"
        history = docker("history", "--no-trunc", image)
        archive = tmp_path / "image.tar"
        docker("save", "--output", archive, image)
        [base] = inspect(base_of(stage))
        theirs = {layer.removeprefix("sha256:") for layer in base["RootFS"]["Layers"]}
        with tarfile.open(archive) as opened:
            blobs = [member for member in opened.getmembers() if member.isfile()]
            assert theirs <= {PurePath(blob.name).name for blob in blobs}, "layers are plain tar files in it"
            for blob in blobs:
                file = opened.extractfile(blob)
                assert file is not None
                content = file.read()
                assert not [secret for secret in secrets if secret.encode() in content]
                # Files of the base image are not this project's: a library has keys for its own tests.
                assert PurePath(blob.name).name in theirs or not PRIVATE_KEY.search(content)
        assert not [secret for secret in secrets if secret in history]
    logs = local.compose("logs")
    [replica] = local.replicas().values()
    metrics = replica.request("GET", "/metrics").body.decode()
    for secret in secrets:
        assert secret not in logs
        assert secret not in metrics


@pytest.mark.parametrize("name", ["service", "nginx", "model"])
def test_no_tool_that_builds_or_installs_is_in_an_image(local: Project, name: str) -> None:
    tools = "cc gcc make uv pip pip3 node npm git"
    look = f"for tool in {tools}; do command -v $tool; done; python -m pip --version 2>/dev/null; true"
    assert docker("run", "--rm", "--entrypoint", "sh", f"{local.name}-{name}", "-c", look) == ""
    [image] = inspect(f"{local.name}-{name}")
    labels = image["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"].startswith("MIT")
    assert labels["org.opencontainers.image.version"]


def test_tls_with_http_2_by_an_override(local: Project, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    make += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*make, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    key.chmod(0o444)
    port = str(local.door.port)
    override = [Path("deploy") / "compose" / "tls.yml"]
    settings = {"FOLYAM_TLS_PORT": port, "FOLYAM_TLS_CERTIFICATE": str(certificate), "FOLYAM_TLS_KEY": str(key)}
    local.compose("up", "--detach", "--wait", "nginx", overrides=override, environment=settings)
    try:
        command = ["curl", "-sSN", "--http2", "--cacert", str(certificate), "-w", "%{http_version} %{http_code}"]
        command += [
            "-H",
            "Content-Type: application/json",
            "-d",
            '{"query":"Hello"}',
            f"https://localhost:{port}/generate",
        ]
        printed = subprocess.run(command, capture_output=True, check=True, timeout=COMMAND_SECONDS, text=True).stdout
        *events, last = [line for line in printed.splitlines() if line]
        assert last == "2 200"
        assert json.loads(events[-1])["type"] == "done"
    finally:
        local.up()


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_BASE_URL"])
def test_each_way_to_name_an_api_leaves_the_model_out(local: Project, variable: str) -> None:
    assert "model" in local.compose("config", "--services").split()
    assert "model" not in local.compose("config", "--services", environment={variable: "/x"}).split()
    assert "//model" not in local.compose("config", environment={variable: "/x"})


def test_a_key_that_may_not_be_read_is_said_in_a_sentence(local: Project, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(CANARY_IN_FILE)
    key.chmod(0o600)
    mount = f"{key}:/run/secrets/openai_api_key:ro"
    said = docker(
        "run",
        "--rm",
        "--volume",
        mount,
        f"{local.name}-service",
        "sh",
        "-c",
        "gunicorn -c deploy/gunicorn.conf.py 2>&1; true",
    )
    assert "/run/secrets/openai_api_key cannot be read by user 10001" in said
    assert "Traceback" not in said
