"""A deployment under load, and a worker killed every second: clients must not notice either."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from tests.e2e.client import JSON_LINES, SSE, TEXT
from tests.faults import questions
from tests.faults.checks import claims_of
from tests.faults.findings import Findings
from tests.faults.harness import MAX_WAIT_SECONDS, Run
from tests.faults.kinds import MasterReloaded, MasterTerminated, Planned, ServingWorkerKilled, WorkerKilled
from tests.faults.questions import Question
from tests.faults.stack import Stack
from tests.faults.viewing import NDJSON, Manner, Timeouts

ROLLING: tuple[Planned, ...] = (Planned(4.0, MasterReloaded(0)), Planned(9.0, MasterTerminated(0)))
ROLLING_SECONDS = 14.0
KILLS_SECONDS = 12.0
CLAIMS_POLL_SECONDS = 0.02
MODEL_TOKENS = 24
"""Limit on an answer's tokens: this machine's model writes some ninety a second in all."""


def readers(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Return a question with a long, regular answer, and a client that reads it to its end."""
    rendering = numbers.choice([JSON_LINES, NDJSON, SSE, SSE, TEXT])
    manner = Manner(rendering, event_source=rendering == SSE and numbers.random() < 0.5)
    return questions.plain(numbers, key, chunks=(60, 120)), manner


async def rolling(stack: Stack, findings: Findings, streams: int = 100, planned: Sequence[Planned] = ROLLING) -> None:
    """Restart the service under running streams: no answer may be lost, duplicated or failed, no request rejected."""
    run = Run(stack, findings, choose=readers)
    await run.go(ROLLING_SECONDS, streams, planned)
    for end in ("failed", "stopped", "no log"):
        if findings.ends[end]:
            findings.violate(f"{findings.ends[end]} answers {end} by a restart", "rolling restart")
    if findings.refused_without_retry_after:
        what = f"{findings.refused_without_retry_after} requests refused without Retry-After"
        findings.violate(what, "rolling restart")


async def kills(stack: Stack, findings: Findings, answers: int = 200) -> None:
    """Kill a random worker every second under concurrent answers, but never the last one that serves."""
    run = Run(stack, findings, choose=slow_readers)
    await run.go(KILLS_SECONDS, answers, _a_kill_each_second(findings.seed), once=True)


def _a_kill_each_second(seed: int) -> list[Planned]:
    numbers = random.Random(f"kills {seed}")  # noqa: S311 (reproducible, not secret)
    faults = [ServingWorkerKilled(numbers.random()) for _ in range(int(KILLS_SECONDS))]
    return [Planned(1.0 + second, fault) for second, fault in enumerate(faults)]


def slow_readers(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Return a question with an answer of about ten seconds."""
    return questions.plain(numbers, key, chunks=(80, 120), paces=(0.1,)), readers(numbers, key)[1]


async def kills_with_a_model(stack: Stack, findings: Findings, answers: int = 200) -> None:
    """Do the same with answers of the real local model, which continues the text so far."""
    run = Run(stack, findings, choose=real_readers, timeouts=Timeouts(silence=120, whole=300))
    claims = Claims(stack, run)
    watching = asyncio.create_task(claims.watch())
    try:
        await run.go(KILLS_SECONDS, answers, _a_kill_each_second(findings.seed), once=True)
    finally:
        watching.cancel()
    findings.waits["worker SIGKILL"] = claims.waits
    for name, count in sorted(stack.metrics().items()):
        if name.startswith("folyam_takeovers_total"):
            findings.notes.append(f"{name:36}{count:9.0f}")
    for seconds in claims.waits:
        if seconds > MAX_WAIT_SECONDS:
            findings.violate("waited too long for a new producer after a worker's SIGKILL", f"{seconds:.2f} s")


def real_readers(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Return a question for a small model, and a client that reads to the end."""
    query = f"Name {numbers.randint(2, 9)} {numbers.choice(['rivers', 'lakes', 'birds', 'trees', 'cities'])}."
    fields = (("max_tokens", MODEL_TOKENS),)
    return Question("real model", key, query, None, fields=fields), Manner(numbers.choice([JSON_LINES, NDJSON, SSE]))


class Claims:
    """Polls the log's directory for take-overs, which the real model's server does not report."""

    def __init__(self, stack: Stack, run: Run) -> None:
        self.waits: list[float] = []
        """Seconds from the last kill to each answer's new producer."""
        self._stack = stack
        self._run = run
        self._known: Counter[str] = Counter()

    async def watch(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(CLAIMS_POLL_SECONDS)

    def _look(self) -> None:
        now = time.monotonic()
        for path in self._stack.logs.glob("*.claims"):
            count = len(claims_of(self._stack.logs, path.stem))
            kills = [each.at for each in self._run.happened if each.name == WorkerKilled.name]
            if count > self._known[path.stem] and kills:
                self._known[path.stem] = count
                self.waits.append(now - max(kills))
