import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.following import try_to_open
from tests.containers.project import HERE, ROOT, Project, clone, docker, eventually
from tests.e2e.client import question

CANARY_IN_ENVIRONMENT = "sk-canary-in-the-environment-5d0c"
CANARY_IN_FILE = "sk-canary-in-a-file-81fe"
UPSTREAM_IMAGE = "folyam-tests-upstream"


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
    environment = {
        "FOLYAM_FALLBACK_API_KEY": CANARY_IN_ENVIRONMENT,
        "FOLYAM_FALLBACK_BASE_URL": "http://127.0.0.1:9/v1",
    }
    for name in ("key", "service/key", "frontend/src/key", "deploy/nginx/key"):
        (cloned / name).write_text(f"{CANARY_IN_FILE}\n")
    (cloned / "frontend" / ".env").write_text(f"VITE_KEY={CANARY_IN_FILE}\n")
    return Canaries(environment, cloned / "key")


@dataclass(frozen=True)
class Times:
    """Seconds from the command `docker compose up`, with which images are built on the way."""

    up: float
    first_word: float


@pytest.fixture(scope="session")
def started(cloned: Path, canaries: Canaries) -> Iterator[tuple[Project, Times]]:
    """`docker compose up` with nothing set: the local model answers."""
    with Project("folyam-tests", cloned, environment=canaries.environment) as project:
        begun = time.monotonic()
        project.up()
        up = time.monotonic()
        eventually(lambda: first_word(project))
        yield project, Times(up - begun, time.monotonic() - begun)


@pytest.fixture(scope="session")
def local(started: tuple[Project, Times]) -> Project:
    return started[0]


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
def upstream_image(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service's image before any change of a test, by a name of this process that no other build takes away."""
    directory = tmp_path_factory.mktemp("clone") / "folyam"
    clone(directory)
    name = f"{UPSTREAM_IMAGE}-{worker_id}"
    docker("build", "--quiet", "--target", "service", "--tag", name, directory)
    yield name
    docker("rmi", name)


@pytest.fixture(scope="module")
def overrides() -> list[Path]:
    """Further files of Compose, that a module may want."""
    return []


@pytest.fixture(scope="module")
def paced(
    upstream_image: str,
    overrides: list[Path],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Project]:
    """The stack with a scripted API and a key from a file. Nothing is started yet."""
    directory = tmp_path_factory.mktemp("clone") / "folyam"
    clone(directory)
    key = directory / "key"
    key.write_text(f"{CANARY_IN_FILE}\n")
    with Project(
        f"folyam-{request.module.__name__.rpartition('.')[2].replace('_', '-')}",
        directory,
        [HERE / "upstream.yml", *overrides],
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
