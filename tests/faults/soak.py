"""A soak test: under load and faults, memory, descriptors, threads, tasks, connections and files must not grow."""

import asyncio
import contextlib
import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from tests.faults.findings import Findings
from tests.faults.plot import svg
from tests.faults.stack import Stack

EVERY_SECONDS = 2.0
WARM_UP_SHARE = 0.3
MAX_GROWTH = 0.15
"""Limit on the growth between the first and the last third after the warm-up, as a share of the first, or `NOISE`."""
NOISE = {
    "memory_mib": 40.0,
    "descriptors": 100.0,
    "threads": 10.0,
    "tasks": 60.0,
    "logs": 200.0,
    "log_mib": 5.0,
    "metric_files": 20.0,
}
RETENTION = {"FOLYAM_RETENTION_SECONDS": "60", "FOLYAM_RETENTION_ANSWERS": "1500"}
"""Settings with short times, so that minutes of a run are like hours of production."""


@dataclass(frozen=True)
class Sample:
    """One sample."""

    minutes: float
    memory_mib: float
    """The workers' private memory."""
    descriptors: float
    threads: float
    tasks: float
    """asyncio's tasks in all workers."""
    logs: float
    """All files in the log's directory."""
    log_mib: float
    metric_files: float


class Soak:
    """Samples a stack until it is cancelled."""

    def __init__(self, stack: Stack) -> None:
        self.samples: list[Sample] = []
        self._stack = stack
        self._began_at = time.monotonic()

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.samples.append(await asyncio.to_thread(self._sample))
            await asyncio.sleep(EVERY_SECONDS)

    def write(self, directory: Path, findings: Findings) -> None:
        """Write the samples and their plot; return whether they were flat."""
        names = [field.name for field in fields(Sample)]
        with (directory / "soak.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(asdict(sample) for sample in self.samples)
        columns = {name: [float(getattr(sample, name)) for sample in self.samples] for name in names}
        minutes = columns.pop("minutes")
        warm_up = minutes[-1] * WARM_UP_SHARE
        title = f"{minutes[-1]:.0f} minutes under faults, seed {findings.seed}; grey: warm-up"
        (directory / "soak.svg").write_text(svg(title, minutes, columns, warm_up))
        findings.notes.append(f"{'soak, after warm-up':36}{'first':>9}{'last':>9}")
        for name, values in columns.items():
            first, last = thirds([value for minute, value in zip(minutes, values, strict=True) if minute >= warm_up])
            flat = is_flat(name, first, last)
            findings.notes.append(f"  {name:34}{first:9.1f}{last:9.1f}{'' if flat else '  grew'}")
            if not flat:
                findings.violate(f"{name} grew from {first:.1f} to {last:.1f}", "soak")

    def _sample(self) -> Sample:
        memory = descriptors = threads = tasks = 0
        for pid in self._stack.workers():
            # A worker that dies meanwhile is not counted, which a median tolerates.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process = psutil.Process(pid)
                with process.oneshot():
                    memory += process.memory_full_info().uss
                    descriptors += process.num_fds()
                    threads += process.num_threads()
                tasks += self._stack.last_tasks(pid)
        files = sizes = 0
        for path in self._stack.logs.iterdir():
            with contextlib.suppress(FileNotFoundError):
                sizes += path.stat().st_size
                files += 1
        metric_files = len(list((self._stack.directory / "metrics").glob("*.db")))
        minutes = (time.monotonic() - self._began_at) / 60
        return Sample(minutes, memory / 2**20, descriptors, threads, tasks, files, sizes / 2**20, metric_files)


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first and the last third."""
    third = max(1, len(values) // 3)
    return _median(values[:third]), _median(values[-third:])


def is_flat(name: str, first: float, last: float) -> bool:
    """Return whether `last` is not above `first` by more than the limit."""
    return last - first <= max(MAX_GROWTH * first, NOISE[name])


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
