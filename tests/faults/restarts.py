"""A deployment under load, and workers killed by the second: what must go unnoticed."""

import random
from collections.abc import Sequence

from tests.e2e.client import JSON_LINES, SSE, TEXT
from tests.faults import questions
from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.kinds import Fault, MasterReloaded, MasterTerminated, Planned, ServingWorkerKilled
from tests.faults.questions import Question
from tests.faults.stack import Stack
from tests.faults.viewing import NDJSON, Manner

ROLLING: tuple[Planned, ...] = (Planned(4.0, MasterReloaded(0)), Planned(9.0, MasterTerminated(0)))
ROLLING_SECONDS = 14.0
KILLS_SECONDS = 12.0


def readers(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Choose a long, well-behaved answer, and a client that reads it to its end."""
    rendering = numbers.choice([JSON_LINES, NDJSON, SSE, SSE, TEXT])
    manner = Manner(rendering, event_source=rendering == SSE and numbers.random() < 0.5)
    return questions.plain(numbers, key, chunks=(60, 120)), manner


async def rolling(stack: Stack, findings: Findings, streams: int = 100, planned: Sequence[Planned] = ROLLING) -> None:
    """Restart the service under running streams: no answer may be lost, doubled or failed, no request turned away."""
    run = Run(stack, findings, choose=readers)
    await run.go(ROLLING_SECONDS, streams, planned)
    for end in ("failed", "stopped", "no log"):
        if findings.ends[end]:
            findings.violate(f"{findings.ends[end]} answers {end} by a restart", "rolling restart")
    if findings.refused_without_retry_after:
        what = f"{findings.refused_without_retry_after} requests refused without Retry-After"
        findings.violate(what, "rolling restart")


async def kills(stack: Stack, findings: Findings, seed: int, answers: int = 200) -> None:
    """Kill a random worker every second, under so many answers at once; but never the last that serves."""
    numbers = random.Random(f"kills {seed}")  # noqa: S311 (reproducible, not secret)
    faults: list[Fault] = [ServingWorkerKilled(numbers.random()) for _ in range(int(KILLS_SECONDS))]
    run = Run(stack, findings, choose=slow_readers)
    await run.go(
        KILLS_SECONDS, answers, [Planned(1.0 + second, fault) for second, fault in enumerate(faults)], once=True
    )


def slow_readers(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Choose an answer of about ten seconds."""
    return questions.plain(numbers, key, chunks=(80, 120), paces=(0.1,)), readers(numbers, key)[1]
