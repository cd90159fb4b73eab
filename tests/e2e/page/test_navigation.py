"""Finding the way: from question to question, and from conversation to conversation."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import NARROW, WIDE, Open
from tests.e2e.page.reader import TIMEOUT_MS, Reader, numbered
from tests.e2e.page.test_quality import violations
from tests.e2e.stack import eventually
from tests.upstream.script import command

LONG = "A paragraph.\n\n" * 60


@pytest.fixture
def wide(device: Open, page_stack: Stack) -> Reader:
    """A reader with room for the list beside the text."""
    return Reader(device(viewport=WIDE, accept_downloads=True).new_page()).open(f"http://{page_stack.nginx.address}/")


def ask_in_turn(reader: Reader, *questions: str) -> None:
    """Ask each in a conversation of its own."""
    for question in questions:
        reader.page.click("#new")
        reader.ask(question)
        reader.sees_the_end()


def names(page: Page) -> list[str]:
    """Return the names in the list of conversations."""
    return page.locator("#list .name").all_text_contents()


def is_in_view(page: Page, selector: str) -> bool:
    """Return whether an element is within the window and not covered."""
    seen: bool = page.locator(selector).evaluate(
        "element => { const {x, y, width, height} = element.getBoundingClientRect();"
        " return element.contains(document.elementFromPoint(x + width / 2, y + height / 2)); }"
    )
    return seen


@pytest.mark.parametrize("viewport", [NARROW, WIDE, {"width": 360, "height": 740}])
def test_the_header_stays_in_reach_at_the_end_of_a_long_answer(
    device: Open, page_stack: Stack, viewport: ViewportSize
) -> None:
    reader = Reader(device(viewport=viewport).new_page()).open(f"http://{page_stack.nginx.address}/")
    reader.ask(command(texts=[LONG]))
    reader.sees_the_end()
    assert reader.page.evaluate("() => scrollY") > 1000
    assert is_in_view(reader.page, "#new")
    assert is_in_view(reader.page, "#open-conversations")
    assert reader.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_buttons_and_keys_lead_from_question_to_question(reader: Reader) -> None:
    page = reader.page
    expect(page.locator("#previous-question")).to_be_hidden()
    for number in (1, 2, 3):
        reader.ask(command(key=f"jump {number}", texts=[LONG]))
        expect(page.locator(".turn")).to_have_count(number)
        reader.sees_the_end()
    page.click("#previous-question")
    expect(page.locator(".question").nth(2)).to_be_focused()
    expect(page.locator(".question").nth(2)).to_be_in_viewport()
    page.keyboard.press("Alt+ArrowUp")
    expect(page.locator(".question").nth(1)).to_be_focused()
    page.click("#previous-question")
    expect(page.locator(".question").nth(0)).to_be_focused()
    expect(page.locator("#previous-question")).to_be_hidden()
    page.click("#following-question")
    expect(page.locator(".question").nth(1)).to_be_focused()
    assert is_in_view(page, ".question >> nth=1")
    assert violations(page) == []


def test_the_list_stands_beside_the_text_where_there_is_room(wide: Reader) -> None:
    page = wide.page
    ask_in_turn(wide, "First", "Second")
    expect(page.locator("#beside #list .name")).to_have_text(["Second", "First"])
    expect(page.locator("#list h3")).to_have_text("Today")
    expect(page.locator("#list [aria-current]")).to_contain_text("Second")
    page.locator("#list .open", has_text="First").click()
    expect(page.locator(".question")).to_have_text("First")
    expect(page.locator("#list [aria-current]")).to_contain_text("First")
    assert violations(page) == []
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(page.locator(".question")).to_have_text("First")
    expect(page.locator("#beside")).to_be_hidden()
    page.click("#open-conversations")
    expect(page.locator("#beside #list .name")).to_have_count(2)
    page.set_viewport_size(NARROW)
    expect(page.locator("#list")).to_be_hidden()
    page.click("#open-conversations")
    expect(page.locator("dialog #list .name")).to_have_count(2)
    page.locator("#list .open").first.click()
    expect(page.locator("dialog")).to_be_hidden()


def test_a_conversation_is_marked_as_long_as_its_answer_runs(wide: Reader, page_stack: Stack) -> None:
    page = wide.page
    wide.ask(command(key="marked", endless=True, pace=0.02))
    wide.sees_words(2)
    page.click("#new")
    expect(page.locator("#list li")).to_contain_text("running")
    assert violations(page) == []
    page_stack.upstream.end("marked")
    expect(page.locator("#list .running")).to_have_count(0)
    page.locator("#list .open").click()
    wide.sees_the_end()
    assert wide.words == numbered(page_stack.upstream.said("marked"))


def test_a_search_finds_words_of_questions_and_answers(wide: Reader) -> None:
    page = wide.page
    ask_in_turn(wide, "About rivers", command(texts=["The Danube is long."]))
    page.fill("#search", "RIVERS about")
    expect(page.locator("#list .name")).to_have_text(["About rivers"])
    page.fill("#search", "danube long")
    expect(page.locator("#list .name")).to_have_count(1)
    expect(page.locator("#list .name")).not_to_have_text("About rivers")
    page.fill("#search", "neither")
    expect(page.locator("#list li")).to_have_count(0)
    page.fill("#search", "")
    expect(page.locator("#list li")).to_have_count(2)


def test_a_conversation_can_be_renamed(wide: Reader) -> None:
    page = wide.page
    ask_in_turn(wide, "Old name")
    page.get_by_role("button", name="More: Old name").click()
    assert violations(page) == []
    page.get_by_role("button", name="Rename: Old name").click()
    assert violations(page) == []
    field = page.locator("#list input")
    field.fill("Given up")
    field.press("Escape")
    expect(page.locator("#list .name")).to_have_text("Old name")
    page.get_by_role("button", name="More: Old name").click()
    page.get_by_role("button", name="Rename: Old name").click()
    field.fill(" A better name ")
    field.press("Enter")
    expect(page.locator("#list .name")).to_have_text("A better name")
    wide.ask("More?")
    expect(page.locator(".turn")).to_have_count(2)
    wide.sees_the_end()
    page.reload()
    expect(page.locator("#list .name")).to_have_text("A better name")
    expect(page.locator(".question")).to_have_count(2)


def test_an_erasure_can_be_undone_before_the_server_is_asked(wide: Reader) -> None:
    page = wide.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    ask_in_turn(wide, "Keep", "Lose")
    for name in ("Keep", "Lose"):
        page.get_by_role("button", name=f"More: {name}").click()
        page.get_by_role("button", name=f"Erase: {name}").click()
        expect(page.get_by_role("button", name=f"Undo: Erased: {name}")).to_be_focused()
    assert violations(page) == []
    page.get_by_role("button", name="Undo: Erased: Keep").click()
    expect(page.locator("#list .name")).to_have_text(["Keep"])
    assert "DELETE" not in asked
    expect(page.locator("#list li")).to_have_count(1, timeout=TIMEOUT_MS)
    assert asked.count("DELETE") == 1
    page.reload()
    expect(page.locator("#list .name")).to_have_text(["Keep"])


def test_an_erasure_is_done_when_the_page_is_left(wide: Reader, page_stack: Stack) -> None:
    page = wide.page
    ask_in_turn(wide, "Left")
    answer = page.evaluate("() => location.hash.slice(1).split('/')[0]")
    page.click("#new")
    page.get_by_role("button", name="More: Left").click()
    page.get_by_role("button", name="Erase: Left").click()
    page.goto("about:blank")
    eventually(lambda: page_stack.client.request("GET", f"/answers/{answer}?stream=false").status == 404)


def test_targets_are_large_enough_for_fingers(device: Open, page_stack: Stack) -> None:
    context = device(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    reader = Reader(context.new_page()).open(f"http://{page_stack.nginx.address}/")
    page = reader.page
    reader.ask(command(texts=["```python\nx = 1\n```\n"], reasoning=["Well."]))
    reader.sees_the_end()
    small = (
        "() => [...document.querySelectorAll('button, select, input, summary')].filter(each => each.checkVisibility())"
        ".map(each => [each.textContent, each.getBoundingClientRect()])"
        ".filter(([, {width, height}]) => Math.min(width, height) < 44).map(([text]) => text)"
    )
    assert page.evaluate(small) == []
    page.click("#open-conversations")
    page.get_by_role("button", name="More: ").click()
    assert page.evaluate(small) == []
    assert violations(page) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def saved(page: Page, button: str) -> tuple[str, str]:
    """Press the button; return the saved file's name and text."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def test_a_conversation_is_saved_as_markdown_and_as_json(wide: Reader) -> None:
    page = wide.page
    ask_in_turn(wide, "Rivers: A/B?")
    answer = page.evaluate("() => JSON.parse(localStorage['folyam.conversations'])[0].turns[0].kept.text")
    wide.ask(command(texts=["**No** more"], finish_reason="length"))
    expect(page.locator(".turn")).to_have_count(2)
    wide.sees_the_end()
    page.get_by_role("button", name="More: Rivers").click()
    name, text = saved(page, "Markdown: Rivers")
    assert name == "Rivers A B.md"
    assert text.startswith(f"# Rivers: A/B?\n\n> Rivers: A/B?\n\n{answer.strip()}\n\n> ")
    assert text.endswith("\n\n**No** more\n\n*The answer reached its greatest length.*\n")
    name, text = saved(page, "JSON: Rivers")
    assert name == "Rivers A B.json"
    [first, second] = json.loads(text)["turns"]
    kept: dict[str, Any] = second["kept"]
    assert (first["question"], kept["text"], kept["phase"]) == ("Rivers: A/B?", "**No** more", "done")
