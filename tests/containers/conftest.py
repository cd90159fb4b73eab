import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.following import try_to_open
from tests.containers.project import HERE, ROOT, Project, clone, docker, eventually, inspect
from tests.e2e.client import question
from tests.tables import Table

CANARY_IN_ENVIRONMENT = "sk-canary-in-the-environment-5d0c"
CANARY_IN_FILE = "sk-canary-in-a-file-81fe"
UPSTREAM_IMAGE = "folyam-tests-upstream"
REPORT = Table("Containers: from the command to the first answer, and sizes")


@dataclass(frozen=True)
class Canaries:
    """Keys that must not leak, in the environment of every command and in files of the clone."""

    environment: dict[str, str]
    key_file: Path


@pytest.fixture(scope="session")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clone") / "folyam"
    clone(directory)
    return directory


@pytest.fixture(scope="session")
def canaries(cloned: Path) -> Canaries:
    # A fallback's key is passed on like the first one's, but leaves the local model to answer.
    environment = {"FOLYAM_FALLBACK_API_KEY": CANARY_IN_ENVIRONMENT}
    for name in ("key", "service/key", "frontend/src/key", "deploy/nginx/key"):
        (cloned / name).write_text(f"{CANARY_IN_FILE}\n")
    (cloned / "frontend" / ".env").write_text(f"VITE_KEY={CANARY_IN_FILE}\n")
    return Canaries(environment, cloned / "key")


@pytest.fixture(scope="session")
def local(cloned: Path, canaries: Canaries) -> Iterator[Project]:
    """`docker compose up` with nothing set: the local model answers."""
    with Project("folyam-tests", cloned, environment=canaries.environment) as project:
        begun = time.monotonic()
        project.up()
        up = time.monotonic()
        eventually(lambda: first_word(project))
        REPORT.add("docker compose up, images built on the way", f"{up - begun:.1f} s", "")
        REPORT.add("the first word", f"{time.monotonic() - begun:.1f} s", "from the command")
        for name, stage in (("service", "python"), ("nginx", "nginx"), ("model", "python")):
            image, base = inspect(f"{project.name}-{name}", base_of(stage))
            size, ours = image["Size"] / 1e6, (image["Size"] - base["Size"]) / 1e6
            REPORT.add(f"the image of {name}", f"{size:.0f} MB", f"{ours:.1f} of them on top of its base")
        yield project


def first_word(project: Project) -> bool:
    """Tell whether one comes. Where nginx is not up yet, the engine takes a connection and drops it."""
    stream = try_to_open(project.client, "POST", "/generate", *question("What is a river?"))
    if stream is None:
        return False
    with stream:
        return any(event["type"] == "delta" for event in stream.events())


def base_of(name: str) -> str:
    """Return the image of that name that the Dockerfile builds on."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    return dockerfile[dockerfile.index(f"FROM {name}:") :].split()[1]


@pytest.fixture(scope="session")
def upstream_image(local: Project) -> Iterator[str]:
    """The service's image as it was at first, by a name that a later build does not take away."""
    docker("tag", f"{local.name}-service", UPSTREAM_IMAGE)
    yield UPSTREAM_IMAGE
    docker("rmi", UPSTREAM_IMAGE)


@pytest.fixture(scope="module")
def paced(
    upstream_image: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The stack with a scripted API and a key from a file. Nothing is started yet."""
    directory = tmp_path_factory.mktemp("clone") / "folyam"
    clone(directory)
    key = directory / "key"
    key.write_text(f"{CANARY_IN_FILE}\n")
    with Project(
        f"folyam-{request.module.__name__.rpartition('.')[2].replace('_', '-')}",
        directory,
        [HERE / "upstream.yml"],
        {
            "UPSTREAM_IMAGE": upstream_image,
            "OPENAI_BASE_URL": "http://upstream:8000/v1",
            "OPENAI_API_KEY_FILE": str(key),
            "FOLYAM_MODEL": "test-model",
            "FOLYAM_CONTINUE": "assistant",
            "FOLYAM_DRAIN_SECONDS": "3",
        },
    ) as project:
        yield project


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if REPORT.rows:
        terminalreporter.section(REPORT.title)
        for line in REPORT.lines():
            terminalreporter.write_line(line)
