"""A reader at the page: actions and observations."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Reader:
    """A reader in one tab."""

    page: Page

    def open(self, url: str) -> "Reader":
        """Open the page, or an answer's link, and wait until the page has started."""
        self.page.goto(url)
        self.page.locator("#not-started").wait_for(state="detached")
        return self

    def ask(self, question: str) -> None:
        """Type a question and press Enter."""
        self.page.fill("#query", question)
        self.page.press("#query", "Enter")

    def double_click(
        self, button: Locator, seconds: float, meanwhile: Callable[[], object] = lambda: None, count: int = 2
    ) -> None:
        """Click at the button's place `count` times, at intervals by the events' own clock, also on a slow machine."""
        box = button.bounding_box()
        assert box
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        session = self.page.context.new_cdp_session(self.page)

        def click(number: int, timestamp: float) -> None:
            for kind in ("mousePressed", "mouseReleased"):
                event = {**place, "type": kind, "button": "left", "clickCount": number, "timestamp": timestamp}
                session.send("Input.dispatchMouseEvent", event)

        first = time.time()
        click(1, first)
        meanwhile()
        for number in range(1, count):
            click(number + 1, first + number * seconds)
        session.detach()

    @property
    def text(self) -> str:
        """The last answer."""
        return self.page.locator(".turn .markdown").last.inner_text()

    @property
    def words(self) -> list[str]:
        """The words of the last answer."""
        return self.text.split()

    @property
    def phase(self) -> str:
        """The phase of the last answer."""
        return self.page.locator(".turn .status").last.get_attribute("data-phase") or ""

    @property
    def sentence(self) -> str:
        """The page's sentence about the phase."""
        return self.page.locator(".turn .sentence").last.text_content() or ""

    @property
    def link(self) -> str:
        """The page's address, which has the answer's id."""
        return self.page.url

    def sees_words(self, count: int) -> int:
        """Wait until the answer has at least `count` words; return their number."""
        self.page.wait_for_function(
            "count => [...document.querySelectorAll('.turn .markdown')].at(-1)?.innerText.trim().split(/\\s+/).length"
            " >= count && [...document.querySelectorAll('.turn .markdown')].at(-1).innerText.trim() !== ''",
            arg=count,
            timeout=TIMEOUT_MS,
        )
        return len(self.words)

    def sees_phase(self, phase: str, timeout_ms: float = TIMEOUT_MS) -> None:
        """Wait until the last answer is in the phase."""
        expect(self.page.locator(".turn .status").last).to_have_attribute("data-phase", phase, timeout=timeout_ms)

    def sees_the_end(self, timeout_ms: float = TIMEOUT_MS) -> None:
        """Wait until the last answer is complete."""
        self.sees_phase("done", timeout_ms)

    def seconds_until_more(self, since: float, timeout_ms: float = TIMEOUT_MS) -> float:
        """Wait for more words; return the seconds since `since`."""
        self.page.wait_for_function(
            "count => [...document.querySelectorAll('.turn .markdown')].at(-1)?.innerText.trim().split(/\\s+/).length"
            " > count",
            arg=len(self.words),
            timeout=timeout_ms,
        )
        return time.monotonic() - since


def numbered(count: int) -> list[str]:
    """Return the words of an upstream's answer of `count` chunks."""
    return [f"w{number}" for number in range(1, count + 1)]


@dataclass(frozen=True)
class Difference:
    """The missing and the duplicate words of an answer."""

    lost: int
    doubled: int

    @classmethod
    def of(cls, seen: list[str], sent: list[str]) -> "Difference":
        """Compare."""
        have, ought = Counter(seen), Counter(sent)
        return cls(lost=(ought - have).total(), doubled=(have - ought).total())
