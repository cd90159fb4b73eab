"""Each row of the table of failures on Valkey names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_each_failure_on_valkey_names_tests_that_exist() -> None:
    table = PAGE.partition("<!-- failures on Valkey -->")[2].partition("<!-- /failures on Valkey -->")[0]
    _, _, *rows = table.strip().splitlines()
    named = [re.findall(r"`(test_\w+)`", row.split(" | ")[-1]) for row in rows]
    assert all(named)
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    assert {name for names in named for name in names} - defined == set()
