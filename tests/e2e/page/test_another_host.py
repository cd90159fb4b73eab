"""The page over plain HTTP under another name than localhost, where browsers withhold some interfaces."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import ANOTHER_HOST, Open
from tests.e2e.page.reader import Reader, numbered
from tests.upstream.script import command


@pytest.fixture
def complaints() -> list[str]:
    """Errors in the console."""
    return []


@pytest.fixture
def reader(device: Open, page_stack: Stack, complaints: list[str]) -> Reader:
    """A reader on another machine, with the page open."""
    page = device().new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    reader = Reader(page).open(f"http://{ANOTHER_HOST}:{page_stack.nginx.address.port}/")
    assert page.evaluate("[isSecureContext, typeof navigator.clipboard]") == [False, "undefined"]
    return reader


def test_a_conversation_works_and_the_console_is_silent(reader: Reader, complaints: list[str]) -> None:
    page = reader.page
    page.fill("#query", command(key="another host", chunks=3))
    page.click("#send")
    reader.sees_the_end()
    assert reader.words == numbered(3)
    assert "?" not in page.url.partition("#")[0]
    link = reader.link
    page.get_by_role("button", name="New").click()
    reader.ask("Another conversation")
    reader.sees_the_end()
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator("#list li")).to_have_count(2)
    page.keyboard.press("Escape")
    reader.open("about:blank")
    reader.open(link)
    reader.sees_the_end()
    assert reader.words == numbered(3)
    assert complaints == []


def test_copying_works(reader: Reader) -> None:
    page = reader.page
    text = "two *marked* lines\n\n    and code"
    reader.ask(command(texts=[text]))
    reader.sees_the_end()
    copy = page.locator(".actions").get_by_role("button", name="Copy answer")
    copy.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_have_text("Copied")
    # The keyboard's focus is still on the button.
    assert page.evaluate("document.activeElement.textContent") == "Copied"
    page.focus("#query")
    page.keyboard.press("Control+V")
    assert page.input_value("#query") == text
    page.fill("#query", "")
    page.get_by_role("button", name="Copy link").click()
    page.focus("#query")
    page.keyboard.press("Control+V")
    assert page.input_value("#query") == reader.link


def test_where_a_browser_copies_nothing_the_page_says_so(reader: Reader) -> None:
    page = reader.page
    reader.ask(command(chunks=1))
    reader.sees_the_end()
    page.evaluate("document.execCommand = () => false")
    page.locator(".actions").get_by_role("button", name="Copy answer").click()
    expect(page.locator("#announcer")).to_have_text("Could not copy")
