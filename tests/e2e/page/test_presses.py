"""Buttons and keys pressed twice or held, and keys that belong to the composition of a character."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Stack
from tests.e2e.page.reader import Reader, numbered
from tests.e2e.stack import eventually
from tests.upstream.script import command

GAPS = [0.0, 0.18, 0.45]


def names_of(reader: Reader) -> list[str]:
    """Return the names in the list of conversations."""
    return reader.page.locator("#list .name").all_text_contents()


@pytest.mark.parametrize("seconds", GAPS)
def test_a_double_click_on_send_sends_once_and_stops_nothing(reader: Reader, page_stack: Stack, seconds: float) -> None:
    key = f"double click {seconds}"
    reader.page.fill("#query", command(key=key, chunks=20, pace=0.05))
    reader.double_click(reader.page.locator("#send"), seconds)
    reader.sees_the_end()
    assert reader.words == numbered(20)
    assert len(page_stack.upstream.requests(key)) == 1


def test_a_row_of_clicks_on_send_sends_once_and_stops_nothing(reader: Reader, page_stack: Stack) -> None:
    reader.page.fill("#query", command(key="row of clicks", chunks=20, pace=0.05))
    reader.double_click(reader.page.locator("#send"), 0.2, count=6)
    reader.sees_the_end()
    assert reader.words == numbered(20)
    assert len(page_stack.upstream.requests("row of clicks")) == 1


def test_stop_works_once_a_double_click_is_over(reader: Reader, page_stack: Stack) -> None:
    reader.page.fill("#query", command(key="stop later", endless=True, pace=0.02))
    reader.double_click(reader.page.locator("#send"), 0.6)
    reader.sees_phase("stopped")
    page_stack.upstream.wait_closed("stop later")


@pytest.mark.parametrize("seconds", GAPS)
def test_a_double_click_on_ask_again_asks_once(reader: Reader, page_stack: Stack, seconds: float) -> None:
    key = f"ask again {seconds}"
    reader.ask(command(key=key, chunks=3))
    reader.sees_the_end()
    reader.double_click(reader.page.get_by_role("button", name="Ask again"), seconds)
    eventually(lambda: len(page_stack.upstream.requests(key)) == 2)  # until then the first answer's end is shown
    reader.sees_the_end()
    expect(reader.page.get_by_role("button", name="Ask again")).to_be_visible()
    assert len(page_stack.upstream.requests(key)) == 2


def test_ask_again_pressed_twice_before_the_page_is_drawn_asks_once(reader: Reader, page_stack: Stack) -> None:
    """A busy device draws late: the button is still there when the first press has long been sent."""
    page = reader.page
    reader.ask(command(key="drawn late", chunks=3, first=[{}, {"endless": True, "pace": 0.02}]))
    reader.sees_the_end()
    again = page.get_by_role("button", name="Ask again")
    page.evaluate("() => { window.draw = requestAnimationFrame; window.requestAnimationFrame = () => 0; }")
    again.evaluate("button => button.click()")
    eventually(lambda: len(page_stack.upstream.requests("drawn late")) == 2)
    again.evaluate("button => button.click()")
    page.evaluate("() => { window.requestAnimationFrame = draw; }")
    expect(page.locator(".markdown")).to_contain_text("w20 ")
    page_stack.upstream.end("drawn late")
    reader.sees_the_end()
    assert len(page_stack.upstream.requests("drawn late")) == 2


def test_a_double_click_on_erase_erases_one_conversation(reader: Reader) -> None:
    page = reader.page
    for question in ("One", "Two", "Three"):
        reader.ask(question)
        reader.sees_the_end()
        page.get_by_role("button", name="New").click()
    page.get_by_role("button", name="Conversations").click()
    assert names_of(reader) == ["Three", "Two", "One"]
    page.get_by_role("button", name="More: Three").click()
    page.evaluate(
        "() => { window.moved = false; new MutationObserver(() => { window.moved = true; })"
        ".observe(document.getElementById('list'), {childList: true}); }"
    )
    erase = page.get_by_role("button", name="Erase: Three")
    # The list has changed under the pointer.
    reader.double_click(erase, 0.3, meanwhile=lambda: page.wait_for_function("() => moved"))
    expect(page.locator("#list .erased")).to_have_text("Erased: Three")
    assert names_of(reader) == ["Two", "One"]


def test_a_double_click_on_conversations_leaves_them_open(reader: Reader) -> None:
    reader.double_click(reader.page.locator("#open-conversations"), 0.18)
    expect(reader.page.locator("#conversations")).to_be_visible()


def test_a_double_click_on_the_language_switches_it_once(reader: Reader) -> None:
    reader.double_click(reader.page.locator("#language"), 0.18)
    expect(reader.page.locator("html")).to_have_attribute("lang", "hu")


def test_enter_twice_on_erase_all_erases_nothing(reader: Reader) -> None:
    page = reader.page
    reader.ask("Keep this")
    reader.sees_the_end()
    page.get_by_role("button", name="Conversations").click()
    page.locator("#erase-all").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#erase-all")).to_be_visible()
    assert names_of(reader) == ["Keep this"]


def test_a_held_enter_presses_a_button_once(reader: Reader) -> None:
    page = reader.page
    page.locator("#language").focus()
    page.keyboard.down("Enter")
    page.keyboard.down("Enter")  # Playwright marks it as a repetition
    page.keyboard.up("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "hu")


def test_a_held_enter_sends_once(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    page.fill("#query", command(key="held", chunks=3))
    page.keyboard.down("Enter")
    reader.sees_the_end()
    page.fill("#query", "a draft")
    page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    expect(page.locator(".turn")).to_have_count(1)
    assert page.input_value("#query") == "a draft"
    assert len(page_stack.upstream.requests("held")) == 1


def test_an_escape_that_closes_the_conversations_and_is_held_stops_nothing(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    reader.ask(command(key="held escape", endless=True, pace=0.02))
    reader.sees_words(3)
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator("#conversations")).to_be_visible()  # Its script is loaded first.
    page.keyboard.down("Escape")
    expect(page.locator("#conversations")).to_be_hidden()
    page.keyboard.down("Escape")
    page.keyboard.up("Escape")
    reader.sees_words(len(reader.words) + 5)
    page_stack.upstream.end("held escape")
    reader.sees_the_end()


def test_enter_in_a_composition_does_not_send(reader: Reader) -> None:
    """Chromium's own: the key belongs to the composition while that lasts."""
    page = reader.page
    page.focus("#query")
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "かわ", "selectionStart": 2, "selectionEnd": 2})
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "windowsVirtualKeyCode": 229})
    session.send("Input.insertText", {"text": "川"})
    expect(page.locator(".turn")).to_have_count(0)
    assert page.input_value("#query") == "川"


@pytest.mark.parametrize("way", ["composing", "Safari's, when it is over"])
def test_enter_and_escape_of_a_composition_neither_send_nor_stop(reader: Reader, page_stack: Stack, way: str) -> None:
    page = reader.page
    marks = {"isComposing": True} if way == "composing" else {"isComposing": False, "keyCode": 229}
    page.fill("#query", "川")

    def press(key: str) -> bool:
        """Return whether the page left the key to the browser."""
        left: bool = page.evaluate(
            "init => query.dispatchEvent(new KeyboardEvent('keydown', {...init, bubbles: true, cancelable: true}))",
            {"key": key, **marks},
        )
        return left

    assert press("Enter")
    expect(page.locator(".turn")).to_have_count(0)
    reader.ask(command(key=way, endless=True, pace=0.02))
    reader.sees_words(3)
    page.fill("#query", "川")
    assert press("Escape")
    reader.sees_words(len(reader.words) + 5)
    page_stack.upstream.end(way)
    reader.sees_the_end()
    assert page.input_value("#query") == "川"
