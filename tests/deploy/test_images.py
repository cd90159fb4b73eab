"""The Dockerfile, the compose files and nginx.conf as a container has it, without an engine."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import service
from deploy.local import web
from service.config import Settings, variable_of

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE = ROOT / "docker-compose.yml"
OVERRIDES = sorted((ROOT / "deploy" / "compose").glob("*.yml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
START = (ROOT / "deploy" / "nginx" / "start.sh").read_text()
FILLED: list[tuple[str, str]] = re.findall(r"^fill (FOLYAM_[A-Z_]+) (\S+)$", START, re.MULTILINE)
"""The variables of nginx's image, with their defaults."""

NOT_PROBLEMS = {
    "host_spoofing": "the service needs the port that the client used, which $host has not",
    "proxy_buffering_off": "this is a service that streams; send_timeout ends readers that stall",
    "try_files_is_evil_too": "the page is a handful of files, and a new build is to show at once",
}


def read(path: Path) -> Any:  # noqa: ANN401 (whatever it is)
    # A tag of compose's own, that a plain reader of YAML does not know.
    return yaml.safe_load(path.read_text().replace("!override ", ""))


def services() -> dict[str, Any]:
    found: dict[str, Any] = read(COMPOSE)["services"]
    return found


def run(*command: str | Path) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def variables_of(text: str) -> set[str]:
    return set(re.findall(r"\$\{(FOLYAM_[A-Z_]+)\}", text))


def test_the_dockerfile_passes_its_linter() -> None:
    run(BIN / "hadolint", "Dockerfile")


@pytest.mark.parametrize("path", [COMPOSE, *OVERRIDES], ids=lambda path: path.name)
def test_the_compose_files_are_as_their_schema_says(path: Path, tmp_path: Path) -> None:
    plain = tmp_path / "compose.json"
    plain.write_text(json.dumps(read(path)))
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", plain)


def test_nginx_conf_passes_its_linter(tmp_path: Path) -> None:
    values = dict(FILLED)
    text = re.sub(r"\$\{(FOLYAM_[A-Z_]+)\}", lambda match: values[match[1]], (ROOT / "nginx.conf").read_text())
    (tmp_path / "server.d").mkdir()
    (tmp_path / "server.d" / "tls.conf").write_text((ROOT / "deploy" / "compose" / "tls.conf").read_text())
    (tmp_path / "nginx.conf").write_text(text)
    found = run(BIN / "gixy", "--skips", ",".join(NOT_PROBLEMS), tmp_path / "nginx.conf")
    assert "No issues found" in found, found


def test_the_nginx_image_fills_in_every_variable() -> None:
    wanted = variables_of((ROOT / "nginx.conf").read_text())
    assert variables_of(START) == wanted
    assert {name for name, _ in FILLED} == wanted


def rendered(directory: Path, **environment: str) -> str:
    """Run the start script of nginx's image below the directory; return the configuration that nginx accepted."""
    for name in ("bin", "etc/folyam/server.d", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    text = (ROOT / "nginx.conf").read_text()
    (directory / "etc" / "folyam" / "nginx.conf").write_text(text)
    (directory / "start.sh").write_text(re.sub(r"/etc/folyam|/tmp(?=/nginx)", rf"{directory}\g<0>", START))
    # It checks the configuration that nginx would get. Not each machine has the user of the image.
    program = directory / "bin" / "nginx"
    check = f"""sed 's/^user nobody;//' "$2" >"$2.here"\nexec "{web.program()}" -t -q -c "$2.here" -e stderr\n"""
    program.write_text(f"#!/bin/sh\n{check}")
    program.chmod(0o755)
    ended = subprocess.run(
        ["sh", directory / "start.sh"],
        env={"PATH": f"{directory}/bin:{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    [found] = directory.rglob("nginx/nginx.conf")
    return found.read_text()


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_of_the_nginx_image_is_unset(tmp_path: Path, value: str) -> None:
    usual = rendered(tmp_path)
    assert "listen 8080" in usual
    for name, _ in FILLED:
        assert rendered(tmp_path, **{name: value}) == usual, name
    assert rendered(tmp_path, **dict.fromkeys(dict(FILLED), value)) == usual


def test_a_variable_of_the_nginx_image_counts_without_the_blanks_around_it(tmp_path: Path) -> None:
    text = rendered(tmp_path, FOLYAM_LISTEN=" 127.0.0.1:8081\n", FOLYAM_CLIENT_REQUESTS="7")
    assert "listen 127.0.0.1:8081" in text
    assert "rate=7r/s" in text


@pytest.mark.parametrize(
    ("given", "bind"), [*((empty, "0.0.0.0:8000") for empty in (None, "", " ", "\n")), ("[::]:80", "[::]:80")]
)
def test_an_empty_variable_of_the_service_image_is_unset(tmp_path: Path, given: str | None, bind: str) -> None:
    [stage] = re.findall(r"^FROM runtime AS service\n.*?(?=^FROM )", DOCKERFILE, re.DOTALL | re.MULTILINE)
    [command] = re.findall(r"^CMD (.*)$", stage, re.MULTILINE)
    program = tmp_path / "gunicorn"
    program.write_text('#!/bin/sh\necho "$FOLYAM_BIND" "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | ({} if given is None else {"FOLYAM_BIND": given})
    said = subprocess.run(json.loads(command), env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split() == [bind, "--config", "deploy/gunicorn.conf.py"]
    assert "XDG_STATE_HOME=/var/lib\n" in stage
    assert "FOLYAM_" not in "".join(re.findall(r"^ENV .*?[^\\]$", stage, re.DOTALL | re.MULTILINE))


def test_every_setting_reaches_the_service() -> None:
    lines = (ROOT / "deploy" / "compose" / "settings.env").read_text().splitlines()
    passed = {line for line in lines if line and not line.startswith(("#", "OTEL_"))}
    settings = set(map(variable_of, Settings.model_fields))
    # One is where the volume is, and two are the paths of files, which have other paths in the container.
    left_out = {"FOLYAM_LOG_URL", "FOLYAM_LOG_URL_FILE", "FOLYAM_API_KEYS_FILE"}
    assert passed == settings - left_out | {"FOLYAM_WORKERS"}


def test_compose_passes_the_file_of_keys_on_only_where_that_is_set() -> None:
    container = services()["service"]
    [path] = [
        str(each["path"])
        for each in container["env_file"]
        if isinstance(each, dict) and "FOLYAM_API_KEYS_FILE" in each["path"]
    ]
    unset, given = (re.sub(r"\$\{FOLYAM_API_KEYS_FILE\+(.*?)\}", word, path) for word in ("", r"\1"))
    assert not (ROOT / unset).exists()
    assert "\nFOLYAM_API_KEYS_FILE=/run/secrets/api_keys\n" in (ROOT / given).read_text()
    assert not [name for name in container["environment"] if "API_KEYS" in name]


@pytest.mark.parametrize("name", services())
def test_every_container_is_held_short(name: str) -> None:
    container = services()[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["restart"] == "unless-stopped"
    assert set(container["deploy"]["resources"]["limits"]) == {"memory", "pids"}
    assert "privileged" not in container
    assert "cap_add" not in container


def test_the_service_may_drain_before_it_is_killed() -> None:
    show = "import runpy; print(runpy.run_path('deploy/gunicorn.conf.py')['graceful_timeout'])"
    graceful = float(run("env", "-u", "FOLYAM_DRAIN_SECONDS", sys.executable, "-c", show))
    assert graceful > Settings.model_fields["drain_seconds"].default
    [grace] = re.findall(r":-(\d+)s\}", services()["service"]["stop_grace_period"])
    assert float(grace) > graceful


def test_only_nginx_and_grafana_are_published() -> None:
    published = {name: container["ports"] for name, container in services().items() if "ports" in container}
    assert published.keys() == {"nginx", "grafana"}
    assert [port.startswith("127.0.0.1:") for port in published["grafana"]] == [True]


def test_versions_are_said_once() -> None:
    assert set(re.findall(r"ARG VERSION=(\S+)", DOCKERFILE)) == {service.__version__}
    setup = (ROOT / "deploy" / "local" / "setup.sh").read_text()
    assert re.findall(r"ARG UV_VERSION=(\S+)", DOCKERFILE) == re.findall(r"^UV_VERSION=(\S+)", setup, re.MULTILINE)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_in_the_images_is_there_without_a_compiler(machine: str) -> None:
    packages = {each["name"]: each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    ours = packages["folyam"]
    wanted = [*ours["dependencies"], *ours["optional-dependencies"]["tracing"], *ours["dev-dependencies"]["model"]]
    [version] = re.findall(r"^FROM python:3\.(\d+)", DOCKERFILE, re.MULTILINE)
    fits = re.compile(rf"-any\.whl$|-(cp3{version}|cp3\d+-abi3|py3-none)-.*manylinux\w*_{machine}")
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()["name"]
        if name not in seen:
            seen.add(name)
            # What is overridden away has a platform that is never.
            needed = packages[name].get("dependencies", [])
            wanted += [each for each in needed if "never" not in each.get("marker", "")]
            assert any(fits.search(wheel["url"]) for wheel in packages[name]["wheels"]), name
    assert len(seen) > 20
