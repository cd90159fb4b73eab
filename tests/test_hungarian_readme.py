"""README.hu.md has the commands and the links of README.md's first half."""

import re

from tests.test_links import ROOT

ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Settings\n")[0]
HUNGARIAN = (ROOT / "README.hu.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """The code, without its comments, which are translated."""
    found: list[str] = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r" +# .*", "", block) for block in found]


def links(text: str) -> list[str]:
    """The links to other pages, and the pictures."""
    found = re.findall(r'\]\((?!README)([^)]+)\)|src="([^"]+)"', text)
    return [link or picture for link, picture in found]


def test_both_have_the_same_commands() -> None:
    assert len(blocks(ENGLISH)) > 5
    assert blocks(HUNGARIAN) == blocks(ENGLISH)


def test_both_lead_to_the_same_pages() -> None:
    assert links(HUNGARIAN) == links(ENGLISH)


def test_both_have_as_many_sections_and_promises() -> None:
    for mark in (r"^## ", r"^- \*\*"):
        assert len(re.findall(mark, HUNGARIAN, re.MULTILINE)) == len(re.findall(mark, ENGLISH, re.MULTILINE))


def test_each_leads_to_the_other() -> None:
    assert "](README.hu.md)" in ENGLISH
    assert "](README.md)" in HUNGARIAN
