"""Tests that share servers stay in one process, and the long groups begin first."""

import argparse
import re
import subprocess
import sys
from copy import copy
from pathlib import Path

import pytest
from xdist.remote import Producer

from tests.grouping import LONG, Groups, group_of, pytest_xdist_make_scheduler

HERE = Path(__file__).parent
TESTS = "import time\n\n\ndef test_one():\n    time.sleep(0.1)\n\n\ntest_two = test_three = test_four = test_one\n"
"""Long enough that another process would take some."""
MODULES = ("e2e/test_resume.py", "e2e/test_stop.py", "faults/test_checks.py", LONG[0])


def test_the_long_groups_are_there() -> None:
    assert [name for name in LONG if not (HERE / name).exists()] == []


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_resume.py::test_x[a::b]", "e2e/test_resume.py"),
        ("tests/faults/test_faults.py::test_x", "faults/test_faults.py"),
        ("tests/eventlog/test_files.py::test_x", "tests/eventlog/test_files.py::test_x"),
        ("tests/test_grouping.py::test_x", "tests/test_grouping.py::test_x"),
    ],
)
def test_a_module_with_servers_is_a_group_and_any_other_test_is_its_own(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


@pytest.mark.parametrize(("dist", "kept"), [("load", True), ("loadscope", True), ("worksteal", False)])
def test_groups_are_kept_unless_work_may_be_stolen(pytestconfig: pytest.Config, dist: str, *, kept: bool) -> None:
    config = copy(pytestconfig)
    config.option = argparse.Namespace(**vars(config.option) | {"dist": dist, "tx": ["popen"]})
    assert isinstance(pytest_xdist_make_scheduler(config, Producer("scheduler")), Groups) == kept


def test_a_group_runs_in_one_process_and_a_long_one_begins_first(tmp_path: Path) -> None:
    """With the plugins as they are: an update of one may part groups without a word."""
    for module in MODULES:
        file = tmp_path / "tests" / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "-p",
        "tests.grouping",
    ]
    command += ["--import-mode=importlib", "--dist=loadscope", "--numprocesses=2", "-v", f"--rootdir={tmp_path}"]
    ended = subprocess.run(
        [*command, "-c", str(tmp_path / "pytest.ini"), str(tmp_path)],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    ran = re.findall(r"^\[(gw\d)\].* PASSED \S*?/tests/(\S+)::", ended.stdout, re.MULTILINE)
    assert len(ran) == 4 * len(MODULES), ended.stdout
    processes = {group: {process for process, module in ran if group in module} for group in MODULES}
    assert all(len(each) == 1 for each in processes.values()), processes
    assert LONG[0] in {module for _, module in ran[:2]}
