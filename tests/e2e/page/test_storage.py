"""The page where storage is forbidden, full, or odd: it works, says so, and drops no conversation without a word."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import Open, OpenStrict
from tests.e2e.page.reader import TIMEOUT_MS, Reader, numbered
from tests.e2e.page.test_quality import violations
from tests.upstream.script import command

KEY = "folyam.conversations"
FULL = "This browser's storage is full"
BLOCKED = "This browser stores nothing for this page"
UNREADABLE = "stored in a form that this page cannot read"

GOOD_TURN = {"id": "t", "question": "Kept?", "askedAt": 1_700_000_000_000, "answer": "a" * 32}
GOOD_KEPT = {"phase": "done", "text": "Yes.", "reasoning": "", "end": None, "failure": None}
GOOD = {"id": "good", "turns": [{**GOOD_TURN, "kept": GOOD_KEPT}]}
"""A conversation as the page stores it."""

WRONG_VALUES = ["null", '"text"', "nonsense", "", '{"a":1}', "[null]", "[{}]"]
WRONG_CONVERSATIONS: list[object] = [
    None,
    0,
    "text",
    [],
    {},
    {"id": 5, "turns": []},
    {"id": "x"},
    {"id": "x", "turns": {}},
    {"id": "x", "turns": []},
    {"id": "x", "turns": [None]},
    {"id": "x", "turns": [{}]},
    {"id": "x", "turns": [{**GOOD_TURN, "question": 7}]},
    {"id": "x", "turns": [{**GOOD_TURN, "answer": {}}]},
    {"id": "x", "turns": [{**GOOD_TURN, "kept": "done"}]},
    {"id": "x", "turns": [{**GOOD_TURN, "kept": {}}]},
    {"id": "x", "turns": [{**GOOD_TURN, "kept": {**GOOD_KEPT, "text": 7}}]},
    {"id": "x", "turns": [{**GOOD_TURN, "kept": {**GOOD_KEPT, "reasoning": []}}]},
    {"id": "x", "turns": [{**GOOD_TURN, "kept": {**GOOD_KEPT, "phase": "dreaming"}}]},
]
ODD_TURNS: list[dict[str, object]] = [
    {**GOOD_TURN, "kept": GOOD_KEPT, "color": "red"},
    {**GOOD_TURN, "kept": GOOD_KEPT, "askedAt": "yesterday"},
    {**GOOD_TURN, "kept": GOOD_KEPT, "askedAt": 1e300},
    {**GOOD_TURN, "kept": {**GOOD_KEPT, "end": "end"}},
    {**GOOD_TURN, "kept": {**GOOD_KEPT, "end": {"type": "done", "timing": {"duration_seconds": {}}}}},
    {**GOOD_TURN, "kept": {**GOOD_KEPT, "end": {"type": "done", "usage": 5}}},
    {**GOOD_TURN, "kept": {**GOOD_KEPT, "phase": "failed", "failure": {"code": 5}}},
    {"id": "t", "question": "Kept?", "kept": {"phase": "done", "text": "Yes."}},
]
"""Turns that can be read, with something besides that cannot."""


def stored(page: Page) -> list[dict[str, object]]:
    """Return the conversations in the storage."""
    return list(json.loads(page.evaluate(f"localStorage['{KEY}']")))


def questions(entry: dict[str, object]) -> list[str]:
    """The questions of a stored conversation."""
    turns = entry["turns"]
    assert isinstance(turns, list)
    return [turn["question"] for turn in turns]


def open_with(device: Open, stack: Stack, value: str) -> Reader:
    """Open the page where the storage holds this."""
    page = device().new_page()
    url = f"http://{stack.nginx.address}/"
    page.goto(f"{url}favicon.svg")
    page.evaluate("([key, value]) => { localStorage[key] = value; }", [KEY, value])
    return Reader(page).open(url)


def ask_and_see(reader: Reader, question: str) -> None:
    before = reader.page.locator(".turn").count()
    reader.ask(question)
    expect(reader.page.locator(".turn")).to_have_count(before + 1)
    reader.sees_the_end()


@pytest.mark.parametrize("value", WRONG_VALUES)
def test_a_page_with_a_wrong_value_in_storage_works(device: Open, page_stack: Stack, value: str) -> None:
    reader = open_with(device, page_stack, value)
    page = reader.page
    page.get_by_role("button", name="Conversations").click()
    expect(page.get_by_text(UNREADABLE)).to_be_visible()
    page.keyboard.press("Escape")
    ask_and_see(reader, "Works?")
    assert questions(stored(page)[0]) == ["Works?"]
    page.reload()
    reader.sees_the_end()
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator("#list .name")).to_have_text(["Works?"])


def test_conversations_that_cannot_be_read_are_left_as_they_are(device: Open, page_stack: Stack) -> None:
    reader = open_with(device, page_stack, json.dumps([*WRONG_CONVERSATIONS, GOOD]))
    page = reader.page
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator("#list .name")).to_have_text(["Kept?"])
    expect(page.get_by_text(UNREADABLE)).to_be_visible()
    page.locator("#list .open").click()
    reader.sees_the_end()
    assert reader.words == ["Yes."]
    page.get_by_role("button", name="New").click()
    ask_and_see(reader, "Works?")
    new, *others = stored(page)
    assert questions(new) == ["Works?"]
    assert others == [*WRONG_CONVERSATIONS, GOOD]


def test_conversations_with_something_odd_in_them_are_shown(device: Open, page_stack: Stack) -> None:
    odd = [{"id": str(number), "turns": [turn]} for number, turn in enumerate(ODD_TURNS)]
    page = open_with(device, page_stack, json.dumps(odd)).page
    for number in range(len(odd)):
        page.get_by_role("button", name="Conversations").click()
        expect(page.locator("#list li")).to_have_count(len(odd))
        expect(page.get_by_text(UNREADABLE)).to_be_hidden()
        page.locator("#list .open").nth(number).click()
        expect(page.locator(".markdown")).to_have_text("Yes.")


def test_a_turn_that_cannot_be_read_does_not_hide_the_others_and_stays(device: Open, page_stack: Stack) -> None:
    wrong = {"from": "another version"}
    mixed = {"id": "mixed", "turns": [wrong, {**GOOD_TURN, "kept": GOOD_KEPT}]}
    reader = open_with(device, page_stack, json.dumps([mixed]))
    page = reader.page
    page.get_by_role("button", name="Conversations").click()
    expect(page.get_by_text(UNREADABLE)).to_be_visible()
    page.get_by_role("button", name="Kept?").first.click()
    expect(page.locator(".question")).to_have_text("Kept?")
    ask_and_see(reader, "And then?")
    [entry] = stored(page)
    turns = entry["turns"]
    assert isinstance(turns, list)
    assert turns[:2] == mixed["turns"]


def test_erase_all_erases_what_cannot_be_read_too(device: Open, page_stack: Stack) -> None:
    reader = open_with(device, page_stack, "nonsense")
    page = reader.page
    page.get_by_role("button", name="Conversations").click()
    assert violations(page) == []
    page.get_by_role("button", name="Erase all").click()
    page.get_by_role("button", name="Erase", exact=True).click()
    expect(page.get_by_text(UNREADABLE)).to_be_hidden()
    expect(page.get_by_text("Nothing yet.")).to_be_visible()
    assert stored(page) == []


@pytest.mark.parametrize("language", ["", "null", "hu-HU-x", "{}"])
def test_an_odd_language_in_storage_kills_nothing(device: Open, page_stack: Stack, language: str) -> None:
    page = device().new_page()
    page.goto(f"http://{page_stack.nginx.address}/favicon.svg")
    page.evaluate("language => { localStorage['folyam.language'] = language; }", language)
    reader = Reader(page).open(f"http://{page_stack.nginx.address}/")
    expect(page.locator("html")).to_have_attribute("lang", "hu" if language.startswith("hu") else "en")
    ask_and_see(reader, command(chunks=2))


def fill_storage(page: Page, left: int) -> None:
    """Let another application of the origin take all but so many characters."""
    page.evaluate(
        """left => {
            delete localStorage.other;
            let size = 5 * 1024 * 1024;
            for (let step = size; step >= 1; step = Math.floor(step / 2)) {
                for (;;) {
                    try { localStorage.other = "x".repeat(size); break; } catch { size -= step; }
                }
                size += step;
            }
            localStorage.other = "x".repeat(localStorage.other.length - left);
        }""",
        left,
    )


def test_full_storage_costs_no_earlier_conversation_and_is_said(reader: Reader) -> None:
    page = reader.page
    ask_and_see(reader, "The first")
    page.get_by_role("button", name="New").click()
    ask_and_see(reader, "The second")
    before = stored(page)
    page.get_by_role("button", name="New").click()
    fill_storage(page, 0)
    ask_and_see(reader, command(key="full", chunks=3))
    expect(page.get_by_text(FULL)).to_be_visible()
    assert violations(page) == []
    assert stored(page) == before
    # It is in the list all the same, for as long as the page is open.
    page.get_by_role("button", name="New").click()
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator("#list li")).to_have_count(3)
    page.locator("#list .open").first.click()
    assert reader.words == numbered(3)
    page.click("#language")
    expect(page.get_by_text("Megtelt a böngésző tárhelye")).to_be_visible()


def test_an_answer_that_does_not_fit_leaves_its_question_and_everything_before(reader: Reader) -> None:
    """What fits is stored: the question and the answer's id, by which a reload gets the text from the server."""
    page = reader.page
    ask_and_see(reader, "The first")
    page.get_by_role("button", name="New").click()
    fill_storage(page, 1000)
    ask_and_see(reader, command(chunks=60, text="x" * 100))
    link = reader.link
    expect(page.get_by_text(FULL)).to_be_visible()
    assert [questions(entry)[0] for entry in stored(page)][1:] == ["The first"]
    page.get_by_role("button", name="New").click()
    ask_and_see(reader, "A short one")
    assert [questions(entry)[0] for entry in stored(page)][::2] == ["A short one", "The first"]
    reader.open("about:blank")
    reader.open(link)
    reader.sees_the_end()
    assert reader.text == "x" * 6000


def test_what_did_not_fit_is_stored_once_there_is_room(reader: Reader) -> None:
    page = reader.page
    ask_and_see(reader, "A long one " + "x" * 4000)
    page.get_by_role("button", name="New").click()
    fill_storage(page, 0)
    ask_and_see(reader, "The latest")
    expect(page.get_by_text(FULL)).to_be_visible()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="More: A long one").click()
    page.get_by_role("button", name="Erase: A long one").click()
    expect(page.locator("#list li")).to_have_count(1, timeout=TIMEOUT_MS)
    expect(page.get_by_text(FULL)).to_be_hidden()
    [entry] = stored(page)
    assert questions(entry) == ["The latest"]


def test_what_did_not_fit_and_is_erased_does_not_come_back(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    fill_storage(page, 0)
    reader.ask(command(key="erased", endless=True, pace=0.02))
    reader.sees_words(3)
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="More: ").click()
    page.get_by_role("button", name="Erase: ").click()
    expect(page.locator("#list li")).to_have_count(0, timeout=TIMEOUT_MS)
    page_stack.upstream.wait_closed("erased")
    page.get_by_role("button", name="Close").click()
    page.evaluate("delete localStorage.other")
    ask_and_see(reader, "Another")
    assert [questions(entry) for entry in stored(page)] == [["Another"]]


FORBID = {
    "the name throws": "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no'); }})",
    "there is none": "Object.defineProperty(window, 'localStorage', {value: null})",
    "writing throws": "Storage.prototype.setItem = () => { throw new DOMException('no'); }",
    "every access throws": "Storage.prototype.getItem = Storage.prototype.setItem ="
    " () => { throw new DOMException('no'); }",
}
"""Other ways in which browsers block storage."""


@pytest.mark.parametrize("way", FORBID)
def test_a_page_whose_storage_is_forbidden_holds_a_conversation(device: Open, page_stack: Stack, way: str) -> None:
    context = device()
    context.add_init_script(FORBID[way])
    hold_a_conversation(Reader(context.new_page()), page_stack)


def test_a_browser_that_blocks_all_site_data_holds_a_conversation(strict_device: OpenStrict, page_stack: Stack) -> None:
    """Chromium's own setting, which refuses locks as well."""
    reader = Reader(strict_device("cookies").new_page())
    hold_a_conversation(reader, page_stack)
    denied = "navigator.locks.request('x', () => {}).then(() => 'granted', error => error.name)"
    assert reader.page.evaluate(denied) == "SecurityError"


def hold_a_conversation(reader: Reader, stack: Stack) -> None:
    page = reader.page
    reader.open(f"http://{stack.nginx.address}/")
    reader.ask(command(chunks=3))
    reader.sees_the_end()
    assert reader.words == numbered(3)
    expect(page.get_by_text(BLOCKED)).to_be_visible()
    assert "?" not in page.url.partition("#")[0]
    page.click("#language")
    expect(page.get_by_text("A böngésző semmit sem tárol")).to_be_visible()
    page.click("#new")
    ask_and_see(reader, "Second")
    page.click("#open-conversations")
    expect(page.locator("#list li")).to_have_count(2)
    page.locator("#list .open").last.click()
    assert reader.words == numbered(3)
