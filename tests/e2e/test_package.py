"""The npm package, packed and installed into fresh directories: the documentation's examples, built and run."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.client import script
from tests.e2e.conftest import Stack
from tests.e2e.stack import NODE, ROOT, Nginx, Service
from tests.upstream.process import UpstreamProcess

FRONTEND = ROOT / "frontend"
MOST_LINES = 20
NPM_SECONDS = 120


def example(heading: str) -> str:
    """Return the code of a section of docs/client.md."""
    section = (ROOT / "docs" / "client.md").read_text().partition(f"\n## {heading}\n")[2]
    code = re.search(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= MOST_LINES
    return code[1]


def run(*command: str, directory: Path, **environment: str) -> str:
    """Run a command of Node.js's; return what it prints."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={"PATH": f"{NODE.parent}:/usr/bin:/bin", "HOME": str(directory), "npm_config_cache": CACHE} | environment,
        capture_output=True,
        text=True,
        timeout=NPM_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


CACHE = str(Path.home() / ".npm")
"""npm's own, in which the installation of the page's packages has put the library's one dependency."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed package. It is packed from a copy, because packing builds."""
    sources = tmp_path_factory.mktemp("sources") / "frontend"
    shutil.copytree(FRONTEND, sources, ignore=shutil.ignore_patterns("node_modules", "dist", "lib", "types"))
    (sources / "node_modules").symlink_to(FRONTEND / "node_modules")
    # npm would call what a build prints a part of its own output.
    packed = json.loads(run("npm", "pack", "--json", "--foreground-scripts=false", directory=sources))
    return sources / str(packed[0]["filename"] if isinstance(packed, list) else next(iter(packed.values()))["filename"])


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Path:
    """A fresh directory in which the package is installed, beside the tools that an application brings."""
    directory = tmp_path_factory.mktemp("application")
    (directory / "package.json").write_text('{"name": "application", "private": true, "type": "module"}')
    run("npm", "install", "--prefer-offline", "--no-audit", "--no-fund", str(package), directory=directory)
    installed = {path.name for path in (directory / "node_modules").iterdir() if not path.name.startswith(".")}
    assert installed == {"folyam", "eventsource-parser"}
    for name in ("react", "react-dom", "scheduler", "@types", "csstype", "typescript", "@typescript", "vite"):
        link = directory / "node_modules" / name
        if (FRONTEND / "node_modules" / name).exists() and not link.exists():
            link.symlink_to(FRONTEND / "node_modules" / name)
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory that is served at another origin than the service's, and that origin."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "favicon.ico").touch()  # Chromium asks for it, and would report an error.

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield directory, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path, site: tuple[Path, str]
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    settings = {"FOLYAM_CORS_ORIGINS": site[1]}
    with (
        Service(directory, directory / "answers", upstream.base_url, workers=1, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


def url_of(stack: Stack) -> str:
    return f"http://{stack.nginx.address}"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert problems == []


def test_the_package_has_its_entries_types_and_licences_and_no_tests(application: Path) -> None:
    package = application / "node_modules" / "folyam"
    described: dict[str, Any] = json.loads((package / "package.json").read_text())
    assert "private" not in described
    assert set(described["dependencies"]) == {"eventsource-parser"}
    for entry in described["exports"].values():
        assert all((package / path).is_file() for path in entry.values()), entry
    files = [path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()]
    assert not [name for name in files if "test" in name or name.startswith("src/page")]
    licences = (package / "lib" / "licenses.txt").read_text()
    for name in ("markdown-it", "highlight.js", "eventsource-parser"):
        assert name in licences


def test_the_example_for_node_prints_an_answer(application: Path, stack: Stack) -> None:
    (application / "ask.js").write_text(example("In Node"))
    question = script(key="node", chunks=4)
    printed = run(str(NODE), "ask.js", question, url_of(stack), directory=application)
    assert printed == "w1 w2 w3 w4 \n[done]\n"


def test_the_page_without_a_bundler_shows_an_answer_from_another_origin(
    site: tuple[Path, str], stack: Stack, page: Page
) -> None:
    directory, origin = site
    (directory / "plain.html").write_text(example("Without a bundler").replace("http://localhost:8080", url_of(stack)))
    page.goto(f"{origin}/plain.html")
    expect(page.locator("#answer")).to_have_text(re.compile("^w1 w2 "), timeout=30_000)


def test_the_react_example_is_strictly_typed_is_built_and_runs(
    application: Path, site: tuple[Path, str], stack: Stack, page: Page
) -> None:
    directory, origin = site
    (application / "main.tsx").write_text(example("With React"))
    (application / "index.html").write_text('<div id="root"></div><script type="module" src="main.tsx"></script>')
    compiler = {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": False,
        "jsx": "react-jsx",
        "module": "esnext",
        "moduleResolution": "bundler",
        "target": "es2022",
        "lib": ["es2023", "dom", "dom.iterable", "dom.asynciterable"],
        "types": ["vite/client"],
    }
    (application / "tsconfig.json").write_text(json.dumps({"compilerOptions": compiler, "files": ["main.tsx"]}))
    run(str(NODE), "node_modules/typescript/bin/tsc", directory=application)
    built = directory / "react"
    vite = ("node_modules/vite/bin/vite.js", "build", "--base", "./", "--outDir", str(built), "--logLevel", "warn")
    run(str(NODE), *vite, directory=application, VITE_FOLYAM=url_of(stack))
    page.goto(f"{origin}/react/index.html")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("small")).to_have_text("done", timeout=30_000)
    expect(page.locator("p")).to_have_text(re.compile("^w1 w2 "))


def test_the_element_shows_markdown_and_is_built_with_its_parser_inside(
    application: Path, site: tuple[Path, str], stack: Stack, page: Page
) -> None:
    directory, origin = site
    (application / "element.html").write_text(example("As an element").replace("http://localhost:8080", url_of(stack)))
    (application / "vite.config.js").write_text(
        'export default { build: { rolldownOptions: { input: "element.html", external: ["temml"] } } };'
    )
    vite = ("node_modules/vite/bin/vite.js", "build", "--base", "./", "--outDir", str(directory / "element"))
    run(str(NODE), *vite, "--logLevel", "warn", directory=application)
    page.goto(f"{origin}/element/element.html")
    expect(page.locator("folyam-answer")).to_have_attribute("phase", "done", timeout=30_000)
    expect(page.locator("folyam-answer p").first).to_have_text(re.compile("^w1 w2 "))


def test_the_served_library_may_be_loaded_from_anywhere_and_nothing_else_may(stack: Stack) -> None:
    for path, origin in (("/client.js", "*"), ("/", None), ("/livez", None)):
        response = stack.client.request("GET", path)
        assert response.status == 200
        assert response.headers.get("access-control-allow-origin") == origin
    assert stack.client.request("GET", "/client.js").headers["content-type"].startswith("text/javascript")
