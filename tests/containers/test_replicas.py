"""`docker compose up --scale service=3`: every replica serves every answer."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.containers.conftest import CANARY_IN_FILE
from tests.containers.following import follow_to_the_end
from tests.containers.project import Project, address_in, docker, eventually
from tests.e2e.client import Client, script
from tests.e2e.logfile import assert_equals_log, public, read_log

REPLICAS = 3
CHUNKS = 150
PACE_SECONDS = 0.05
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))


@pytest.fixture(scope="module")
def three(paced: Project) -> Project:
    paced.up("--build", "--wait", "--scale", f"service={REPLICAS}")
    return paced


@pytest.fixture
def replicas(three: Project) -> list[Client]:
    """All replicas, restarted if the previous test has killed one."""
    three.up("--wait", "--scale", f"service={REPLICAS}")
    found = [*three.replicas().values()]
    assert len(found) == REPLICAS
    return found


def producing(three: Project) -> str:
    """Return the id of the one container that generates now; empty if none does."""
    busy = [each for each, client in three.replicas().items() if client.metrics()["folyam_streams_in_flight"] > 0]
    assert len(busy) <= 1
    return busy[0] if busy else ""


def test_with_an_api_no_model_is_started_and_the_key_comes_from_its_file(three: Project) -> None:
    assert three.services() >= {"nginx", "service", "prometheus", "upstream"}
    assert "model" not in three.services()
    show = "import hashlib, service.config as c; key = c.read_settings().openai_api_key.get_secret_value()"
    show += "; print(hashlib.sha256(key.encode()).hexdigest())"
    assert three.execute("service", "python", "-c", show).strip() == hashlib.sha256(CANARY_IN_FILE.encode()).hexdigest()
    [service, *_] = three.containers("service")
    assert CANARY_IN_FILE not in str(service), "`docker inspect` does not show the key"
    assert CANARY_IN_FILE not in three.compose("logs")


def test_an_answer_of_one_replica_is_followed_on_another(
    three: Project, replicas: list[Client], tmp_path: Path
) -> None:
    one, another, _ = replicas
    with one.ask(script(chunks=40, pace=PACE_SECONDS)) as stream:
        events = stream.events()
        first = [next(events) for _ in range(5)]
        # The history, and then live, beside the first reader.
        with ThreadPoolExecutor() as threads:
            followed = threads.submit(another.follow, stream.answer)
            rest = [*events]
            log = read_log(three.logs_directory(tmp_path), stream.answer)
            assert_equals_log(followed.result().events, log=log)
            assert_equals_log(first, rest, log=log)
    assert log[-1]["type"] == "done"


def test_an_answer_of_one_replica_is_stopped_on_another(replicas: list[Client]) -> None:
    one, another, third = replicas
    with one.ask(script(endless=True, pace=PACE_SECONDS)) as stream:
        events = stream.events()
        next(events)
        assert another.stop(stream.answer).status == 200
        assert [*events][-1] == {**third.follow(stream.answer).events[-1], "type": "stopped", "by": "user"}


def test_a_killed_container_s_answer_goes_on_on_another(three: Project, replicas: list[Client], tmp_path: Path) -> None:
    """The client is at nginx, and its connection may be one to the container that is killed."""
    query = script(chunks=CHUNKS, pace=PACE_SECONDS)
    with ThreadPoolExecutor() as threads:
        following = threads.submit(follow_to_the_end, three.client, query)
        killed = eventually(lambda: producing(three))
        docker("kill", killed)
        eventually(lambda: producing(three) not in {"", killed})
        answer, pieces = following.result()
    log = read_log(three.logs_directory(tmp_path), answer)
    assert_equals_log(*pieces, log=log)
    assert "".join(event.get("text", "") for event in log) == WHOLE
    assert [event["seam"]["why"] for event in log if "seam" in event] == ["takeover"]
    kinds = [event["type"] for event in public(log) if "seam" not in event]
    assert kinds == ["start", *["delta"] * CHUNKS, "done"]
    assert len(pieces) > 1, "it was cut, and went on"
    assert len(replicas) == REPLICAS


def test_prometheus_and_nginx_follow_the_replicas(three: Project, replicas: list[Client]) -> None:
    assert len(replicas) == REPLICAS
    eventually(lambda: len(three.prometheus('up{job="folyam"}==1')) == REPLICAS)

    addresses = {f"{address_in(each, f'{three.name}_inside')}:8000" for each in three.containers("service")}

    def asked() -> set[str]:
        """Return the containers to which nginx has passed requests on."""
        assert three.client.request("GET", "/livez").status == 200
        [nginx] = three.containers("nginx")
        logged = docker("logs", nginx["Id"]).splitlines()
        return {json.loads(line)["upstream"] for line in logged if line.startswith("{")}

    eventually(lambda: asked() >= addresses)
    three.up("--wait", "--scale", "service=1")
    # The names of those that are gone are forgotten within seconds; until then the next one is tried.
    for _ in range(40):
        assert three.client.generate(script(chunks=1)).events[-1]["type"] == "done"
    eventually(lambda: len(three.prometheus('up{job="folyam"}==1')) == 1)
