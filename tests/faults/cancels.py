"""Thousands of clients that disconnect, after which no resource may be left in use."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from tests.e2e.client import JSON_LINES, SSE, TEXT, question
from tests.faults import questions
from tests.faults.findings import Findings
from tests.faults.stack import Stack, until
from tests.faults.wire import Connection, Cut, exchange
from tests.upstream.script import command

ANSWERS_A_WORKER = 50
SETTINGS = {"FOLYAM_UNWATCHED_SECONDS": "0", "FOLYAM_MAX_ANSWERS": str(ANSWERS_A_WORKER)}
"""A disconnect ends the answer. The limit on answers is so low that one leaked slot shows."""
AT_ONCE = 40
TIMEOUT_SECONDS = 30.0
AGAIN_SECONDS = 0.02
MAX_PAUSE_SECONDS = 0.05
MAX_BYTES = 1000
MORE_DESCRIPTORS = 5
"""Descriptors of a worker that are not a leak, such as metrics files that were not written before."""
MORE_TASKS = 2


@dataclass(frozen=True)
class Level:
    """The resources of an idle worker."""

    descriptors: int
    tasks: int


async def cancels(stack: Stack, findings: Findings, count: int) -> None:
    """Disconnect from `count` answers at random moments; then fill the service, and check that nothing leaked."""
    await _fill(stack, findings, "all places taken before, s")
    before = await _idle(stack)
    how: Counter[str] = Counter()
    jobs = iter(range(count))
    began_at = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_cancel_each(stack, findings.seed, jobs, how))
    findings.clients += how.total()
    findings.manners += how
    findings.notes.append(f"{'cancels took, s':36}{time.monotonic() - began_at:9.1f}")
    await _fill(stack, findings, "all places taken after, s")
    for pid, after in (await _idle(stack)).items():
        was = before[pid]
        findings.notes.append(f"{'a worker before: descriptors, tasks':36}{was.descriptors:9}{was.tasks:9}")
        findings.notes.append(f"{'and after':36}{after.descriptors:9}{after.tasks:9}")
        if after.descriptors > was.descriptors + MORE_DESCRIPTORS:
            findings.violate(f"a worker kept {after.descriptors - was.descriptors} descriptors", str(pid))
        if after.tasks > was.tasks + MORE_TASKS:
            findings.violate(f"a worker kept {after.tasks - was.tasks} tasks", str(pid))
    records = await asyncio.to_thread(stack.upstream.requests)
    findings.answers += len(records)
    for record in records:
        if record["closed_at"] is None:
            findings.violate("an upstream request is still open", record["key"])


async def _cancel_each(stack: Stack, seed: int, jobs: Iterable[int], how: Counter[str]) -> None:
    for job in jobs:
        key = f"cancel {seed}/{job}"
        how[await _cancel(stack, key, random.Random(key))] += 1  # noqa: S311 (reproducible, not secret)


async def _cancel(stack: Stack, key: str, numbers: random.Random) -> str:
    """Ask, and disconnect at a random moment in a random way; return the way."""
    body, headers = question(questions.long(numbers, key).query, numbers.choice([JSON_LINES, SSE, TEXT]))
    limit = numbers.randint(1, MAX_BYTES)
    connection = await Connection.send(
        stack.door, "POST", "/generate", headers, body, timeout_seconds=TIMEOUT_SECONDS, limit=limit
    )
    way = numbers.choice(["leaves at once", "leaves soon", "leaves in the answer", "stops it"])
    try:
        if way == "leaves soon":
            await asyncio.sleep(numbers.uniform(0, MAX_PAUSE_SECONDS))
        elif way != "leaves at once":
            response = await connection.head()
            if response.status != 200:
                return f"is refused with {response.status}"
            if way == "stops it":
                stop = f"{response.headers['location']}/stop"
                await exchange(stack.door, "POST", stop, {}, timeout_seconds=TIMEOUT_SECONDS)
            else:
                async for _ in connection.body():
                    pass
    except Cut:
        pass  # The connection resets itself after its limit of bytes.
    finally:
        numbers.choice([connection.close, connection.reset])()
    return way


async def _fill(stack: Stack, findings: Findings, title: str) -> None:
    """Run answers up to the limit of all workers, until one is rejected; then disconnect from all."""
    places = ANSWERS_A_WORKER * stack.workers_wanted
    body, headers = question(command(endless=True, pace=0.2))
    began_at = time.monotonic()
    deadline = began_at + TIMEOUT_SECONDS
    with ExitStack() as held:
        taken = 0
        while taken < places:
            connection = await Connection.send(
                stack.door, "POST", "/generate", headers, body, timeout_seconds=TIMEOUT_SECONDS
            )
            response = await connection.head()
            if response.status == 200:
                held.callback(connection.reset)
                taken += 1
                continue
            connection.close()
            # The kernel picks the worker of a connection, also one at its limit.
            if time.monotonic() > deadline:
                findings.violate(f"only {taken} of {places} places for answers can be taken", title)
                return
            await asyncio.sleep(AGAIN_SECONDS)
        findings.notes.append(f"{title:36}{time.monotonic() - began_at:9.1f}   {places} answers")
        connection = await Connection.send(
            stack.door, "POST", "/generate", headers, body, timeout_seconds=TIMEOUT_SECONDS
        )
        held.callback(connection.close)
        response = await connection.head()
        code = b"".join([piece async for piece in connection.body()])
        if json.loads(code)["error"]["code"] != "too_many_answers" or "retry-after" not in response.headers:
            findings.violate("one answer more than there may be is not refused in the right way", title)


async def _idle(stack: Stack) -> dict[int, Level]:
    """Wait until no request is under way; return each worker's resources."""
    await until(lambda: _at_rest(stack.metrics()), TIMEOUT_SECONDS, "no answer runs and there is no follower")
    levels = {}
    for pid in stack.workers():
        levels[pid] = Level(psutil.Process(pid).num_fds(), await asyncio.to_thread(stack.tasks, pid))
    return levels


def _at_rest(metrics: dict[str, float]) -> bool:
    return not metrics["folyam_streams_in_flight"] and not metrics["folyam_followers"]
