"""What docs/protocol.md says can be counted on."""

import re
from pathlib import Path

from service.errors import NGINX, TABLE
from service.events import MERGED_CHARACTERS, Delta, Event
from service.renderings import RENDERINGS
from service.renderings.sse import ServerSentEvents
from tests.strategies import ANSWER

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def table(name: str) -> dict[str, str]:
    """The first two columns of a marked table: a code and its status."""
    [found] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found.strip().splitlines()[2:]]
    codes = [row[0].strip("`") for row in rows]
    assert len(codes) == len(set(codes))
    return {row[0].strip("`"): row[1] for row in rows}


def test_the_page_lists_exactly_the_services_errors_with_their_statuses() -> None:
    without_status = {"http_error": "any", "interrupted": "event only"}
    assert table("errors") == {row.code: str(row.status or without_status[row.code]) for row in TABLE.values()}


def test_the_page_lists_exactly_nginxs_own_errors() -> None:
    assert table("nginx errors") == {row.code: str(row.status) for row in NGINX.values()}


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
    for media_type, rendering in RENDERINGS.items():
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
    assert written(rules["event"]) == sse.encoder(ANSWER).encode([Delta(2, text="a")])
    assert written(rules["sign"]) == sse.opening == sse.heartbeat
    first = re.fullmatch(r" \*sign \[ (.*) event \*\( event / sign \) \]", rules["body"])
    assert first
    assert written(first[1]) == sse.preamble
