"""A page whose script does not run, or not yet: it says so, and sends no question by itself."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import Open, OpenStrict
from tests.e2e.page.reader import TIMEOUT_MS, Reader, numbered
from tests.e2e.page.test_quality import violations
from tests.upstream.script import command

SCRIPT = "**/assets/index-*.js"
QUESTION = "a secret question"
NOT_STARTED = "The page has not started"

WAYS: dict[str, Callable[[Route], None]] = {
    "blocked": lambda route: route.abort("blockedbyclient"),
    "missing": lambda route: route.fulfill(status=404, body="nothing"),
    "throws": lambda route: route.fulfill(content_type="text/javascript", body="throw new Error('broken');"),
    "too new for this browser": lambda route: route.fulfill(content_type="text/javascript", body="?!"),
    "never comes": lambda _route: None,
}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A device whose page may throw errors."""
    context = browser.new_context(locale="en-GB")
    yield context
    context.close()


def try_to_send(page: Page) -> None:
    """Do all that makes a browser send a form."""
    page.fill("#query", QUESTION)
    page.press("#query", "Enter")
    page.click("#send", force=True)
    page.focus("#send")
    page.keyboard.press("Enter")
    page.evaluate("() => { ask.requestSubmit(); ask.submit(); }")


@pytest.mark.parametrize("way", WAYS)
def test_a_page_whose_script_fails_says_so_and_sends_nothing(
    context: BrowserContext, page_stack: Stack, way: str
) -> None:
    page = context.new_page()
    navigated: list[str] = []
    url = f"http://{page_stack.nginx.address}/"
    page.route(SCRIPT, WAYS[way])
    page.goto(url, wait_until="commit")
    page.locator("#ask").wait_for()
    page.on("request", lambda request: navigated.append(request.url) if request.is_navigation_request() else None)
    try_to_send(page)
    expect(page.get_by_text(NOT_STARTED)).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text("Az oldal még nem indult el")).to_be_visible()
    assert page.url == url
    assert QUESTION in page.input_value("#query")
    assert navigated == []
    assert violations(page) == []


def test_a_page_without_javascript_says_so_and_sends_nothing(strict_device: OpenStrict, page_stack: Stack) -> None:
    page = strict_device("javascript").new_page()
    url = f"http://{page_stack.nginx.address}/"
    page.goto(url)
    english, hungarian = page.locator("noscript p").all()  # a noscript's text is none to get_by_text
    expect(english).to_be_visible()
    expect(english).to_contain_text("This page needs JavaScript.")
    expect(hungarian).to_be_visible()
    expect(hungarian).to_contain_text("Ez az oldal JavaScripttel működik.")
    expect(page.get_by_text(NOT_STARTED)).to_be_hidden()
    try_to_send(page)
    assert page.url == url
    assert QUESTION in page.input_value("#query")


def test_what_is_typed_before_a_slow_script_runs_is_sent_afterwards(device: Open, page_stack: Stack) -> None:
    page = device().new_page()
    held: list[Route] = []
    page.route(SCRIPT, lambda route: held.append(route))  # noqa: PLW0108 (Playwright marks the function)
    page.goto(f"http://{page_stack.nginx.address}/", wait_until="commit")
    page.locator("#ask").wait_for()
    page.fill("#query", command(key="early", chunks=3))
    page.press("#query", "Enter")
    expect(page.locator("#send")).to_be_disabled()
    expect(page.get_by_text(NOT_STARTED)).to_be_visible(timeout=TIMEOUT_MS)
    held[0].continue_()
    expect(page.get_by_text(NOT_STARTED)).to_have_count(0)
    page.click("#send")
    reader = Reader(page)
    reader.sees_the_end()
    assert reader.words == numbered(3)
    assert "?" not in page.url.partition("#")[0]


def test_a_page_that_starts_does_not_say_that_it_has_not(reader: Reader) -> None:
    expect(reader.page.locator("#send")).to_be_enabled()
    expect(reader.page.get_by_text(NOT_STARTED)).to_have_count(0)
