import json

import pytest
from hypothesis import given

from service.events import Event, Start, decode, merge_deltas
from service.renderings.ndjson import JsonLines
from tests.strategies import ANSWER, answers


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_both_names_are_the_same_bytes_under_another_name(media_type: str) -> None:
    rendering = JsonLines(media_type)
    assert rendering.media_type == media_type
    assert rendering.preamble == b""
    assert rendering.heartbeat == b"\n"


@given(answers())
def test_each_line_is_one_object_and_one_event(events: list[Event]) -> None:
    body = JsonLines("application/json").encoder(ANSWER).encode(events)
    assert body.endswith(b"\n")
    lines = body[:-1].split(b"\n")
    public = [event.public() if isinstance(event, Start) else event for event in merge_deltas(events)]
    assert [decode(line) for line in lines] == public
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert b"\r" not in body


@given(answers())
def test_what_is_private_of_a_start_is_not_rendered(events: list[Event]) -> None:
    first = JsonLines("application/json").encoder(ANSWER).encode(events).split(b"\n")[0]
    assert json.loads(first).keys() == {"type", "seq", "answer", "model"}


def test_an_empty_line_is_no_event() -> None:
    assert JsonLines("application/json").heartbeat.strip() == b""
