"""Reduce the machine's noise: pin processes to cores, and keep all cores awake."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVING_CORE = CORES[0]
UPSTREAM_CORE = CORES[min(1, len(CORES) - 1)]
LOAD_CORE = CORES[min(2, len(CORES) - 1)]
"""The core of the load. With two cores it is the upstream's too; the table has the use of both."""

CONTROL_GROUPS = Path("/sys/fs/cgroup")
PRECEDENCE = 4
"""The benchmark's CPU weight, as a multiple of its fair share."""

# Ends when its parent has ended, in any way.
SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin processes that the block starts to this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def steadied() -> Iterator[tuple[int, ...]]:
    """Keep all cores awake and give this process precedence, for the block. Yield the processes that spin.

    A virtual machine gives an idle core back to its host. Waking it takes a time that depends on the host's load: nginx
    took between 16 and 90 µs of CPU for the same chunk, and 15 to 20 where no core slept. So each core has a process
    that spins while the core is idle. It has to be in an idle control group: with sched_autogroup_enabled the kernel
    groups processes by session, and the idle scheduling class then only gives way within its own session.

    Control groups need root and a kernel that delegates them. Without these the block runs unchanged, without
    spinning processes.
    """
    with ExitStack() as running:
        spinners: list[subprocess.Popen[bytes]] = []
        with suppress(OSError):
            hierarchy = _cpu_hierarchy()
            running.enter_context(_member_of_a_group(hierarchy))
            idle = running.enter_context(_group(hierarchy, "idle"))
            (idle / "cpu.idle").write_text("1")
            for core in CORES:
                spinner = subprocess.Popen([sys.executable, "-c", SPIN, str(core)])
                running.callback(spinner.wait)
                running.callback(spinner.kill)
                (idle / "cgroup.procs").write_text(str(spinner.pid))
                spinners.append(spinner)
        yield tuple(spinner.pid for spinner in spinners)


def _cpu_hierarchy() -> Path:
    """Where the groups that share out the CPU are."""
    if (CONTROL_GROUPS / "cpu" / "cgroup.procs").exists():
        return CONTROL_GROUPS / "cpu"
    if "cpu" in (CONTROL_GROUPS / "cgroup.subtree_control").read_text().split():
        return CONTROL_GROUPS
    raise FileNotFoundError("no control groups for the CPU")


@contextmanager
def _group(hierarchy: Path, name: str) -> Iterator[Path]:
    group = hierarchy / f"bench-{name}-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


@contextmanager
def _member_of_a_group(hierarchy: Path) -> Iterator[None]:
    """Move this process and its children into a control group with precedence, for the block."""
    home = _own_group(hierarchy)
    with _group(hierarchy, "measured") as group:
        for setting, fair in (("cpu.shares", 1024), ("cpu.weight", 100)):  # the old and the new hierarchy's name
            if (group / setting).exists():
                (group / setting).write_text(str(PRECEDENCE * fair))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))


def _own_group(hierarchy: Path) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if hierarchy == CONTROL_GROUPS or "cpu" in controllers.split(","):
            return hierarchy / path.lstrip("/")
    return hierarchy
