"""What `/limits` tells is what `/generate` takes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.config import Settings
from tests.in_process import ask, running


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    settings = Settings(
        openai_base_url="http://127.0.0.1:9/v1",
        model="one",
        models=("two", "one"),
        max_query_characters=7,
        max_history_turns=2,
        max_body_bytes=500,
        log_url=f"file://{tmp_path}/log",
        drain_seconds=0,
    )
    async with running(create_app(settings)) as app:
        yield app


async def refusal_of(app: FastAPI, **question: Any) -> str:  # noqa: ANN401 (any field)
    """Ask; return the code of the error. The upstream cannot be reached, so that no question is answered."""
    body = json.dumps({"query": "a", **question}).encode()
    reply = await ask(app, "POST", "/generate", body, [("content-type", "application/json")])
    return str(json.loads(reply.body)["error"]["code"])


async def test_the_limits_are_told(app: FastAPI) -> None:
    reply = await ask(app, "GET", "/limits")
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    assert json.loads(reply.body) == {
        "models": ["one", "two"],
        "query_characters": 7,
        "history_turns": 2,
        "body_bytes": 500,
        "system": True,
    }


async def test_a_question_at_the_limits_is_taken_and_one_above_is_not(app: FastAPI) -> None:
    limits = json.loads((await ask(app, "GET", "/limits")).body)
    turn = {"role": "user", "content": "b"}
    for model in limits["models"]:
        assert await refusal_of(app, model=model) == "upstream_unreachable"
    assert await refusal_of(app, model="three") == "unknown_model"
    assert await refusal_of(app, query="a" * limits["query_characters"]) == "upstream_unreachable"
    assert await refusal_of(app, query="a" * (limits["query_characters"] + 1)) == "query_too_long"
    assert await refusal_of(app, history=[turn] * limits["history_turns"]) == "upstream_unreachable"
    assert await refusal_of(app, history=[turn] * (limits["history_turns"] + 1)) == "history_too_long"
    assert await refusal_of(app, history=[{"role": "system", "content": "b"}]) == "upstream_unreachable"
    assert await refusal_of(app, query="a" * limits["body_bytes"]) == "body_too_large"
