"""The table of errors, and all copies of it."""

import ast
import json
import logging
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from service import error_codes, errors
from service.app import create_app
from service.config import Settings
from service.error_codes import NGINX, TABLE, Row
from service.errors import (
    AnswerFailed,
    BadInput,
    FolyamError,
    HTTPError,
    TooMany,
    Unauthorized,
    Unavailable,
    UnknownAnswer,
    UpstreamError,
)
from service.eventlog import DamagedLogError
from service.events import Event
from service.worker import ThriftyProtocol

ROOT = Path(__file__).parents[1]
KINDS = (
    FolyamError,
    BadInput,
    HTTPError,
    Unauthorized,
    UnknownAnswer,
    TooMany,
    Unavailable,
    UpstreamError,
    AnswerFailed,
)
ROWS = [*TABLE.values(), *NGINX.values()]


def sentences(row: Row) -> dict[str, str]:
    return {"": row.sentences} if isinstance(row.sentences, str) else dict(row.sentences)


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^ *[├└]── (\w+)|^    (\w+) ", errors.__doc__ or "", re.MULTILINE)
    names = {child or root for child, root in drawn}
    assert names == {kind.__name__ for kind in KINDS}
    assert set(FolyamError.__subclasses__()) >= set(KINDS) - {FolyamError}


# The table


def test_a_code_is_in_the_table_once() -> None:
    assert len(TABLE) == len(error_codes._ROWS)
    assert len(NGINX) == len(error_codes._NGINX_ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_row_is_consistent(row: Row) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", row.code)
    assert (row.status is None) == (row.sources == ("answer",) or row.code == "http_error")
    assert bool(row.reasons) == (row.kind == "UpstreamError")
    assert row.retry_after is None or row.retryable
    assert row.sources in {("service",), ("service", "answer"), ("answer",), ("nginx",), ("service", "nginx")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_sentence_is_whole_and_names_no_part_of_the_service(row: Row) -> None:
    for sentence in sentences(row).values():
        assert re.match(r"[A-Z]|query |history |model |\{field\}(: | )", sentence)
        assert sentence.endswith(".")
        assert not re.search(r"\b(worker|upstream|log|chunk|producer|orphan)s?\b", sentence)


def test_a_class_has_the_statuses_of_its_drawing() -> None:
    statuses = {kind: {row.status for row in TABLE.values() if row.kind == kind.__name__} for kind in KINDS}
    assert statuses[BadInput] == {400, 404, 413, 422}
    assert statuses[Unauthorized] == {401}
    assert statuses[UnknownAnswer] == {404}
    assert statuses[TooMany] == {429}
    assert statuses[Unavailable] == {503}
    assert statuses[UpstreamError] == {None, 400, 402, 403, 413, 429, 502, 504}


def test_a_label_of_the_metric_belongs_to_one_code() -> None:
    reasons = [reason for row in TABLE.values() for reason in row.reasons]
    assert len(reasons) == len(set(reasons))
    for row in TABLE.values():
        if row.reasons and not isinstance(row.sentences, str):
            assert set(row.sentences) == set(row.reasons) or len(row.reasons) == 1


# The classes


def test_an_error_is_what_the_table_says_of_its_code() -> None:
    error = BadInput("query_too_long", field="query", most=5)
    assert (error.status, error.retryable, error.retry_after) == (422, False, None)
    assert error.message == "query must have at most 5 characters."
    full = Unavailable("log_full")
    assert (full.status, full.retryable, full.headers()["Retry-After"]) == (503, True, "10")
    assert UpstreamError("upstream_rate_limited", retry_after="7").headers()["Retry-After"] == "7"
    assert HTTPError("http_error", status=418).status == 418
    assert (UnknownAnswer().status, Unauthorized().status) == (404, 401)
    assert isinstance(DamagedLogError(), UnknownAnswer)


def test_a_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(LookupError):
        BadInput("no_such_code")
    with pytest.raises(LookupError):
        BadInput("bad_last_event_id", "no such case")
    with pytest.raises(LookupError):
        BadInput("bad_last_event_id")  # which of its sentences?
    with pytest.raises(LookupError):
        BadInput("empty_query", "a case that it does not have")
    with pytest.raises(LookupError):
        BadInput("query_too_long")  # how long?
    with pytest.raises(TypeError):
        BadInput("log_full")
    with pytest.raises(TypeError):
        FolyamError("log_full")


def test_what_was_sent_cannot_fill_in_another_placeholder() -> None:
    error = UpstreamError("upstream_bad_request", "with_code", said="{field}{0}")
    assert error.message == "The model's server refused the request ({field}{0})."


def test_an_error_is_an_object_in_the_form_of_the_protocol() -> None:
    error = BadInput("unknown_model", field="model")
    assert error.body("0f") == {
        "error": {
            "message": "model is not one that this service offers.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "unknown_model",
            "field": "model",
            "request_id": "0f",
        }
    }
    assert UnknownAnswer().body("0f")["error"].keys() == {"message", "type", "param", "code", "request_id"}
    assert json.loads(json.dumps(error.body("0f"))) == error.body("0f")


def test_an_error_is_not_cached() -> None:
    assert UnknownAnswer().headers() == {"Cache-Control": "no-store"}


def test_an_error_prints_as_its_code_alone() -> None:
    # The sentence is for the client, and no log's.
    assert str(BadInput("unknown_model", field="model")) == "unknown_model"


def test_an_upstreams_error_has_a_reason_for_its_metric() -> None:
    assert UpstreamError("upstream_cut").reason == "cut"
    assert UpstreamError("answer_timeout").reason == "answer_timeout"
    assert UpstreamError("upstream_timeout", "silence_timeout").reason == "silence_timeout"
    assert UpstreamError("upstream_unavailable").reason == "unavailable"
    assert UpstreamError("upstream_unavailable", "breaker").reason == "breaker"
    assert UpstreamError("upstream_bad_request", "with_code", said="x").reason == "bad_request"


def test_an_error_tells_the_log_its_first_cause_and_what_the_upstream_said() -> None:
    error = UpstreamError("upstream_unreachable")
    assert error.log_fields() == {}
    error.__cause__ = OSError("sk-secret")
    error.__cause__.__cause__ = ConnectionRefusedError("sk-secret")
    assert error.log_fields() == {"exception": "ConnectionRefusedError"}
    refused = UpstreamError("upstream_credentials").told_by_upstream(401, "invalid_api_key", "")
    assert refused.log_fields() == {"upstream_status": 401, "upstream_code": "invalid_api_key"}


# Where errors are raised


def constants(node: ast.expr | None) -> list[Any]:
    """The values that the expression may have: a constant, or one of two."""
    match node:
        case None:
            return [""]
        case ast.Constant(value=value):
            return [value]
        case ast.IfExp(body=one, orelse=other):
            return [*constants(one), *constants(other)]
    raise AssertionError(f"{ast.unparse(node)} is not a code or a case that can be looked up")


def calls(source: str) -> Iterator[tuple[type[FolyamError], ast.Call]]:
    """The calls that make an error by its code."""
    by_name = {kind.__name__: kind for kind in KINDS if kind not in {Unauthorized, UnknownAnswer, AnswerFailed}}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in by_name:
            yield by_name[node.func.id], node


def check(kind: type[FolyamError], call: ast.Call) -> set[str]:
    """Check one call against the table; return its codes."""
    [code, case] = [*call.args, None][:2]
    given = {str(word.arg) for word in call.keywords} - {"retry_after"}
    codes = constants(code)
    for row in (TABLE[each] for each in codes):
        assert row.kind == kind.__name__
        for named in constants(case):
            wanted = placeholders(row.sentence(named))
            assert wanted - {"field"} == given - {"field"}
            assert "field" in given or "field" not in wanted
    return set(codes)


def test_errors_are_raised_with_codes_and_values_of_the_table_and_each_code_somewhere() -> None:
    raised = {"unauthorized", "unknown_answer"}  # Their classes have no other.
    for path in sorted(ROOT.glob("service/**/*.py")):
        for kind, call in calls(path.read_text(encoding="utf-8")):
            if kind is HTTPError:  # by the status of Starlette's exception
                assert path.name == "http_errors.py"
                continue
            raised |= check(kind, call)
    by_status = {row.code for row in TABLE.values() if row.kind == "HTTPError"}
    assert raised | by_status == set(TABLE)


@pytest.mark.parametrize(
    "source",
    [
        'BadInput("no_such_code")',
        'Unavailable("query_too_long", most=1)',
        'BadInput("query_too_long")',
        'BadInput("query_too_long", most=1, least=0)',
        'BadInput("invalid_input", "required")',
        'BadInput("invalid_input", "no such case")',
        'BadInput("invalid_input", "body" if x else "no such case")',
        "BadInput(code)",
    ],
)
def test_a_wrong_raise_is_found(source: str) -> None:
    [(kind, call)] = calls(source)
    with pytest.raises((AssertionError, LookupError)):
        check(kind, call)


# What repeats the table


def test_the_page_of_errors_for_programs_is_what_the_table_says() -> None:
    page = (ROOT / "docs" / "protocol" / "errors.json").read_text(encoding="utf-8")
    assert page == error_codes.table() + "\n", "python -m service.error_codes > docs/protocol/errors.json writes it"
    rows = json.loads(page)
    assert [row["code"] for row in rows] == [row.code for row in ROWS]
    assert all(set(row) == {"code", "status", "sentences", "retryable", "retry_after", "sources"} for row in rows)


def test_the_table_can_be_printed() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "service.error_codes"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert printed.stdout == error_codes.table() + "\n"


def test_bytes_that_are_no_http_get_nginxs_error_for_them() -> None:
    written: list[bytes] = []
    transport = SimpleNamespace(write=written.append, close=lambda: None)
    connection = SimpleNamespace(transport=transport, logger=logging.getLogger("nowhere"))
    ThriftyProtocol.send_400_response(connection, "x")  # type: ignore[arg-type]
    head, _, body = written[0].partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.startswith(b"HTTP/1.1 400 ")
    assert error.pop("request_id")
    assert error == {"code": "bad_request", "message": NGINX["bad_request"].sentences}
    assert [row.code for row in NGINX.values() if "service" in row.sources] == ["bad_request"]


def test_the_description_has_no_field_that_stays_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLYAM_LOG_URL", tmp_path.as_uri())
    schemas = create_app(Settings()).openapi()["components"]["schemas"]
    private = {"request", "chat", "at", "owner", "via", "names", "request_bytes", "run", "attempt"}
    for kind in get_args(Event):
        public = {name for name in kind.__struct_fields__ if name not in private}
        assert set(schemas[kind.__name__]["properties"]) == {"type", *public}
    assert not schemas.keys() & {"GenerateRequest", "Request", "Run", "Attempt", "Via"}


def test_the_description_has_every_status_that_an_address_may_answer_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLYAM_LOG_URL", tmp_path.as_uri())
    described = {
        operation["operationId"]: set(operation["responses"])
        for operations in create_app(Settings()).openapi()["paths"].values()
        for operation in operations.values()
    }
    # No operation describes 405: it is for methods that are none. 410 is a door's, for a whole answer that was stopped.
    services = {str(row.status) for row in TABLE.values() if row.status and "service" in row.sources}
    files_of_the_page = {"precondition_failed", "forbidden"}
    nginxs = {str(row.status) for row in NGINX.values() if row.code not in files_of_the_page}
    assert described["generate"] >= (services | nginxs) - {"405", "410"}
    anywhere = nginxs - {"404", "405"} | {"500", "503"}
    assert all(statuses >= anywhere for statuses in described.values())
