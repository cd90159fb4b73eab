"""The settings in docs/upstreams.md are valid, and its table and its sections agree."""

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from service.config.settings import Settings, read_settings, variable_of
from service.upstream.endpoint import Continuation

PAGE = (Path(__file__).parents[1] / "docs" / "upstreams.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROWS = {name: row.split("|") for name, row in re.findall(r"^\| \[(.+?)\]\(#\S+\) \|(.*)\|$", PAGE, re.MULTILINE)}
BLOCKS = [
    pytest.param(dict(line.split("=", 1) for line in block.splitlines()), id=f"{heading} {number}")
    for heading, body in SECTIONS.items()
    for number, block in enumerate(re.findall(r"^```sh\n(.*?)^```", body, re.MULTILINE | re.DOTALL))
]


def continuation_of(text: str) -> str:
    """The form in which a server continues a text, by the settings in its section."""
    found = re.search(r"^FOLYAM_CONTINUE=(\w+)$", text, re.MULTILINE)
    return found[1] if found else "none"


@pytest.mark.parametrize("variables", BLOCKS)
def test_the_settings_for_a_server_are_valid(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FOLYAM_", "OPENAI_")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    given = {variable_of(name) for name in settings.model_fields_set}
    assert given >= set(variables)


def test_each_server_has_a_row_and_a_section_with_its_settings() -> None:
    assert len(ROWS) == 13
    assert [heading for heading in SECTIONS if heading in ROWS] == list(ROWS)
    assert all("```sh\n" in SECTIONS[name] for name in ROWS)
    assert all("](https://" in SECTIONS[name] for name in ROWS if name != "Folyam")


@pytest.mark.parametrize("name", ROWS)
def test_the_table_has_the_continuation_of_the_settings(name: str) -> None:
    shown = re.search(r"`(\w+)`", ROWS[name][0])
    assert (shown[1] if shown else "none") == continuation_of(SECTIONS[name])


def test_the_values_of_the_settings_are_listed() -> None:
    common = SECTIONS["The same for every server"]
    assert set(re.findall(r"^\| `(\w+)` \|", common, re.MULTILINE)) == set(get_args(Continuation)) - {"none"}


def test_every_setting_on_the_page_exists() -> None:
    known = {variable_of(name) for name in Settings.model_fields}
    assert set(re.findall(r"\b(?:FOLYAM|OPENAI)_[A-Z_]+[A-Z]\b", PAGE)) <= known
