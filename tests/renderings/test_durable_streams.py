"""Durable Streams' messages, apart from any server."""

import json
from collections.abc import Sequence

import pytest

from service.events import MAX_SEQ, Attempt, Delta, Done, Event, Restart, Seam, Start, Timing, ToolCall
from service.question import to_request
from service.renderings.durable_streams import (
    CURSOR_EPOCH,
    CURSOR_SECONDS,
    READS_HELD,
    DurableStream,
    json_array,
    next_cursor,
    offset_of,
)
from tests.renderings.event_stream import parse
from tests.strategies import ANSWER

START = Start.asking(ANSWER, to_request("private words", model="model"), at=1.5, owner="private mark")
DONE = Done(9, "stop", None, Timing(0.1, 0.2))


def messages(body: bytes) -> list[tuple[str, object]]:
    return [(message.event, json.loads(message.data)) for message in parse(body).messages]


def public(*events: Event) -> object:
    return json.loads(json_array(events))


def test_offsets_sort_as_texts_in_the_order_of_the_numbers() -> None:
    numbers = [0, 1, 9, 10, 99, 12345, MAX_SEQ - 1, MAX_SEQ]
    assert sorted(map(offset_of, numbers)) == [offset_of(number) for number in numbers]
    assert offset_of(7) == "0000000000000007"


@pytest.mark.parametrize(
    ("last", "cursor"), [(None, "5"), ("4", "5"), ("5", "6"), ("70", "71"), ("x", "5"), ("٣", "5"), ("9" * 17, "5")]
)
def test_a_cursor_is_the_intervals_number_and_always_above_the_clients_last_one(last: str | None, cursor: str) -> None:
    assert next_cursor(CURSOR_EPOCH + 5 * CURSOR_SECONDS + 1, last) == cursor


def test_an_array_has_the_public_form_of_the_events_in_every_voice() -> None:
    call = ToolCall(index=0, id="call", name="f", arguments="{")
    events: Sequence[Event] = [START, Delta(2, text="á\n"), Delta(3, attempt=Attempt(1)), Delta(4, tool_call=call)]
    assert json.loads(json_array(events)) == [
        {"type": "start", "seq": 1, "answer": ANSWER, "model": "model"},
        {"type": "delta", "seq": 2, "text": "á\n"},
        {"type": "delta", "seq": 4, "tool_call": {"index": 0, "id": "call", "name": "f", "arguments": "{"}},
    ]
    assert json_array(()) == b"[]"
    assert json_array([Delta(3, attempt=Attempt(1))]) == b"[]"


def test_what_was_read_is_sent_as_one_message_once_all_is_read() -> None:
    encoder = DurableStream(0, "7").encoder(ANSWER)
    assert encoder.encode([START, Delta(2, text="a")]) == b""
    assert encoder.encode([Delta(3, text="b")]) == b""
    sent = encoder.caught_up()
    assert messages(sent) == [
        ("data", public(START, Delta(3, text="ab"))),
        ("control", {"streamNextOffset": offset_of(3), "streamCursor": "7", "upToDate": True}),
    ]
    assert sent.startswith(b"event: data\ndata:[{"), "the suite takes lines apart without a blank"
    assert encoder.caught_up() == b""


def test_a_follower_that_is_far_behind_gets_messages_that_do_not_say_that_it_has_all() -> None:
    encoder = DurableStream(0, "7").encoder(ANSWER)
    held = [encoder.encode([Delta(seq, text="a")]) for seq in range(2, 2 + READS_HELD)]
    assert held[:-1] == [b""] * (READS_HELD - 1)
    [(_, _), (name, control)] = messages(held[-1])
    assert (name, control) == ("control", {"streamNextOffset": offset_of(1 + READS_HELD), "streamCursor": "7"})


def test_one_that_begins_where_nothing_follows_yet_is_told_so_at_once() -> None:
    assert messages(DurableStream(5, "7").encoder(ANSWER).caught_up()) == [
        ("control", {"streamNextOffset": offset_of(5), "streamCursor": "7", "upToDate": True})
    ]


def test_the_terminal_event_closes_the_stream_and_nothing_is_said_behind_it() -> None:
    encoder = DurableStream(7, "7").encoder(ANSWER)
    assert messages(encoder.encode([Delta(8, text="a"), DONE])) == [
        ("data", public(Delta(8, text="a"), DONE)),
        ("control", {"streamNextOffset": offset_of(9), "streamClosed": True}),
    ]
    assert encoder.caught_up() == b""


@pytest.mark.parametrize("event", [Restart(3), Restart(3, again=True), Delta(3, seam=Seam("continued", "cut"))])
def test_restarts_and_seams_are_messages_like_any_other(event: Event) -> None:
    encoder = DurableStream(2, "7").encoder(ANSWER)
    encoder.encode([event])
    assert messages(encoder.caught_up())[0] == ("data", public(event))


def test_private_events_move_the_place_alone() -> None:
    encoder = DurableStream(2, "7").encoder(ANSWER)
    encoder.encode([Delta(3, attempt=Attempt(1))])
    [(name, control)] = messages(encoder.caught_up())
    assert (name, control) == ("control", {"streamNextOffset": offset_of(3), "streamCursor": "7", "upToDate": True})
