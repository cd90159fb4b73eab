"""Every relative link of the Markdown pages leads to a file, and every `#anchor` to a heading."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"],
    cwd=ROOT,
    capture_output=True,
    check=True,
    text=True,
).stdout
PAGES = sorted(name for name in LISTED.split("\0") if name and (ROOT / name).is_file())


def prose(text: str) -> str:
    """The page without its code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))


def links(text: str) -> list[str]:
    """The addresses of links and images."""
    text = prose(text)
    inline = re.findall(r"\]\(([^()\s]+)(?: \"[^\"]*\")?\)", text)
    return [*inline, *re.findall(r"^\[[^\]]+\]: +(\S+)", text, re.MULTILINE), *re.findall(r'src="([^"]+)"', text)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings, and those that the page sets itself."""
    found: set[str] = set(re.findall(r'<a id="([^"]+)"', text))
    counts: dict[str, int] = {}
    without_code = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} +(.+?) *$", without_code, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        count = counts.get(anchor, 0)
        counts[anchor] = count + 1
        found.add(f"{anchor}-{count}" if count else anchor)
    return found


def broken(page: str, text: str) -> list[str]:
    """The page's relative links that lead nowhere."""
    found = []
    for link in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        known = anchors(target.read_text(encoding="utf-8") if name else text) if anchor and target.exists() else set()
        if not target.exists() or (anchor and anchor not in known):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert broken(page, (ROOT / page).read_text(encoding="utf-8")) == []


def test_a_page_links_to_each_page_of_the_documents() -> None:
    linked = {
        (ROOT / page).parent.joinpath(unquote(link).partition("#")[0]).resolve()
        for page in PAGES
        for link in links((ROOT / page).read_text(encoding="utf-8"))
        if ":" not in link
    }
    assert {page for page in PAGES if page.startswith("docs/") and (ROOT / page).resolve() not in linked} == set()


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = """
# Of a page `and` more: twice
# Of a page `and` more: twice
[good](README.md) [good](#of-a-page-and-more-twice) [good](#of-a-page-and-more-twice-1)
[good](docs/protocol.md#errors) [good](https://example.org/x#y) `[code](nowhere.md)`
[bad](nowhere.md) [bad](#of-a-page) [bad](docs/protocol.md#nowhere) ![bad](docs/images/nowhere.png)
```
# Not a heading [code](nowhere.md)
```
[bad](#not-a-heading-code)
"""
    bad = ["nowhere.md", "#of-a-page", "docs/protocol.md#nowhere", "docs/images/nowhere.png", "#not-a-heading-code"]
    assert broken("README.md", text) == bad
