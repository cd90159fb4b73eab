"""A confined process changes files only where it may. Each test confines a process of its own: there is no way back."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.arbiter import Arbiter

from service.sandbox import CREATE_RULESET, VERSION
from tests.e2e.stack import import_service
from tests.starting import start

ROOT = Path(__file__).parents[1]
KERNEL_CAN = ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, VERSION) >= 1

CHANGES = {
    "write": "open(place / 'there', 'w').close()",
    "append": "open(place / 'there', 'a').close()",
    "truncate": "os.truncate(place / 'there', 0)",
    "create": "(place / 'new').touch()",
    "remove": "(place / 'there').unlink()",
    "rename": "(place / 'there').rename(place / 'new')",
    "make a directory": "(place / 'new').mkdir()",
    "remove a directory": "(place / 'folder').rmdir()",
    "link": "(place / 'new').symlink_to('/')",
    "hard link": "os.link(place / 'there', place / 'new')",
    "pipe": "os.mkfifo(place / 'new')",
    "in a thread": "thread = threading.Thread(target=lambda: (place / 'new').touch()); thread.start(); thread.join();"
    " os.stat(place / 'new')",
    "in a child": "assert subprocess.run(['touch', place / 'new']).returncode == 0, 1 / 0",
}

PROGRAM = """
import os, subprocess, sys, threading
from pathlib import Path
from service.sandbox import confine
mine, place = Path(sys.argv[1]), Path(sys.argv[2])
threading.excepthook = lambda _: None
assert confine([mine]) is {kernel_can}
try:
    {change}
except (PermissionError, FileNotFoundError, ZeroDivisionError):
    print("refused")
else:
    print("done")
"""


def attempt(change: str, mine: Path, place: Path) -> str:
    program = PROGRAM.format(change=CHANGES[change], kernel_can=KERNEL_CAN)
    ended = subprocess.run(
        [sys.executable, "-c", program, mine, place], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("change", CHANGES)
def test_files_change_where_they_may_and_nowhere_else(change: str, tmp_path: Path) -> None:
    for name in ("mine", "others"):
        (tmp_path / name / "folder").mkdir(parents=True)
        (tmp_path / name / "there").write_text("as it was")
    # Where the kernel has no Landlock, confining says so, and nothing is refused.
    refused = "refused" if KERNEL_CAN else "done"
    assert attempt(change, tmp_path / "mine", tmp_path / "others") == refused
    if KERNEL_CAN:
        assert (tmp_path / "others" / "there").read_text() == "as it was"
        assert sorted(path.name for path in (tmp_path / "others").iterdir()) == ["folder", "there"]
    assert attempt(change, tmp_path / "mine", tmp_path / "mine") == "done"


def test_the_service_confines_itself_to_its_log_and_its_counters(tmp_path: Path) -> None:
    program = """
import os
from pathlib import Path
import service.main
for place in os.environ["PLACES"].split(os.pathsep):
    try:
        (Path(place) / "new").touch()
        print("done")
    except PermissionError:
        print("refused")
"""
    counters, answers, beside, home = (tmp_path / name for name in ("counters", "answers", "beside", "home"))
    for directory in (counters, beside, home):
        directory.mkdir()
    places = [answers, counters, beside, home, tmp_path]
    environment = {
        "PROMETHEUS_MULTIPROC_DIR": str(counters),
        "FOLYAM_LOG_URL": answers.as_uri(),
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PLACES": os.pathsep.join(map(str, places)),
    }
    ended = import_service(environment, program)
    assert ended.returncode == 0, ended.stderr
    elsewhere = "refused" if KERNEL_CAN else "done"
    assert ended.stdout.split() == ["done", "done", *[elsewhere] * 3]
    assert ('"event":"confined"' if KERNEL_CAN else '"event":"not_confined"') in ended.stderr


def test_what_sends_traces_and_metrics_is_compiled_once_and_not_at_each_start(tmp_path: Path) -> None:
    # All else is imported before, because compiling it takes seconds.
    program = "import os, sys, service.app; sys.pycache_prefix = os.environ['COMPILED']; import service.main"
    environment = {
        "FOLYAM_LOG_URL": (tmp_path / "answers").as_uri(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "COMPILED": str(tmp_path / "compiled"),
    }
    assert import_service(environment, program).returncode == 0
    exporters = (f"opentelemetry/exporter/otlp/proto/http/{signal}_exporter/__init__" for signal in ("trace", "metric"))
    for module in ("service/telemetry/otlp", "service/telemetry/otlp_metrics", *exporters):
        assert [*(tmp_path / "compiled").rglob(f"{module}.*.pyc")], module


def test_the_service_does_not_start_where_its_log_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = start(tmp_path, FOLYAM_LOG_URL=(tmp_path / "file" / "answers").as_uri())
    assert ended.status == Arbiter.APP_LOAD_ERROR
    assert ended.said.startswith("Folyam cannot start: FOLYAM_LOG_URL: ")
    assert "Traceback" not in ended.said
