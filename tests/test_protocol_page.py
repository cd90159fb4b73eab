"""The statements of docs/protocol.md hold."""

import re
from pathlib import Path

from service.config import Settings
from service.error_codes import NGINX, TABLE, Source
from service.events import ANSWER_ID_BYTES, MERGED_CHARACTERS, Delta, Event, Start
from service.renderings import RENDERINGS
from service.renderings.sse import ServerSentEvents
from tests.strategies import ANSWER
from tests.vectors import DIRECTORY

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
    without_status: dict[tuple[Source, ...], str] = {("service",): "any", ("answer",): "event only"}
    assert table("errors") == {row.code: str(row.status or without_status[row.sources]) for row in TABLE.values()}


def test_the_page_lists_exactly_nginxs_own_errors() -> None:
    assert table("nginx errors") == {row.code: str(row.status) for row in NGINX.values()}


def test_the_page_names_every_event_and_its_fields() -> None:
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| (.*?) \|", PAGE.partition("## Events")[2].partition("## Following")[0], re.MULTILINE
        )
    )
    private = {"seq", "request", "chat", "at", "owner", "via", "names", "request_bytes", "run", "attempt"}
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


# For implementers


def requirements() -> dict[str, str]:
    """The numbered requirements, each on one line."""
    section = PAGE.partition("\n### Requirements for servers\n")[2].partition("\n### Vectors\n")[0]
    found = re.findall(r"^- \*\*([SC]\d+)\*\* (.*(?:\n  .*)*)$", section, re.MULTILINE)
    assert len(found) == len(dict(found)) == section.count("\n- ")
    return {number: " ".join(text.split()) for number, text in found}


def test_the_requirements_are_numbered_without_gaps() -> None:
    numbers = list(requirements())
    servers = [number for number in numbers if number.startswith("S")]
    assert numbers == [
        *(f"S{number}" for number in range(1, len(servers) + 1)),
        *(f"C{number}" for number in range(1, len(numbers) - len(servers) + 1)),
    ]


def test_each_requirement_is_one_sentence_with_a_word_of_rfc_2119() -> None:
    for number, text in requirements().items():
        assert re.fullmatch(r"[^.]*(?:\.[a-z][^.]*)*\.", text), number  # `answers.json` has a dot, too.
        assert re.search(r"\b(MUST|MUST NOT|SHOULD|SHOULD NOT|MAY)\b", text), number


def test_the_requirements_have_the_services_own_figures() -> None:
    wanted = requirements()
    assert f"{ANSWER_ID_BYTES * 2} lower-case hexadecimal digits, made of {ANSWER_ID_BYTES * 8} random" in wanted["S1"]
    assert f"after {Settings.model_fields['heartbeat_seconds'].default:g} seconds" in wanted["S12"]
    assert f"more than {2 * Settings.model_fields['heartbeat_seconds'].default:g} seconds" in wanted["C14"]
    assert f"{MERGED_CHARACTERS:,} characters" in wanted["S14"]
    private = set(Start.__struct_fields__) - {"seq", "answer", "model"} | {"run", "attempt"}
    assert set(re.findall(r"`(\w+)`", wanted["S15"])) == private


def test_the_page_lists_exactly_the_files_of_vectors_and_a_requirement_names_each() -> None:
    section = PAGE.partition("\n### Vectors\n")[2]
    listed = re.findall(r"^\| \[([a-z-]+\.json)\]\(protocol/\1\) \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in DIRECTORY.iterdir())
    assert set(re.findall(r"[a-z-]+\.json", " ".join(requirements().values()))) == set(listed)


def test_the_page_has_one_version_and_the_changelog_names_it() -> None:
    [version] = set(re.findall(r"(?:version|contract is) (\d+\.\d+)\b", PAGE))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"the protocol has a version ({version})" in changelog
