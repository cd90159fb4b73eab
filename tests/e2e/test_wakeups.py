"""Confined workers are woken by the kernel when another worker writes an answer, and do not poll."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client, script
from tests.e2e.stack import Service, eventually
from tests.test_sandbox import KERNEL_CAN
from tests.upstream.process import UpstreamProcess


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    """A directory with a `gcc`, as machines for development have one: `ctypes` then looks for libraries with it."""
    program = tmp_path / "bin" / "gcc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def services(tmp_path: Path, upstream: UpstreamProcess, compiler: Path) -> Iterator[tuple[Service, Service]]:
    settings = {"PATH": f"{compiler}:/usr/bin:/bin"}
    answers = tmp_path / "answers"
    with (
        Service(tmp_path / "one", answers, upstream.base_url, workers=1, settings=settings) as one,
        Service(tmp_path / "two", answers, upstream.base_url, workers=1, settings=settings) as two,
    ):
        yield one, two


def watches(service: Service) -> int:
    """Return the number of files and directories that the kernel watches for the service's only worker."""
    [worker] = service.workers()
    descriptors = Path(f"/proc/{worker}/fdinfo").iterdir()
    return sum(len(re.findall(r"^inotify wd:", each.read_text(), re.MULTILINE)) for each in descriptors)


def test_a_confined_worker_is_woken_by_another_workers_writes_and_does_not_poll(
    services: tuple[Service, Service],
) -> None:
    writes, follows = services
    with Client(writes.address).ask(script(key="woken", endless=True, pace=0.01)) as stream:
        next(stream.events())
        assert watches(follows) == 1, "the directory of the logs, where stops are written"
        with Client(follows.address).open("GET", f"/answers/{stream.answer}") as follower:
            events = follower.events()
            next(events)
            eventually(lambda: watches(follows) == 2)  # the log that the other worker writes, too
            # The stop is written by one worker, and the other one is told of it.
            assert Client(follows.address).stop(stream.answer).status == 200
            assert [*events][-1]["type"] == "stopped"
        eventually(lambda: watches(follows) == 1)
    for service in services:
        log = service.log.read_text()
        assert ('"event":"confined"' in log) == KERNEL_CAN
        assert "followers_poll" not in log
