"""What docs/protocol.md says can be counted on."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service import http_errors
from service.errors import CODES, BadInput, TooMany, Unavailable, UpstreamError
from service.events import MERGED_CHARACTERS, Delta, Event
from service.renderings import RENDERINGS
from service.renderings.sse import ServerSentEvents
from tests.strategies import ANSWER

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

DEFAULT_STATUSES = {
    "BadInput": BadInput("code", "").status,
    "TooMany": TooMany("code", "").status,
    "Unavailable": Unavailable("code", "").status,
    "UpstreamError": UpstreamError("code", "").status,
}


def table(name: str) -> dict[str, str]:
    """The first two columns of a marked table: a code and its status."""
    [found] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found.strip().splitlines()[2:]]
    codes = [row[0].strip("`") for row in rows]
    assert len(codes) == len(set(codes))
    return {row[0].strip("`"): row[1] for row in rows}


def constant(node: ast.expr | None) -> Any:  # noqa: ANN401 (whatever the source says)
    return node.value if isinstance(node, ast.Constant) else None


def errors_in(source: str) -> Iterator[tuple[str, str]]:
    """The codes and statuses of the errors that the source makes."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name == "Failed" and len(node.args) > 1 and isinstance(constant(node.args[1]), str):
            yield constant(node.args[1]), "event only"
        code = constant(node.args[0])
        status = next((constant(keyword.value) for keyword in node.keywords if keyword.arg == "status"), None)
        status = status or DEFAULT_STATUSES.get(name)
        # An error's class, or a subclass's call of its base.
        if isinstance(code, str) and status is not None and name in {"FolyamError", "__init__", *DEFAULT_STATUSES}:
            yield code, str(status)


def errors_of_the_service() -> set[tuple[str, str]]:
    found = {error for path in ROOT.glob("service/**/*.py") for error in errors_in(path.read_text(encoding="utf-8"))}
    found |= {(code, str(status)) for status, (code, _) in http_errors._FRAMEWORK_ERRORS.items()}
    found.add(("http_error", "any"))
    # What can also end an answer is listed under its status.
    with_status = {code for code, status in found if status != "event only"}
    return {(code, status) for code, status in found if status != "event only" or code not in with_status}


def test_the_page_lists_exactly_the_errors_of_the_code_with_their_statuses() -> None:
    assert set(table("errors").items()) == errors_of_the_service()


def test_every_code_with_a_status_is_listed() -> None:
    assert sorted({code for code, status in errors_of_the_service() if status != "event only"}) == list(CODES)


def test_the_reading_of_the_source_finds_every_way_in_which_errors_are_made() -> None:
    source = """
raise FolyamError("a", "A.", status=418)
raise BadInput("b", "B.", status=400)
raise BadInput("c", "C.", field="c")
raise Unavailable("d", "D.")
raise UpstreamError("e", "E.", status=504)
raise UpstreamError("f", "F.")
Failed(last_seq + 1, "g", "G.", retryable=True)
class H(FolyamError):
    def __init__(self):
        super().__init__("h", "H.", status=404)
"""
    assert set(errors_in(source)) == {
        ("a", "418"),
        ("b", "400"),
        ("c", "422"),
        ("d", "503"),
        ("e", "504"),
        ("f", "502"),
        ("g", "event only"),
        ("h", "404"),
    }


def test_the_page_lists_exactly_nginxs_own_errors() -> None:
    configuration = (ROOT / "nginx.conf").read_text(encoding="utf-8")
    codes: dict[str, str] = dict(re.findall(r"^\s+(\d{3}|default)\s+'\"code\":\"(\w+)\"", configuration, re.MULTILINE))
    pages = re.findall(r"^\s+error_page ([\d ]+?)(?: =(\d+))? /\.error;", configuration, re.MULTILINE)
    statuses = [status for caught, sent in pages for status in ([sent] if sent else caught.split())]
    written: dict[str, list[str]] = {}
    for status in dict.fromkeys(statuses):
        written.setdefault(codes.get(status) or codes["default"], []).append(status)
    assert table("nginx errors") == {code: ", ".join(statuses) for code, statuses in written.items()}


def test_the_page_names_every_event_and_its_fields() -> None:
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| (.*?) \|", PAGE.partition("## Events")[2].partition("## Following")[0], re.MULTILINE
        )
    )
    private = {"seq", "request", "chat", "at", "owner"}
    assert {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows.items()} == {
        str(kind.__struct_config__.tag): set(kind.__struct_fields__) - private for kind in Event.__args__
    }


def test_the_page_names_every_rendering_and_what_is_fixed() -> None:
    for media_type, rendering in RENDERINGS:
        assert re.search(
            rf"^\|.*`{re.escape(media_type)}` \| `{re.escape(rendering.media_type)}` \|", PAGE, re.MULTILINE
        )
    assert f"{MERGED_CHARACTERS:,} characters" in PAGE


def test_the_grammar_of_server_sent_events_is_what_is_sent() -> None:
    rules = dict(re.findall(r"^([a-z-]+) +=(.*)$", PAGE, re.MULTILINE))
    values = {"LF": "\n", "type": "delta", "object": '{"type":"delta","seq":2,"text":"a"}', "event-id": f"{ANSWER}:2"}

    def written(rule: str) -> bytes:
        return "".join(text or values[name] for text, name in re.findall(r'"([^"]*)"|([\w-]+)', rule)).encode()

    sse = ServerSentEvents()
    assert written(rules["event"]) == sse.render(ANSWER, [Delta(2, text="a")])
    assert written(rules["sign"]) == sse.opening == sse.heartbeat
    first = re.fullmatch(r" \*sign \[ (.*) event \*\( event / sign \) \]", rules["body"])
    assert first
    assert written(first[1]) == sse.preamble
