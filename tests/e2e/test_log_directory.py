"""The service when the disk or the directory of its logs changes while it runs."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk import can_mount, small_disk
from tests.e2e.client import Client, Reply, script
from tests.e2e.stack import READY_SECONDS, Service, eventually
from tests.upstream.process import UpstreamProcess

LOOK_SECONDS = 7.0
"""More than a worker takes to look whether only a new one can serve: half of gunicorn's `timeout`."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of the logs' own."""
    if not can_mount():
        pytest.skip("only root can mount a disk")
    place = tmp_path / "answers"
    with small_disk(place, 4 << 20):
        yield place


def remount(place: Path, how: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{how}", place], check=False, capture_output=True).returncode == 0


def refused(reply: Reply) -> bool:
    return (reply.status, reply.json.get("error", {}).get("code")) == (503, "log_unavailable") and bool(
        reply.headers["Retry-After"]
    )


def ready(client: Client) -> bool:
    return client.request("GET", "/readyz").status == 200


def test_a_read_only_disk_refuses_what_would_be_written_and_is_read_from(
    tmp_path: Path, disk: Path, upstream: UpstreamProcess
) -> None:
    with Service(tmp_path, disk, upstream.base_url, workers=1) as service:
        client = Client(service.address)
        answer = client.generate(script(chunks=3)).events[0]["answer"]
        eventually(lambda: remount(disk, "ro"))  # It is busy in the moment of a sweep.
        assert refused(client.request("DELETE", f"/answers/{answer}"))
        assert refused(client.generate(script()))
        assert refused(client.request("GET", "/readyz"))
        assert client.stop(answer).json["text"] == "w1 w2 w3 "
        assert client.follow(answer).events[-1]["type"] == "done"
        assert remount(disk, "rw")
        assert ready(client)
        assert client.request("DELETE", f"/answers/{answer}").status == 204


def test_workers_whose_directory_was_replaced_by_a_file_stay_and_say_so(
    tmp_path: Path, upstream: UpstreamProcess
) -> None:
    answers = tmp_path / "answers"
    with Service(tmp_path / "service", answers, upstream.base_url, workers=1) as service:
        client = Client(service.address)
        assert client.generate(script(chunks=1)).events[-1]["type"] == "done"
        before = service.workers()
        kept = answers.rename(tmp_path / "kept")
        answers.touch()
        end = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < end:
            assert refused(client.request("GET", "/readyz"))
            assert refused(client.generate(script()))
            assert client.request("GET", "/livez").status == 200
            time.sleep(0.5)
        assert service.workers() == before
        answers.unlink()
        kept.rename(answers)
        eventually(lambda: ready(client), READY_SECONDS)
        assert client.generate(script(chunks=1)).events[-1]["type"] == "done"


@pytest.mark.parametrize("made_again", [True, False])
def test_workers_whose_directory_was_removed_or_replaced_make_room_for_ones_that_can_use_it(
    tmp_path: Path, upstream: UpstreamProcess, *, made_again: bool
) -> None:
    answers = tmp_path / "answers"
    with Service(tmp_path / "service", answers, upstream.base_url, workers=1) as service:
        client = Client(service.address)
        before = set(service.workers())
        old = client.generate(script(chunks=1)).events[0]["answer"]
        shutil.rmtree(answers)
        if made_again:
            answers.mkdir(mode=0o700)
        # Confined to the directory that was, these workers cannot write to the new one.
        assert client.request("GET", "/readyz").status == 503
        eventually(lambda: not before & set(service.workers()), READY_SECONDS)
        eventually(lambda: ready(client), READY_SECONDS)
        new = client.generate(script(chunks=1)).events
        assert new[-1]["type"] == "done"
        assert [path.stem for path in answers.glob("*.jsonl")] == [new[0]["answer"]]
        assert client.follow(old).status == 404
