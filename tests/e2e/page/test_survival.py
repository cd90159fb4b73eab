"""An answer arrives whole, once, and from one generation, whatever happens on its way."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import BrowserContext

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import Open
from tests.e2e.page.reader import Difference, Reader, numbered
from tests.e2e.page.wire import Wire
from tests.e2e.stack import eventually
from tests.upstream.script import command

TABLE = "What was broken, and what became of the answer"
PACE = 0.02
SILENCE_SECONDS = 37.5

Show = Callable[[str, str], None]


@dataclass(frozen=True)
class Course:
    """One way to break things. Returns the seconds from when it was whole again until there was more text."""

    name: str
    times: int
    act: Callable[[Reader], float]


def survive(course: Course, reader: Reader, stack: Stack, show: Show, *, generations: int = 1) -> int:
    """Ask, break the answer so many times, and compare the reader's text at the end with the text that was sent."""
    key = course.name
    before = len(list(stack.logs.glob("*.jsonl")))
    reader.ask(command(key=key, endless=True, pace=PACE))
    waits = []
    for _ in range(course.times):
        reader.sees_words(len(reader.words) + 10)
        waits.append(course.act(reader))
    stack.upstream.end(key)
    reader.sees_the_end(60_000)
    sent = numbered(stack.upstream.said(key))
    difference = Difference.of(reader.words, sent)
    made = len(stack.upstream.requests(key))
    answers = len(list(stack.logs.glob("*.jsonl"))) - before
    if not stack.upstream.requests(key):
        raise AssertionError("the upstream was not asked")
    show(
        TABLE,
        f"{course.name:34} {course.times} times text again after {max(waits):6.2f} s at most,"
        f" lost {difference.lost}, doubled {difference.doubled}, answers {answers}, upstream requests {made}",
    )
    assert difference == Difference(lost=0, doubled=0)
    assert reader.words == sent
    assert answers == 1
    assert made == generations
    return len(sent)


def test_a_reload(reader: Reader, page_stack: Stack, show: Show) -> None:
    def reload(reader: Reader) -> float:
        words = len(reader.words)
        at = time.monotonic()
        reader.page.reload()
        reader.sees_words(words + 1)
        return time.monotonic() - at

    survive(Course("a reload", 3, reload), reader, page_stack, show)


def test_a_second_device_on_the_link(reader: Reader, device: Open, page_stack: Stack, show: Show) -> None:
    others: list[Reader] = []

    def join(reader: Reader) -> float:
        words = len(reader.words)
        at = time.monotonic()
        other = Reader(device().new_page()).open(reader.link)
        other.sees_words(words)
        others.append(other)
        return time.monotonic() - at

    sent = survive(Course("a second device", 2, join), reader, page_stack, show)
    for other in others:
        other.sees_the_end()
        assert other.words == numbered(sent)
        assert other.page.locator(".question").text_content() == reader.page.locator(".question").text_content()


def test_a_connection_that_is_reset(device: Open, wire: Wire, page_stack: Stack, show: Show) -> None:
    def reset(reader: Reader) -> float:
        at = time.monotonic()
        wire.cut()
        wire.restore()
        return reader.seconds_until_more(at)

    reader = Reader(device().new_page()).open(wire.url)
    survive(Course("the connection reset", 5, reset), reader, page_stack, show)


def test_a_network_that_is_away_for_a_while(device: Open, wire: Wire, page_stack: Stack, show: Show) -> None:
    def away(reader: Reader) -> float:
        wire.cut()
        reader.sees_phase("reconnecting")
        assert reader.sentence.startswith("Connection lost. Trying again in ")
        reader.page.wait_for_timeout(3000)  # the break itself: longer than several tries
        wire.restore()
        return reader.seconds_until_more(time.monotonic())

    reader = Reader(device().new_page()).open(wire.url)
    survive(Course("the network away for 3 s", 2, away), reader, page_stack, show)


def test_a_device_that_goes_offline(device: Open, wire: Wire, page_stack: Stack, show: Show) -> None:
    def go_offline_and_back(reader: Reader) -> float:
        context: BrowserContext = reader.page.context
        context.set_offline(True)
        wire.cut()  # going offline alone leaves open connections open, in Chromium
        reader.sees_phase("reconnecting")
        assert reader.sentence == "You are offline. The answer goes on when the network is back."
        wire.restore()
        context.set_offline(False)
        return reader.seconds_until_more(time.monotonic())

    reader = Reader(device().new_page()).open(wire.url)
    survive(Course("the device offline", 2, go_offline_and_back), reader, page_stack, show)


def test_a_stall_without_a_cut(device: Open, wire: Wire, page_stack: Stack, show: Show) -> None:
    def stall(reader: Reader) -> float:
        wire.freeze()
        at = time.monotonic()
        reader.page.wait_for_timeout(3000)  # what was on its way arrives
        return reader.seconds_until_more(at, (SILENCE_SECONDS + 30) * 1000)

    reader = Reader(device().new_page()).open(wire.url)
    survive(Course("a stall without a cut", 1, stall), reader, page_stack, show)


def test_a_tab_that_the_browser_freezes(reader: Reader, page_stack: Stack, show: Show) -> None:
    def freeze(reader: Reader) -> float:
        session = reader.page.context.new_cdp_session(reader.page)
        session.send("Page.setWebLifecycleState", {"state": "frozen"})
        time.sleep(1.5)  # the freeze itself
        session.send("Page.setWebLifecycleState", {"state": "active"})
        return reader.seconds_until_more(time.monotonic())

    survive(Course("a tab frozen for 1.5 s", 2, freeze), reader, page_stack, show)


def test_a_worker_that_is_killed(reader: Reader, page_stack: Stack, show: Show) -> None:
    """A take-over asks the upstream to go on from the text so far: one answer, and one more request."""
    name = "the service's workers killed"

    def kill(reader: Reader) -> float:
        workers = page_stack.service.workers()
        at = time.monotonic()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        page_stack.upstream.wait_opened(name, requests=2)
        waited = reader.seconds_until_more(at)
        eventually(lambda: len(page_stack.service.workers()) == len(workers))
        return waited

    survive(Course(name, 1, kill), reader, page_stack, show, generations=2)


def test_a_service_that_is_stopped_and_started(reader: Reader, page_stack: Stack, show: Show) -> None:
    name = "the service stopped and started"

    def restart(reader: Reader) -> float:
        page_stack.service.restart()
        page_stack.upstream.wait_opened(name, requests=2)
        return reader.seconds_until_more(time.monotonic())

    survive(Course(name, 1, restart), reader, page_stack, show, generations=2)


def test_a_service_that_is_reloaded(reader: Reader, page_stack: Stack, show: Show) -> None:
    name = "the service restarted (HUP)"

    def restart(reader: Reader) -> float:
        old = set(page_stack.service.workers())
        at = time.monotonic()
        page_stack.service.process.send_signal(signal.SIGHUP)
        page_stack.upstream.wait_opened(name, requests=2)
        waited = reader.seconds_until_more(at)
        eventually(lambda: not old & set(page_stack.service.workers()), seconds=60)
        return waited

    survive(Course(name, 1, restart), reader, page_stack, show, generations=2)
