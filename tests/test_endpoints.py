"""The upstreams' addresses, credentials and other headers, from the environment."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import httpx2
import openai
import pytest

from service.app import endpoints
from service.config import read_settings
from service.upstream.endpoint import request_to


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("FOLYAM_", "OPENAI_")):
            monkeypatch.delenv(name)


def requests(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[httpx2.Request]:
    """The request to each endpoint, the fallback's last."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return [request_to(endpoint) for endpoint in endpoints(read_settings())]


def own_headers(request: httpx2.Request) -> dict[str, str]:
    usual = ("accept", "connection", "content-", "host", "user-agent", "x-stainless-")
    return {name: value for name, value in request.headers.items() if not name.startswith(usual)}


def test_with_nothing_set_openai_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    [request] = requests(monkeypatch)
    assert str(request.url) == "https://api.openai.com/v1/chat/completions"
    assert own_headers(request) == {"authorization": "Bearer none"}


@pytest.mark.parametrize(
    "name", ["OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_ADMIN_KEY"]
)
def test_a_variable_that_is_set_and_empty_is_as_if_it_were_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    [request] = requests(monkeypatch, OPENAI_API_KEY="k", **{name: ""})
    assert str(request.url) == "https://api.openai.com/v1/chat/completions"
    assert own_headers(request) == {"authorization": "Bearer k"}


NOT_FOR_US = {
    "DEFER_PYDANTIC_BUILD",  # when the package's models are built
    "AZURE_OPENAI_AD_TOKEN",  # of clients for other clouds, which are not made here
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_BEDROCK_BASE_URL",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_CLOUD_PROJECT",
}


def environment_reads(code: str) -> Iterator[str]:
    """The names of the variables that the code reads; the expression, where it names none."""
    tree = ast.parse(code)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name not in {"environ", "environb", "getenv", "getenvb"}:
            continue
        around = parents[node]
        if isinstance(around, ast.Attribute):  # environ.get
            around = parents[around]
        match around:
            case (
                ast.Call(args=[ast.Constant(value=str(variable)), *_])
                | ast.Subscript(slice=ast.Constant(value=str(variable)))
            ):
                yield variable
            case _:
                yield ast.unparse(around)


@cache
def variables_of_the_package() -> frozenset[str]:
    """The variables that the installed openai package reads anywhere."""
    sources = (path.read_text(encoding="utf-8") for path in Path(openai.__file__).parent.rglob("*.py"))
    read = (environment_reads(code) for code in sources if "environ" in code or "getenv" in code)
    return frozenset(chain.from_iterable(read))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("os.environ.get('A')", ["A"]),
        ("_client.os.environ.get('A', 'b')", ["A"]),
        ("os.environ['A']", ["A"]),
        ("os.getenv('A')", ["A"]),
        ("getenv('A')", ["A"]),
        ("os.environ.get(name)", ["os.environ.get(name)"]),
        ("dict(os.environ)", ["dict(os.environ)"]),
        ("'A' in os.environ", ["'A' in os.environ"]),
    ],
)
def test_each_way_to_read_a_variable_is_found(code: str, names: list[str]) -> None:
    assert list(environment_reads(code)) == names


def test_each_variable_that_the_package_reads_is_hidden_from_it_or_not_for_us() -> None:
    # Of a new one, find out what it does. If it could change a request, `endpoint.py` has to hide it.
    found = variables_of_the_package()
    assert {"OPENAI_BASE_URL", "OPENAI_LOG", "OPENAI_WEBHOOK_SECRET"} < found
    assert {name for name in found if not name.startswith("OPENAI_")} == NOT_FOR_US


def test_no_variable_changes_what_is_sent_or_logged() -> None:
    code = (
        "import logging, os; before = dict(os.environ)\n"
        "from service.upstream.endpoint import Endpoint, request_to\n"
        "made = request_to(Endpoint('http://upstream.example/v1', 'k'))\n"
        "import openai; assert openai.__file__ and dict(os.environ) == before\n"
        "print(made.method, made.url, made.headers.raw)\n"
        "print(logging.getLogger().handlers, logging.getLogger('openai').level)"
    )
    hostile = dict.fromkeys(variables_of_the_package() - {"OPENAI_LOG", "OPENAI_CUSTOM_HEADERS"}, "http://hostile:1")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"), "socks5://hostile:1")
    given = {"OPENAI_LOG": "debug", "OPENAI_CUSTOM_HEADERS": "X-Hostile: 1\nAuthorization: Bearer hostile"}
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=bare | more, capture_output=True, text=True, timeout=60, check=True
        )
        for more in ({}, hostile | proxies | given)
    ]
    assert "Bearer k" in said[0].stdout
    assert said[1].stdout == said[0].stdout
    assert [each.stderr for each in said] == ["", ""]


def test_the_first_upstreams_account_and_headers_are_not_the_fallbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    first, fallback = requests(
        monkeypatch,
        OPENAI_API_KEY="first",
        OPENAI_ORG_ID="org-1",
        OPENAI_PROJECT_ID="proj-1",
        OPENAI_CUSTOM_HEADERS="X-Team: rivers\nAuthorization: Basic c2VjcmV0\n",
        FOLYAM_FALLBACK_BASE_URL="http://fallback:8000/v1",
        FOLYAM_FALLBACK_API_KEY="second",
    )
    assert own_headers(first) == {
        "authorization": "Basic c2VjcmV0",
        "openai-organization": "org-1",
        "openai-project": "proj-1",
        "x-team": "rivers",
    }
    assert str(fallback.url) == "http://fallback:8000/v1/chat/completions"
    assert own_headers(fallback) == {"authorization": "Bearer second"}


def test_the_environment_is_the_same_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    requests(monkeypatch, OPENAI_API_KEY="k", OPENAI_ORG_ID="org-1")
    assert (os.environ["OPENAI_API_KEY"], os.environ["OPENAI_ORG_ID"]) == ("k", "org-1")


@pytest.mark.parametrize("key", ["sk-1\n", "\tsk-1\r\n", " sk-1 ", "sk-1\N{NO-BREAK SPACE}"])
def test_white_space_around_a_key_is_dropped(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    both = requests(
        monkeypatch, OPENAI_API_KEY=key, FOLYAM_FALLBACK_API_KEY=key, FOLYAM_FALLBACK_BASE_URL="http://fallback/v1"
    )
    assert [request.headers["authorization"] for request in both] == ["Bearer sk-1"] * 2


def test_think_tags_are_looked_for_in_both_upstreams_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLYAM_FALLBACK_BASE_URL", "http://localhost/v1")
    monkeypatch.setenv("FOLYAM_THINK_TAGS", "on")
    assert [endpoint.think_tags for endpoint in endpoints(read_settings())] == ["on", "on"]
