"""The layers hold: each contract in pyproject.toml fails where a module breaks it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the service, to break."""
    shutil.copytree(ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("events.py", "from service.answers import Answers", "Imports point one way"),
        ("eventlog/base.py", "from service import upstream", "Imports point one way"),
        ("follower.py", "from service.producer import Producer", "Imports point one way"),
        ("worker.py", "from service.events import Event", "Imports point one way"),
        ("unknown.py", "import json", "Imports point one way"),
        ("eventlog/files/locks.py", "from service.eventlog.files import log", "No cycles within a package"),
        ("config/settings.py", "from service.errors import FolyamError", "Imports point one way"),
        (
            "producer.py",
            "from service.config import Settings",
            "Only the composition root and routes know the settings",
        ),
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
        ("app.py", "import pydantic_settings", "Only the settings know where they come from"),
        ("main.py", "import uvicorn", "Only the worker knows its server"),
    ],
)
def test_a_broken_layer_is_named(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "service" / module
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    linted = lint(copy)
    assert linted.returncode == 1
    assert f"{contract} BROKEN" in linted.stdout


def test_the_layers_hold(copy: Path) -> None:
    linted = lint(copy)
    assert linted.returncode == 0, linted.stdout
    assert "0 broken" in linted.stdout
