"""One run: the clients, the faults of the plan, and the checks."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tests.faults import numbered, questions, viewing
from tests.faults.checks import (
    Circumstances,
    attempts_of,
    check_damaged,
    check_log,
    check_moves,
    check_viewing,
    claims_of,
    log_of,
    moves_of,
)
from tests.faults.findings import Findings
from tests.faults.kinds import ClockJumped, DiskFull, Planned, WorkerHung, WorkerKilled, WorkerPaused
from tests.faults.numbered import Numbered
from tests.faults.questions import Question
from tests.faults.stack import UNWATCHED_SECONDS, Stack
from tests.faults.viewing import TERMINAL, TIMEOUTS, Manner, Timeouts, Viewer, Viewing
from tests.upstream.body import whole_text
from tests.upstream.script import from_query

UPSTREAMS_OWN = "upstream_"
"""Prefix of the codes of the upstream's rejections. The service's own come with a Retry-After."""
CLAIMS_SECONDS = 50.0
"""Less than the minute after which the service forgets an answer's claims. The log alone does not show these."""
SETTLE_SECONDS = UNWATCHED_SECONDS + 15.0
"""Time without faults and clients after which every answer has its terminal event."""
WATCH_SECONDS = 0.25
DEATH_SECONDS = 0.5
"""Limit on the time from a fault until the upstream's connection is closed."""
LATE_SECONDS = 0.1
"""Limit on the delay with which the harness notices a worker's death."""
NUMBERED = 0.5
"""Share of the second devices that read by the numbers of the Responses API."""
NO_WORKER = "no worker left"
MAX_WAIT_SECONDS = 3.0
"""Limit on the wait for a new producer after a worker's SIGKILL."""


@dataclass
class Happened:
    """A fault that was injected."""

    name: str
    orphans: bool
    at: float
    until: float = float("inf")
    source: str = ""
    """The address of the host that is lost, as the upstream sees it."""


@dataclass
class Asked:
    """The harness's knowledge of an answer."""

    question: Question
    viewings: list[Viewing] = field(default_factory=list)
    watched: bool = True
    damaged: bool = False
    began_at: float = field(default_factory=time.monotonic)

    @property
    def stop(self) -> bool:
        """Whether any of its clients asked for a stop."""
        return any(seen.asked_stop for seen in self.viewings)


Choice = Callable[[random.Random, str], tuple[Question, Manner]]


def anything(numbers: random.Random, key: str) -> tuple[Question, Manner]:
    """Draw a question and a manner at random."""
    return questions.draw(numbers, key), viewing.draw(numbers)


class Run:
    """A run of clients and faults on one stack."""

    def __init__(
        self,
        stack: Stack,
        findings: Findings,
        say: Callable[[str], None] = lambda _: None,
        choose: Choice = anything,
        *,
        timeouts: Timeouts = TIMEOUTS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.findings = findings
        self.happened: list[Happened] = []
        self._stack = stack
        self._say = say
        self._choose = choose
        self._timeouts = timeouts
        self._settle_seconds = settle_seconds
        self.found = asyncio.Event()
        """Set at the first violation."""
        self._asked: dict[str, Asked] = {}
        self._claims: dict[str, str] = {}
        self._damaged: set[str] = set()
        self._taken_over: set[str] = set()
        self._full: list[list[float]] = []
        self._happening: dict[int, Happened] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: list[tuple[float, Viewing]] = []

    async def go(
        self, seconds: float, clients: int, planned: Sequence[Planned], *, answers: int = 0, once: bool = False
    ) -> None:
        """Run for `seconds` and until so many answers have been checked, let everything settle, and check.

        The faults of the plan are injected in order, with its pauses, until the run is over. Until then each client
        asks repeatedly, or `once`.
        """
        ends_at = time.monotonic() + seconds

        def is_over() -> bool:
            return time.monotonic() >= ends_at and self.findings.answers >= answers

        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(clients):
                    group.create_task(self._client(number, (lambda: True) if once else is_over))
                group.create_task(self._faults(planned, is_over))
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            watching.cancel()
            self._stack.go_on()
            for task in self._tasks:
                task.cancel()
        await self._settle()

    # The clients

    async def _client(self, number: int, is_over: Callable[[], bool]) -> None:
        turn = 0
        first = random.Random(f"begin {self.findings.seed} {number}")  # noqa: S311 (reproducible, not secret)
        await asyncio.sleep(first.uniform(0, 2))
        while not turn or not is_over():
            turn += 1
            key = f"{self.findings.seed}/{number}/{turn}"
            numbers = random.Random(key)  # noqa: S311 (reproducible, not secret)
            await self._visit(Viewing(key, *self._choose(numbers, key)), numbers)

    async def _visit(self, seen: Viewing, numbers: random.Random) -> None:
        viewer = Viewer(self._stack.door, seen, self._timeouts)
        second: asyncio.Task[None] | None = None
        running = asyncio.create_task(viewer.run())
        try:
            await viewer.begun.wait()
            if seen.answer:
                self._know(seen)
                if seen.manner.seconds:
                    second = asyncio.create_task(self._second(seen, numbers))
            await running
            if second is not None:
                await second
        finally:
            running.cancel()
            if second is not None:
                second.cancel()
        self._ended(seen)

    async def _second(self, first: Viewing, numbers: random.Random) -> None:
        await asyncio.sleep(numbers.uniform(0, 1))
        if numbers.random() < NUMBERED:
            await self._numbered(first, numbers)
            return
        manner = Manner(numbers.choice(viewing.RENDERINGS), cuts=(numbers.randint(1, 4000),))
        seen = Viewing(f"{first.number}/second", first.question, manner, answer=first.answer)
        await Viewer(self._stack.door, seen, self._timeouts).run()
        self._ended(seen)

    async def _numbered(self, first: Viewing, numbers: random.Random) -> None:
        wrong = await Numbered(self._stack.door, first.answer, numbers, self._timeouts).run()
        self.findings.renderings[numbered.NAME] += 1
        if first.answer in self._damaged:
            return
        for what in wrong:
            self.findings.violate(what, f"{first.number}/{numbered.NAME}")
            self._say(f"VIOLATION {first.number}/{numbered.NAME}: {what}")
            self.found.set()

    def _know(self, seen: Viewing) -> None:
        asked = self._asked.setdefault(seen.answer, Asked(seen.question, began_at=seen.began_at))
        asked.watched = not seen.manner.leaves
        asked.viewings.append(seen)

    def _ended(self, seen: Viewing) -> None:
        if seen.answer and seen.answer not in self._asked:
            self._know(seen)
        if seen.manner.leaves and seen.answer:
            self._late.append((time.monotonic() + self._settle_seconds, seen))
            self._check_late()
        else:
            self._check(seen)

    def _check_late(self) -> None:
        # In order, so that the first is the first due.
        while self._late and self._late[0][0] <= time.monotonic():
            self._check(self._late.pop(0)[1])

    # What faults may ask

    def storm(self, kind: str, clients: int, seed: int) -> None:
        """Add clients at once."""
        for number in range(clients):
            key = f"{self.findings.seed}/{kind}-{seed}/{number}"
            numbers = random.Random(key)  # noqa: S311 (reproducible, not secret)
            if kind == "429":
                question, manner = questions.rate_limited(key), Manner(numbers.choice(viewing.RENDERINGS))
            else:
                question = questions.long(numbers, key)
                cut = numbers.choice([0, numbers.randint(1, 300), numbers.randint(1, 3000)])
                manner = Manner(numbers.choice(viewing.RENDERINGS), cuts=(cut,), leaves=True)
            self._spawn(self._visit(Viewing(key, question, manner), numbers))

    def damage(self, answer: str) -> None:
        """Record that the answer's log was damaged."""
        self._damaged.add(answer)

    def disk_is_full(self, *, full: bool) -> None:
        """Record that the disk is full, or has room again."""
        if full:
            self._full.append([time.monotonic(), float("inf")])
        else:
            self._full[-1][1] = time.monotonic() + 1

    # The faults

    async def _faults(self, planned: Sequence[Planned], is_over: Callable[[], bool]) -> None:
        before = 0.0
        for each in planned:
            await asyncio.sleep(each.at - before)
            before = each.at
            # A fault that is due while something is down waits for it, and later faults keep their distance: many
            # faults at one moment would only show that a stopped stack does not work.
            async with self._lock_of(each):
                if is_over():
                    return
            self._spawn(self._inject(each))

    def _lock_of(self, planned: Planned) -> asyncio.Lock:
        """Return the lock that is held while something is down that the fault needs."""
        del planned
        return self._stack.lock

    async def _inject(self, planned: Planned) -> None:
        fault = planned.fault
        happened = Happened(fault.name, fault.orphans, time.monotonic())
        self.happened.append(happened)
        self._happening[id(fault)] = happened
        self.findings.faults[fault.name] += 1
        self._say(f"{planned.at:8.2f} {fault}")
        try:
            await fault.inject(self._stack, self)
        except TimeoutError as error:
            self.findings.violate(f"{fault.name}: {error}", f"{planned.at:.2f}")
        happened.until = time.monotonic()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Record the times without a serving worker, in which there can be no new producer."""
        none_serves: Happened | None = None
        while True:
            if self._stack.serving():
                if none_serves is not None:
                    none_serves.until = time.monotonic()
                    none_serves = None
            elif none_serves is None:
                none_serves = Happened(NO_WORKER, orphans=True, at=time.monotonic())
                self.happened.append(none_serves)
            await asyncio.sleep(WATCH_SECONDS)

    # The checks

    def _around(self, answer: str, asked: Asked, until: float) -> Circumstances:
        # They are remembered here from the first look, because the service forgets them.
        claims = claims_of(self._stack.logs, answer) or self._claims.get(answer, "")
        jumps = (each.at for each in self.happened if each.name == ClockJumped.name)
        self._claims[answer] = claims
        return Circumstances(
            recovery=self._stack.recovery,
            keeps_runs=self._stack.keeps_runs,
            claims=claims,
            attempts=attempts_of(self._stack.logs, answer),
            claims_forgotten=any(asked.began_at <= at <= until for at in jumps),
            may_be_unwatched=not asked.watched,
            disk_full=any(start <= until and end >= asked.began_at for start, end in self._full),
            damaged=answer in self._damaged,
        )

    def _count(self, seen: Viewing) -> None:
        findings = self.findings
        findings.clients += 1
        findings.manners[seen.manner.name] += 1
        findings.renderings[seen.manner.rendering] += 1
        findings.questions[seen.question.kind] += 1
        findings.resumes += max(0, len(seen.bodies) - 1)
        findings.unreached += seen.unreached
        for refusal in seen.refusals:
            if refusal.code == "log_full" and not any(start <= refusal.at <= end for start, end in self._full):
                findings.violate("refused for a full disk that is not full", seen.number)
            findings.refusals[f"{refusal.status} {refusal.code}"] += 1
            passing = refusal.status in (429, 502, 503, 504) and not refusal.code.startswith(UPSTREAMS_OWN)
            if passing and refusal.retry_after is None:
                findings.refused_without_retry_after += 1

    def _check(self, seen: Viewing) -> None:
        findings, logs = self.findings, self._stack.logs
        self._count(seen)
        asked = self._asked.get(seen.answer, Asked(seen.question))
        around = self._around(seen.answer, asked, seen.ended_at)
        log = log_of(logs, seen.answer) if seen.answer else []
        if around.damaged:
            findings.ends["damaged"] += 1
            wrong = check_damaged(seen, asked_stop=asked.stop)
        else:
            wrong = check_viewing(seen, log, around, asked_stop=asked.stop)
            if seen.answer and not seen.gone:
                if log and log[-1]["type"] in TERMINAL:  # Else in the end, when it had its time.
                    wrong += check_log(log, seen.question, around, asked_stop=asked.stop)
                findings.answers += 1
                findings.ends[log[-1]["type"] if log else "no log"] += 1
                findings.takeovers += len(around.claims)
                self._stood_still(seen, around)
        for what in wrong:
            findings.violate(what, seen.number)
        if wrong:
            self.found.set()
            self._say(f"VIOLATION {seen.number}: {'; '.join(wrong)}")
            findings.keep(seen, wrong, logs / f"{seen.answer}.jsonl")

    def _stood_still(self, seen: Viewing, around: Circumstances) -> None:
        """Record the gap that a client of an adopted answer saw."""
        if not around.claims or not seen.question.even or seen.manner.stall_after is not None:
            return
        if not (seen.refusals or seen.unreached):
            self._taken_over.add(seen.question.key)
        for start, end in seen.gaps:
            if cause := self._cause(start, end):
                self.findings.pauses.setdefault(cause, []).append(end - start)

    def _check_waits(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Measure the time from a producer's death to the next producer, as seen by the upstream."""
        before: dict[str, float] = {}
        for record in records:
            key, ended_at = record["key"], before.get(record["key"])
            before[key] = record["closed_at"] or float("inf")
            if key not in self._taken_over or ended_at is None:
                continue
            opened_at = record["opened_at"]
            cause = self._cause(ended_at - DEATH_SECONDS, opened_at)
            if cause == WorkerHung.name:
                # An upstream may have sent all it had to a worker that stands still, long before that is dead.
                deaths = [each.until for each in self.happened if each.name == cause]
                ended_at = max([ended_at, *(death for death in deaths if death <= opened_at + LATE_SECONDS)])
            seconds = max(0.0, opened_at - ended_at)
            if cause:
                self.findings.waits.setdefault(cause, []).append(seconds)
                # The new producer's worker may have been held still: then the exact time of its death is unknown.
                held = held_still(self.happened, ended_at, opened_at)
                if cause == WorkerKilled.name and seconds - held > MAX_WAIT_SECONDS:
                    what = "waited too long for a new producer after a worker's SIGKILL"
                    self.findings.violate(what, f"{key} ({seconds:.2f} s, a worker held still for {held:.2f} s)")

    def _cause(self, start: float, end: float) -> str | None:
        """Return the cause of producers' deaths in the interval: a fault, or the worst of several; None without one."""
        meanwhile = [each for each in self.happened if each.orphans and each.at <= end and each.until >= start]
        names = {each.name for each in meanwhile}
        if len(names) > 1:
            return NO_WORKER if NO_WORKER in names else "several at once"
        return names.pop() if names else None

    async def _settle(self) -> None:
        """Wait until every log has its end; check late ones, and those whose id no client learned."""
        deadline = time.monotonic() + self._settle_seconds
        open_ends = await asyncio.to_thread(self._unended)
        while open_ends and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
            open_ends = await asyncio.to_thread(self._unended, open_ends)
        for _, seen in self._late:
            self._check(seen)
        self._late.clear()
        for path in sorted(self._stack.logs.glob("*.jsonl")):
            self._check_left(path.stem)
        self._check_moves()
        await self._check_upstream()

    def _unended(self, among: Sequence[str] | None = None) -> list[str]:
        answers = [path.stem for path in self._stack.logs.glob("*.jsonl")] if among is None else among
        logs = ((answer, log_of(self._stack.logs, answer)) for answer in answers if answer not in self._damaged)
        return [answer for answer, log in logs if not log or log[-1]["type"] not in TERMINAL]

    def _check_left(self, answer: str) -> None:
        if answer in self._damaged:
            return
        path = self._stack.logs / f"{answer}.jsonl"
        asked = self._asked.get(answer)
        try:
            query = msgspec.json.decode(path.read_bytes().partition(b"\n")[0])["request"]["query"]
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return  # It has expired meanwhile.
        except (OSError, ValueError, KeyError):
            self.findings.violate("a log without a readable start", answer)
            return
        self.findings.logs += 1
        if asked is None:  # Its client was cut before it learned the id.
            script = from_query(query)
            # The client asked again, so the time between two requests to the upstream may be that between two answers.
            self._taken_over.discard(script.key)
            asked = Asked(
                Question("unknown", script.key, query, whole_text(script), ANY_CODES),
                watched=False,
                began_at=time.monotonic() - age - CLAIMS_SECONDS,
            )
        around = self._around(answer, asked, time.monotonic())
        if age > CLAIMS_SECONDS:
            around = replace(around, claims_forgotten=True)
        log = log_of(self._stack.logs, answer)
        self.findings.seams.update("{how}, {why}".format(**event["seam"]) for event in log if event.get("seam"))
        wrong = check_log(log, asked.question, around, asked_stop=asked.stop)
        for what in wrong:
            self.findings.violate(what, answer)
        if wrong:
            self.found.set()
            self._say(f"VIOLATION {answer}: {'; '.join(wrong)}")
            self.findings.keep_log(path)

    def _check_moves(self) -> None:
        for answer, moves in moves_of(self._stack.moves).items():
            self.findings.moves.update(f"{move.source}, {move.cause}" for move in moves)
            if answer in self._damaged:
                continue
            for what in check_moves(moves, log_of(self._stack.logs, answer)):
                self.findings.violate(what, answer)
                self.found.set()

    async def _check_upstream(self) -> None:
        """Check that the upstream generates nothing for answers without a follower."""
        deadline = time.monotonic() + 5
        while True:
            records = await asyncio.to_thread(self._stack.upstream.requests)
            leaked = [record for record in records if record["closed_at"] is None]
            if not leaked or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.25)
        for record in leaked:
            self.findings.violate("an upstream request is still open", record["key"])
        if not self._stack.keeps_runs:  # Else the next producer follows a run, of which the upstream knows nothing.
            self._check_waits(records)


def held_still(happened: Sequence[Happened], start: float, end: float) -> float:
    """Return the seconds in which a worker was stopped, or no log took an event: who takes an answer over writes first.

    Faults come in the order of their beginnings.
    """
    seconds, reached = 0.0, start
    for each in happened:
        if each.name in (WorkerPaused.name, DiskFull.name) and each.at < end and each.until > reached:
            seconds += min(each.until, end) - max(each.at, reached)
            reached = each.until
    return seconds


ANY_CODES = frozenset(
    {
        "interrupted",
        "upstream_cut",
        "upstream_error",
        "upstream_malformed",
        "upstream_rate_limited",
        "upstream_timeout",
        "upstream_truncated",
        "upstream_unavailable",
    }
)
"""Return the question of an answer that no client knows, from its log."""
