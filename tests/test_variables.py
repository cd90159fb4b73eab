"""Misspelt `FOLYAM_…` variables are reported, and known ones of every program are not."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from service.config import variables
from service.config.variables import OF_TESTS, known, unknown

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith("FOLYAM_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(variables, "SECRETS", tmp_path)


def of_ours(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("FOLYAM_")}


def test_the_list_has_what_the_files_of_the_project_use_and_no_more() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    used: set[str] = set()
    for name in filter(None, listed.split("\0")):
        # Tests also use names that are wrong.
        if not name.startswith("tests/") and name != "service/config/variables.py" and (ROOT / name).is_file():
            used |= set(re.findall(r"FOLYAM(?:_[A-Z]+)+", (ROOT / name).read_text(encoding="utf-8", errors="replace")))
    assert {name for name in used if not name.startswith(OF_TESTS)} == of_ours(set(known()))


def test_no_right_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in known():
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("folyam_model", "the settings are read in any case")
    monkeypatch.setenv("OPENAI_API_BASE", "not ours")
    monkeypatch.setenv("FOLYAM_TEST_SEED", "the tests' own")
    assert list(unknown()) == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("FOLYAM_MODLE", "FOLYAM_MODEL"),
        ("FOLYAM_API_KEY", "FOLYAM_API_KEYS"),
        ("FOLYAM_OPENAI_API_KEY", "OPENAI_API_KEY"),
        ("FOLYAM_DRAIN", "FOLYAM_DRAIN_SECONDS"),
        ("FOLYAM_WORKER", "FOLYAM_WORKERS"),
        ("FOLYAM_CLIENT_CONNECTION", "FOLYAM_CLIENT_CONNECTIONS"),
        ("FOLYAM_LISTN", "FOLYAM_LISTEN"),
        ("FOLYAM_LOGURL", "FOLYAM_LOG_URL"),
        ("folyam_modle", "FOLYAM_MODEL"),
        ("folyam_workers", "FOLYAM_WORKERS"),
        ("FOLYAM_", None),
        ("FOLYAM_XYZ", None),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str | None
) -> None:
    monkeypatch.setenv(name, "")
    assert list(unknown()) == [(name, nearest)]


def test_a_misspelt_file_is_named_too(tmp_path: Path) -> None:
    for name in ("folyam_api_key", "folyam_api_keys", "folyam_workers", "openai_api_key", "api_keys"):
        (tmp_path / name).touch()
    assert list(unknown()) == [("folyam_api_key", "FOLYAM_API_KEYS"), ("folyam_workers", "FOLYAM_WORKERS")]
