"""A short, seeded part of `make faults LOG=valkey`: hosts that share only Valkey. It detects deliberate defects."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import ROOT

SECONDS = 300.0
"""Far above any duration."""


def faults(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in a process of its own: as root it enters a network of its own."""
    command = [sys.executable, "-m", "tests.faults", "--log", "valkey", "--directory", str(directory / "run"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)


def count(report: str, name: str) -> int:
    """Return the number in the report's line of this name."""
    return next(int(line.split()[-1]) for line in report.splitlines() if line.strip().startswith(name))


def test_nothing_is_lost_whatever_happens_to_hosts_network_and_server(tmp_path: Path) -> None:
    run = faults(
        tmp_path, "--clients", "10", "--part", "one-server", "--workers", "1", "--minutes", "0.2", "--seed", "11"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert count(run.stdout, "answers checked") > 10
    assert count(run.stdout, "take-overs") > 0
    assert count(run.stdout, "violations") == 0


@pytest.mark.parametrize(
    ("sabotage", "signs"),
    [
        ("blind_readers", ("what was seen", "the text", "numbers came twice", "no terminal event")),
        ("no_comparison", ("the log's numbers", "what was seen", "the text", "done, with")),
        ("old_numbers", ("what was seen", "the text", "numbers came twice")),
        ("nobody_dies", ("no terminal event", "hung")),
        ("deaf_to_leaving_hosts", ("no terminal event",)),
        ("false_done", ("done, with",)),
    ],
)
def test_a_broken_log_is_caught(tmp_path: Path, sabotage: str, signs: tuple[str, ...]) -> None:
    options = ["--hosts", "2", "--workers", "1", "--minutes", "0.5", "--seed", "3", "--clients", "16"]
    options += ["--sabotage", sabotage, *(f"--sign={sign}" for sign in signs)]
    run = faults(tmp_path, "--part", "one-server", *options)
    assert run.returncode == 1, run.stdout + run.stderr
    found = run.stdout.rpartition("violations  ")[2]
    assert any(sign in found for sign in signs), run.stdout
