"""Producers that stand still, or are cut off, beyond their take-over, and then go on."""

import asyncio
import random
import time
from collections.abc import Callable

from tests.e2e.client import JSON_LINES, SSE
from tests.faults import questions
from tests.faults.findings import Findings
from tests.faults.hosts.kinds import CutFromServer, HostStopped
from tests.faults.hosts.run import TownRun
from tests.faults.hosts.town import Town
from tests.faults.kinds import Planned
from tests.faults.questions import Question
from tests.faults.viewing import Manner

ROUND_SECONDS = 9.0
LOST_SECONDS = 4.0
MAX_CLOSE_SECONDS = 1.0
"""Limit on the time from when a producer goes on until it closes its request to the upstream."""
ANSWERS = 30


def long_answers(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Return a question whose answer outlasts a round, and a client that reads it."""
    return questions.plain(numbers, key, chunks=(150, 250), paces=(0.05,)), Manner(numbers.choice([JSON_LINES, SSE]))


async def fences(town: Town, findings: Findings, *, rounds: int, say: Callable[[str], None]) -> None:
    """Let each host's producers wake beyond their take-over: nothing of theirs is in a log, and they end soon."""
    planned = []
    for number in range(rounds):
        which = number % len(town.hosts) / len(town.hosts)
        kind = (HostStopped, CutFromServer)[number // len(town.hosts) % 2]
        planned.append(Planned(4.0 + number * ROUND_SECONDS, kind(which, LOST_SECONDS)))
    run = TownRun(town, findings, say, long_answers)
    await run.go(4.0 + rounds * ROUND_SECONDS, ANSWERS, planned)
    records = await asyncio.to_thread(town.upstream.requests)
    fenced: list[float] = []
    for fault in run.happened:
        for record in records:
            was_open = record["opened_at"] < fault.at and (record["closed_at"] or time.monotonic()) > fault.until - 0.5
            again = [each for each in records if each["key"] == record["key"] and each["id"] > record["id"]]
            taken_over = any(each["opened_at"] < fault.until and each["peer"] != fault.source for each in again)
            if record["peer"] == fault.source and was_open and taken_over:
                fenced.append((record["closed_at"] or time.monotonic()) - fault.until)
    fenced.sort()
    findings.notes.append(f"{'producers that woke, taken over':36}{len(fenced):9}")
    if fenced:
        late = sum(seconds > MAX_CLOSE_SECONDS for seconds in fenced)
        middle, longest = fenced[len(fenced) // 2], fenced[-1]
        findings.notes.append(f"{'  until they closed: median, longest':36}{middle:9.2f}{longest:8.2f}")
        findings.notes.append(f"{'  later than a second':36}{late:9}")
