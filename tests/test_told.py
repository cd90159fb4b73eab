"""What an upstream says of a request reaches the client that asked, and nobody else; and no secret with it."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import BadInput, UpstreamError
from service.http_errors import door_form
from service.upstream.errors import MOST_TOLD_CHARACTERS, masked, status_error

KEY = "sk-0123456789abcdefghij"
LONG = "This model's maximum context length is 10 tokens."


def refused(status: int, **error: Any) -> UpstreamError:  # noqa: ANN401 (JSON)
    exchange: Any = SimpleNamespace(status=status, headers=[])
    return status_error(exchange, json.dumps({"error": error}).encode(), [KEY, "none", "You are a pirate, and rude."])


def shown(error: UpstreamError) -> tuple[int, str, str, str | None]:
    status, body = door_form(error, "id")
    return status, body["error"]["code"], body["error"]["message"], body["error"]["param"]


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (400, {"message": "bad", "code": "bad_tool", "param": "tools[0]"}, (400, "bad_tool", "bad", "tools[0]")),
        (422, {"message": "bad", "code": None}, (400, "upstream_bad_request", "bad", None)),
        (400, {"message": LONG, "code": 400}, (400, "context_length_exceeded", LONG, None)),
        (400, {"message": LONG, "code": "context_length_exceeded"}, (400, "context_length_exceeded", LONG, None)),
        (413, {"message": LONG}, (400, "context_length_exceeded", LONG, None)),
        (400, {"message": "a\n\tb\x00c\u2028d"}, (400, "upstream_bad_request", "a b c d", None)),
        (400, {"message": "x", "param": "what people wrote"}, (400, "upstream_bad_request", "x", None)),
    ],
)  # fmt: skip
def test_an_upstreams_words_about_the_request_are_told(
    status: int, said: dict[str, Any], expected: tuple[int, str, str, str | None]
) -> None:
    assert shown(refused(status, **said)) == expected


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "invalid_api_key"),
        (403, "x"),
        (404, "x"),
        (402, "x"),
        (429, "x"),
        (500, "x"),
        (400, "insufficient_quota"),
        (400, "model_not_found"),
    ],
)
def test_words_about_the_account_or_a_fault_are_not_told(status: int, code: str) -> None:
    error = refused(status, message="canary", code=code)
    assert error.told is None
    assert "canary" not in json.dumps(door_form(error, "id"))


def test_a_message_is_told_within_bounds() -> None:
    assert len(shown(refused(400, message="x" * 100_000))[2]) == MOST_TOLD_CHARACTERS


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f"key {KEY}.", "key ***."),
        (f"key {KEY[:15]}…", "key ***…"),
        (f"{KEY} {KEY}", "*** ***"),
        ("none of these", "none of these"),
        ("at 'You are a pirate, an'", "at '***'"),
        ("a pirate", "a pirate"),
    ],
)
def test_no_secret_is_told_nor_a_long_part_of_one(message: str, expected: str) -> None:
    assert shown(refused(400, message=message))[2] == expected


def test_a_secret_that_the_bound_would_cut_is_masked() -> None:
    message = shown(refused(400, message="x" * (MOST_TOLD_CHARACTERS - 11) + KEY))[2]
    assert "sk-" not in message


def test_an_empty_secret_masks_nothing() -> None:
    assert masked("x", "") == "x"


def test_what_is_told_is_no_part_of_the_error_elsewhere() -> None:
    error = refused(400, message="canary", code="canary code", param="canary_param")
    for place in (error.body("id"), error.log_fields(), str(error), repr(error), error.message):
        assert "canary" not in json.dumps(place)


def test_a_reused_key_is_422_at_every_address_and_other_bad_input_400() -> None:
    assert [door_form(BadInput(code), "id")[0] for code in ("idempotency_key_reused", "unknown_model")] == [422, 400]
