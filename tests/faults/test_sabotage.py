"""The harness detects deliberate defects of the service."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.findings import Findings
from tests.faults.harness import SETTLE_SECONDS, Run
from tests.faults.kinds import BusyWorkerKilled, CancelStorm, Planned
from tests.faults.stack import HARNESS_WORKER, Stack
from tests.faults.viewing import TIMEOUTS, Timeouts
from tests.faults.worker import SABOTAGE, SabotagedWorker

SEED = 3
SECONDS = 5.0
ANSWERS = 50
"""A run lasts until so many have been checked, because little happens in a busy machine's seconds."""
MAX_ANSWERS = 500
"""Where a sign is looked for during the run, which ends with it. Few of a busy machine's first answers may show it."""
SEEN_IN_THE_END = {"deaf_to_leaving", "undeclared_move"}
"""The checks behind a run find these, in any run."""
TIMEOUT_SECONDS = 300.0
CLIENTS = 16
WORKER = f"{SabotagedWorker.__module__}.{SabotagedWorker.__qualname__}"
SETTINGS = {
    "FOLYAM_UNWATCHED_SECONDS": "3",
    "FOLYAM_DRAIN_SECONDS": "0",
    "FOLYAM_SILENCE_SECONDS": "2",
    "FOLYAM_FIRST_CHUNK_SECONDS": "4",
}
SHORT_TIMEOUTS = Timeouts(silence=10, whole=20)
"""Longer than a sound service's waits for its upstream, repeated after each kill. A sound service gets those of any
run, because a busy machine exceeds these."""
SHORT_SETTLE_SECONDS = 6.0
KILLS = [Planned(1.0, CancelStorm(8, SEED)), *(Planned(1.5 * n, BusyWorkerKilled(n / 4)) for n in range(1, 4))]


def accusations(directory: Path, sabotage: str | None = None, signs: tuple[str, ...] = ()) -> set[str]:
    """Attack a service with this sabotage, or with none, until it reports one of the signs; return all reports."""

    async def attack() -> Findings:
        findings = Findings(SEED, directory)
        settings = {**SETTINGS, SABOTAGE: sabotage} if sabotage else SETTINGS
        worker = WORKER if sabotage else HARNESS_WORKER
        timeouts, settle_seconds = (SHORT_TIMEOUTS, SHORT_SETTLE_SECONDS) if sabotage else (TIMEOUTS, SETTLE_SECONDS)
        with Stack(directory, workers=3, settings=settings, worker_class=worker, is_forked=True) as stack:
            run = Run(stack, findings, timeouts=timeouts, settle_seconds=settle_seconds)
            answers = MAX_ANSWERS if sabotage and sabotage not in SEEN_IN_THE_END else ANSWERS
            going = asyncio.create_task(run.go(SECONDS, CLIENTS, KILLS, answers=answers))
            seen = asyncio.create_task(sign_seen(run))
            async with asyncio.timeout(TIMEOUT_SECONDS):
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
        ("doubled_seam", ("not how the upstream's begins",)),
        ("lost_seam", ("not how the upstream's begins",)),
        ("numbers_by_worker", ("another number",)),
    ],
)
def test_a_broken_service_is_caught(tmp_path: Path, sabotage: str, signs: tuple[str, ...]) -> None:
    found = accusations(tmp_path, sabotage, signs)
    assert has_one(found, signs), found


def test_a_sound_service_is_not_accused(tmp_path: Path) -> None:
    assert not accusations(tmp_path)
