"""The upstreams' addresses, credentials and other headers, from the environment."""

import os

import httpx2
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
