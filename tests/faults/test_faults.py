"""A short, seeded part of `make faults`: the clients' view of a stack under faults."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.disk import can_mount
from tests.faults import cancels, restarts, stalls
from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.kinds import PROCESSES, DiskFull, Fault, LogDeleted, LogTruncated, Planned, plan
from tests.faults.stack import Stack
from tests.faults.viewing import Timeouts

SEED = 11
CLIENTS = 20
DISK_SECONDS = 6.0


def attack(
    directory: Path,
    work: Callable[[Stack, Findings], Awaitable[None]],
    *,
    settings: Mapping[str, str] | None = None,
    small_disk: bool = False,
    is_forked: bool = True,
) -> Findings:
    """What a run on a stack of its own found. It is executed, as by people, where starts and memory are the point."""

    async def run() -> Findings:
        findings = Findings(SEED, directory)
        with Stack(directory, workers=3, settings=settings, small_disk=small_disk, is_forked=is_forked) as stack:
            await work(stack, findings)
        return findings

    return asyncio.run(run())


def test_nothing_is_lost_whatever_happens_to_the_processes_the_upstream_and_the_clients(tmp_path: Path) -> None:
    async def work(stack: Stack, findings: Findings) -> None:
        await Run(stack, findings).go(15, CLIENTS, plan(SEED, 15, PROCESSES))

    findings = attack(tmp_path, work, is_forked=False)
    assert findings.answers > 50
    assert findings.questions["broken"]
    assert findings.seams["continued, takeover"]
    assert findings.seams.total() > findings.seams["continued, takeover"]
    assert not findings.violations, "\n".join(findings.lines())


@pytest.mark.parametrize("kind", [LogDeleted, LogTruncated])
def test_a_damaged_log_makes_no_false_success_no_forged_text_and_no_endless_wait(
    tmp_path: Path, kind: type[Fault]
) -> None:
    async def work(stack: Stack, findings: Findings) -> None:
        planned = plan(SEED, DISK_SECONDS, ((kind, 1),))
        await Run(stack, findings, timeouts=Timeouts(silence=15, whole=30)).go(DISK_SECONDS, CLIENTS, planned)

    findings = attack(tmp_path, work)
    assert findings.answers > 20
    assert not findings.violations, "\n".join(findings.lines())


@pytest.mark.skipif(not can_mount(), reason="only root can make a small disk")
def test_a_full_disk_is_said_to_be_full_and_recovers_by_itself(tmp_path: Path) -> None:
    async def work(stack: Stack, findings: Findings) -> None:
        await Run(stack, findings).go(DISK_SECONDS, CLIENTS, [Planned(1.5, DiskFull(2.0))])

    findings = attack(tmp_path, work, small_disk=True)
    assert findings.refusals["503 log_full"]
    assert not findings.violations, "\n".join(findings.lines())


def test_a_rolling_and_a_full_restart_go_unnoticed(tmp_path: Path) -> None:
    findings = attack(tmp_path, lambda stack, findings: restarts.rolling(stack, findings, streams=40), is_forked=False)
    assert findings.faults.total() == len(restarts.ROLLING)
    assert findings.answers > 40
    assert not findings.violations, "\n".join(findings.lines())


def test_what_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    work = partial(cancels.cancels, count=150)
    findings = attack(tmp_path, work, settings=cancels.SETTINGS)
    assert findings.clients == 150
    assert not findings.violations, "\n".join(findings.lines())


def test_stalled_readers_cost_little_memory_and_delay_no_other_reader(tmp_path: Path) -> None:
    findings = attack(tmp_path, partial(stalls.stalls, readers=150), settings=stalls.SETTINGS, is_forked=False)
    assert not findings.violations, "\n".join(findings.lines())


def test_a_plan_follows_from_its_seed() -> None:
    assert plan(1, 100) == plan(1, 100)
    assert plan(1, 100) != plan(2, 100)
    assert plan(1, 50) == plan(1, 100)[: len(plan(1, 50))]


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_has_every_kind_of_fault_in_the_long_run(seed: int) -> None:
    assert {type(each.fault) for each in plan(seed, 600)} == {kind for kind, _ in PROCESSES}
