"""`docker compose -f docker-compose.yml -f deploy/compose/valkey.yml up`: two replicas that share no volume."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.containers.following import follow_to_the_end
from tests.containers.project import Project, docker, eventually
from tests.e2e.client import Client, script
from tests.e2e.logfile import Event

CHUNKS = 120
PACE_SECONDS = 0.05
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))
EVENTS_AFTER_A_RESTART = 40


@pytest.fixture(scope="module")
def overrides() -> list[Path]:
    return [Path("deploy/compose/valkey.yml")]


@pytest.fixture(scope="module")
def two(paced: Project) -> Project:
    paced.up("--build", "--wait", "nginx", "service", "upstream", "valkey")
    return paced


def producing(two: Project) -> str:
    """Return the id of the one container that generates now; empty if none does."""
    busy = [each for each, client in two.replicas().items() if client.metrics()["folyam_streams_in_flight"] > 0]
    return busy[0] if len(busy) == 1 else ""


def text(events: list[Event]) -> str:
    return "".join(event.get("text", "") for event in events)


def test_the_replicas_share_nothing_but_valkey_which_keeps_running_answers(two: Project) -> None:
    replicas = two.containers("service")
    assert len(replicas) == 2
    assert [mount for each in replicas for mount in each["Mounts"] if mount["Type"] == "volume"] == []
    [valkey] = two.containers("valkey")
    assert [*valkey["NetworkSettings"]["Networks"]] == [f"{two.name}_inside"]
    assert not valkey["NetworkSettings"]["Ports"].get("6379/tcp")
    told = two.execute("valkey", "valkey-cli", "config", "get", "maxmemory-policy")
    assert told.split() == ["maxmemory-policy", "volatile-ttl"]


def test_an_answer_is_followed_and_stopped_on_the_other_replica_while_valkey_restarts(two: Project) -> None:
    one, other = two.replicas().values()
    with one.ask(script(endless=True, pace=PACE_SECONDS)) as stream, ThreadPoolExecutor() as threads:
        events = stream.events()
        read = [*itertools.islice(events, 5)]
        following = threads.submit(other.follow, stream.answer)
        through_nginx = threads.submit(two.client.follow, stream.answer)
        before = one.metrics()["folyam_log_reconnects_total"]
        two.compose("restart", "valkey")
        eventually(lambda: one.metrics()["folyam_log_reconnects_total"] > before)
        read += itertools.islice(events, EVENTS_AFTER_A_RESTART)
        assert other.stop(stream.answer).status == 200
        read += events
        everybody = [read, following.result().events, through_nginx.result().events]
    end = read[-1]
    assert (end["type"], end["by"]) == ("stopped", "user")
    # Between the first event and the last one is one for each chunk. Those that wait together are one delta.
    words = "".join(f"w{n} " for n in range(1, end["seq"] - 1))
    for events_of_one in everybody:
        seqs = [event["seq"] for event in events_of_one]
        assert seqs == sorted(set(seqs))
        assert (text(events_of_one), events_of_one[0], events_of_one[-1]) == (words, read[0], end)


def test_a_killed_replica_s_answer_goes_on_on_the_other(two: Project) -> None:
    begun = threading.Barrier(2)
    with ThreadPoolExecutor() as threads:
        following = threads.submit(follow_to_the_end, two.client, script(chunks=CHUNKS, pace=PACE_SECONDS), begun)
        begun.wait(timeout=60)
        killed = eventually(lambda: producing(two))
        docker("kill", killed)
        answer, pieces = following.result()
    read = [event for piece in pieces for event in piece]
    assert text(read) == WHOLE
    seqs = [event["seq"] for event in read]
    assert seqs == sorted(set(seqs))
    assert [event["seam"]["why"] for event in read if "seam" in event] == ["takeover"]
    assert read[-1]["type"] == "done"
    [left] = two.replicas().values()
    assert text(Client.follow(left, answer).events) == WHOLE
