"""The child processes of a run: start them, watch them, and end every one with the run.

A child gets a signal when its parent dies for any reason (PR_SET_PDEATHSIG). The run inherits the children of its dead
children (PR_SET_CHILD_SUBREAPER), so it can end these too.
"""

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import CannotRun

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

LOG_TAIL_LINES = 15

_libc = ctypes.CDLL(None)


def die_with_parent(parent: int) -> None:
    """Request SIGTERM at the parent's death; exit if the parent is already dead."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


@dataclass(frozen=True)
class Child:
    """One child process."""

    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    log: Path

    def tail(self) -> str:
        """Return the last lines of the child's log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])

    def how_it_ended(self) -> str:
        """Wait for the child's end; return how it ended, as a part of a sentence."""
        code = self.process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"


class ChildEnded(CannotRun):
    """A child ended before the run."""

    def __init__(self, child: Child) -> None:
        super().__init__(f"The {child.name} {child.how_it_ended()}. The end of its log, {child.log}:\n{child.tail()}")


class Children:
    """All child processes of a run."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Child] = []
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        directory: Path,
        files: Sequence[int] = (),
    ) -> Child:
        """Start a program that ends with this process, however this one ends. It inherits the open `files`."""
        log = self._logs / f"{name}.log"
        parent = os.getpid()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=directory,
                pass_fds=files,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # In its own session: the terminal's Ctrl-C goes only to this process, which ends the others in order.
                start_new_session=True,
                # Safe here: this process has one thread.
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509
            )
        child = Child(name, process, os.pidfd_open(process.pid), log)
        self._running.append(child)
        return child

    def watch(self, seconds: float | None = None) -> None:
        """Wait for `seconds`, or without a limit.

        Raises:
            ChildEnded: a child has ended.
        """
        ended, _, _ = select.select([child.pidfd for child in self._running], [], [], seconds)
        for child in self._running:
            if child.pidfd in ended:
                self._running.remove(child)
                raise ChildEnded(child)

    def signal(self, child: Child | None, number: signal.Signals) -> None:
        """Send a signal to a child that is still running."""
        if child in self._running:
            child.process.send_signal(number)

    def wait(self, child: Child | None, seconds: float) -> None:
        """Wait up to `seconds` for a child's end."""
        if child in self._running and select.select([child.pidfd], [], [], seconds)[0]:
            child.process.wait()
            self._running.remove(child)

    def sweep(self) -> None:
        """Kill all remaining children and their children."""
        self._running.clear()
        while pids := _children_of(os.getpid()):
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                os.waitpid(pid, 0)


def _children_of(parent: int) -> list[int]:
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it has just ended
                continue
            # "pid (name) state ppid …". The name may hold any character, also a closing bracket.
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                pids.append(int(entry.name))
    return pids
