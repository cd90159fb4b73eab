"""Processes' use of the machine, from the kernel's accounting."""

import os
import time
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """The CPU time a process has used, all its threads, in nanosecond steps."""
    # What clock_getcpuclockid(3) returns. /proc/<pid>/stat counts in steps of 10 ms, too coarse for a run of one
    # stream.
    return time.clock_gettime(~pid << 3 | 2)


def resident_bytes(pid: int) -> int:
    """Return the private memory of a process, without pages of files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no memory")


def children(pid: int) -> list[int]:
    """The processes a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def machine_busy_seconds() -> float:
    """The CPU time all processes have used on all cores, as the machine counts it."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (
        int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / CLOCK_TICKS
