"""Importing a module of the service has no effects; `service.main` is the exception."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import import_service

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.glob("service/**/*.py")
    if path != ROOT / "service" / "main.py"
)

IMPORT = """
import gc, importlib, logging, os, sys, threading
import structlog
effects = []
def watch(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        effects.append(f"open {arguments[0]}")
    elif event.startswith(("os.mkdir", "os.re", "os.putenv", "socket.bind", "socket.connect", "subprocess")):
        effects.append(f"{event} {arguments}")
before = gc.get_threshold(), dict(os.environ), list(logging.root.handlers)
sys.addaudithook(watch)
for module in sys.argv[1:]:
    importlib.import_module(module)
after = gc.get_threshold(), dict(os.environ), list(logging.root.handlers)
if before != after:
    effects.append("the process's state")
if structlog.is_configured() or threading.active_count() > 1:
    effects.append("a log, or a thread")
print(*effects, sep="\\n", end="")
"""


def effects(*modules: str) -> str:
    """Return the effects of importing the modules, in a process of its own."""
    command = [sys.executable, "-B", "-c", IMPORT, *modules]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FOLYAM_", "PROMETHEUS_"))}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_importing_the_modules_has_no_effects() -> None:
    assert len(MODULES) > 60
    assert effects(*MODULES) == ""


def test_an_effect_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "untidy.py").write_text("from pathlib import Path\nPath(__file__).with_name('left').touch()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "left" in effects("untidy")


def test_a_log_in_files_needs_no_library_of_another_log() -> None:
    program = "import sys; import service.app, service.eventlog.files.backend; print('hiredis' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


NOT_NEEDED = ("opentelemetry.exporter", "opentelemetry.sdk", "pydantic.v1", "service.telemetry.otlp")
"""Prefixes of modules without which a service starts that sends no telemetry. Each worker imports everything anew."""

START = """
import gc, sys
import service.main
print(*[name for name, module in sys.modules.items() if module and name.startswith(tuple(sys.argv[1:]))])
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_a_start_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    program = f"import sys; sys.argv[1:] = {NOT_NEEDED!r}\n{START}"
    ended = import_service({"FOLYAM_LOG_URL": (tmp_path / "answers").as_uri()}, program)
    assert ended.returncode == 0, ended.stderr
    unneeded, collections = ended.stdout.splitlines()
    assert unneeded == ""
    assert collections == "True True", "enabled, and what was imported is frozen"
