"""Valid bodies of a question, and the error for each invalid one."""

import json
from typing import Any

import pytest

from service.errors import BadInput
from service.question import Question, decode
from service.request import Turn

HALF = rb"\ud83d"
TURN = {"role": "user", "content": "x"}


def question(**fields: Any) -> bytes:  # noqa: ANN401 (JSON)
    return json.dumps({"query": "x", **fields}).encode()


def refusal(body: bytes) -> tuple[str, str | None]:
    with pytest.raises(BadInput) as raised:
        decode(body)
    assert raised.value.field is None or raised.value.field in raised.value.message
    return raised.value.code, raised.value.field


def test_a_question_has_what_it_says() -> None:
    body = question(history=[TURN], model="m", temperature=1, max_tokens=7)
    assert decode(body) == Question("x", (Turn("user", "x"),), "m", 1.0, 7)
    assert decode(question(model=None, temperature=None, max_tokens=None)) == Question("x")


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (rb'{"query": "\ud83d\ude00 \\ud83d"}', "😀 \\ud83d"),
        (b'\xef\xbb\xbf{"query": "x"}', "x"),
        (b' \r\n{"query":"x"}\n', "x"),
        (b'{"query": "x", "query": "y"}', "y"),
        ('{"query": "\U0010ffff\uffff"}'.encode(), "\U0010ffff\uffff"),
    ],
)
def test_what_json_allows_is_taken(body: bytes, query: str) -> None:
    assert decode(body) == Question(query)


@pytest.mark.parametrize("number", [b"5", b"5.0", b"0.5e1", b"50e-1"])
def test_a_whole_number_may_be_written_in_every_way(number: bytes) -> None:
    decoded = decode(b'{"query": "x", "max_tokens": ' + number + b"}")
    assert decoded is not None
    assert decoded.max_tokens == 5


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"{",
        b'{"query": "x"} x',
        b'{"query": "x",}',
        b"{'query': 'x'}",
        b'{"query": NaN}',
        b'{"query": "\n"}',
        rb'{"query": "\x"}',
        rb'{"query": "\u12"}',
        rb'{"query": "\ud8"}"}',
        rb'{"query": "' + 20_000 * HALF + b'"}',
        b'{"query": "\xff"}',
        b'{"query": "\xed\xa0\x80"}',
        b'{"\xff": 1}',
        b'{"no such field": 1, "query": "x"',
        b'{"history": [{}, ]}',
        b'{"query": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"query": "x"}'.encode("utf-16"),
    ],
)
def test_invalid_json_is_reported_before_any_other_error(body: bytes) -> None:
    assert refusal(body) == ("invalid_json", None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[]", None),
        (b"1", None),
        (b"{}", "query"),
        (b'{"query": null}', "query"),
        (question(history=None), "history"),
        (question(history={}), "history"),
        (question(history=[1]), "history.0"),
        (question(history=[TURN, []]), "history.1"),
        (question(history=[TURN, {}]), "history.1.role"),
        (question(history=[{"role": "user"}]), "history.0.content"),
        (question(history=[{**TURN, "role": "User"}]), "history.0.role"),
        (question(history=[{**TURN, "content": None}]), "history.0.content"),
        (question(history=[{**TURN, "name": "x"}]), "history.0.name"),
        (question(history=[{**TURN, "a b": "x"}]), "history.0"),
        (question(model=1), "model"),
        (question(temperature=True), "temperature"),
        (question(temperature=-0.1), "temperature"),
        (b'{"query": "x", "temperature": 1e999}', "temperature"),
        (question(max_tokens=1.5), "max_tokens"),
        (question(max_tokens="1"), "max_tokens"),
        (question(max_tokens=1_000_001), "max_tokens"),
        (b'{"query": "x", "max_tokens": ' + b"9" * 10_000 + b"}", "max_tokens"),
        (question(stream=True), "stream"),
        (question(**{"": 1}), None),
        (question(**{"x" * 65: 1}), None),
        (question(**{"x` - at `$.canary canary": 1}), None),
    ],
)
def test_what_does_not_fit_is_named(body: bytes, field: str | None) -> None:
    assert refusal(body) == ("invalid_input", field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"query": "' + HALF + b'"}', "query"),
        (b'{"query": "' + HALF.upper().replace(b"U", b"u") + b'"}', "query"),
        (rb'{"query": "\ude00"}', "query"),
        (rb'{"query": "\ude00\ud83d"}', "query"),
        (rb'{"query": "\ud83d\ude00\ude00"}', "query"),
        (rb'{"query": "\ud83d\ud83d\ude00"}', "query"),
        (b'{"query": "x", "model": "' + HALF + b'"}', "model"),
        (
            b'{"history": [{"role": "user", "content": "x"}, {"role": "user", "content": "'
            + HALF
            + b'"}], "query": "\\ud83d\\ude00"}',
            "history.1.content",
        ),
        (b'{"query": 5, "model": "' + HALF + b'"}', "query"),
        (b'{"query": "x", "' + HALF + b'": 1}', None),
        (b'{"query": "' + HALF + b'", "query": "x"}', None),
    ],
)
def test_half_a_surrogate_pair_is_refused_where_it_is(body: bytes, field: str | None) -> None:
    assert refusal(body) == ("invalid_input", field)


def test_no_refusal_repeats_what_was_sent() -> None:
    for body in (
        question(model=["canary"]),
        question(history=[{**TURN, "role": "canary"}]),
        question(**{"canary bird": 1}),
        question(**{"canary" * 20: 1}),
        question(**{"x` - at `$.canary_bird.canary_bird.canary_bird.canary_bird": 1}),
    ):
        with pytest.raises(BadInput) as raised:
            decode(body)
        assert "canary" not in str(raised.value.body(""))
