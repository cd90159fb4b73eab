import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import (
    MAX_SEQ,
    MERGED_CHARACTERS,
    SEQ_DIGITS,
    Delta,
    Done,
    Event,
    Restart,
    Seam,
    Start,
    Stopped,
    Timing,
    ToolCall,
    UnknownEvent,
    decode,
    decode_any,
    encode,
    is_answer_id,
    merge_deltas,
    new_answer_id,
    parse_event_id,
)
from tests.strategies import ANSWER, answers, any_event, starts, texts

VOICES = ("text", "reasoning", "refusal")


@given(any_event())
def test_an_event_survives_the_log(event: Event) -> None:
    assert decode(encode(event)) == event


@given(any_event())
def test_an_event_is_one_line_of_json(event: Event) -> None:
    line = encode(event)
    assert b"\n" not in line
    assert b"\r" not in line
    value = json.loads(line)
    assert value["seq"] == event.seq
    assert value["type"] == type(event).__name__.lower()


@given(starts())
def test_the_public_part_of_a_start_holds_no_words_of_a_client(start: Start) -> None:
    assert json.loads(encode(start.public())) == {
        "type": "start",
        "seq": start.seq,
        "answer": start.answer,
        "model": start.model,
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\0\0\0",
        b'{"type":"delta","seq":2,"tex',
        b'{"type":"delta","seq":"2"}',
        b'{"type":"unheard_of","seq":2}',
        b'{"seq":2,"text":"a"}',
        b'{"type":"stopped","seq":2,"by":"magic"}',
        b"[]",
        b"\xff",
    ],
)
def test_what_is_not_an_event_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(line)


@given(any_event())
def test_an_event_of_this_version_is_no_unknown_one(event: Event) -> None:
    assert decode_any(encode(event)) == event


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"type":"unheard_of","seq":2,"words":[1]}', UnknownEvent(2)),
        (b'{"words":{"type":"done"},"seq":9007199254740991,"type":""}', UnknownEvent(MAX_SEQ)),
        (b'{"type":"restart","seq":2,"because":"x"}', Restart(2)),
        (b'{"type":"delta","seq":2,"seam":{"in":"x"}}', Delta(2, seam=Seam())),
        (b'{"type":"delta","seq":2,"weather":{}}', Delta(2)),
    ],
)
def test_what_only_a_newer_version_knows_is_passed_over(line: bytes, event: Event | UnknownEvent) -> None:
    assert decode_any(line) == event


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"type":"unheard_of"}',
        b'{"type":"unheard_of","seq":"2"}',
        b'{"type":"unheard_of","seq":0}',
        b'{"type":7,"seq":2}',
        b'{"seq":2}',
        b'{"type":"unheard_of","seq":2,',
        b'{"type":"delta","seq":2,"text":7}',
        b'{"type":"stopped","seq":2,"by":"magic"}',
        b'{"type":"done","seq":2}',
    ],
)
def test_what_is_an_event_of_no_version_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_any(line)


def test_voices_that_are_silent_are_not_written() -> None:
    assert encode(Delta(2, text="a")) == b'{"type":"delta","seq":2,"text":"a"}'
    assert encode(Delta(2, reasoning="a")) == b'{"type":"delta","seq":2,"reasoning":"a"}'


def test_absent_usage_is_written_as_null() -> None:
    done = Done(3, "stop", None, Timing(None, 0.5))
    assert json.loads(encode(done)) == {
        "type": "done",
        "seq": 3,
        "finish_reason": "stop",
        "usage": None,
        "timing": {"first_chunk_seconds": None, "duration_seconds": 0.5},
    }


def test_answer_ids_are_never_the_same() -> None:
    ids = {new_answer_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_answer_id(each) for each in ids)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ANSWER[:-1],
        ANSWER + "0",
        ANSWER.upper(),
        ANSWER + "\n",
        "\n" + ANSWER,
        " " + ANSWER,
        "../" + ANSWER[3:],
        "g" + ANSWER[1:],
        "\u0660" + ANSWER[1:],  # a digit in another script
        "\uff10" + ANSWER[1:],  # a full-width digit
    ],
)
def test_an_answer_id_has_exactly_one_form(text: str) -> None:
    assert not is_answer_id(text)
    assert parse_event_id(f"{text}:1") is None


@given(st.one_of(texts, st.text("0123456789abcdefgAF:\n", max_size=40), st.from_regex(r"[0-9a-f]{30,34}")))
def test_answer_ids_are_32_hexadecimal_digits_and_nothing_else(text: str) -> None:
    assert is_answer_id(text) == (len(text) == 32 and set(text) <= set("0123456789abcdef"))


@given(st.integers(0, 10**SEQ_DIGITS - 1))
def test_an_event_id_is_an_answer_id_and_a_seq(seq: int) -> None:
    assert parse_event_id(f"{ANSWER}:{seq}") == (ANSWER, seq)


@pytest.mark.parametrize(
    "seq",
    ["", "-1", "+1", "01", "00", " 1", "1 ", "1\n", "1.0", "1e3", "0x1", "\u0661", "10000000000000000", "1:1", "1_0"],
)
def test_an_event_ids_seq_has_exactly_one_form(seq: str) -> None:
    assert parse_event_id(f"{ANSWER}:{seq}") is None


@pytest.mark.parametrize("text", [ANSWER, f"{ANSWER};1", f"{ANSWER}1", f":{ANSWER}:1", f"\u200b{ANSWER}:1"])
def test_what_is_not_an_event_id_is_none(text: str) -> None:
    assert parse_event_id(text) is None


@given(texts)
def test_no_text_breaks_the_parsing_of_event_ids(text: str) -> None:
    parsed = parse_event_id(text)
    assert (parsed is not None) == bool(re.match(r"^[0-9a-f]{32}:(0|[1-9][0-9]{0,15})\Z", text))


def said(events: list[Event]) -> list[tuple[str, object] | Event]:
    """Return a follower's view: each voice's text and each call of a tool, between the other events unchanged."""
    known: list[tuple[str, object] | Event] = []
    deltas: list[Delta] = []

    def spoken() -> list[tuple[str, object]]:
        texts = [(voice, "".join([getattr(delta, voice) or "" for delta in deltas])) for voice in VOICES]
        calls = [delta.tool_call for delta in deltas if delta.tool_call is not None]
        heads = [(call.index, call.id, call.name) for call in calls if call.id or call.name]
        arguments = "".join([call.arguments for call in calls])
        return [*texts, ("heads", heads), ("arguments", arguments)]

    for event in events:
        if isinstance(event, Delta):
            deltas.append(event)
        else:
            known += [*spoken(), event]
            deltas.clear()
    return [*known, *spoken()]


@given(answers())
def test_merging_changes_no_voices_text_and_no_other_event(events: list[Event]) -> None:
    assert said(list(merge_deltas(events))) == said(events)


def voice_of(event: Event) -> str | int | None:
    """Return the voice, or the index of the call of a tool."""
    if not isinstance(event, Delta):
        return None
    if event.tool_call is not None:
        return event.tool_call.index
    [voice] = [voice for voice in VOICES if getattr(event, voice) is not None]
    return voice


def begins(event: Event) -> bool:
    return isinstance(event, Delta) and event.tool_call is not None and bool(event.tool_call.id or event.tool_call.name)


@given(answers())
def test_a_run_of_one_voice_becomes_one_delta_under_its_last_seq(events: list[Event]) -> None:
    merged = list(merge_deltas(events))
    # The last of each run: what is followed by another voice or call, by no delta, or by nothing.
    following = [*events[1:], None]
    last_of_runs = [
        event.seq
        for event, after in zip(events, following, strict=True)
        if after is None or voice_of(event) is None or voice_of(event) != voice_of(after) or begins(after)
    ]
    assert [event.seq for event in merged] == last_of_runs


def test_the_pieces_of_a_call_become_one_with_its_id_and_name() -> None:
    def piece(seq: int, arguments: str, **more: str) -> Delta:
        return Delta(seq, tool_call=ToolCall(index=int(more.pop("index", "0")), arguments=arguments, **more))

    events: list[Event] = [
        piece(2, '{"a', id="call_1", name="look"),
        piece(3, '":'),
        piece(4, "1}"),
        piece(5, "{}", index="1", id="call_2", name="look"),
        piece(6, " "),
    ]
    assert list(merge_deltas(events)) == [
        piece(4, '{"a":1}', id="call_1", name="look"),
        piece(5, "{}", index="1", id="call_2", name="look"),
        piece(6, " "),
    ]


def test_voices_are_never_merged_with_each_other() -> None:
    events: list[Event] = [
        Delta(2, reasoning="a"),
        Delta(3, reasoning="b"),
        Delta(4, text="c"),
        Delta(5, text="d"),
        Delta(6, refusal="e"),
        Delta(7, reasoning="f"),
    ]
    assert list(merge_deltas(events)) == [
        Delta(3, reasoning="ab"),
        Delta(5, text="cd"),
        Delta(6, refusal="e"),
        Delta(7, reasoning="f"),
    ]


def test_a_delta_in_no_known_voice_is_passed_on_as_it_is() -> None:
    """A newer version wrote it. Alone or among others, it gets no voice that it does not have."""
    unknown = Delta(4)
    assert list(merge_deltas([unknown])) == [unknown]
    assert list(merge_deltas([Delta(2, refusal="a"), Delta(3, refusal="b"), unknown, Delta(5, refusal="c")])) == [
        Delta(3, refusal="ab"),
        unknown,
        Delta(5, refusal="c"),
    ]


def test_deltas_are_not_merged_over_a_restart() -> None:
    events: list[Event] = [Delta(2, text="a"), Restart(3), Delta(4, text="b"), Delta(5, text="c"), Stopped(6, "user")]
    assert list(merge_deltas(events)) == [Delta(2, text="a"), Restart(3), Delta(5, text="bc"), Stopped(6, "user")]


def test_an_empty_delta_is_not_lost() -> None:
    # Its seq is what the next resume asks from.
    assert list(merge_deltas([Delta(2, text=""), Delta(3, reasoning="")])) == [
        Delta(2, text=""),
        Delta(3, reasoning=""),
    ]


@given(st.lists(st.integers(1, 3 * MERGED_CHARACTERS), min_size=2, max_size=20))
def test_a_merged_delta_stays_small(lengths: list[int]) -> None:
    events = [Delta(seq, text="x" * length) for seq, length in enumerate(lengths, 2)]
    merged = [event for event in merge_deltas(events) if isinstance(event, Delta)]
    assert sum(len(event.text or "") for event in merged) == sum(lengths)
    assert all(len(event.text or "") < MERGED_CHARACTERS + max(lengths) for event in merged)


def test_a_voice_that_is_not_known_is_merged_with_none() -> None:
    events: list[Event] = [Delta(2, text="a"), Delta(3), Delta(4, text="b"), Delta(5, refusal=""), Delta(6)]
    assert list(merge_deltas(events)) == events


def test_nothing_merged_is_nothing() -> None:
    assert list(merge_deltas([])) == []
