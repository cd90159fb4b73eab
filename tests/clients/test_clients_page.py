"""docs/clients.md, and the README: each example runs as it stands."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route

from tests.clients.test_chat_clients import HERE, OFFLINE, PYTHON
from tests.e2e.client import script
from tests.e2e.cutter import Cutter
from tests.e2e.stack import NODE, ROOT, Nginx, Service
from tests.upstream.process import UpstreamProcess

PAGE = ROOT / "docs" / "clients.md"
ADDRESS = "http://localhost:8080"
QUESTION = "What is a river?"
ANSWER = "".join(f"w{number} " for number in range(1, 9))
LONG_SECONDS = 180
"""LiteLLM alone takes half a minute to import on a busy machine, the first time."""


@dataclass(frozen=True)
class Example:
    heading: str
    language: str
    code: str

    @property
    def name(self) -> str:
        imported = re.search(r"(?:from|import) [\"']?(@?[\w/-]+)", self.code)
        return f"{self.language}: {imported[1] if imported else self.heading}"


def examples(page: Path) -> list[Example]:
    found: list[Example] = []
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        found += [Example(heading, *block) for block in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)]
    return found


EXAMPLES = examples(PAGE)
OF_README = [each for each in examples(ROOT / "README.md") if each.language == "python"]


def of(language: str, *, in_page: bool = False) -> pytest.MarkDecorator:
    """Parametrize by the examples in a language."""
    chosen = [
        each for each in [*EXAMPLES, *OF_README] if each.language == language and ("document." in each.code) == in_page
    ]
    return pytest.mark.parametrize("example", chosen, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Nginx]:
    """What `make run` starts, with another upstream."""
    directory = tmp_path_factory.mktemp("page")
    settings = {"FOLYAM_MODEL": "smollm2-135m-instruct"}
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield nginx


def printed(command: list[object], code: str, address: object, directory: Path) -> str:
    """Return what the example prints, with the address in place of `make run`'s."""
    return subprocess.run(
        [str(word) for word in command],
        input=code.replace(ADDRESS, f"http://{address}"),
        cwd=directory,
        env={**os.environ, **OFFLINE},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=LONG_SECONDS,
        check=True,
    ).stdout


def test_there_is_an_example_for_each_reader() -> None:
    assert [example.language for example in EXAMPLES] == [
        *("python", "js", "python", "python"),
        *("python", "python", "yaml"),
        "jsx",
        "js",
        "js",
        "js",
    ]


@of("python")
def test_an_example_in_python_prints_the_answer(example: Example, nginx: Nginx, tmp_path: Path) -> None:
    # Each has a key of its own, so that no example joins another one's answer.
    code = example.code.replace("the-question-of-this-page", re.sub(r"\W+", "-", example.name))
    assert printed([PYTHON, "-"], code, nginx.address, tmp_path).strip() == ANSWER.strip()


def test_the_example_that_asks_again_gets_the_same_answer_behind_a_cut(
    nginx: Nginx, upstream: UpstreamProcess, tmp_path: Path
) -> None:
    [example] = [each for each in EXAMPLES if "Idempotency-Key" in each.code]
    key = "the example that asks again"
    # A question that takes a while, so that it can be cut.
    question = script(key=key, chunks=100, pace=0.01).replace('"', r"\"")
    with Cutter(nginx.address, iter([2500, 4000])) as cutter:
        text = printed([PYTHON, "-"], example.code.replace(QUESTION, question), cutter.address, tmp_path)
    assert cutter.cuts == 2
    assert text.split() == [f"w{number}" for number in range(1, 101)]
    assert len(upstream.requests(key)) == 1


def test_the_example_of_responses_goes_on_behind_each_cut(
    nginx: Nginx, upstream: UpstreamProcess, tmp_path: Path
) -> None:
    [example] = [each for each in EXAMPLES if "starting_after" in each.code]
    key = "the example of responses"
    question = script(key=key, chunks=100, pace=0.01).replace('"', r"\"")
    with Cutter(nginx.address, iter([6000, 5000])) as cutter:
        text = printed([PYTHON, "-"], example.code.replace(QUESTION, question), cutter.address, tmp_path)
    assert cutter.cuts == 2
    assert text.split() == [f"w{number}" for number in range(1, 101)]
    assert len(upstream.requests(key)) == 1


@of("js")
def test_an_example_in_javascript_prints_the_answer(example: Example, nginx: Nginx) -> None:
    assert printed([NODE, "--input-type=module", "-"], example.code, nginx.address, HERE) == ANSWER


@of("yaml")
def test_the_configuration_of_llm_works(example: Example, nginx: Nginx, tmp_path: Path) -> None:
    assert "llm -m folyam --key any 'What is a river?'" in PAGE.read_text(encoding="utf-8")
    path = tmp_path / "extra-openai-models.yaml"
    path.write_text(example.code.replace(ADDRESS, f"http://{nginx.address}"))
    asked = [PYTHON.with_name("llm"), "-m", "folyam", "--key", "any", QUESTION]
    command = ["env", f"LLM_USER_PATH={tmp_path}", *asked]
    assert printed(command, "", nginx.address, tmp_path) == f"{ANSWER}\n"


@of("js", in_page=True)
def test_an_example_for_a_page_shows_the_answer(example: Example, nginx: Nginx, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"http://{nginx.address}/livez")
    page.evaluate(example.code)
    page.get_by_text(ANSWER.strip()).wait_for()
    page.close()


@of("jsx", in_page=True)
def test_the_example_in_react_shows_the_answer_and_again_after_a_reload(
    example: Example, nginx: Nginx, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / "main.jsx").write_text(example.code)
    (tmp_path / "index.html").write_text('<body><script type="module" src="main.jsx"></script></body>')
    vite = ROOT / "frontend" / "node_modules" / "vite" / "bin" / "vite.js"
    options = ["--outDir", "built", "--base", "/chat/", "--logLevel", "error"]
    subprocess.run([NODE, vite, "build", ".", *options], cwd=tmp_path, check=True, timeout=LONG_SECONDS)

    def serve(route: Route) -> None:
        path = tmp_path / "built" / route.request.url.partition("/chat/")[2]
        kind = "text/html" if path.suffix == ".html" else "text/javascript"
        route.fulfill(path=path, content_type=kind)

    page = browser.new_page()
    page.route("**/chat/*", serve)
    page.route("**/chat/assets/*", serve)
    page.goto(f"http://{nginx.address}/chat/index.html")
    page.get_by_text("Ask").click()
    page.get_by_text(ANSWER.strip()).wait_for()
    page.close()
