"""The files that SECURITY.md names exist."""

import re
from pathlib import Path

from service.config import Settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_each_defence_names_tests_that_are_there() -> None:
    rows = [row.split("|") for row in PAGE.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)`", row[3])
        assert named, row[1]
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_settings_that_it_names_are_settings() -> None:
    known = {f"FOLYAM_{name.upper()}" for name in Settings.model_fields}
    others = set(re.findall(r"FOLYAM_[A-Z_]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    of_the_tests = {"FOLYAM_TEST_EXAMPLES", "FOLYAM_TEST_SEED"}
    assert set(re.findall(r"FOLYAM_[A-Z_]+", PAGE)) <= known | others | of_the_tests
