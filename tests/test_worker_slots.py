"""Slots: held by living processes, found again when these are gone."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.telemetry import worker_slots

HOLD = """
import sys
from pathlib import Path
from service.telemetry import worker_slots
slot = worker_slots.claim(Path(sys.argv[1]))
if sys.argv[2:] != ["starting"]:
    slot.serve()
print(slot.number, slot.lost, flush=True)
if sys.stdin.readline():
    slot.leave()
"""


class Holder:
    """A process that claims a slot, and holds it until it leaves or is killed."""

    def __init__(self, directory: Path, *how: str) -> None:
        command = [sys.executable, "-c", HOLD, str(directory), *how]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.number, self.lost = map(int, self.process.stdout.readline().split())

    def leave(self) -> None:
        self.process.communicate("leave\n", timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def gauge(directory: Path, number: int) -> Path:
    path = directory / f"gauge_livesum_{number}.db"
    path.touch()
    return path


def test_no_two_living_processes_have_one_slot(tmp_path: Path) -> None:
    holders = [Holder(tmp_path) for _ in range(3)]
    assert [holder.number for holder in holders] == [0, 1, 2]
    holders[1].leave()
    again = Holder(tmp_path)
    assert again.number == 1
    for holder in (holders[0], holders[2], again):
        holder.leave()
    assert worker_slots.sweep(tmp_path) == 0


def test_the_slot_of_a_killed_worker_is_found_by_the_next_claim_and_counted_once(tmp_path: Path) -> None:
    holders = [Holder(tmp_path) for _ in range(3)]
    stale = gauge(tmp_path, holders[2].number)
    held = gauge(tmp_path, holders[1].number)
    counted = tmp_path / f"counter_{holders[2].number}.db"
    counted.touch()
    holders[0].leave()
    holders[2].kill()
    # It takes the first slot, and finds the third one's holder dead all the same.
    again = Holder(tmp_path)
    assert (again.number, again.lost) == (0, 1)
    assert not stale.exists()
    assert held.exists()
    assert counted.exists()
    assert worker_slots.sweep(tmp_path) == 0
    again.leave()
    holders[1].leave()


def test_a_sweep_finds_the_dead_and_leaves_the_living_alone(tmp_path: Path) -> None:
    dead, living = Holder(tmp_path), Holder(tmp_path)
    files = [gauge(tmp_path, holder.number) for holder in (dead, living)]
    dead.kill()
    assert worker_slots.sweep(tmp_path) == 1
    assert worker_slots.sweep(tmp_path) == 0
    assert [file.exists() for file in files] == [False, True]
    living.leave()


def test_a_worker_killed_at_its_start_is_tidied_up_after_and_not_counted(tmp_path: Path) -> None:
    starting = Holder(tmp_path, "starting")
    stale = gauge(tmp_path, starting.number)
    starting.kill()
    assert worker_slots.sweep(tmp_path) == 0
    assert not stale.exists()


@pytest.mark.parametrize("times", [1, 2])
def test_a_leaving_worker_removes_its_gauges_and_is_not_counted(tmp_path: Path, times: int) -> None:
    for _ in range(times):
        holder = Holder(tmp_path)
        assert (holder.number, holder.lost) == (0, 0)
        stale = gauge(tmp_path, 0)
        holder.leave()
        assert not stale.exists()
