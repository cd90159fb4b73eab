"""Tests of the service start it from a process that has imported its packages: it is as if it had been executed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.forked import Forked
from tests.e2e.stack import READY_SECONDS, Gunicorn, eventually

EARLY = ("opentelemetry.sdk", "prometheus_client", "service")
"""What reads its environment when it is imported, or has to be imported by the service."""


def show_modules() -> None:
    print("openai" in sys.modules)  # noqa: T201 (read by the test)
    print(*[name for name in sys.modules if name.startswith(EARLY)])  # noqa: T201


def show_environment() -> None:
    print(sorted(os.environ.items()), Path.cwd())  # noqa: T201 (read by the test)


def sleep() -> None:
    print("begun", flush=True)  # noqa: T201 (read by the test)
    time.sleep(READY_SECONDS)


def test_a_fork_has_imported_packages_and_nothing_that_depends_on_its_environment(tmp_path: Path) -> None:
    process = Forked(show_modules, environment={}, output=tmp_path / "output")
    assert process.wait(READY_SECONDS) == 0
    assert (tmp_path / "output").read_text() == "True\n\n"


def test_a_fork_has_the_given_variables_alone(tmp_path: Path) -> None:
    process = Forked(show_environment, environment={"A": "b"}, output=tmp_path / "output")
    assert process.wait(READY_SECONDS) == 0
    assert (tmp_path / "output").read_text() == f"[('A', 'b')] {Path(__file__).parents[1]}\n"


def test_a_forked_gunicorn_ends_as_an_executed_one(tmp_path: Path) -> None:
    ends = set()
    for is_forked in (True, False):
        gunicorn = Gunicorn(["--no-such-option"], {}, tmp_path / str(is_forked), is_forked=is_forked)
        assert isinstance(gunicorn.process, Forked) == is_forked
        ends.add((gunicorn.process.wait(READY_SECONDS), gunicorn.log.read_text()))
    ((status, said),) = ends
    assert status == 2
    assert "--no-such-option" in said


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "PYTHONPATH"])
def test_a_gunicorn_that_is_given_a_variable_of_the_interpreter_or_of_a_package_is_executed(
    tmp_path: Path, variable: str
) -> None:
    with Gunicorn(["--version"], {variable: "http://127.0.0.1:9"}, tmp_path / "log") as gunicorn:
        assert isinstance(gunicorn.process, subprocess.Popen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_forked_process_is_waited_for_and_gets_signals(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    forked = Forked(sleep, environment={}, output=log)
    eventually(log.read_text)
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    forked.send_signal(number)
    assert forked.wait(READY_SECONDS) == forked.poll() == forked.returncode == -number
    forked.kill()  # does nothing
