import ast
import json
import re
from pathlib import Path

import pytest

from service import errors
from service.errors import (
    UPSTREAM_REASONS,
    BadInput,
    FolyamError,
    TooMany,
    Unauthorized,
    Unavailable,
    UnknownAnswer,
    UpstreamError,
)

KINDS = (FolyamError, BadInput, Unauthorized, UnknownAnswer, TooMany, Unavailable, UpstreamError)


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^ *[├└]── (\w+)|^    (\w+) ", errors.__doc__ or "", re.MULTILINE)
    names = {child or root for child, root in drawn}
    assert names == {kind.__name__ for kind in KINDS}
    assert set(FolyamError.__subclasses__()) >= set(KINDS) - {FolyamError}


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (BadInput("code", "Sentence."), 422, False),
        (BadInput("code", "Sentence.", status=400), 400, False),
        (Unauthorized(), 401, False),
        (UnknownAnswer(), 404, False),
        (TooMany("code", "Sentence."), 429, True),
        (Unavailable("code", "Sentence."), 503, True),
        (UpstreamError("upstream_cut", "Sentence."), 502, True),
    ],
)
def test_each_kind_has_its_status_and_tells_whether_to_retry(
    error: FolyamError, status: int, *, retryable: bool
) -> None:
    assert (error.status, error.retryable) == (status, retryable)


def test_an_error_is_an_object_in_the_contracts_form() -> None:
    error = BadInput("unknown_model", "There is no such model.", field="model")
    assert error.body("0f") == {
        "error": {
            "code": "unknown_model",
            "message": "There is no such model.",
            "field": "model",
            "request_id": "0f",
        }
    }
    assert UnknownAnswer().body(None)["error"].keys() == {"code", "message"}
    assert json.loads(json.dumps(error.body("0f"))) == error.body("0f")


def test_nobody_may_keep_an_error_and_it_tells_when_to_ask_again() -> None:
    assert UnknownAnswer().headers() == {"Cache-Control": "no-store"}
    assert Unavailable("log_full", "Full.", retry_after_seconds=10).headers()["Retry-After"] == "10"


def test_an_error_prints_as_its_code_alone() -> None:
    # Whatever prints it: the sentence is for whoever asked.
    assert str(BadInput("unknown_model", "There is no such model.")) == "unknown_model"


def test_an_upstreams_error_has_a_reason_for_its_metric() -> None:
    assert UpstreamError("upstream_cut", "Cut.").reason == "cut"
    assert UpstreamError("upstream_timeout", "Late.", reason="silence_timeout").reason == "silence_timeout"


def test_every_reason_is_listed() -> None:
    reasons = set()
    for path in Path(errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                given = next((word.value for word in node.keywords if word.arg == "reason"), node.args[0])
                if isinstance(given, ast.Constant) and node.func.id == "UpstreamError":
                    reasons.add(str(given.value).removeprefix("upstream_"))
                if isinstance(given, ast.Constant) and node.func.id == "timed_out":
                    reasons.add(f"{given.value!s}_timeout")
    assert reasons == set(UPSTREAM_REASONS)
