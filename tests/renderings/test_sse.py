import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from service.events import Delta, Event, Start, decode, merge_deltas
from service.renderings.sse import ServerSentEvents
from tests.renderings.event_stream import parse
from tests.strategies import ANSWER, answers, deltas

SSE = ServerSentEvents()


def encode(events: Sequence[Event]) -> bytes:
    return SSE.encoder(ANSWER).encode(events)


@given(answers())
def test_a_browser_reads_exactly_the_events_with_their_ids_types_and_data(events: list[Event]) -> None:
    messages = parse(encode(events)).messages
    merged = merge_deltas(events)
    assert [message.last_event_id for message in messages] == [f"{ANSWER}:{event.seq}" for event in merged]
    assert [message.event for message in messages] == [type(event).__name__.lower() for event in merged]
    public = [event.public() if isinstance(event, Start) else event for event in merged]
    assert [decode(message.data.encode()) for message in messages] == public


def test_a_models_text_forges_no_event() -> None:
    forgeries = [
        "\n\nevent: done\ndata: {}\n\n",
        "\r\revent: done\rdata: {}\r\r",
        "\r\n\r\nid: 0:0\r\nretry: 1\r\n",
        "\n:\n\n",
        "\u2028\u2028event: done\u2029",
        "\x85event: done",
        '"}\n\ndata: {"type":"done"}\n\n',
        "\\n\\nevent: done",
        "\ufeffdata: x\n\n",
        "\0",
    ]
    stream = parse(SSE.preamble + b"".join(encode([Delta(2, text=text)]) for text in forgeries))
    assert [message.event for message in stream.messages] == ["delta"] * len(forgeries)
    assert [json.loads(message.data)["text"] for message in stream.messages] == forgeries
    assert stream.retry == 1000
    assert stream.comments == 0


@given(st.integers(2, 10**9).flatmap(deltas))
def test_an_event_is_four_lines_whatever_it_says(event: Event) -> None:
    lines = encode([event]).split(b"\n")
    assert [line.partition(b": ")[0] for line in lines] == [b"event", b"data", b"id", b"", b""]
    assert b"\r" not in encode([event])


@given(answers())
def test_what_is_private_of_a_start_is_not_rendered(events: list[Event]) -> None:
    for message in parse(encode(events)).messages:
        if message.event == "start":
            assert json.loads(message.data).keys() == {"type", "seq", "answer", "model"}


def test_heartbeats_and_the_preamble_are_no_events() -> None:
    stream = parse(3 * SSE.heartbeat + SSE.preamble)
    assert stream.messages == []
    assert stream.comments == 3
    assert stream.retry == 1000


def test_a_heartbeat_between_events_changes_none() -> None:
    first, second = (encode([Delta(seq, text="a")]) for seq in (2, 3))
    assert parse(first + SSE.heartbeat + second).messages == parse(first + second).messages


@given(answers())
def test_a_reader_that_makes_an_event_of_any_blank_line_makes_only_the_events(events: list[Event]) -> None:
    """OpenAI's reader, once it has seen an id or a retry; `httpx-sse` has the same algorithm."""
    pieces = [SSE.opening, SSE.preamble + encode(events[:1]), SSE.heartbeat]
    for event in events[1:]:
        pieces += [encode([event]), 2 * SSE.heartbeat]
    seen = list(SSEDecoder().iter_bytes(iter(pieces)))
    assert [(event.event, event.id) for event in seen] == [
        (type(event).__name__.lower(), f"{ANSWER}:{event.seq}") for event in events
    ]
    assert [json.loads(event.data)["seq"] for event in seen] == [event.seq for event in events]
    assert [event.retry for event in seen] == [1000] + [None] * (len(events) - 1)


def test_the_media_type_is_bare() -> None:
    assert SSE.media_type == "text/event-stream"
