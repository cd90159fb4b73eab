"""A log is opened by its URL, and its backend imported when it is needed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.eventlog import BACKENDS, Retention, UnusableLog, open_event_log, prepare_event_log
from tests.e2e.stack import ROOT
from tests.eventlog.backends import BACKENDS_OF_TESTS, TESTED


@pytest.mark.parametrize("use", [lambda url: open_event_log(url, Retention()), prepare_event_log])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "answers",
        "/srv/answers",
        "file:",
        "file://host/answers",
        "file:///srv/#answers",
        "file:///srv?answers",
        "ftp:///answers",
    ],
)
def test_a_url_that_no_backend_knows_is_refused(use: Callable[[str], object], url: str) -> None:
    with pytest.raises(UnusableLog, match=r"^Should be file:///<absolute path>"):
        use(url)


def test_a_backend_is_imported_when_it_is_needed(tmp_path: Path) -> None:
    program = """
import sys
import service.eventlog
assert not [name for name in sys.modules if name.startswith("service.eventlog.files")]
service.eventlog.prepare_event_log(sys.argv[1])
assert "service.eventlog.files.log" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, (tmp_path / "answers").as_uri()], cwd=ROOT, timeout=60, check=True)


def test_the_suites_run_on_every_backend() -> None:
    assert {each.module for each in BACKENDS.values()} <= {BACKENDS_OF_TESTS[each.name].module for each in TESTED}


@pytest.mark.parametrize(
    "url",
    [
        "valkey://h",
        "valkeys://user:password@h:1/2?prefix=p",
        "redis://h",
        "rediss://h",
        "valkey+sentinel://h:1,i:2/name",
        "valkeys+sentinel://h/name",
    ],
)
def test_a_log_on_a_server_needs_no_directory(url: str) -> None:
    assert prepare_event_log(url) == []


def test_a_url_with_a_password_is_not_repeated() -> None:
    with pytest.raises(UnusableLog) as refused:
        prepare_event_log("valkey://user:secret@h:1/no-number")
    assert "secret" not in str(refused.value)
