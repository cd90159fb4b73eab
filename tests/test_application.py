"""The way of a request to its route."""

import sys
import traceback
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from service.app import create_app
from service.config import Settings
from service.errors import BadInput
from service.routes import generate
from service.routes.application import PlainRoute
from tests.in_process import ask, running

UNKNOWN = "0" * 32
FRAMEWORK = ("/fastapi/", "/starlette/")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    settings = Settings(
        openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=f"file://{tmp_path}/log", drain_seconds=0
    )
    async with running(create_app(settings)) as app:
        yield app


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/generate", "generate.last_event_id"),
        ("GET", "/generate?query=x", "generate.last_event_id"),
        ("GET", f"/answers/{UNKNOWN}", "answers.last_event_id"),
        ("POST", f"/answers/{UNKNOWN}/stop", "answers.is_answer_id"),
        ("DELETE", f"/answers/{UNKNOWN}", "answers.is_answer_id"),
    ],
)
async def test_no_layer_of_the_framework_is_between_the_server_and_a_plain_route(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, method: str, path: str, name: str
) -> None:
    seen: list[str] = []

    def look(_: object) -> NoReturn:
        seen.extend(frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe()))
        raise BadInput("invalid_json")

    monkeypatch.setattr(f"service.routes.{name}", look)
    for _ in range(2):  # Starlette composes the layers at the first request.
        seen.clear()
        await ask(app, method, path)
    assert any(name.endswith("service/middleware.py") for name in seen)
    assert not [name for name in seen if any(part in name for part in FRAMEWORK)]


async def test_generate_is_an_endpoint_of_the_application(app: FastAPI) -> None:
    routes = [route for route in app.routes if isinstance(route, PlainRoute) and route.path == "/generate"]
    endpoints = {method: route.endpoint for route in routes for method in route.methods or ()}
    assert endpoints == {"POST": generate.generate, "GET": generate.generate_from_url}
    assert app.openapi()["paths"]["/generate"]["post"]["operationId"] == "generate"


async def test_a_route_that_fastapi_handles_has_its_dependencies_until_the_end(app: FastAPI) -> None:
    router = APIRouter()
    seen: list[str] = []

    async def within() -> AsyncIterator[str]:
        seen.append("entered")
        yield "entered"
        seen.append("left")

    @router.get("/handled/{number}")
    async def handled(number: int, state: Annotated[str, Depends(within)]) -> dict[str, Any]:
        return {"number": number, "state": state}

    app.include_router(router)
    reply = await ask(app, "GET", "/handled/7")
    assert (reply.status, reply.body) == (200, b'{"number":7,"state":"entered"}')
    assert seen == ["entered", "left"]


class Broken(Response):
    """A response that fails in its middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise BadInput("invalid_json")


async def test_an_error_behind_the_start_of_a_response_cuts_it(app: FastAPI) -> None:
    router = APIRouter()

    @router.get("/broken")
    async def broken(request: Request) -> Response:  # noqa: ARG001 (an endpoint)
        return Broken()

    app.include_router(router)
    messages: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/broken",
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }
    with capture_logs() as logged:
        await app(scope, receive, send)
    assert [message["type"] for message in messages] == ["http.response.start"]
    assert [line["event"] for line in logged] == ["request_broke", "request"]
    assert not logged[1]["whole"]
