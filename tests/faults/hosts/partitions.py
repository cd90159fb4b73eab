"""Partitions: one host, then all hosts, are cut off from the log's server for 1, 5 and 30 seconds."""

import asyncio
import random
import time
from collections.abc import Callable

from tests.e2e.client import JSON_LINES, question
from tests.faults import questions
from tests.faults.findings import Findings
from tests.faults.hosts.kinds import AllCutFromServer, CutFromServer
from tests.faults.hosts.run import TownRun
from tests.faults.hosts.town import Town
from tests.faults.kinds import Planned
from tests.faults.questions import Question
from tests.faults.viewing import RENDERINGS, Manner, error_code
from tests.faults.wire import Cut, Hung, exchange

SECONDS = (1.0, 5.0, 30.0)
REST_SECONDS = 15.0
CLIENTS = 40
PROBE_SECONDS = 0.5
MAX_REFUSAL_SECONDS = 2.0
"""Limit on the time to the refusal of a question while the log's server is away."""
MAX_ORPHANED_REQUEST_SECONDS = 16.0
"""Limit on the life of the upstream request of a producer that is cut off."""


def busy_clients(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Return a question with an even answer, and a client that follows, resumes, or stops it."""
    manner = random.Random(key).choice(  # noqa: S311 (reproducible, not secret)
        [
            Manner(numbers.choice(RENDERINGS)),
            Manner(numbers.choice(RENDERINGS), cuts=(numbers.randint(1, 2000), numbers.randint(1, 4000))),
            Manner(numbers.choice(RENDERINGS), seconds=True),
            Manner(numbers.choice(RENDERINGS), stop_after=numbers.randint(1, 4000)),
        ]
    )
    return questions.plain(numbers, key, chunks=(60, 200), paces=(0.1, 0.2)), manner


async def partitions(town: Town, findings: Findings, *, say: Callable[[str], None]) -> None:
    """Cut one host off, then all, and ask meanwhile."""
    planned, at = [], 5.0
    for make in (lambda seconds: CutFromServer(0.0, seconds), AllCutFromServer):
        for seconds in SECONDS:
            planned.append(Planned(at, make(seconds)))
            at += seconds + REST_SECONDS
    run = TownRun(town, findings, say, busy_clients)
    probing = asyncio.create_task(_probe(town, findings, run))
    try:
        await run.go(at, CLIENTS, planned)
    finally:
        probing.cancel()
    _check_requests(town, findings, run)


async def _probe(town: Town, findings: Findings, run: TownRun) -> None:
    """Ask while all hosts are cut off: each question is refused in time, with a Retry-After."""
    slowest, refused = 0.0, 0
    number = 0
    while True:
        await asyncio.sleep(PROBE_SECONDS)
        away = [each for each in run.happened if each.name == AllCutFromServer.name and each.until == float("inf")]
        if not away or time.monotonic() - away[0].at < PROBE_SECONDS:
            continue
        number += 1
        asked = questions.plain(random.Random(number), f"probe/{number}", chunks=(1, 2))  # noqa: S311
        body, headers = question(asked.query, JSON_LINES)
        began_at = time.monotonic()
        try:
            response = await exchange(town.door, "POST", "/generate", headers, body, timeout_seconds=20)
        except (Cut, Hung) as error:
            findings.violate(f"a question while the log's server is away: {error}", f"{number}")
            continue
        seconds = time.monotonic() - began_at
        if away[0].until != float("inf"):
            continue  # It was back meanwhile.
        refused += 1
        slowest = max(slowest, seconds)
        right = response.status == 503 and error_code(response) == "log_unavailable"
        if not right or "retry-after" not in response.headers or seconds > MAX_REFUSAL_SECONDS + 1:
            what = f"a question while the log's server is away: {response.status} {error_code(response)}"
            findings.violate(what, f"{number}, after {seconds:.2f} s")
        findings.notes[:] = [note for note in findings.notes if not note.startswith("refused while")]
        findings.notes.append(f"{'refused while it was away, slowest s':36}{refused:9}{slowest:8.2f}")


def _check_requests(town: Town, findings: Findings, run: TownRun) -> None:
    """Check that a producer that was cut off asked its upstream for no longer than the limit."""
    longest, taken_over = 0.0, 0
    for fault in run.happened:
        if fault.until - fault.at < max(SECONDS) - 1:
            if fault.name == AllCutFromServer.name:
                records = town.upstream.requests()
                keys = {each["key"] for each in records if each["opened_at"] < fault.at <= (each["closed_at"] or 0)}
                again = [each for each in records if each["key"] in keys and fault.at < each["opened_at"] < fault.until]
                taken_over += len(again)
            continue
        for record in town.upstream.requests():
            is_theirs = record["opened_at"] < fault.at and (not fault.source or record["peer"] == fault.source)
            if is_theirs and record["closed_at"] and record["closed_by"] == "client" and record["closed_at"] > fault.at:
                longest = max(longest, record["closed_at"] - fault.at)
    findings.notes.append(f"{'longest request of a cut producer, s':36}{longest:9.2f}")
    findings.notes.append(f"{'asked again while all were cut off':36}{taken_over:9}")
    if longest > MAX_ORPHANED_REQUEST_SECONDS + 1:
        findings.violate("the upstream request of a producer that was cut off lived on", f"{longest:.2f} s")
    if taken_over:
        findings.violate("answers were taken over while all hosts were cut off", f"{taken_over}")
