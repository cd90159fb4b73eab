"""The door `/v1/responses` without a model: what it refuses, and when it is closed."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.config import Settings
from tests.in_process import Reply, ask, running

JSON = ("content-type", "application/json")
UNKNOWN = f"/v1/responses/resp_{'0' * 32}"


def settings(directory: Path, **more: Any) -> Settings:  # noqa: ANN401 (those of the settings)
    url = (directory / "log").as_uri()
    return Settings(openai_base_url="http://127.0.0.1:9/v1", model="model", log_url=url, **more)


async def reply(settings: Settings, method: str, target: str, body: object = None) -> Reply:
    async with running(create_app(settings)) as app:
        return await ask(app, method, target, b"" if body is None else json.dumps(body).encode(), [JSON])


def error(reply: Reply) -> tuple[int, str, str | None]:
    said = json.loads(reply.body)["error"]
    return reply.status, said["code"], said["param"]


async def test_a_closed_door_is_an_unknown_address(tmp_path: Path) -> None:
    closed = settings(tmp_path, apis=("chat",))
    for method, target in (("POST", "/v1/responses"), ("GET", UNKNOWN)):
        assert error(await reply(closed, method, target, {"input": "a"})) == (404, "unknown_url", None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": "a", "instructions": "Be."}, "instructions"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, "input.1.role"),
        ({"input": [{"role": "developer", "content": "b"}]}, "input.0.role"),
    ],
)
async def test_instructions_are_refused_where_the_service_has_its_own(tmp_path: Path, body: object, field: str) -> None:
    own = settings(tmp_path, system_prompt="Be a pirate.")
    assert error(await reply(own, "POST", "/v1/responses", body)) == (400, "invalid_input", field)


@pytest.mark.parametrize("query", ["starting_after=-1", "starting_after=x", "stream=perhaps"])
async def test_a_place_that_is_none_is_refused(tmp_path: Path, query: str) -> None:
    refused = error(await reply(settings(tmp_path), "GET", f"{UNKNOWN}?{query}"))
    assert refused == (400, "invalid_input", query.partition("=")[0])


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", UNKNOWN), ("GET", f"{UNKNOWN}?stream=true"), ("POST", f"{UNKNOWN}/cancel"), ("DELETE", UNKNOWN)],
)
async def test_an_unknown_response_is_not_found(tmp_path: Path, method: str, target: str) -> None:
    assert error(await reply(settings(tmp_path), method, target)) == (404, "unknown_answer", None)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid_input", "input"),
        ([], "invalid_input", None),
        ({"input": "a", "model": "x"}, "model_not_found", "model"),
    ],
)
async def test_a_request_without_what_it_needs_is_refused(
    tmp_path: Path, body: object, code: str, field: str | None
) -> None:
    assert error(await reply(settings(tmp_path), "POST", "/v1/responses", body))[1:] == (code, field)


async def test_an_upstream_that_cannot_be_reached_is_a_bad_gateway(tmp_path: Path) -> None:
    unreachable = await reply(settings(tmp_path, retries=0), "POST", "/v1/responses", {"input": "a"})
    assert error(unreachable)[:2] == (502, "upstream_unreachable")
