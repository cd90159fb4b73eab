"""What a model takes, as its refusals say it. The requests themselves are in tests/test_upstream.py."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.request import Turn
from service.upstream.dialect import LEARNT_SECONDS, MOST_MODELS, MOST_STATEMENTS, WITH_USAGE, Dialect, Dialects

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
SENT: dict[str, Any] = {"model": "m", "messages": MESSAGES, "max_tokens": 50, **WITH_USAGE}
NEWER = {"model": "m", "messages": [{"role": "developer", "content": "Be brief."}], "max_completion_tokens": 50}
OTHER_NAME = Dialect(max_tokens="max_completion_tokens")
NO_OPTIONS = Dialect(stream_options=False)


def error(message: str, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


def fastapi(*loc: object, msg: str, **more: object) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", *loc], "msg": msg, **more}]}


REFUSALS = [
    # OpenAI and Azure
    (
        error(
            "Unsupported parameter: 'max_tokens' is not supported with this model."
            " Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
        OTHER_NAME,
    ),
    (error("Unrecognized request argument supplied: stream_options", param=None, code=None), NO_OPTIONS),
    (error("Unknown parameter: 'stream_options'.", param="stream_options", code="unknown_parameter"), NO_OPTIONS),
    (error("", param="stream_options", code="unknown_parameter"), NO_OPTIONS),
    (
        error(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            param="messages[0].role",
            code="unsupported_value",
        ),
        Dialect(instructor="developer"),
    ),
    # FastAPI, of which many servers are made
    (fastapi("stream_options", msg="Extra inputs are not permitted", type="extra_forbidden"), NO_OPTIONS),
    (fastapi("stream_options", msg="extra fields not permitted", type="value_error.extra"), NO_OPTIONS),
    ({"object": "error", "message": fastapi("max_tokens", msg="Extra inputs are not permitted")}, OTHER_NAME),
    # Google
    (
        [
            error(
                'Invalid JSON payload received. Unknown name "stream_options": Cannot find field.',
                status="INVALID_ARGUMENT",
            )
        ],
        NO_OPTIONS,
    ),
    # Anthropic, Groq, a JSON schema, templates of vLLM, a gateway that quotes
    (error("stream_options: Extra inputs are not permitted"), NO_OPTIONS),
    (error("property 'stream_options' is unsupported, did you mean 'stop'?"), NO_OPTIONS),
    ({"message": "Additional properties are not allowed ('stream_options' was unexpected)"}, NO_OPTIONS),
    ({"object": "error", "message": "System role not supported", "code": 400}, Dialect(instructor="developer")),
    (
        {"error": {"message": "Provider error", "metadata": {"raw": json.dumps(error("Unknown field: max_tokens"))}}},
        OTHER_NAME,
    ),
    # Without an object, and without JSON
    ({"error": "stream_options is not supported"}, NO_OPTIONS),
    ("stream_options is not supported", NO_OPTIONS),
]


@pytest.mark.parametrize(("refusal", "dialect"), REFUSALS)
def test_a_refusal_that_names_what_is_not_taken_teaches(refusal: object, dialect: Dialect) -> None:
    assert Dialect().corrected(SENT, json.dumps(refusal).encode()) == dialect


@pytest.mark.parametrize("text", ["Unknown parameter: stream_options", "<p>stream_options is not supported</p>"])
def test_a_refusal_that_is_no_json_teaches(text: str) -> None:
    assert Dialect().corrected(SENT, text.encode() + b"\xff") == NO_OPTIONS


@pytest.mark.parametrize(
    "refusal",
    [
        error("Invalid value: 'developer'. Supported values are: 'system', 'user'.", param="messages[0].role"),
        error("messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`"),
        error("The role developer is not supported, use system"),
        fastapi("messages", 0, "role", msg="Input should be 'system' or 'user'", input="developer"),
    ],
)
def test_the_role_that_is_refused_is_told_from_those_that_are_taken(refusal: object) -> None:
    assert Dialect().corrected(NEWER, json.dumps(refusal).encode()) == Dialect(instructor="system")
    assert Dialect().corrected(SENT, json.dumps(refusal).encode()) is None


def test_each_thing_is_unlearnt_from_the_refusal_of_the_other() -> None:
    refusal = json.dumps(error("Unknown parameter: max_completion_tokens. Use max_tokens.")).encode()
    assert OTHER_NAME.corrected(NEWER, refusal) == Dialect(max_tokens="max_tokens")
    refusal = json.dumps(error("The role 'developer' is not supported")).encode()
    assert Dialect(instructor="developer").corrected(NEWER, refusal) == Dialect(instructor="system")


@pytest.mark.parametrize(
    "refusal",
    [
        # A value that is refused, where the parameter is taken
        error("max_tokens is too large: 50. This model supports at most 9 tokens.", param="max_tokens"),
        error("'max_tokens' or 'max_completion_tokens' is too large: 50. The maximum context length is 9 tokens."),
        error("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        error("`max_tokens` must be less than or equal to `8192`, longer texts are not supported"),
        error("max_tokens must be at least 1, got 0."),
        # Something else
        error("Unsupported parameter: 'tools'", param="tools", code="unsupported_parameter"),
        error("Unknown parameter: max_tokens_per_sentence", code="unknown_parameter"),
        error("Unsupported parameter: 'max_completion_tokens'"),
        error("Conversation roles must alternate user/assistant/user/assistant/..."),
        error("The system is not supported today"),
        error(""),
        # The request repeated beside another reason
        {"detail": [{"loc": ["body", "n"], "msg": "Extra inputs are not permitted", "input": SENT}]},
        {"error": "not supported", "request": SENT},
        {"message": "unsupported", "body": json.dumps(SENT)},
        # No error at all
        None,
        [],
        7,
        {"detail": {"a": [None, 1.5, True]}},
        [{"input": {"max_tokens": "unsupported"}}],
    ],
)
def test_no_other_refusal_teaches(refusal: object) -> None:
    assert Dialect().corrected(SENT, json.dumps(refusal).encode()) is None


@pytest.mark.parametrize("refusal", [b"", b"\xff", b"[" * 60_000, b'{"a":' * 10_000])
def test_what_cannot_be_read_teaches_nothing(refusal: bytes) -> None:
    assert Dialect().corrected(SENT, refusal) is None


WORDS = st.sampled_from(
    ["max_tokens", "stream_options", "role", "system", "unsupported", "not supported", "input", "detail", "loc", ""]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(), inner, max_size=3),
)


@given(JSON_VALUES)
def test_any_json_teaches_a_change_or_nothing(refusal: object) -> None:
    assert Dialect().corrected(SENT, json.dumps(refusal).encode()) != Dialect()


def test_an_error_of_many_objects_is_read_only_so_far() -> None:
    refusal = error("stream_options is not supported")["error"]
    assert Dialect().corrected(SENT, json.dumps([{}, refusal]).encode()) == NO_OPTIONS
    assert Dialect().corrected(SENT, json.dumps([*[{}] * MOST_STATEMENTS, refusal]).encode()) is None
    # The outermost object counts, however much there is in it.
    assert Dialect().corrected(SENT, json.dumps({"detail": [{}] * MOST_STATEMENTS, **refusal}).encode()) == NO_OPTIONS


def test_what_was_not_sent_is_not_corrected() -> None:
    bare = {"model": "m", "messages": [{"role": "user", "content": "hi"}, "no message"]}
    for refusal, _ in REFUSALS:
        assert Dialect().corrected(bare, json.dumps(refusal).encode()) is None


def test_a_request_is_expressed_in_the_dialect() -> None:
    payload: dict[str, Any] = {"model": "m", "messages": [Turn("system", "a"), *MESSAGES], "max_tokens": 50}
    assert Dialect().express(payload) == payload | WITH_USAGE
    assert NO_OPTIONS.express(payload | WITH_USAGE) == payload
    assert OTHER_NAME.express(payload)["max_completion_tokens"] == 50
    assert "max_tokens" not in OTHER_NAME.express(payload)
    assert Dialect(max_tokens="max_tokens").express(payload)["max_tokens"] == 50
    assert OTHER_NAME.express({**payload, "max_completion_tokens": 7})["max_completion_tokens"] == 7
    assert Dialect(instructor="developer").express(payload)["messages"] == [
        {"role": "developer", "content": "a"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert payload["messages"][1] == {"role": "system", "content": "Be brief."}


def test_a_dialect_is_remembered_for_a_number_of_models_and_a_time() -> None:
    now = 0.0
    dialects = Dialects(lambda: now)
    for number in range(MOST_MODELS + 1):
        dialects.learn(str(number), NO_OPTIONS)
    assert dialects.of("0") == Dialect()
    assert dialects.of("1") == NO_OPTIONS
    dialects.learn("1", OTHER_NAME)
    assert [dialects.of(model) for model in ("1", "2")] == [OTHER_NAME, NO_OPTIONS]
    now = LEARNT_SECONDS
    assert dialects.of("1") == Dialect()
