"""The box for questions: the model, the limits that the service tells, drafts, and a question that waits."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import Open
from tests.e2e.page.reader import Reader
from tests.e2e.stack import Nginx, Service
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command

MOST_CHARACTERS = 600
MOST_TURNS = 4


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    """The stack with two models and narrow limits."""
    directory = tmp_path_factory.mktemp("limited")
    settings = {
        "FOLYAM_MODELS": "other-model",
        "FOLYAM_MAX_QUERY_CHARACTERS": str(MOST_CHARACTERS),
        "FOLYAM_MAX_HISTORY_TURNS": str(MOST_TURNS),
    }
    with (
        Service(directory, directory / "answers", upstream.base_url, workers=1, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


def reader_of(device: Open, stack: Stack) -> Reader:
    return Reader(device().new_page()).open(f"http://{stack.nginx.address}/")


def test_the_page_names_the_one_model(reader: Reader) -> None:
    expect(reader.page.locator("#model-name")).to_have_text("test-model")
    expect(reader.page.locator("#model")).to_be_hidden()


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_nothing_moves_when_the_models_are_told(device: Open, page_stack: Stack, names: list[str]) -> None:
    page = device().new_page()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/limits", hold)
    Reader(page).open(f"http://{page_stack.nginx.address}/")
    before = page.locator("#send").bounding_box()
    while not held:
        page.wait_for_timeout(10)  # Playwright handles routes only while it waits.
    held[0].fulfill(
        json={"models": names, "query_characters": 9, "history_turns": 9, "body_bytes": 9999, "system": True}
    )
    shown = page.locator("#model-name" if len(names) == 1 else "#model")
    expect(shown).to_be_visible()
    assert page.locator("#send").bounding_box() == before


def test_a_reader_chooses_among_the_models_and_the_page_remembers(device: Open, limited: Stack) -> None:
    reader = reader_of(device, limited)
    model = reader.page.get_by_label("Model", exact=True)
    expect(model).to_have_value("test-model")
    model.select_option("other-model")
    reader.ask(command(key="chosen model", chunks=2))
    reader.sees_the_end()
    [record] = limited.upstream.wait_closed("chosen model")
    assert record["model"] == "other-model"
    reader.page.reload()
    expect(reader.page.get_by_label("Model", exact=True)).to_have_value("other-model")


def test_a_question_that_is_too_long_says_so_and_loses_nothing(device: Open, limited: Stack) -> None:
    reader = reader_of(device, limited)
    page = reader.page
    expect(page.get_by_label("Model", exact=True)).to_be_visible()  # The limits are there.
    page.fill("#query", "é" * (MOST_CHARACTERS + 1))
    expect(page.locator("#too-long")).to_have_text("The question has 601 characters. At most 600 can be sent.")
    page.press("#query", "Enter")
    assert page.input_value("#query") == "é" * (MOST_CHARACTERS + 1)
    expect(page.locator(".turn")).to_have_count(0)
    page.press("#query", "Backspace")
    expect(page.locator("#too-long")).to_be_hidden()


def test_the_model_gets_the_last_turns_that_the_service_takes_and_the_page_says_so(
    device: Open, limited: Stack
) -> None:
    reader = reader_of(device, limited)
    expect(reader.page.get_by_label("Model", exact=True)).to_be_visible()
    for number in range(4):
        reader.ask(command(key=f"cut history {number}", chunks=1))
        expect(reader.page.locator(".turn")).to_have_count(number + 1)
        reader.sees_the_end()
    [record] = limited.upstream.wait_closed("cut history 3")
    assert len(record["messages"]) == MOST_TURNS + 1
    notes = reader.page.locator(".turn .note:visible")
    expect(notes).to_have_count(1)
    expect(notes).to_have_text("The model was sent only the last 2 questions and answers of this conversation.")


def test_what_is_being_typed_is_there_after_a_reload(reader: Reader) -> None:
    reader.page.fill("#query", "half a quest")
    reader.page.reload()
    expect(reader.page.locator("#query")).to_have_value("half a quest")
    reader.ask(command(key="draft", chunks=1))
    reader.sees_the_end()
    reader.page.reload()
    reader.sees_the_end()
    expect(reader.page.locator("#query")).to_have_value("")


def test_a_question_that_is_sent_meanwhile_is_asked_when_the_answer_is_done(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    reader.ask(command(key="first of two", endless=True, pace=0.02))
    reader.sees_words(2)
    second = command(key="second of two", chunks=2)
    reader.ask(second)
    expect(page.locator("#next-question")).to_have_text(second)
    expect(page.locator("#query")).to_have_value("")
    expect(page.locator(".turn")).to_have_count(1)
    page_stack.upstream.end("first of two")
    expect(page.locator(".turn")).to_have_count(2, timeout=60_000)
    reader.sees_the_end()
    expect(page.locator("#next")).to_be_hidden()
    [record] = page_stack.upstream.wait_closed("second of two")
    assert record["messages"][-1]["content"] == second


def test_a_question_that_waits_can_be_taken_back(reader: Reader, page_stack: Stack) -> None:
    page = reader.page
    reader.ask(command(key="taken back", endless=True, pace=0.02))
    reader.sees_words(2)
    reader.ask("What then?")
    page.fill("#query", "Or this?")
    page.get_by_role("button", name="Take back").click()
    expect(page.locator("#query")).to_have_value("What then?\n\nOr this?")
    expect(page.locator("#next")).to_be_hidden()
    page_stack.upstream.end("taken back")
    reader.sees_the_end()
    expect(page.locator(".turn")).to_have_count(1)


def test_behind_a_failure_the_question_that_waits_is_not_asked(reader: Reader) -> None:
    reader.ask(command(key="fails first", chunks=20, pace=0.2, finish_reason="error"))
    reader.sees_words(2)
    reader.ask("What then?")
    reader.sees_phase("failed")
    expect(reader.page.locator("#query")).to_have_value("What then?")
    expect(reader.page.locator(".turn")).to_have_count(1)


def test_dates_are_written_as_the_browsers_country_does(reader: Reader) -> None:
    reader.ask(command(key="dates", chunks=1))
    reader.sees_the_end()
    reader.page.click("#open-conversations")
    expect(reader.page.locator("#list h3")).to_have_text("Today")
    expect(reader.page.locator("#list time")).to_have_text(re.compile(r"^\d\d:\d\d$"))
    reader.page.evaluate(
        "() => { const kept = JSON.parse(localStorage['folyam.conversations']);"
        " kept[0].turns[0].askedAt = new Date(2026, 1, 3, 4, 5).getTime();"
        " localStorage['folyam.conversations'] = JSON.stringify(kept); }"
    )
    reader.page.reload()
    reader.page.click("#open-conversations")
    expect(reader.page.locator("#list h3")).to_have_text("3 February 2026")
    expect(reader.page.locator("#list time")).to_have_text("04:05")
