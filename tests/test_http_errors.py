"""Errors as HTTP, in each endpoint family's own form, and the cost of a rejection."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI, Request
from structlog.testing import capture_logs

from service.app import create_app
from service.config import Settings
from service.errors import BadInput, FolyamError, UpstreamError
from service.http_errors import UpstreamHTTPException, use_error_form
from tests.in_process import REQUEST_ID, ask, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "a-key-0123456789abcdef"
WITH_KEY = [("authorization", f"Bearer {KEY}")]
JSON = ("content-type", "application/json")
MAX_SECONDS = 0.02
UNKNOWN = "0" * 32

# A small endpoint family of another protocol.


def openai_form(error: FolyamError, request_id: str) -> tuple[int, Mapping[str, Any]]:
    status = 400 if isinstance(error, BadInput) else error.status
    said = {"message": error.message, "type": error.code, "code": error.code, "param": error.field}
    return status, {"error": said, "request_id": request_id}


router = APIRouter(prefix="/v1/chat")


@router.post("/completions")
async def complete(request: Request) -> None:
    match json.loads(await request.body()):
        case "upstream":
            raise UpstreamHTTPException(UpstreamError("upstream_rate_limited", retry_after="7"))
        case "bug":
            raise ZeroDivisionError
        case _:
            raise BadInput("query_too_long", field="messages", most=1)


@router.get("/models/{number}")
async def model(number: int) -> int:
    return number


@router.get("/completions")
async def completions() -> None:
    return None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FastAPI]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLYAM_LOG_URL", (tmp_path_factory.mktemp("errors") / "answers").as_uri())
        patch.setenv("FOLYAM_API_KEYS", KEY)
        patch.setenv("FOLYAM_MAX_API_BODY_BYTES", "1000")
        patch.setenv("FOLYAM_APIS", "none")
        app = create_app(Settings())
    app.include_router(router)
    use_error_form(app, "/v1", openai_form)
    async with running(app) as app:
        yield app


POST = ("POST", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("asked", "status", "code", "param"),
    [
        ((*POST, b'"question"', WITH_KEY), 400, "query_too_long", "messages"),
        ((*POST, b'"upstream"', WITH_KEY), 429, "upstream_rate_limited", None),
        ((*POST, b'"bug"', WITH_KEY), 500, "internal", None),
        ((*POST, b"x" * 1001, WITH_KEY), 413, "body_too_large", None),  # where the body is read
        ((*POST, b'"question"'), 401, "unauthorized", "Authorization"),  # in middleware
        (("GET", "/v1/chat/completions?" + "&" * 100, b"", WITH_KEY), 400, "invalid_input", None),  # in middleware
        (("GET", "/v1/chat/models/x", b"", WITH_KEY), 400, "invalid_input", "number"),  # a parameter
        (("PUT", "/v1/chat/completions", b"", WITH_KEY), 405, "method_not_allowed", None),  # in routing
        (("GET", "/v1/nothing", b"", WITH_KEY), 404, "not_found", None),
        (("GET", "/v1/", b"", WITH_KEY), 404, "not_found", None),
        (("GET", "/v1", b"", WITH_KEY), 404, "not_found", None),
    ],
)
async def test_every_error_below_a_familys_prefix_is_in_its_form(
    app: FastAPI, asked: tuple[Any, ...], status: int, code: str, param: str | None
) -> None:
    with capture_logs():
        reply = await ask(app, *asked)
    body = json.loads(reply.body)
    assert (reply.status, body["error"]["code"], body["error"]["param"]) == (status, code, param)
    assert body["request_id"] == reply.headers["x-request-id"] == REQUEST_ID
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers.get("retry-after") == ("7" if code == "upstream_rate_limited" else None)
    assert reply.headers.get("allow") == ("GET, POST" if status == 405 else None)
    assert ("www-authenticate" in reply.headers) == (status == 401)


@pytest.mark.parametrize("path", ["/v10/nothing", "/v1x", "/", "/generate/v1", f"/answers/{UNKNOWN}"])
async def test_other_addresses_keep_the_usual_form(app: FastAPI, path: str) -> None:
    body = json.loads((await ask(app, "GET", path, b"", WITH_KEY)).body)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code", "request_id"}


async def test_the_longest_prefix_chooses_the_form(app: FastAPI) -> None:
    def another(error: FolyamError, _request_id: str) -> tuple[int, Mapping[str, Any]]:
        return error.status, {"another": error.code}

    use_error_form(app, "/v1/chat/inner", another)
    assert json.loads((await ask(app, "GET", "/v1/chat/inner/x", b"", WITH_KEY)).body) == {"another": "not_found"}
    assert "error" in json.loads((await ask(app, "GET", "/v1/chat/x", b"", WITH_KEY)).body)


async def test_a_fault_of_the_service_is_told_in_the_usual_form(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.routes.generate.decode", fail)
    with capture_logs() as logged:
        reply = await ask(app, "POST", "/generate", b"{}", [*WITH_KEY, JSON])
    assert "request_broke" in [line["event"] for line in logged]
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (500, "internal")
    assert reply.headers["x-request-id"] == REQUEST_ID


# What a refusal costs


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/generate", "GET, POST"),
        ("HEAD", "/generate", "GET, POST"),
        ("PATCH", f"/answers/{UNKNOWN}", "DELETE, GET"),
        ("BREW", f"/answers/{UNKNOWN}/stop", "POST"),
        ("POST", "/livez", "GET"),
        ("POST", "/metrics", "GET"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_405_names_the_methods_of_the_routes_and_builds_no_description(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, method: str, path: str, allowed: str
) -> None:
    monkeypatch.setattr(app, "openapi", None)
    await ask(app, method, path, b"", WITH_KEY)
    begun_at = time.thread_time()
    reply = await ask(app, method, path, b"", WITH_KEY)
    taken = time.thread_time() - begun_at
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert app.openapi_schema is None
    assert taken < MAX_SECONDS
