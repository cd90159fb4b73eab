"""With any text of a model, no script runs, no foreign request is sent, and the page stays usable."""

import json

import pytest
from playwright.sync_api import ConsoleMessage, Dialog, Request, expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import Open
from tests.e2e.page.reader import Reader
from tests.e2e.stack import ROOT
from tests.upstream.script import command

HOSTILE = json.loads((ROOT / "frontend" / "test" / "hostile.json").read_text())
LONGEST_REPLY_MS = 5000
"""The page answers within some milliseconds; one that has choked on its text takes much longer than this."""


class Watch:
    """Records forbidden events of a page."""

    def __init__(self, reader: Reader, origin: str) -> None:
        self.origin = origin
        self.foreign: list[str] = []
        self.ran: list[str] = []
        context = reader.page.context
        context.on("request", self._requested)
        context.on("dialog", self._asked)
        context.on("console", self._said)
        reader.page.on("popup", lambda popup: self.foreign.append(popup.url))

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(self.origin):
            self.foreign.append(request.url)

    def _asked(self, dialog: Dialog) -> None:
        self.ran.append(dialog.message)
        dialog.dismiss()

    def _said(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.ran.append(message.text)  # stopped by the last line of defence, which nothing should reach

    def expect_nothing(self) -> None:
        assert not self.foreign
        assert not self.ran


@pytest.fixture
def watch(reader: Reader, page_stack: Stack) -> Watch:
    return Watch(reader, f"http://{page_stack.nginx.address}/")


def test_hostile_answers_run_nothing_and_send_nothing(reader: Reader, watch: Watch) -> None:
    for text in HOSTILE.values():
        for texts in ([text], list(text)):
            reader.open(watch.origin)
            reader.ask(command(texts=texts))
            reader.sees_the_end()
    watch.expect_nothing()
    expect(reader.page.locator("#send")).to_be_visible()


def test_hostile_answers_are_as_harmless_after_a_reload(reader: Reader, watch: Watch) -> None:
    reader.ask(command(texts=["\n\n".join(HOSTILE.values())]))
    reader.sees_the_end()
    reader.page.reload()
    reader.sees_the_end()
    watch.expect_nothing()


def test_a_hostile_question_and_a_hostile_link_run_nothing(reader: Reader, watch: Watch) -> None:
    reader.ask("<img src=https://evil.example/x onerror=alert(1)> ![x](https://evil.example/x.png)")
    reader.sees_the_end()
    for fragment in (
        "#<img src=x onerror=alert(1)>",
        "#" + "a" * 32 + "/<img src=x onerror=alert(1)>",
        "#" + "%E0%A4%A",
    ):
        reader.open("about:blank")
        reader.open(watch.origin + fragment)
        expect(reader.page.locator("#send")).to_be_visible()
    watch.expect_nothing()


def test_links_open_apart_and_tell_nothing(reader: Reader, watch: Watch) -> None:
    reader.ask(command(texts=["[here](https://example.com/) ![pic](https://example.com/p.png) end."]))
    reader.sees_the_end()
    links = reader.page.locator(".markdown a")
    expect(links).to_have_count(2)
    for link in links.all():
        assert link.get_attribute("rel") == "noopener noreferrer"
        assert link.get_attribute("target") == "_blank"
    assert reader.page.locator(".markdown img").count() == 0
    watch.expect_nothing()


def test_a_megabyte_without_a_line_break_leaves_the_page_usable(reader: Reader) -> None:
    reader.ask(command(key="megabyte", chunks=52, text="x" * 20_000))  # the longest text that a question can command
    reader.sees_the_end()
    reader.page.wait_for_function(
        "length => document.querySelector('.markdown').textContent.length === length", arg=52 * 20_000
    )
    reader.page.fill("#query", "still here", timeout=LONGEST_REPLY_MS)
    assert reader.page.input_value("#query", timeout=LONGEST_REPLY_MS) == "still here"


def test_the_policy_is_strict_and_the_page_keeps_to_it(device: Open, page_stack: Stack) -> None:
    context = device()
    page = context.new_page()
    violations: list[str] = []
    page.on("console", lambda message: violations.append(message.text) if message.type == "error" else None)
    response = page.goto(f"http://{page_stack.nginx.address}/")
    assert response
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "trusted-types 'none'" in policy
    assert "unsafe" not in policy
    Reader(page).ask(command(texts=["```python\n", "x = 1\n", "```\n", "done \\(\\color{red}{x}\\)"]))
    Reader(page).sees_the_end()
    expect(page.locator(".hljs-number")).to_have_text("1")
    expect(page.locator("math")).to_have_count(1)
    assert not violations


def test_no_policy_for_trusted_types_can_be_made(reader: Reader) -> None:
    """Not even by a script of the page's own: it needs none, and neither do its libraries."""
    make = "name => { try { trustedTypes.createPolicy(name, {}); } catch (error) { return error.name; } }"
    for name in ("folyam", "default", "vite", "dompurify"):
        assert reader.page.evaluate(make, name) == "TypeError", name
