"""The runs of `python -m tests.faults --log valkey`."""

import argparse
import asyncio
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.client import JSON_LINES, SSE, TEXT
from tests.faults import questions
from tests.faults.findings import Findings
from tests.faults.harness import Choice, anything
from tests.faults.hosts import partitions
from tests.faults.hosts.kinds import (
    CAN_SPLIT,
    ONE_SERVER,
    WATCHED,
    CutFromBoth,
    CutFromServer,
    HostKilled,
    HostStopped,
    Kinds,
    ServerForgets,
    ServerForgetsWithHost,
)
from tests.faults.hosts.run import TIMEOUTS, TownRun
from tests.faults.hosts.town import Town, Wanted
from tests.faults.hosts.volumes import fences
from tests.faults.kinds import Planned, plan
from tests.faults.questions import Question
from tests.faults.stack import HARNESS_WORKER
from tests.faults.viewing import NDJSON, Manner
from tests.faults.worker import SABOTAGE, SabotagedWorker
from tests.valkey import DEBIANS_REDIS

FAIL_OVER_SHARE = 0.3
"""Share of the time for faults of two servers with sentinels, on a separate town."""
LEAST_SECONDS = 10.0
MIN_REPLICAS = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
MANY_EVERY_SECONDS = 10.0
SABOTAGED_WORKER = f"{SabotagedWorker.__module__}.{SabotagedWorker.__qualname__}"

SIGNS: Kinds = ((ServerForgets, 2), (ServerForgetsWithHost, 2), (HostStopped, 1), (HostKilled, 1))
"""The kinds of faults under which a sabotage shows itself."""
KEPT = {"FOLYAM_RETENTION_ANSWERS": "1000000"}
"""Clients are checked minutes behind their ends."""
PARTED = {**KEPT, "FOLYAM_UNWATCHED_SECONDS": "30"}
"""The default: a host that is cut off for longer cuts its readers after 17 s."""
SHORT = {"FOLYAM_UNWATCHED_SECONDS": "3"}
CROWDED = {"FOLYAM_UNWATCHED_SECONDS": "60", "FOLYAM_MAX_ANSWERS": "5000", "FOLYAM_RETENTION_ANSWERS": "1000000"}
"""A thousand readers of one process may be late."""
SHORT_TIMEOUTS = replace(TIMEOUTS, whole=40.0)
SHORT_SETTLE_SECONDS = 8.0

Say = Callable[[str], None]


class TownSession:
    """Run the command line's faults, one town after the other."""

    def __init__(self, options: argparse.Namespace, directory: Path, say: Say) -> None:
        self._options = options
        self._directory = directory
        self._say = say
        self.violations = 0

    async def main(self) -> None:
        """Run them."""
        options, seconds = self._options, float(self._options.minutes) * 60
        if options.many:
            await self._part("many", partial(self._many, seconds=seconds))
        elif options.partitions:
            await self._part("partitions", partial(partitions.partitions, say=self._say))
        elif options.fences:
            await self._part("fences", partial(fences, rounds=options.fences, say=self._say))
        else:
            fail_over = max(LEAST_SECONDS, seconds * FAIL_OVER_SHARE)
            if options.part in ("", "one-server"):
                rest = seconds if options.part else max(LEAST_SECONDS, seconds - fail_over)
                await self._part("one-server", partial(self._faults, seconds=rest, kinds=ONE_SERVER))
            if options.part in ("", "fail-over"):
                rest = seconds if options.part else fail_over
                await self._part("fail-over", partial(self._faults, seconds=rest, kinds=WATCHED), watched=True)

    async def _part(
        self, name: str, work: Callable[[Town, Findings], Awaitable[None]], *, watched: bool = False
    ) -> None:
        options = self._options
        directory = self._directory / name
        findings = Findings(options.seed, directory)
        self._say(f"\n{name}, {options.hosts} hosts with {options.workers} workers each, recovery: {options.recovery}")
        began_at = time.monotonic()
        with Town(
            directory,
            hosts=options.hosts,
            workers=options.workers,
            recovery=options.recovery,
            servers=Wanted(
                watched,
                MIN_REPLICAS if watched and options.min_replicas else (),
                DEBIANS_REDIS if options.redis else None,
            ),
            settings=self._settings(),
            worker_class=SABOTAGED_WORKER if options.sabotage else HARNESS_WORKER,
        ) as town:
            for number, host in enumerate(town.hosts):
                if options.other_version and number % 2:
                    await town.end(host)
                    host.tree = Path(options.other_version)
                    await town.start(host)
            kind = "namespaces" if town.network.can_split else "proxies"
            findings.notes.append(f"{'network':36}{kind:>12}")
            await work(town, findings)
        findings.notes.append(f"{'seconds, with settling':36}{time.monotonic() - began_at:9.0f}")
        report = "\n".join(findings.lines())
        self._say(report)
        (directory / "report.txt").write_text(report + "\n")
        self.violations += len(findings.violations)
        if not findings.violations:
            shutil.rmtree(directory / "servers", ignore_errors=True)

    def _settings(self) -> dict[str, str]:
        if self._options.sabotage:
            return {**SHORT, SABOTAGE: self._options.sabotage}
        if self._options.partitions:
            return PARTED
        return CROWDED if self._options.many else KEPT

    def _run_on(self, town: Town, findings: Findings, choose: Choice = anything) -> TownRun:
        say = self._say if self._options.verbose else lambda _: None
        if self._options.sabotage:
            return TownRun(town, findings, say, choose, timeouts=SHORT_TIMEOUTS, settle_seconds=SHORT_SETTLE_SECONDS)
        return TownRun(town, findings, say, choose)

    async def _faults(self, town: Town, findings: Findings, *, seconds: float, kinds: Kinds) -> None:
        if kinds is WATCHED and town.network.can_split:
            kinds += CAN_SPLIT
        planned = plan(findings.seed, seconds, SIGNS if self._options.sabotage else kinds)
        (town.directory / "plan.txt").write_text("\n".join(map(str, planned)) + "\n")
        run = self._run_on(town, findings)
        going = asyncio.create_task(run.go(seconds, self._options.clients, planned, once=self._options.once))
        waiting: set[asyncio.Task[Any]] = {going}
        if self._options.sabotage:
            waiting.add(asyncio.create_task(self._sign_seen(run)))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if going.done():
            going.result()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _sign_seen(self, run: TownRun) -> None:
        """Return at the first violation that is a sign of the sabotage."""
        while not any(sign in each.what for each in run.findings.violations for sign in self._options.sign):
            await run.found.wait()
            run.found.clear()

    async def _many(self, town: Town, findings: Findings, *, seconds: float) -> None:
        """Run many answers of two chunks a second, and kill or cut off a host every ten seconds."""
        numbers = random.Random(f"many {findings.seed}")  # noqa: S311 (reproducible, not secret)
        planned, at = [], MANY_EVERY_SECONDS
        while at < seconds:
            which = numbers.random()
            fault = numbers.choice(
                [HostKilled(which, 3.0), CutFromServer(which, 5.0), CutFromBoth(which, 5.0)],
            )
            planned.append(Planned(at, fault))
            at += MANY_EVERY_SECONDS
        run = self._run_on(town, findings, two_a_second)
        await run.go(seconds, self._options.many, planned)


def two_a_second(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Return a question with an answer of two chunks a second, and a client that reads it to its end."""
    rendering = numbers.choice([JSON_LINES, NDJSON, SSE, SSE, TEXT])
    manner = Manner(rendering, event_source=rendering == SSE and numbers.random() < 0.5)
    return questions.plain(numbers, key, chunks=(40, 120), paces=(0.5,)), manner
