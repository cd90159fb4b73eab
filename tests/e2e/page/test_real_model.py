"""The whole thing as `make run` serves it: the page, nginx, two workers, and a real model on this machine."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from deploy.local.model import ANSWER_TOKENS, NAME
from tests.e2e.client import Client
from tests.e2e.local_model import local_model
from tests.e2e.page.conftest import Open
from tests.e2e.page.reader import Reader
from tests.e2e.stack import Nginx, Service

ANSWER_MS = 300_000


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, web_root: Path) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("real")
    with local_model(directory) as address:
        settings = {"FOLYAM_MODEL": NAME, "FOLYAM_CONTINUE": "assistant"}
        with (
            Service(directory, directory / "answers", f"http://{address}/v1", settings=settings) as service,
            Nginx(directory, service.address, web_root) as nginx,
        ):
            yield nginx


@pytest.mark.parametrize(
    ("locale", "question", "figures"),
    [
        (
            "en-GB",
            "What is a river? Answer in two sentences.",
            r"first words after .* s in all · \d+ tokens · \d+ tokens/s",
        ),
        (
            "hu-HU",
            "What is a lake? Answer in two sentences.",
            r"első szavak: .* mp · összesen .* mp · \d+ token · \d+ token/mp",
        ),
    ],
)
def test_a_real_answer_streams_survives_a_reload_and_is_followed_up(
    device: Open, real: Nginx, locale: str, question: str, figures: str
) -> None:
    reader = Reader(device(locale=locale).new_page()).open(f"http://{real.address}/")
    reader.ask(question)
    reader.sees_words(5)
    assert reader.phase in {"streaming", "done"}
    reader.page.reload()
    reader.sees_the_end(ANSWER_MS)
    first = reader.words
    assert len(first) > 5
    expect(reader.page.locator(".figures")).to_have_text(re.compile(figures))
    reader.ask("Say that again, shorter.")
    expect(reader.page.locator(".turn")).to_have_count(2)
    reader.sees_the_end(ANSWER_MS)
    assert reader.words
    expect(reader.page.locator(".turn .markdown").first).to_contain_text(first[0])


def test_an_answer_that_the_local_model_would_never_end_is_cut_by_its_length(real: Nginx) -> None:
    endless = "Write a list of the numbers from one to ten thousand, each on its own line, and never stop."
    events = Client(real.address).generate(endless, temperature=0).events
    assert events[-1]["type"] == "done"
    assert events[-1]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == ANSWER_TOKENS
