"""The harness notices a broken service. Who never saw an alarm ring does not know whether it works."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.kinds import CancelStorm, Planned, WorkerKilled
from tests.faults.stack import Stack
from tests.faults.viewing import Patience
from tests.faults.worker import SABOTAGE, SabotagedWorker

SEED = 3
SECONDS = 5.0
CLIENTS = 16
WORKER = f"{SabotagedWorker.__module__}.{SabotagedWorker.__qualname__}"
KILLS = [Planned(1.0, CancelStorm(8, SEED)), *(Planned(1.5 * n, WorkerKilled(n / 4)) for n in range(1, 4))]


def broken(directory: Path, sabotage: str) -> set[str]:
    """What the harness has to say about a service with this sabotage, without numbers."""

    async def attack() -> Findings:
        findings = Findings(SEED, directory)
        settings = {SABOTAGE: sabotage, "FOLYAM_UNWATCHED_SECONDS": "3", "FOLYAM_DRAIN_SECONDS": "0"}
        with Stack(directory, workers=3, settings=settings, worker_class=WORKER) as stack:
            run = Run(stack, findings, patience=Patience(silence=6, whole=12), settle_seconds=6)
            going = asyncio.create_task(run.go(SECONDS, CLIENTS, KILLS))
            found = asyncio.create_task(run.found.wait())
            await asyncio.wait((going, found), return_when=asyncio.FIRST_COMPLETED)
            if going.done():
                going.result()
            for task in (going, found):
                task.cancel()
            await asyncio.gather(going, found, return_exceptions=True)
        return findings

    return {violation.what for violation in asyncio.run(attack()).violations}


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
    ],
)
def test_a_broken_service_is_caught(tmp_path: Path, sabotage: str, signs: tuple[str, ...]) -> None:
    found = broken(tmp_path, sabotage)
    assert any(sign in what for what in found for sign in signs), found
