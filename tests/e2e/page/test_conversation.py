"""Asking, reading on, stopping, asking again, finding it again."""

import json
import re
import time
from collections.abc import Callable

from playwright.sync_api import Route, expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import UNWATCHED_SECONDS, Open
from tests.e2e.page.reader import Reader, numbered
from tests.e2e.page.wire import Wire
from tests.upstream.script import command


def test_an_answer_grows_and_ends_with_its_figures(reader: Reader, page_stack: Stack) -> None:
    reader.ask(command(key="figures", endless=True, pace=0.03))
    reader.sees_words(reader.sees_words(3) + 3)
    assert reader.phase == "streaming"
    page_stack.upstream.end("figures")
    reader.sees_the_end()
    assert reader.words == numbered(page_stack.upstream.said("figures"))
    figures = reader.page.locator(".figures").text_content() or ""
    assert re.fullmatch(
        r"first words after \d\.\d\d s · \d\.\d s in all · \d+ tokens · \d+ tokens/s", figures.replace("\xa0", " ")
    ), figures


def test_the_page_shows_the_elapsed_time_while_it_waits(reader: Reader) -> None:
    reader.ask(command(key="elapsed", first_chunk_delay=4))
    expect(reader.page.locator(".elapsed")).to_have_text(re.compile("^[23] s$"))
    assert reader.sentence == "Waiting for the first words …"
    reader.sees_the_end()


def test_a_follow_up_carries_the_history(reader: Reader, page_stack: Stack) -> None:
    first = command(key="history-1", chunks=3)
    second = command(key="history-2", chunks=2)
    reader.ask(first)
    reader.sees_the_end()
    reader.ask(second)
    expect(reader.page.locator(".turn")).to_have_count(2)
    reader.sees_words(2)
    [record] = page_stack.upstream.wait_closed("history-2")
    assert [(message["role"], message["content"].strip()) for message in record["messages"]] == [
        ("user", first),
        ("assistant", "w1 w2 w3"),
        ("user", second),
    ]


def test_the_page_speaks_the_browsers_language_and_switches(device: Open, page_stack: Stack) -> None:
    reader = Reader(device(locale="hu-HU").new_page()).open(f"http://{page_stack.nginx.address}/")
    page = reader.page
    expect(page.locator("html")).to_have_attribute("lang", "hu")
    expect(page.locator("#send")).to_have_text("Küldés")
    reader.ask(command(key="hungarian", chunks=4, status_delay=0.3))
    reader.sees_the_end()
    expect(page.locator(".figures")).to_contain_text(re.compile(r"összesen \d,\d mp"))
    page.click("#language")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator(".figures")).to_contain_text("in all")
    page.reload()
    expect(page.locator("#send")).to_have_text("Send")


def test_keys_send_break_and_stop(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    page.fill("#query", "")
    page.type("#query", "one")
    page.press("#query", "Shift+Enter")
    page.type("#query", "two")
    assert page.input_value("#query") == "one\ntwo"
    reader.ask(command(key="keys", endless=True, pace=0.02))
    reader.sees_words(3)
    page.keyboard.press("Escape")
    reader.sees_phase("stopped")
    assert reader.sentence == "Stopped."
    page_stack.upstream.wait_closed("keys")


def test_asking_again_keeps_the_old_answer_until_there_is_a_new_one(reader: Reader) -> None:
    reader.ask(command(key="again", chunks=3, first=[{}, {"text": "new{n} ", "first_chunk_delay": 2.5, "pace": 0.01}]))
    reader.sees_the_end()
    reader.page.get_by_role("button", name="Ask again").click()
    reader.sees_phase("waiting")
    assert reader.words == numbered(3)
    reader.sees_the_end()
    assert reader.words == ["new1", "new2", "new3"]


def test_a_failure_says_why_and_offers_a_way_on(reader: Reader) -> None:
    reader.ask(command(key="broken", chunks=6, pace=0.01, first=[{"cut_after": 3}, {"status": 401}]))
    reader.sees_phase("failed")
    assert reader.sentence == "The answer failed: the connection to the model broke."
    assert reader.words == numbered(3)
    reader.page.get_by_role("button", name="Ask again").click()
    reader.sees_the_end()
    assert reader.words == numbered(6)


def test_an_error_before_the_first_word_says_why(reader: Reader) -> None:
    reader.ask(command(key="refused", status=401))
    reader.sees_phase("failed")
    assert "refused the server's key" in reader.sentence
    expect(reader.page.get_by_role("button", name="Ask again")).to_be_visible()


def test_reasoning_is_folded_away(reader: Reader) -> None:
    reader.ask(command(key="reasons", reasoning=["Let me ", "think."], chunks=2))
    reader.sees_the_end()
    expect(reader.page.locator(".thoughts")).to_be_hidden()
    reader.page.locator("summary").click()
    expect(reader.page.locator(".thoughts")).to_have_text("Let me think.")


def test_code_is_coloured_while_it_grows_and_can_be_copied(device: Open, page_stack: Stack) -> None:
    context = device(permissions=["clipboard-read", "clipboard-write"])
    reader = Reader(context.new_page()).open(f"http://{page_stack.nginx.address}/")
    code = "def f():\n    return 1"
    texts = [*f"Look:\n\n```python\n{code}\n```\n\n", "So."]
    reader.ask(command(key="code", texts=texts, pace=0.01, first=[{"stall_after": "".join(texts).index("return")}]))
    expect(reader.page.locator("pre code")).to_contain_text("def f():")
    expect(reader.page.locator(".hljs-keyword")).to_have_text("def")
    reader.page.keyboard.press("Escape")
    reader.sees_phase("stopped")
    reader.page.get_by_role("button", name="Ask again").click()
    reader.sees_the_end()
    expect(reader.page.locator(".hljs-keyword")).to_have_text(["def", "return"])
    reader.page.locator(".code").get_by_role("button", name="Copy code").click()
    assert reader.page.evaluate("navigator.clipboard.readText()") == code
    reader.page.locator(".actions").get_by_role("button", name="Copy answer").click()
    assert reader.page.evaluate("navigator.clipboard.readText()").startswith("Look:\n\n```python")


def test_code_in_a_list_is_copied_without_the_list_s_indentation(device: Open, page_stack: Stack) -> None:
    context = device(permissions=["clipboard-read", "clipboard-write"])
    reader = Reader(context.new_page()).open(f"http://{page_stack.nginx.address}/")
    code = "def f(x):\n    return x.__name__"
    item = "".join(f"   {line}\n" for line in ["```python", *code.splitlines(), "```"])
    answer = f"1. **Write it**\n\n   In a file:\n\n{item}\n2. Run it\n"
    reader.ask(command(texts=[answer[at : at + 3] for at in range(0, len(answer), 3)]))
    reader.sees_the_end()
    expect(reader.page.locator(".markdown ol > li")).to_have_count(2)
    reader.page.locator("ol > li:first-child").get_by_role("button", name="Copy code").click()
    assert reader.page.evaluate("navigator.clipboard.readText()") == code


def test_an_answer_is_shown_as_plain_text_if_the_renderer_cannot_be_loaded(device: Open, page_stack: Stack) -> None:
    context = device()
    context.route("**/markdown-*.js", lambda route: route.abort())
    reader = Reader(context.new_page()).open(f"http://{page_stack.nginx.address}/")
    answer = "# Title\n\n- an **item**\n- a `second`\n"
    reader.ask(command(texts=[answer[:10], answer[10:]]))
    reader.sees_the_end()
    assert reader.text.strip() == answer.strip()


def test_the_end_is_not_said_before_the_text_is_shown(device: Open, page_stack: Stack) -> None:
    context = device()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    context.route("**/markdown-*.js", hold)
    reader = Reader(context.new_page()).open(f"http://{page_stack.nginx.address}/")
    reader.ask(command(chunks=3))
    expect(reader.page.locator(".turn")).to_have_attribute("aria-busy", "false")
    assert reader.phase != "done"
    held[0].continue_()
    reader.sees_the_end()
    assert reader.words == numbered(3)


def test_who_reads_above_is_left_there(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    page.set_viewport_size({"width": 360, "height": 500})
    reader.ask(command(key="scroll", text="w{n}\n\n", endless=True, pace=0.02))
    reader.sees_words(40)
    at_the_end = "() => document.scrollingElement.scrollHeight - scrollY - innerHeight < 50"
    page.wait_for_function(at_the_end)
    page.evaluate("() => scrollBy(0, -600)")
    page.wait_for_function(f"() => !({at_the_end})()")
    top = page.evaluate("scrollY")
    reader.sees_words(len(reader.words) + 50)
    assert page.evaluate("scrollY") == top
    page.get_by_role("button", name="To the end").click()
    page_stack.upstream.end("scroll")
    reader.sees_the_end()
    page.wait_for_function(at_the_end)


def test_earlier_conversations_are_kept_found_and_erased_here_and_on_the_server(
    reader: Reader, page_stack: Stack
) -> None:
    page = reader.page
    reader.ask("The first conversation")
    reader.sees_the_end()
    page.get_by_role("button", name="New").click()
    expect(page.locator(".turn")).to_have_count(0)
    reader.ask("The second conversation")
    reader.sees_the_end()
    answer = page.evaluate("location.hash.slice(1).split('/')[0]")
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name=re.compile("^The first conversation")).click()
    expect(page.locator(".question")).to_have_text("The first conversation")
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Erase all").click()
    page.get_by_role("button", name="Erase", exact=True).click()
    expect(page.locator("#list li")).to_have_count(0)
    reply = page_stack.client.request("GET", f"/answers/{answer}?stream=false")
    assert reply.status == 404
    page.reload()
    expect(page.locator(".turn")).to_have_count(0)


def test_two_tabs_of_one_conversation_lose_nothing_of_each_other(reader: Reader) -> None:
    page = reader.page
    reader.ask(command(key="shared-1", chunks=3, first=[{"endless": True, "pace": 0.02}]))
    reader.sees_words(3)
    other = Reader(page.context.new_page()).open(reader.link)
    other.sees_words(3)
    page.keyboard.press("Escape")
    reader.sees_phase("stopped")
    other.sees_phase("stopped")
    reader.ask("And then?")
    reader.sees_the_end()
    other.page.get_by_role("button", name="Ask again").click()
    other.sees_the_end()
    page.reload()
    expect(page.locator(".question").last).to_have_text("And then?")
    expect(page.locator(".turn")).to_have_count(2)


def test_a_reload_while_asking_again_follows_the_new_answer(reader: Reader) -> None:
    again = {"text": "new{n} ", "chunks": 100, "pace": 0.02}
    reader.ask(command(key="reloaded again", chunks=3, first=[{}, again]))
    reader.sees_the_end()
    reader.page.get_by_role("button", name="Ask again").click()
    expect(reader.page.locator(".markdown")).to_contain_text("new5 ")
    reader.page.reload()
    reader.sees_the_end()
    assert reader.words == [f"new{number}" for number in range(1, 101)]


def test_following_that_was_given_up_goes_on_where_it_was(device: Open, wire: Wire) -> None:
    context = device()
    reader = Reader(context.new_page()).open(wire.url)
    reader.ask(command(key="given up", chunks=100, pace=0.02))
    reader.sees_words(5)
    reader.page.evaluate(
        "() => { const kept = JSON.parse(localStorage['folyam.conversations']);"
        " kept[0].turns[0].kept = {phase: 'failed', text: 'w1 w2 ', reasoning: '', end: null,"
        " failure: {code: 'unreachable', message: '', retryable: true, of: 'connection', retryAfterMs: null}};"
        " window.onpagehide = () => { localStorage['folyam.conversations'] = JSON.stringify(kept); }; }"
    )
    reader.page.reload()
    reader.sees_phase("failed")
    assert reader.sentence == "The answer could not be followed: the server could not be reached for too long."
    assert reader.words == numbered(2)
    reader.page.get_by_role("button", name="Go on").click()
    reader.sees_the_end()
    assert reader.words == numbered(100)


def test_back_and_forward_lead_from_conversation_to_conversation(reader: Reader) -> None:
    page = reader.page
    reader.ask(command(key="back-1", chunks=200, pace=0.02))
    reader.sees_words(3)
    page.get_by_role("button", name="New").click()
    reader.ask("Another")
    reader.sees_the_end()
    page.go_back()
    page.go_back()
    reader.sees_words(10)
    reader.sees_the_end()
    assert reader.words == numbered(200)


def test_a_screen_reader_hears_of_the_course_and_not_of_each_token(reader: Reader) -> None:
    page = reader.page
    page.evaluate(
        "window.heard = [];"
        "new MutationObserver(() => heard.push(document.getElementById('announcer').textContent))"
        ".observe(document.getElementById('announcer'), {childList: true})"
    )
    reader.ask(command(key="announced", chunks=50, pace=0.02, first_chunk_delay=0.3))
    reader.sees_the_end()
    heard = page.evaluate("heard")
    assert heard[-1] == "The answer is complete."
    assert len(heard) <= 4, heard
    assert page.locator("[aria-live], [role=status], [role=log]").locator(".markdown").count() == 0


def test_stopping_closes_the_upstream_at_once(
    device: Open, page_stack: Stack, show: Callable[[str, str], None]
) -> None:
    url = f"http://{page_stack.nginx.address}/"

    def stop_from_the_page(reader: Reader) -> float:
        at = time.monotonic()
        reader.page.get_by_role("button", name="Stop").click()
        return at

    def stop_from_another_tab(reader: Reader) -> float:
        other = Reader(reader.page.context.new_page()).open(reader.link)
        other.sees_words(2)
        at = time.monotonic()
        other.page.keyboard.press("Escape")
        return at

    def stop_from_another_device(reader: Reader) -> float:
        other = Reader(device().new_page()).open(reader.link)
        other.sees_words(2)
        at = time.monotonic()
        other.page.get_by_role("button", name="Stop").click()
        return at

    def close_everything(reader: Reader) -> float:
        at = time.monotonic()
        reader.page.context.close()
        return at

    for way in (stop_from_the_page, stop_from_another_tab, stop_from_another_device, close_everything):
        reader = Reader(device().new_page()).open(url)
        reader.ask(command(key=way.__name__, endless=True, pace=0.02))
        reader.sees_words(5)
        at = way(reader)
        [record] = page_stack.upstream.wait_closed(way.__name__, seconds=UNWATCHED_SECONDS + 20)
        took = max(0.0, record["closed_at"] - at)
        of_which = f" (unwatched_seconds is {UNWATCHED_SECONDS})" if way is close_everything else ""
        show("Stop: seconds until the upstream's connection was closed", f"{way.__name__:28}{took:6.2f}{of_which}")
        assert record["closed_by"] == "client"
        if way is not close_everything:
            reader.sees_phase("stopped")


def test_the_question_is_in_no_log(reader: Reader, page_stack: Stack) -> None:
    reader.ask("A secret question about something")
    reader.sees_the_end()
    reader.page.reload()
    reader.sees_the_end()
    assert "secret" not in page_stack.nginx.log.read_text()
    assert json.dumps(reader.link).count("secret") == 1  # in the fragment, which a browser does not send
