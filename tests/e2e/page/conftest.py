import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, ViewportSize, sync_playwright

from tests.e2e.conftest import Stack
from tests.e2e.page.reader import Reader
from tests.e2e.page.wire import Wire
from tests.e2e.stack import Nginx, Service
from tests.upstream.process import UpstreamProcess

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ANOTHER_HOST = "folyam.test"
"""A name of this machine other than localhost: over HTTP it is not a secure context for browsers."""
UNWATCHED_SECONDS = 25
"""Longer than it takes a browser to find out that its idle connections died with the network: some 21 seconds."""
NARROW: ViewportSize = {"width": 1000, "height": 720}
"""Without room for the list of conversations beside the text: it is a dialog."""
WIDE: ViewportSize = {"width": 1280, "height": 800}
"""With room for it."""

Open = Callable[..., BrowserContext]
OpenStrict = Callable[[str], BrowserContext]


@pytest.fixture(scope="session")
def page_stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    """The stack with its defaults, for which the page's timeouts are made, but with a shorter `unwatched_seconds`."""
    directory = tmp_path_factory.mktemp("page")
    settings = {"FOLYAM_UNWATCHED_SECONDS": str(UNWATCHED_SECONDS), "FOLYAM_CONTINUE": "assistant"}
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


@pytest.fixture
def wire(page_stack: Stack) -> Iterator[Wire]:
    with Wire(page_stack.nginx.address) as wire:
        yield wire


def chromium() -> str:
    """Return the path of the browser."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "there is no chromium: make test installs it"
    return program


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    names = f"--host-resolver-rules=MAP {ANOTHER_HOST} 127.0.0.1"
    browser = playwright.chromium.launch(executable_path=chromium(), args=[*CHROMIUM_ARGUMENTS, names])
    yield browser
    browser.close()


@pytest.fixture
def device(browser: Browser) -> Iterator[Open]:
    """Return a function that adds a device: a browser with its own storage and connections."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_device(**options: object) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-GB", "viewport": NARROW, **options})  # type: ignore[arg-type]
        context.on("weberror", lambda error: problems.append(str(error.error)))
        contexts.append(context)
        return context

    yield open_device
    for context in contexts:
        context.close()
    assert not problems, problems


@pytest.fixture
def strict_device(playwright: Playwright, tmp_path: Path) -> Iterator[OpenStrict]:
    """Return a function that starts a browser with a feature disabled for all sites, such as `javascript`."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def start(forbidden: str) -> BrowserContext:
        profile = tmp_path / forbidden / "Default"
        profile.mkdir(parents=True)
        settings = {"profile": {"default_content_setting_values": {forbidden: 2}}}
        (profile / "Preferences").write_text(json.dumps(settings))
        context = playwright.chromium.launch_persistent_context(
            profile.parent, executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS), locale="en-GB"
        )
        context.on("weberror", lambda error: problems.append(str(error.error)))
        contexts.append(context)
        return context

    yield start
    for context in contexts:
        context.close()
    assert not problems, problems


@pytest.fixture
def reader(device: Open, page_stack: Stack) -> Reader:
    """A reader with the page open."""
    return Reader(device().new_page()).open(f"http://{page_stack.nginx.address}/")


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a function that adds a line to a table, printed after the tests."""
    return lambda table, line: request.node.user_properties.append((table, [line]))
