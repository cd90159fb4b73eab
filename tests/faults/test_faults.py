"""What clients saw of a stack that was broken again and again: a short, seeded part of `make faults`."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults import restarts
from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.kinds import DISK, PROCESSES, DiskFull, plan
from tests.faults.stack import Stack, can_mount

SEED = 11
CLIENTS = 20


def attack(
    directory: Path, work: Callable[[Stack, Findings], Awaitable[None]], *, small_disk: bool = False
) -> Findings:
    """What a run on a stack of its own found."""

    async def run() -> Findings:
        findings = Findings(SEED, directory)
        with Stack(directory, workers=3, small_disk=small_disk) as stack:
            await work(stack, findings)
        return findings

    return asyncio.run(run())


def test_nothing_is_lost_whatever_happens_to_the_processes_the_upstream_and_the_clients(tmp_path: Path) -> None:
    async def work(stack: Stack, findings: Findings) -> None:
        await Run(stack, findings).go(15, CLIENTS, plan(SEED, 15, PROCESSES))

    findings = attack(tmp_path, work)
    assert findings.answers > 50
    assert not findings.violations, "\n".join(findings.lines())


def test_a_damaged_or_full_disk_makes_no_false_success_no_forged_text_and_nobody_wait_for_ever(tmp_path: Path) -> None:
    small_disk = can_mount()

    async def work(stack: Stack, findings: Findings) -> None:
        planned = [each for each in plan(SEED, 8, DISK) if small_disk or not isinstance(each.fault, DiskFull)]
        await Run(stack, findings).go(8, CLIENTS, planned)

    findings = attack(tmp_path, work, small_disk=small_disk)
    assert findings.answers > 20
    assert not findings.violations, "\n".join(findings.lines())


def test_a_rolling_and_a_full_restart_go_unnoticed(tmp_path: Path) -> None:
    findings = attack(tmp_path, lambda stack, findings: restarts.rolling(stack, findings, streams=40))
    assert findings.faults.total() == len(restarts.ROLLING)
    assert findings.answers > 40
    assert not findings.violations, "\n".join(findings.lines())


def test_a_plan_follows_from_its_seed() -> None:
    assert plan(1, 100) == plan(1, 100)
    assert plan(1, 100) != plan(2, 100)
    assert plan(1, 50) == plan(1, 100)[: len(plan(1, 50))]


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_has_every_kind_of_fault_in_the_long_run(seed: int) -> None:
    assert {type(each.fault) for each in plan(seed, 600)} == {kind for kind, _ in PROCESSES}
