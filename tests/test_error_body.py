"""An upstream's error, in each form that servers write it in."""

import json

import pytest

from service.upstream.error_body import ErrorBody, read_error

OPENAI = {"message": "too many", "type": "invalid_request_error", "param": None, "code": "context_length_exceeded"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": OPENAI}, ErrorBody("context_length_exceeded", "invalid_request_error", "too many")),
        (
            [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}],
            ErrorBody("400", "INVALID_ARGUMENT", "m"),
        ),
        (
            {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
            ErrorBody("400", "BadRequestError", "m"),
        ),
        ({"error": "no such model"}, ErrorBody(message="no such model")),
        ({"detail": "Not Found"}, ErrorBody(message="Not Found")),
        ({"detail": {"code": "gone"}}, ErrorBody("gone")),
        (
            {"error": {"code": 403, "message": "m", "metadata": {"reasons": ["x"], "flagged_input": "people's words"}}},
            ErrorBody("403", "", "m", flagged=True),
        ),
        ({"error": {"code": 502, "message": "m", "metadata": {"raw": "x"}}}, ErrorBody("502", "", "m")),
    ],
    ids=["OpenAI", "Gemini", "vLLM before", "Ollama", "FastAPI", "FastAPI with an object", "moderation", "OpenRouter"],
)  # fmt: skip
def test_an_error_is_read_in_each_form(body: object, error: ErrorBody) -> None:
    assert read_error(json.dumps(body).encode()) == error


@pytest.mark.parametrize(
    "said",
    ["people's words", "a-b", "a.b", "kérdés", "x" * 65, "", "two\nlines", "{field}", None, True, 1.5, [], {}, 10**65],
)
def test_a_code_that_is_no_word_is_left_out(said: object) -> None:
    assert read_error(json.dumps({"error": {"code": said, "type": said}}).encode()) == ErrorBody()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"null", b"[]", b"[[]]", b"7", b'"', b"{", b'{"error": 7}', b'{"error": null}',
        b'{"error": []}', b'{"error": {"message": 7, "metadata": 7}}', b"\xff\xfe", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_body_in_any_other_form_is_an_empty_error(body: bytes) -> None:
    assert read_error(body) == ErrorBody()
