"""A clean clone of this checkout, and `docker compose` in it, as a person would type it."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from deploy.local import ports
from deploy.local.ports import Address
from tests.e2e.client import Client

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
HERE = Path("tests") / "containers"
COMMAND_SECONDS = 400.0
POLL_SECONDS = 0.1

Container = dict[str, Any]
"""A container, as `docker inspect` describes it."""


def eventually(look: Callable[[], T], seconds: float = 60.0) -> T:
    """Call `look` until its result is true, and return the result; AssertionError after the time limit."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {seen!r}"
        time.sleep(POLL_SECONDS)
    return seen


def docker(*arguments: str | Path, check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
    """Run `docker …` and return its standard output; AssertionError with all its output if it fails."""
    return _run(["docker", *map(str, arguments)], ROOT, os.environ, check=check, seconds=seconds)


def inspect(*names: str) -> list[Container]:
    """Describe containers or images."""
    found: list[Container] = json.loads(docker("inspect", *names))
    return found


def has_image(name: str) -> bool:
    """Return whether the engine has the image."""
    return bool(docker("images", "--quiet", name).strip())


def clone(directory: Path) -> None:
    """Copy the files that git tracks, in their state in this checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (source := ROOT / name).is_file():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


class Project:
    """A clone with a name and ports of its own. The engine's parts of it are removed with the `with` block."""

    def __init__(
        self, name: str, directory: Path, overrides: Sequence[Path] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.directory = directory
        if not directory.exists():
            clone(directory)
        self.door = ports.free()
        unavailable = [] if has_image(image_of(directory, "grafana")) else [HERE / "without-grafana.yml"]
        self.files = [Path("docker-compose.yml"), *overrides, *unavailable]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOLYAM_", "OPENAI_"))}
        self.environment = {
            **kept,
            "FOLYAM_PORT": str(self.door.port),
            "GRAFANA_PORT": str(ports.free().port),
            **(environment or {}),
        }

    @property
    def client(self) -> Client:
        """Through nginx."""
        return Client(self.door)

    def compose(
        self,
        *arguments: str,
        check: bool = True,
        overrides: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Run `docker compose …` and return its standard output."""
        files = [part for file in (*self.files, *overrides) for part in ("--file", str(file))]
        command = ["docker", "compose", "--project-name", self.name, *files, *arguments]
        return _run(command, self.directory, {**self.environment, **(environment or {})}, check=check)

    def up(self, *arguments: str) -> None:
        """`docker compose up -d …`."""
        self.compose("up", "--detach", *arguments)

    def containers(self, service: str | None = None) -> list[Container]:
        """Describe the running containers, of one service or of all."""
        ids = self.compose("ps", "--quiet", *([service] if service else [])).split()
        return inspect(*ids) if ids else []

    def services(self) -> set[str]:
        """The services that have a running container."""
        return {label(each, "service") for each in self.containers()}

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a container of the service."""
        return self.compose("exec", "--no-TTY", service, *command)

    def replicas(self) -> dict[str, Client]:
        """Return a client of each of the service's containers, without nginx, by the container's id."""
        network = f"{self.name}_outside"
        return {each["Id"]: Client(Address(address_in(each, network), 8000)) for each in self.containers("service")}

    def logs_directory(self, target: Path) -> Path:
        """Copy the answers' logs out of their volume."""
        [some, *_] = self.containers("service")
        command = ["docker", "exec", some["Id"], "tar", "-C", "/var/lib/folyam", "-c", "answers"]
        archive = subprocess.run(command, capture_output=True, check=True, timeout=COMMAND_SECONDS).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            opened.extractall(target, filter="data")
        return target / "answers"

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        """Query Prometheus from within its network, because no port of it is published."""
        url = f"http://127.0.0.1:9090/api/v1/query?query={quote(query)}"
        said = json.loads(self.execute("prometheus", "wget", "-q", "-O", "-", url))
        result: list[dict[str, Any]] = said["data"]["result"]
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("down", "--volumes", "--rmi", "local", "--timeout", "0", "--remove-orphans", check=False)


def label(container: Container, name: str) -> str:
    """Return compose's label of a container."""
    found: str = container["Config"]["Labels"][f"com.docker.compose.{name}"]
    return found


def address_in(container: Container, network: str) -> str:
    """Return its address in one network."""
    found: str = container["NetworkSettings"]["Networks"][network]["IPAddress"]
    return found


def image_of(directory: Path, service: str) -> str:
    """Return the image that docker-compose.yml names for a service."""
    text = (directory / "docker-compose.yml").read_text()
    return text.split(f"\n  {service}:\n")[1].split("image: ")[1].split()[0]


def _run(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    *,
    check: bool,
    seconds: float = COMMAND_SECONDS,
) -> str:
    ended = subprocess.run(
        command,
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert not check or ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout
