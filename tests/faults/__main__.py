"""`python -m tests.faults`: inject faults into the stack for a while, and report whether anything was lost."""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from tests.disk import can_mount
from tests.e2e.stack import ROOT
from tests.faults import breaks, cancels, model_breaks, restarts, run_breaks, stalls
from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.hosts.network import INSIDE, can_have_namespaces, enter_namespace
from tests.faults.hosts.session import TownSession
from tests.faults.kinds import DISK, PROCESSES, ClockJumped, DiskFull, Planned, plan
from tests.faults.soak import RETENTION, Soak
from tests.faults.stack import SMALL_DISK, Stack, local_model

DISK_SHARE = 0.15
"""Share of the time for faults of the log's disk, on a separate stack: the invariant is weaker there."""
LEAST_SECONDS = 15.0


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="replays a plan")
    parser.add_argument("--clients", type=int, default=40, help="at a time (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="gunicorn's (4)")
    parser.add_argument("--recovery", choices=["continue", "restart", "fail"], default="continue")
    parser.add_argument("--llama-cpp", action="store_true", help="the upstream keeps its runs, as llama.cpp does")
    parser.add_argument("--soak", action="store_true", help="also sample and plot memory, descriptors and files")
    parser.add_argument("--rolling", action="store_true", help="only a rolling and a full restart under 100 streams")
    parser.add_argument("--kills", action="store_true", help="only 200 answers, a worker killed every second")
    parser.add_argument("--real-model", action="store_true", help="with --kills or --breaks: the local model is asked")
    parser.add_argument("--cancels", type=int, default=0, help="only so many answers that are left or stopped")
    parser.add_argument("--breaks", type=int, default=0, help="only so many answers whose upstream breaks off")
    parser.add_argument("--runs", action="store_true", help="with --breaks: the upstream keeps its runs")
    parser.add_argument("--stalls", type=int, default=0, help="only so many readers that take nothing, beside others")
    parser.add_argument("--verbose", action="store_true", help="tell each fault")
    parser.add_argument("--directory", type=Path, help="for what the run writes (below build/faults)")
    parser.add_argument("--log", choices=["files", "valkey"], default="files", help="(%(default)s)")
    hosts = parser.add_argument_group("with --log valkey: hosts that share only Valkey")
    hosts.add_argument("--hosts", type=int, default=3, help="with --workers each, then 2 unless given (%(default)s)")
    hosts.add_argument("--part", choices=["", "one-server", "fail-over"], default="", help="only this part")
    hosts.add_argument("--once", action="store_true", help="each client asks once")
    hosts.add_argument("--many", type=int, default=0, help="only so many answers of 2 chunks a second, and lost hosts")
    hosts.add_argument("--partitions", action="store_true", help="only hosts that are cut off for 1, 5 and 30 s")
    hosts.add_argument("--fences", type=int, default=0, help="only so many hosts that go on beyond their take-over")
    hosts.add_argument("--min-replicas", action="store_true", help="the primary takes nothing without its replica")
    hosts.add_argument("--redis", action="store_true", help="Debian's Redis in place of Valkey")
    hosts.add_argument("--other-version", default="", help="every second host runs the service of this directory")
    hosts.add_argument("--proxies", action="store_true", help="cut connections with proxies, as without root")
    hosts.add_argument("--sabotage", default="", help="a deliberate defect, for the harness's own tests")
    hosts.add_argument("--sign", action="append", default=[], help="of the defect: such a violation ends the run")
    options = parser.parse_args()
    if options.log == "valkey":
        if not options.proxies and INSIDE not in os.environ and can_have_namespaces():
            enter_namespace(["-m", "tests.faults", *sys.argv[1:], "--seed", str(options.seed)])
        options.workers = options.workers or 2
    options.workers = options.workers or 4
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{options.seed}"
    directory = options.directory or ROOT / "build" / "faults" / name
    say(f"seed {options.seed}")
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(asyncio.run(Session(options, directory).main()))
    say("interrupted")
    sys.exit(130)


class Session:
    """Run the command line's faults, one stack after the other."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self._violations = 0

    async def main(self) -> int:
        """Return the exit status."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        options = self._options
        if options.log == "valkey":
            session = TownSession(options, self._directory, say)
            await session.main()
            self._violations += session.violations
        elif options.breaks:
            await self._breaks(options.breaks)
        elif options.rolling:
            await self._part("rolling", restarts.rolling)
        elif options.kills and options.real_model:
            with local_model(self._directory) as settings:
                await self._part("kills", restarts.kills_with_a_model, settings=settings)
        elif options.kills:
            await self._part("kills", restarts.kills)
        elif options.cancels:
            work = partial(cancels.cancels, count=options.cancels)
            await self._part("cancels", work, settings=cancels.SETTINGS)
        elif options.stalls:
            await self._part("stalls", partial(stalls.stalls, readers=options.stalls), settings=stalls.SETTINGS)
        elif options.soak:
            await self._part("soak", self._soak, settings=RETENTION)
        else:
            await self._part("processes", self._processes)
            await self._part("disk", self._disk, settings=SMALL_DISK, small_disk=can_mount())
        if self._violations:
            say(f"\n{self._violations} violations; evidence in {self._directory}; again with --seed {options.seed}")
        return 1 if self._violations else 0

    async def _part(
        self,
        name: str,
        work: Callable[[Stack, Findings], Awaitable[None]],
        *,
        settings: Mapping[str, str] | None = None,
        small_disk: bool = False,
    ) -> None:
        options = self._options
        directory = self._directory / name
        findings = Findings(options.seed, directory)
        say(f"\n{name}, recovery: {options.recovery}")
        began_at = time.monotonic()
        with Stack(
            directory,
            workers=options.workers,
            recovery=options.recovery,
            settings=settings,
            small_disk=small_disk,
            keeps_runs=options.llama_cpp,
        ) as stack:
            await work(stack, findings)
        findings.notes.append(f"{'seconds, with settling':36}{time.monotonic() - began_at:9.0f}")
        report = "\n".join(findings.lines())
        say(report)
        (directory / "report.txt").write_text(report + "\n")
        self._violations += len(findings.violations)
        if not findings.violations:
            shutil.rmtree(directory / "answers", ignore_errors=True)

    async def _breaks(self, count: int) -> None:
        """Run without the stack: what is tested is a producer and its upstream."""
        self._directory.mkdir(parents=True)
        seed = self._options.seed
        outcome: breaks.Outcome | model_breaks.Outcome
        if self._options.real_model:
            with local_model(self._directory) as settings:
                base_url, model = settings["OPENAI_BASE_URL"], settings["FOLYAM_MODEL"]
                outcome = await model_breaks.breaks(self._directory, base_url, model, count, seed)
        elif self._options.runs:
            outcome = await run_breaks.breaks(self._directory, count, seed)
        else:
            outcome = await breaks.breaks(self._directory, count, seed)
        report = "\n".join([*outcome.lines(), *outcome.violations()])
        say(report)
        (self._directory / "report.txt").write_text(report + "\n")
        self._violations += len(outcome.violations())
        if not self._violations:
            shutil.rmtree(self._directory / "answers")

    @property
    def _seconds(self) -> float:
        return float(self._options.minutes) * 60

    @property
    def _disk_seconds(self) -> float:
        return max(LEAST_SECONDS, self._seconds * DISK_SHARE)

    async def _processes(self, stack: Stack, findings: Findings) -> None:
        seconds = max(LEAST_SECONDS, self._seconds - self._disk_seconds)
        await self._run(stack, findings, seconds, plan(findings.seed, seconds, PROCESSES))

    async def _disk(self, stack: Stack, findings: Findings) -> None:
        planned = plan(findings.seed, self._disk_seconds, DISK)
        if not stack.small_disk:
            planned = [each for each in planned if not isinstance(each.fault, DiskFull)]
            findings.notes.append("disk full: skipped, because only root can make a small disk")
        await self._run(stack, findings, self._disk_seconds, planned)

    async def _soak(self, stack: Stack, findings: Findings) -> None:
        soak = Soak(stack)
        sampling = asyncio.create_task(soak.run())
        try:
            # With so short a retention, a jump of the clock would rightly erase ended answers.
            kinds = tuple(each for each in PROCESSES if each[0] is not ClockJumped)
            await self._run(stack, findings, self._seconds, plan(findings.seed, self._seconds, kinds))
        finally:
            sampling.cancel()
        soak.write(stack.directory, findings)

    async def _run(self, stack: Stack, findings: Findings, seconds: float, planned: list[Planned]) -> None:
        (stack.directory / "plan.txt").write_text("\n".join(map(str, planned)) + "\n")
        run = Run(stack, findings, say if self._options.verbose else lambda _: None)
        await run.go(seconds, self._options.clients, planned)


if __name__ == "__main__":
    main()
