"""The layers hold: each contract in pyproject.toml names a module that breaks it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


BROKEN = [
    ("events.py", "from service.answers import Answers", "Imports point one way"),
    ("eventlog/base.py", "from service import upstream", "Imports point one way"),
    ("follower.py", "from service.producer import Producer", "Imports point one way"),
    ("worker.py", "from service.events import Event", "Imports point one way"),
    ("config/settings.py", "from service.errors import FolyamError", "Imports point one way"),
    ("producer.py", "from service.config import Settings", "Only the composition root and routes know the settings"),
    (
        "routes/answers.py",
        "from service.eventlog import EventLog",
        "Routes reach answers through their use cases alone",
    ),
    ("producer.py", "from service.eventlog.files.log import FileEventLog", "Only the log knows how it is kept"),
    (
        "renderings/base.py",
        "from service.telemetry import metrics",
        "Renderings know the events, the fold and the errors alone",
    ),
    ("answers.py", "from fastapi import Request", "Only the web layers know FastAPI and Starlette"),
    ("answers.py", "import httpx2", "Only the upstream knows the openai package and HTTP clients"),
    ("producer.py", "import prometheus_client", "Only telemetry knows Prometheus and OpenTelemetry"),
    ("eventlog/base.py", "import inotify_simple", "Only the log's files know inotify"),
    ("eventlog/valkey/connection.py", "import hiredis", "Only the log's connection knows hiredis"),
    ("app.py", "import pydantic_settings", "Only the settings know where they come from"),
    ("main.py", "import uvicorn", "Only the worker knows its server"),
]
"""A module, a line to add to it, and the contract that this breaks."""
CYCLE = ("eventlog/files/locks.py", "from service.eventlog.files import log")
UNKNOWN = "unknown.py"


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each contract names in a copy of the service that breaks them all. An analysis for each takes seconds."""
    copy = tmp_path_factory.mktemp("broken")
    shutil.copytree(ROOT / "service", copy / "service", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "service" / UNKNOWN).touch()
    for module, line in [(module, line) for module, line, _ in BROKEN] + [CYCLE]:
        with (copy / "service" / module).open("a") as file:
            file.write(f"\n{line}\n")
    linted = lint(copy)
    assert linted.returncode == 1
    parts = re.split(r"^([^\n]+)\n-+$", linted.stdout.partition("Broken contracts")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("module", "line", "contract"), BROKEN)
def test_a_broken_layer_is_named(named: dict[str, str], module: str, line: str, contract: str) -> None:
    importer = "service." + module.removesuffix(".py").replace("/", ".")
    words = line.split()
    found = re.search(rf"^-? +{re.escape(importer)} -> {re.escape(words[1])}\b", named[contract], re.MULTILINE)
    assert found, named[contract]


def test_a_cycle_and_a_module_without_a_layer_are_named(named: dict[str, str]) -> None:
    assert "- .locks -> .log " in named["No cycles within a package"]
    assert "- service.unknown\n" in named["Imports point one way"]


def test_each_contract_has_a_module_that_breaks_it(named: dict[str, str]) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}
    assert set(named) == contracts
    assert {contract for _, _, contract in BROKEN} == contracts - {"No cycles within a package"}


def test_the_layers_hold() -> None:
    linted = lint(ROOT)
    assert linted.returncode == 0, linted.stdout
    assert "0 broken" in linted.stdout
