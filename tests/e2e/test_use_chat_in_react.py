"""The AI SDK's `useChat` in React, in a browser: resume, stop, and a tool's round trip, with reloads in the middle."""

import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

from tests.e2e.client import script
from tests.e2e.conftest import Stack
from tests.e2e.stack import NODE, ROOT, eventually

JSON = dict[str, Any]
TIMEOUT_MS = 60_000
KINDS = {".js": "text/javascript", ".html": "text/html"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of tests/clients/page."""
    directory = tmp_path_factory.mktemp("page")
    vite = ROOT / "frontend" / "node_modules" / "vite" / "bin" / "vite.js"
    page = ROOT / "tests" / "clients" / "page"
    options: list[str | Path] = ["--outDir", directory, "--emptyOutDir", "--base", "/chat/", "--logLevel", "error"]
    subprocess.run([NODE, vite, "build", page, *options], check=True, timeout=60)
    return directory


class Reader:
    """A reader with the chat's page open."""

    def __init__(self, page: Page, url: str, chat: str) -> None:
        self._page = page
        page.goto(f"{url}/chat/index.html?chat={urllib.parse.quote(chat, safe='')}")

    def ask(self, text: str) -> None:
        self._page.fill("input", text)
        self._page.press("input", "Enter")

    def reload(self) -> None:
        self._page.reload()

    def stop(self) -> None:
        self._page.click("button")

    @property
    def status(self) -> str:
        return self._page.locator("#status").inner_text()

    @property
    def error(self) -> str:
        return self._page.locator("#error").text_content() or ""

    @property
    def messages(self) -> list[JSON]:
        messages: list[JSON] = json.loads(self._page.locator("#messages").inner_text())
        return messages

    @property
    def text(self) -> str:
        """The last answer, as it is shown."""
        answers = self._page.locator("li.assistant")
        return answers.last.text_content() or "" if answers.count() else ""

    @property
    def kinds(self) -> list[str]:
        return [part["type"] for part in self.messages[-1]["parts"]]

    @property
    def ran(self) -> list[JSON]:
        ran: list[JSON] = json.loads(self._page.evaluate("localStorage.getItem('ran') ?? '[]'"))
        return ran


Open = Callable[[str], Reader]


@pytest.fixture
def open_page(browser: Browser, stack: Stack, bundle: Path) -> Iterator[Open]:
    """Return a function that opens the page of a chat, each on a device of its own."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def serve(route: Route) -> None:
        path = bundle / urllib.parse.urlsplit(route.request.url).path.removeprefix("/chat/")
        route.fulfill(path=path, content_type=KINDS[path.suffix])

    def open_page(chat: str) -> Reader:
        context = browser.new_context()
        context.set_default_timeout(TIMEOUT_MS)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        contexts.append(context)
        page = context.new_page()
        page.route("**/chat/*", lambda route: route.continue_() if "/api/" in route.request.url else serve(route))
        page.route("**/chat/assets/*", serve)
        return Reader(page, stack.client.url, chat)

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems


def words(first: int, last: int) -> str:
    return "".join(f"w{number} " for number in range(first, last + 1))


def test_a_reload_in_the_middle_shows_the_whole_answer_once(open_page: Open, stack: Stack) -> None:
    key = "react-reload-0000001"
    reader = open_page(key)
    reader.ask(script(key=key, chunks=6, on_demand=True))
    stack.upstream.wait_opened(key)
    for shown in (1, 2, 3):
        stack.upstream.step(key)
        eventually(lambda: reader.text == words(1, shown))  # noqa: B023 (called at once)
    reader.reload()
    eventually(lambda: reader.text == words(1, 3))
    assert reader.status == "streaming"
    for _ in range(4):
        stack.upstream.step(key)
    eventually(lambda: reader.status == "ready" and reader.text == words(1, 6))
    assert len(reader.messages) == 2
    reader.reload()
    eventually(lambda: reader.status == "ready" and reader.text == words(1, 6))
    assert len(stack.upstream.requests(key)) == 1


def test_a_second_device_resumes_the_chat(open_page: Open, stack: Stack) -> None:
    key = "react-device-0000001"
    reader = open_page(key)
    reader.ask(script(key=key, chunks=3, on_demand=True))
    stack.upstream.wait_opened(key)
    stack.upstream.step(key)
    eventually(lambda: reader.text == words(1, 1))
    other = open_page(key)
    eventually(lambda: other.text == words(1, 1))
    for _ in range(3):
        stack.upstream.step(key)
    eventually(lambda: reader.status == other.status == "ready" and reader.text == other.text == words(1, 3))


def test_a_stop_ends_the_models_work(open_page: Open, stack: Stack) -> None:
    key = "react-stop-000000001"
    reader = open_page(key)
    reader.ask(script(key=key, endless=True, pace=0.05))
    eventually(lambda: "w3 " in reader.text)
    reader.stop()
    [record] = stack.upstream.wait_closed(key)
    assert record["closed_by"] == "client"
    eventually(lambda: reader.status == "ready")
    said = stack.upstream.said(key)
    assert words(1, said).startswith(reader.text)
    reader.reload()
    eventually(lambda: reader.status == "ready" and reader.text.startswith(words(1, 3)))
    assert words(1, said).startswith(reader.text)


CALL = {"name": "look_up", "arguments": ['{"of":', '"rivers"}']}
STEPS = ["step-start", "text", "tool-look_up", "step-start", "text"]


def with_tools(key: str, **more: object) -> str:
    return script(key=key, texts=["Look: "], tool_calls=[CALL], after_tools={"texts": ["So ", "{results}."]}, **more)


def test_a_tool_runs_in_the_browser_and_the_answer_goes_on(open_page: Open, stack: Stack) -> None:
    key = "react-tool-000000001"
    reader = open_page(key)
    reader.ask(with_tools(key))
    eventually(lambda: reader.status == "ready" and reader.text == "Look: So all about rivers.")
    assert (reader.kinds, len(reader.messages), reader.ran) == (STEPS, 2, [{"of": "rivers"}])
    assert len(stack.upstream.requests(key)) == 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_reload_while_the_call_comes_runs_the_tool_once(open_page: Open, stack: Stack, steps: int) -> None:
    """Before the text, before the call, and in the middle of its arguments."""
    key = f"react-tool-reload-{steps}"
    reader = open_page(key)
    reader.ask(with_tools(key, first=[{"on_demand": True}]))
    stack.upstream.wait_opened(key)
    for _ in range(steps):
        stack.upstream.step(key)
    eventually(lambda: len(reader.messages) == 2)
    reader.reload()
    eventually(lambda: reader.status == "streaming")
    for _ in range(6):
        stack.upstream.step(key)
    eventually(lambda: reader.status == "ready" and reader.text == "Look: So all about rivers.")
    assert (reader.kinds, len(reader.messages), reader.ran) == (STEPS, 2, [{"of": "rivers"}])
    assert len(stack.upstream.requests(key)) == 2


def test_a_reload_while_the_answer_goes_on_keeps_the_earlier_step(open_page: Open, stack: Stack) -> None:
    key = "react-tool-reload-on"
    reader = open_page(key)
    reader.ask(with_tools(key, first=[{}, {"on_demand": True}]))
    stack.upstream.wait_opened(key, requests=2)
    stack.upstream.step(key)
    eventually(lambda: reader.text == "Look: So ")
    reader.reload()
    eventually(lambda: reader.text == "Look: So " and reader.status == "streaming")
    for _ in range(2):
        stack.upstream.step(key)
    eventually(lambda: reader.status == "ready" and reader.text == "Look: So all about rivers.")
    assert (reader.kinds, len(reader.messages), reader.ran) == (STEPS, 2, [{"of": "rivers"}])
    assert len(stack.upstream.requests(key)) == 2


def test_a_refusal_is_shown(open_page: Open) -> None:
    reader = open_page("react-refused-000001")
    reader.ask(script(status=401))
    eventually(lambda: reader.status == "error")
    assert json.loads(reader.error)["error"]["code"] == "upstream_credentials"
