"""The harness detects deliberate defects of the service."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.kinds import CancelStorm, Planned, WorkerKilled
from tests.faults.stack import HARNESS_WORKER, Stack
from tests.faults.viewing import Timeouts
from tests.faults.worker import SABOTAGE, SabotagedWorker

SEED = 3
SECONDS = 5.0
CLIENTS = 16
ATTEMPTS = 3
"""On a busy machine little happens in so few seconds, and a kill may hit nothing that the sabotage would show in."""
WORKER = f"{SabotagedWorker.__module__}.{SabotagedWorker.__qualname__}"
SETTINGS = {
    "FOLYAM_UNWATCHED_SECONDS": "3",
    "FOLYAM_DRAIN_SECONDS": "0",
    "FOLYAM_SILENCE_SECONDS": "2",
    "FOLYAM_FIRST_CHUNK_SECONDS": "4",
}
TIMEOUTS = Timeouts(silence=10, whole=20)
"""Longer than a sound service's waits for its upstream, repeated after each kill. Only the sabotage exceeds them."""
KILLS = [Planned(1.0, CancelStorm(8, SEED)), *(Planned(1.5 * n, WorkerKilled(n / 4)) for n in range(1, 4))]


def accusations(directory: Path, sabotage: str | None = None, signs: tuple[str, ...] = ()) -> set[str]:
    """Attack a service with this sabotage, or with none, until it reports one of the signs; return all reports."""

    async def attack() -> Findings:
        findings = Findings(SEED, directory)
        settings = {**SETTINGS, SABOTAGE: sabotage} if sabotage else SETTINGS
        worker = WORKER if sabotage else HARNESS_WORKER
        with Stack(directory, workers=3, settings=settings, worker_class=worker) as stack:
            run = Run(stack, findings, timeouts=TIMEOUTS, settle_seconds=6)
            going = asyncio.create_task(run.go(SECONDS, CLIENTS, KILLS))
            seen = asyncio.create_task(sign_seen(run))
            await asyncio.wait((going, seen), return_when=asyncio.FIRST_COMPLETED)
            if going.done():
                going.result()
            for task in (going, seen):
                task.cancel()
            await asyncio.gather(going, seen, return_exceptions=True)
        return findings

    async def sign_seen(run: Run) -> None:
        while not has_one(whats(run.findings), signs):
            await run.found.wait()
            run.found.clear()

    return whats(asyncio.run(attack()))


def whats(findings: Findings) -> set[str]:
    return {violation.what for violation in findings.violations}


def has_one(found: set[str], signs: tuple[str, ...]) -> bool:
    return any(sign in what for what in found for sign in signs)


@pytest.mark.parametrize(
    ("sabotage", "signs"),
    [
        ("no_lease", ("the log", "lost:")),
        ("told_before_logged", ("what was seen", "bad_last_event_id", "lost:")),
        ("no_end", ("no terminal event", "hung")),
        ("no_takeover", ("no terminal event", "hung")),
        ("false_done", ("done, with",)),
        ("lost_delta", ("what was seen", "the text seen")),
        ("doubled_delta", ("what was seen", "lost:")),
        ("deaf_to_leaving", ("no terminal event",)),
        ("undeclared_move", ("not in the table",)),
    ],
)
def test_a_broken_service_is_caught(tmp_path: Path, sabotage: str, signs: tuple[str, ...]) -> None:
    found: set[str] = set()
    for attempt in range(ATTEMPTS):
        found |= accusations(tmp_path / str(attempt), sabotage, signs)
        if has_one(found, signs):
            break
    assert has_one(found, signs), found


def test_a_sound_service_is_not_accused(tmp_path: Path) -> None:
    assert not accusations(tmp_path)
