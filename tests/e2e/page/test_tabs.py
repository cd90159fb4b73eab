"""Many tabs of one browser, which opens six connections to a host."""

from collections.abc import Callable

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import Open
from tests.e2e.page.reader import Reader, numbered
from tests.e2e.page.wire import Wire
from tests.upstream.script import command

TABS = 8
CHUNKS = 300
PACE_SECONDS = 0.04
# From the moment a question is sent, the longest time without more text, in milliseconds.
WATCH_GAPS = """() => {
    const turns = document.getElementById('turns');
    let length = 0;
    let last = performance.now();
    window.longestGap = 0;
    document.getElementById('ask').addEventListener('submit', () => { last = performance.now(); });
    new MutationObserver(() => {
        const now = document.querySelector('.markdown')?.textContent.length ?? 0;
        if (now > length) {
            longestGap = Math.max(longestGap, performance.now() - last);
            last = performance.now();
            length = now;
        }
    }).observe(turns, {childList: true, characterData: true, subtree: true});
}"""


def test_eight_tabs_with_an_answer_each_all_show_them_growing(
    device: Open, page_stack: Stack, show: Callable[[str, str], None]
) -> None:
    context = device()
    tabs = [Reader(context.new_page()).open(f"http://{page_stack.nginx.address}/") for _ in range(TABS)]
    for tab in tabs:
        tab.page.evaluate(WATCH_GAPS)
    for number, tab in enumerate(tabs):
        tab.ask(command(key=f"tab {number}", chunks=CHUNKS, pace=PACE_SECONDS))
    for tab in tabs:
        tab.sees_the_end(60_000)
    gaps = [tab.page.evaluate("longestGap / 1000") for tab in tabs]
    show(
        "Eight tabs with an answer each: the longest time without more text, seconds",
        "  ".join(f"{gap:.2f}" for gap in gaps),
    )
    assert [tab.words for tab in tabs] == [numbered(CHUNKS)] * TABS
    # Two seconds are the aim. A tab that has no connection waits until another one's answer is over.
    assert max(gaps) < CHUNKS * PACE_SECONDS / 2
    for number in range(TABS):
        assert len(page_stack.upstream.requests(f"tab {number}")) == 1


def test_eight_tabs_on_the_same_answer_use_one_connection(
    device: Open, wire: Wire, page_stack: Stack, show: Callable[[str, str], None]
) -> None:
    context = device()
    first = Reader(context.new_page()).open(wire.url)
    first.ask(command(key="same", endless=True, pace=0.03))
    first.sees_words(5)
    others = [Reader(context.new_page()).open(first.link) for _ in range(TABS - 1)]
    for tab in others:
        tab.sees_words(5)
    page_stack.upstream.end("same")
    for tab in (first, *others):
        tab.sees_the_end()
        assert tab.words == numbered(page_stack.upstream.said("same"))
    streams = [line for line in wire.requests if line.startswith(("POST /generate", "GET /answers"))]
    show("Eight tabs on one answer: the streams they opened", ", ".join(streams))
    assert streams == ["POST /generate"]
    assert len(page_stack.upstream.requests("same")) == 1


def test_when_the_tab_that_carries_the_answer_is_closed_another_one_carries_on(
    device: Open, wire: Wire, page_stack: Stack
) -> None:
    context = device()
    first = Reader(context.new_page()).open(wire.url)
    first.ask(command(key="carried", endless=True, pace=0.03))
    first.sees_words(5)
    link = first.link
    others = [Reader(context.new_page()).open(link) for _ in range(2)]
    for tab in others:
        tab.sees_words(20)
    first.page.close()
    for tab in others:
        tab.sees_words(len(tab.words) + 20)
    page_stack.upstream.end("carried")
    for tab in others:
        tab.sees_the_end()
        assert tab.words == numbered(page_stack.upstream.said("carried"))
    assert len([line for line in wire.requests if line.startswith("GET /answers")]) == 1
    assert len(page_stack.upstream.requests("carried")) == 1
