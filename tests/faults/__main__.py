"""`python -m tests.faults`: break the stack for a while, and say whether anything was lost."""

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.e2e.stack import ROOT
from tests.faults.findings import Findings
from tests.faults.harness import Run
from tests.faults.kinds import DISK, PROCESSES, plan
from tests.faults.stack import Stack, can_mount

DISK_SHARE = 0.15
"""Of the time, for faults of the log's disk, on a stack of its own: the invariant is weaker there."""
LEAST_DISK_SECONDS = 15.0


def say(line: str) -> None:
    """Tell it now, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="replays a plan")
    parser.add_argument("--clients", type=int, default=40, help="at a time (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="gunicorn's (%(default)s)")
    parser.add_argument("--recovery", choices=["continue", "restart", "fail"], default="continue")
    parser.add_argument("--verbose", action="store_true", help="tell each fault")
    options = parser.parse_args()
    directory = ROOT / "build" / "faults" / f"{time.strftime('%Y%m%d-%H%M%S')}-{options.seed}"
    directory.mkdir(parents=True)
    say(f"seed {options.seed}")
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(asyncio.run(_main(options, directory)))
    say("interrupted")
    sys.exit(130)


async def _main(options: argparse.Namespace, directory: Path) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    seconds = options.minutes * 60
    disk_seconds = max(LEAST_DISK_SECONDS, seconds * DISK_SHARE)
    parts = [("processes", max(5.0, seconds - disk_seconds), PROCESSES), ("disk", disk_seconds, DISK)]
    wrong = 0
    for name, length, kinds in parts:
        findings = Findings(options.seed, directory / name)
        planned = plan(options.seed, length, kinds)
        (directory / name).mkdir()
        (directory / name / "plan.txt").write_text("\n".join(map(str, planned)) + "\n")
        small_disk = name == "disk" and can_mount()
        if name == "disk" and not small_disk:
            planned = [each for each in planned if each.fault.name != "disk full"]
            findings.notes.append("disk full: skipped, only root can make a small disk")
        stack = Stack(directory / name, workers=options.workers, recovery=options.recovery, small_disk=small_disk)
        say(f"\n{name}: {length:.0f} s, {len(planned)} faults, {options.clients} clients, {options.recovery}")
        with stack:
            run = Run(stack, findings, say if options.verbose else lambda _: None)
            await run.go(length, options.clients, planned)
        say("\n".join(findings.lines()))
        (directory / name / "report.txt").write_text("\n".join(findings.lines()) + "\n")
        wrong += len(findings.violations)
        if not findings.violations:
            shutil.rmtree(directory / name / "answers", ignore_errors=True)
    if wrong:
        say(f"\n{wrong} violations; evidence in {directory}; again with --seed {options.seed}")
    return 1 if wrong else 0


main()
