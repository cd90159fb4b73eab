"""One run of clients and faults on a town.

A client is checked when the server has been left alone for some seconds behind the client's end: a living producer has
then put back what the server forgot.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from tests.faults.checks import Circumstances, moves_of_producers
from tests.faults.findings import Findings
from tests.faults.harness import ANY_CODES, Asked, Choice, Run, anything
from tests.faults.hosts.kinds import FORGETFUL, CutFromBoth, CutFromServer, HostKilled, HostStopped, ServerFault
from tests.faults.hosts.logs import AWAY, ServerLog
from tests.faults.hosts.oracle import check_producers, check_server_log, check_server_viewing
from tests.faults.hosts.town import UNWATCHED_SECONDS, Town
from tests.faults.kinds import Fault, Planned
from tests.faults.questions import Question
from tests.faults.stack import Stack
from tests.faults.viewing import Timeouts, Viewing
from tests.upstream.body import whole_text
from tests.upstream.script import from_query

TIMEOUTS = Timeouts(silence=60.0, whole=240.0, patience=4.0, text_patience=6.0)
SETTLE_SECONDS = UNWATCHED_SECONDS + 20.0
QUIET_SECONDS = 5.0
CHECK_SECONDS = 1.0
CHECKS_AT_ONCE = 20
LOST_HOST = (HostKilled.name, HostStopped.name, CutFromServer.name, CutFromBoth.name)
DEAD_SECONDS = 2.0
"""A host that stands still, or is cut off, for a shorter time keeps its answers."""
BUSY_SHARE = 0.9
"""Share of the processors' time from which on the machine is saturated."""


class TownRun(Run):
    """See `Run`."""

    def __init__(
        self,
        town: Town,
        findings: Findings,
        say: Callable[[str], None] = lambda _: None,
        choose: Choice = anything,
        *,
        timeouts: Timeouts = TIMEOUTS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        # What a run uses of a stack, a town has.
        stack = cast("Stack", town)
        super().__init__(stack, findings, say, choose, timeouts=timeouts, settle_seconds=settle_seconds)
        self._town = town
        self._unchecked: list[Viewing] = []
        self._load: list[tuple[float, float]] = []
        """The time, and the share of the processors' time in use since the time before."""
        self.forgotten = 0
        """Clients whose answer the server forgot."""
        self.anew = 0
        """Clients that got the text anew."""

    async def go(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 (see `Run.go`)
        """Run: see `Run.go`."""
        checking = asyncio.create_task(self._check_in_time())
        measuring = asyncio.create_task(self._measure())
        try:
            await super().go(*arguments, **options)
        finally:
            checking.cancel()
            measuring.cancel()
        notes = self.findings.notes
        notes.append(f"{'clients whose answer was forgotten':36}{self.forgotten:9}")
        notes.append(f"{'clients that got the text anew':36}{self.anew:9}")
        busy = [share for _, share in self._load if share > BUSY_SHARE]
        notes.append(f"{'share of the time with no idle CPU':36}{len(busy) / max(1, len(self._load)):9.2f}")

    def struck(self, fault: Fault, source: str) -> None:
        """Record that the fault begins now, at the host with this address."""
        happened = self._happening[id(fault)]
        happened.at, happened.source = time.monotonic(), source

    def _lock_of(self, planned: Planned) -> asyncio.Lock:
        return self._town.server_lock if isinstance(planned.fault, ServerFault) else self._town.lock

    # When the checks are made

    def _ended(self, seen: Viewing) -> None:
        if seen.answer and seen.answer not in self._asked:
            self._know(seen)
        if seen.manner.leaves and seen.answer:
            self._late.append((time.monotonic() + self._settle_seconds, seen))
        else:
            self._unchecked.append(seen)

    async def _check_in_time(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                self._unchecked.append(self._late.pop(0)[1])
            if self._is_disturbed(now - QUIET_SECONDS):
                continue
            due = [seen for seen in self._unchecked if seen.ended_at < now - QUIET_SECONDS][:CHECKS_AT_ONCE]
            for seen in due:
                await self._check_now(seen)

    def _is_disturbed(self, since: float) -> bool:
        return any(each.until >= since for each in self.happened if "Valkey" in each.name or each.name in FORGETFUL)

    async def _check_now(self, seen: Viewing) -> None:
        try:
            log = await asyncio.to_thread(self._town.logs.read, seen.answer)
        except AWAY:
            return
        if seen in self._unchecked:
            self._unchecked.remove(seen)
            self._check_with(seen, log)

    async def _measure(self) -> None:
        before = _cpu()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = _cpu()
            busy, all_ = now[0] - before[0], now[1] - before[1]
            self._load.append((time.monotonic(), busy / max(1, all_)))
            before = now

    # The checks

    def _forgot(self, since: float) -> bool:
        return any(each.until >= since for each in self.happened if each.name in FORGETFUL)

    def _circumstances(self, log: ServerLog, asked: Asked, until: float) -> Circumstances:
        return Circumstances(
            recovery=self._town.recovery,
            claims=log.claims,
            attempts=log.attempts,
            claims_forgotten=self._forgot(asked.began_at),
            may_be_unwatched=not asked.watched,
            disk_full=any(start <= until and end >= asked.began_at for start, end in self._full),
        )

    def _check_with(self, seen: Viewing, log: ServerLog) -> None:
        self._count(seen)
        findings = self.findings
        asked = self._asked.get(seen.answer, Asked(seen.question, began_at=seen.began_at))
        around = self._circumstances(log, asked, seen.ended_at)
        forgotten = self._forgot(asked.began_at)
        wrong = check_server_viewing(seen, log, around, asked_stop=asked.stop, forgotten=forgotten)
        self.anew += not seen.is_text and any(event.get("again") for event in seen.events())
        if seen.answer:
            findings.answers += 1
            findings.takeovers += len(around.claims)
            self.forgotten += seen.gone
            end = log.events[-1]["type"] if log.events else "no log"
            findings.ends["gone" if seen.gone else end] += 1
            for start, end_at in seen.gaps:
                if around.claims and seen.question.even and (cause := self._cause(start, end_at)):
                    findings.pauses.setdefault(cause, []).append(end_at - start)
        self._accuse(wrong, seen, log)

    def _accuse(self, wrong: Sequence[str], seen: Viewing | None, log: ServerLog) -> None:
        where = seen.number if seen else log.answer
        for what in wrong:
            self.findings.violate(what, where)
        if not wrong:
            return
        self.found.set()
        self._say(f"VIOLATION {where}: {'; '.join(wrong)}")
        folder = self.findings.directory / "evidence" / where.replace("/", "-")
        if seen:
            self.findings.keep(seen, list(wrong), folder / "none")
        folder.mkdir(parents=True, exist_ok=True)
        log.write(folder / "log.txt")

    async def _settle(self) -> None:
        """Wait until every log has its end; check what is left, and logs whose id no client learned."""
        deadline = time.monotonic() + self._settle_seconds
        running = self._town.logs.running
        while await asyncio.to_thread(running) and time.monotonic() < deadline:  # noqa: ASYNC110 (the condition depends on other processes)
            await asyncio.sleep(0.25)
        self._unchecked += [seen for _, seen in self._late]
        self._late.clear()
        for seen in list(self._unchecked):
            await self._check_now(seen)
        for seen in self._unchecked:
            self.findings.violate("the server did not tell the log in the end", seen.number)
        for log in await asyncio.to_thread(lambda: list(self._town.logs.all())):
            self._check_left_log(log)
        for (answer, producer), moves in moves_of_producers(self._town.moves).items():
            self.findings.moves.update(f"{move.source}, {move.cause}" for move in moves)
            for what in check_producers(moves):
                self.findings.violate(what, f"{answer} {producer}")
                self.found.set()
        await self._check_upstream()

    def _check_left_log(self, log: ServerLog) -> None:
        self.findings.logs += 1
        asked = self._asked.get(log.answer)
        if asked is None:  # Its client was cut before it learned the id.
            query = log.request.get("query")
            if not isinstance(query, str):
                self.findings.violate("a log without a readable start", log.answer)
                return
            script = from_query(query)
            asked = Asked(
                Question("unknown", script.key, query, whole_text(script), ANY_CODES), watched=False, began_at=0.0
            )
        around = self._circumstances(log, asked, time.monotonic())
        events = log.events
        self.findings.seams.update("{how}, {why}".format(**event["seam"]) for event in events if event.get("seam"))
        self._accuse(check_server_log(log, asked.question, around, asked_stop=asked.stop), None, log)

    def _check_waits(self, records: Sequence[dict[str, Any]]) -> None:  # type: ignore[override]
        """Measure the time from a host's loss to the next producer, as seen by the upstream."""
        by_key: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            by_key.setdefault(record["key"], []).append(record)
        lost = [each for each in self.happened if each.name in LOST_HOST and each.until - each.at > DEAD_SECONDS]
        for fault in lost:
            for asked in by_key.values():
                self._measure_wait(fault.name, fault.at, fault.source, asked)
        for cause, waits in sorted(self.findings.waits.items()):
            late = sum(seconds > 3.0 for seconds in waits)
            self.findings.notes.append(f"{'over 3 s, ' + cause:36}{late:9}")

    def _measure_wait(self, name: str, at: float, source: str, asked: Sequence[dict[str, Any]]) -> None:
        open_then = [each for each in asked if each["opened_at"] < at <= (each["closed_at"] or float("inf"))]
        after = [each["opened_at"] for each in asked if each["opened_at"] > at and each["peer"] != source]
        if not (source and after) or [each["peer"] for each in open_then] != [source]:
            return
        # An answer that its host had written to its end meanwhile, or that was asked for again, is none.
        others = [each for each in self.happened if each.at < after[0] and each.until > at and each.at != at]
        if others:
            name = "several at once"
        elif any(share > BUSY_SHARE for moment, share in self._load if at - 1 <= moment <= after[0] + 1):
            name += ", no idle CPU"
        self.findings.waits.setdefault(name, []).append(after[0] - at)


def _cpu() -> tuple[int, int]:
    """Return the processors' time in use, and all of it, in ticks."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, idle, iowait, *rest = map(int, first.split()[1:])
    busy = user + nice + system + sum(rest[:3])
    return busy, busy + idle + iowait
