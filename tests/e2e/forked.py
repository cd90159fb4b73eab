"""Processes that are forked from one that has imported the service's packages, for tests that start the service.

The imports are three quarters of the CPU time of a start: one with two workers takes 0.45 s instead of 1.9 s.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["tests.e2e.packages"])


class Forked:
    """A process, with the methods of `subprocess.Popen` that tests use. It ends with this one, unless that is killed.

    It differs from an executed one in its command line, and in its resource limits, which are those of the process that
    it is forked from.
    """

    def __init__(
        self, target: Callable[..., object], *arguments: object, environment: Mapping[str, str], output: Path
    ) -> None:
        """Call `target` with the arguments.

        Args:
            target: a function of a module.
            arguments: of the function. They can be pickled.
            environment: all variables of the process.
            output: the file to which standard output and standard error are added.
        """
        output.touch()
        self._process = _forking.Process(target=_run, args=(target, arguments, dict(environment), output), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, as `subprocess` has it; None before it is polled."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status; None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the process has ended.

        Raises:
            subprocess.TimeoutExpired: it does not end within `timeout` seconds.
        """
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(target: Callable[..., object], arguments: Sequence[object], environment: dict[str, str], output: Path) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    target(*arguments)
