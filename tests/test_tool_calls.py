"""Calls of tools, put together from however servers split them."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, get_args

import pytest

from service.answer import AnswerState, Attached
from service.errors import UpstreamError
from service.events import Delta, Run, ToolCall
from service.upstream.chunks import ChunkDecoder
from service.upstream.rerun import Rerun
from service.upstream.think_tags import ThinkTagDecoder
from tests.upstream.bodies import DONE, chunk, data, end
from tests.upstream.tools import Call, Style, deltas, message_calls

RUN = Run("b" * 32, "http://llama:8080/v1")
CITY = Call("weather", ('{"city":', '"Győr 🌊 \\u00e9', '\\"","at":{"x":1}}'), "call_a")
TIME = Call("time", ('{"zone": "Europe/Budapest"}',), "call_b")
ROLL = Call("roll", ("{", "}"), "call_c")
ODD = Call("weather", ('{"city":"\\ud83c', '\\udf0a","n":[1,', ' "\\\\" ,{}]', "}"), "call_d")
CALLS = (CITY, TIME, ROLL, ODD)


def folded(events: Iterable[Any]) -> list[ToolCall]:
    state = AnswerState()
    state.advance(list(events))
    return state.tool_calls


def stream(*written: object) -> bytes:
    """The body of a stream with these deltas."""
    return b"".join(data(chunk(delta)) for delta in written) + end("tool_calls") + DONE


def calls_of(body: bytes, kind: type[ChunkDecoder] = ChunkDecoder) -> list[ToolCall]:
    decoder = kind(1)
    got = [*decoder.feed(body), *decoder.end(), *decoder.finish()]
    assert decoder.failure is None
    assert [delta.seq for delta in got] == list(range(2, 2 + len(got)))
    assert decoder.has_tool_calls
    for delta in got:
        assert delta.has_voice
    calls = folded(got)
    heads = [delta.tool_call for delta in got if delta.tool_call and (delta.tool_call.id or delta.tool_call.name)]
    assert [head.index for head in heads] == list(range(len(calls))), "each call begins once, in its turn"
    return calls


def said(calls: Sequence[ToolCall]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in calls]


def asked(calls: Sequence[Call]) -> list[tuple[str, str]]:
    return [(call.name, "".join(call.arguments)) for call in calls]


STYLES: list[tuple[Style, ...]] = [
    (),
    ("glued",),
    ("zero",),
    ("zero", "glued"),
    ("zero", "repeated"),
    ("zero", "nulls"),
    ("repeated",),
    ("repeated", "interleaved"),
    ("nulls",),
    ("interleaved",),
    ("no_id",),
    ("no_id", "interleaved"),
    ("no_id", "repeated"),
    ("no_id", "zero", "whole"),
    ("no_id", "no_index", "whole"),
    ("no_id", "no_index"),
    ("no_id", "no_index", "repeated"),
    ("no_index",),
    ("no_index", "repeated", "interleaved"),
    ("whole",),
    ("whole", "zero"),
    ("whole", "no_index"),
]


@pytest.mark.parametrize("style", STYLES, ids=" ".join)
@pytest.mark.parametrize("kind", [ChunkDecoder, ThinkTagDecoder])
def test_calls_are_the_same_however_they_are_split(style: tuple[Style, ...], kind: type[ChunkDecoder]) -> None:
    calls = calls_of(stream(*deltas(CALLS, style)), kind)
    assert said(calls) == asked(CALLS)
    if "no_id" in style:
        assert len({call.id for call in calls}) == len(calls)
        assert all(len(call.id) == 9 and call.id.isalnum() for call in calls)
        assert calls_of(stream(*deltas(CALLS, style)), kind) == calls, "the same bytes have the same ids"
    else:
        assert [call.id for call in calls] == [call.id for call in CALLS]


def test_every_style_is_tried() -> None:
    assert {*chain.from_iterable(STYLES), "objects", "function_call"} == set(get_args(Style))


@pytest.mark.parametrize("style", [("objects",), ("objects", "whole"), ("objects", "zero", "no_id")], ids=" ".join)
def test_arguments_may_be_the_object_itself(style: tuple[Style, ...]) -> None:
    calls = calls_of(stream(*deltas(CALLS, style)))
    assert [json.loads(call.arguments) for call in calls] == [json.loads("".join(call.arguments)) for call in CALLS]


def test_an_object_as_arguments_is_passed_on_as_it_is_written() -> None:
    written = '{"big":12345678901234567890123,"far":1e400,"deep":{"a":[1.10, null]}}'
    body = data(chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "@"}}]}))
    body = body.replace(b'"@"', written.encode())
    assert calls_of(body + end("tool_calls") + DONE)[0].arguments == written


def test_the_call_of_the_api_before_tools_is_one() -> None:
    [call] = calls_of(stream(*deltas([CITY], ["function_call"])))
    assert said([call]) == asked([CITY])
    assert call.id


@pytest.mark.parametrize("style", [(), ("no_id",), ("objects",), ("function_call",)], ids=" ".join)
@pytest.mark.parametrize("text", [None, "Let me see."])
@pytest.mark.parametrize("place", ["message", "delta", "bare"])
def test_a_whole_completion_has_its_calls(style: tuple[Style, ...], text: str | None, place: str) -> None:
    calls = CALLS[:1] if "function_call" in style else CALLS
    message = {"role": "assistant", "content": text, **message_calls(calls, style)}
    if place == "delta" and "function_call" in style:
        text = message["content"] = None  # That API had no deltas with both.
    choice = {"index": 0, place if place == "delta" else "message": message, "finish_reason": "tool_calls"}
    body = json.dumps({"object": "chat.completion", "choices": [choice]})
    decoder = ChunkDecoder(1)
    got = [*decoder.feed(body.encode() if place == "bare" else data(body) + DONE), *decoder.end()]
    assert decoder.failure is None
    assert "".join(delta.text or "" for delta in got) == (text or "")
    assert [(call.name, json.loads(call.arguments)) for call in folded(got)] == [
        (call.name, json.loads("".join(call.arguments))) for call in calls
    ]


def test_text_and_calls_may_share_a_chunk() -> None:
    [delta] = deltas([CITY, TIME], ["whole"])
    decoder = ChunkDecoder(1)
    got = decoder.feed(data(chunk({"content": "Let me see.", "reasoning": "Hm.", **delta})))
    assert [got[0].reasoning, got[1].text] == ["Hm.", "Let me see."]
    assert said(folded(got)) == asked([CITY, TIME])


def test_a_message_behind_deltas_only_repeats_them() -> None:
    message = {"role": "assistant", "content": None, **message_calls(CALLS, ())}
    again = data(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}))
    body = b"".join(data(chunk(delta)) for delta in deltas(CALLS, ())) + again + DONE
    assert said(calls_of(body)) == asked(CALLS)


@pytest.mark.parametrize("named", [True, False])
def test_a_call_that_is_sent_once_more_at_its_end_is_one_call(*, named: bool) -> None:
    [whole] = deltas([CITY], ["whole"])
    if not named:
        whole = {"tool_calls": [{"index": 0, "function": {"arguments": "".join(CITY.arguments)}}]}
    assert said(calls_of(stream(*deltas([CITY], ()), whole))) == asked([CITY])


def test_a_call_without_arguments_is_a_call() -> None:
    body = stream({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "now"}}]})
    assert calls_of(body) == [ToolCall(index=0, id="a", name="now", arguments="")]


def test_the_same_tool_twice_is_two_calls_without_ids() -> None:
    twice = [Call("roll", ("{}",)), Call("roll", ("{}",))]
    for style in (("whole", "no_id", "zero"), ("no_id", "zero", "glued"), ("no_id", "zero"), ("no_id", "no_index")):
        assert said(calls_of(stream(*deltas(twice, style)))) == asked(twice), style
    none = [{"function": {"name": "now", "arguments": None}}] * 2
    assert said(calls_of(stream({"tool_calls": none}))) == [("now", ""), ("now", "")]


def test_two_calls_with_one_id_get_different_ones() -> None:
    twice = [Call("roll", ("{}",), "x"), Call("roll", ("{}",), "x")]
    calls = calls_of(stream(*deltas(twice, ())))
    assert calls[0].id == "x" != calls[1].id
    assert said(calls) == asked(twice)


def test_a_name_may_come_behind_the_arguments() -> None:
    parts = [
        {"index": 0, "id": "a", "function": {"arguments": '{"x"'}},
        {"index": 0, "function": {"name": "f", "arguments": ":1"}},
        {"index": 0, "function": {"arguments": "}"}},
    ]
    assert calls_of(stream(*({"tool_calls": [part]} for part in parts))) == [
        ToolCall(index=0, id="a", name="f", arguments='{"x":1}')
    ]


def test_a_call_whose_name_never_comes_is_told_at_the_end() -> None:
    body = stream({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]})
    assert calls_of(body) == [ToolCall(index=0, id="a", arguments="{}")]


def test_an_id_may_come_behind_the_first_piece() -> None:
    parts = [
        {"index": 0, "function": {"name": "f", "arguments": ""}},
        {"index": 0, "id": "late", "function": {"arguments": '{"x"'}},
        {"index": 0, "id": "late", "function": {"arguments": ":1}"}},
    ]
    [call] = calls_of(stream(*({"tool_calls": [part]} for part in parts)))
    assert (call.name, call.arguments) == ("f", '{"x":1}')


def test_indexes_may_begin_anywhere() -> None:
    parts = [{"index": at, "id": f"c{at}", "function": {"name": "f", "arguments": "{}"}} for at in (1, 7)]
    assert [call.id for call in calls_of(stream(*({"tool_calls": [part]} for part in parts)))] == ["c1", "c7"]


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0}]},
        {"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "f", "input": "x"}}]},
    ],
)
def test_a_call_of_another_kind_of_tool_is_noticed_only(delta: dict[str, Any]) -> None:
    assert calls_of(stream(delta)) == []


def test_a_tool_call_is_noticed_and_an_empty_list_is_none() -> None:
    decoder = ChunkDecoder(1)
    assert decoder.feed(data(chunk({"tool_calls": []})) + data(chunk({"tool_calls": None}))) == []
    assert not decoder.has_tool_calls


@pytest.mark.parametrize(
    "part",
    [
        {"index": "0", "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 0, "id": 7, "function": {"name": "f", "arguments": "{}"}},
        {"index": 0, "id": "a", "type": "function", "function": [{"name": "f", "arguments": "{}"}]},
    ],
)
def test_fields_of_other_types_are_read(part: dict[str, Any]) -> None:
    assert said(calls_of(stream({"tool_calls": [part]}))) == [("f", "{}")]
    assert said(calls_of(stream({"tool_calls": {"0": part}}))) == [("f", "{}")]


@pytest.mark.parametrize("voice", ["content", "reasoning_content"])
def test_what_might_be_a_tag_comes_before_the_call(voice: str) -> None:
    decoder = ThinkTagDecoder(1)
    got = decoder.feed(data(chunk({voice: "\n\n"})) + data(chunk(next(deltas([TIME], ["whole"])))))
    assert [(got[0].text or got[0].reasoning), got[1].tool_call is not None] == ["\n\n", True]


def split_at(call: Call, cuts: Iterable[int]) -> Call:
    whole = "".join(call.arguments)
    places = sorted({0, *cuts, len(whole)})
    return Call(call.name, tuple(whole[at:to] for at, to in pairwise(places)), call.id)


def in_halves(written: Iterable[dict[str, Any]], chosen: random.Random) -> Iterator[dict[str, Any]]:
    """The deltas. Some characters are split between their two escapes into two of them."""
    for delta in written:
        [part] = delta["tool_calls"]
        arguments = part["function"].get("arguments", "")
        at = next((at for at, each in enumerate(arguments) if each > "\uffff"), None)
        if at is None or chosen.random() < 0.5:
            yield delta
            continue
        high, low = (arguments[at].encode("utf-16-be")[place : place + 2] for place in (0, 2))
        first = arguments[:at] + high.decode("utf-16-be", "surrogatepass")
        rest = low.decode("utf-16-be", "surrogatepass") + arguments[at + 1 :]
        yield {"tool_calls": [{**part, "function": {**part["function"], "arguments": first}}]}
        more = {key: part[key] for key in ("index", "id") if key in part}
        yield {"tool_calls": [{**more, "function": {"arguments": rest}}]}


CUT_STYLES: list[tuple[Style, ...]] = [
    (),
    ("glued",),
    ("zero",),
    ("repeated",),
    ("nulls",),
    ("interleaved",),
    ("no_id",),
    ("no_index", "repeated"),
    ("zero", "repeated", "glued"),
]


@pytest.mark.parametrize("style", CUT_STYLES, ids=" ".join)
def test_no_call_is_corrupted_however_its_arguments_are_cut(style: tuple[Style, ...]) -> None:
    """Some 10,000 streams in all: pieces of any length, bytes in any reads, followed again from any byte."""
    chosen = random.Random(str(style))  # noqa: S311 (no secret)
    for _ in range(1112):
        calls = [split_at(call, chosen.choices(range(60), k=chosen.randrange(6))) for call in CALLS]
        written = list(in_halves(deltas(calls, style), chosen))
        if "no_id" not in style and chosen.random() < 0.3:
            again = chosen.randrange(len(calls))
            [whole] = deltas([calls[again]], ["whole"])
            whole["tool_calls"][0]["index"] = 0 if "zero" in style else again
            written.append(whole)
        body = stream(*written)
        cut, kind = chosen.randrange(len(body)), chosen.choice([ChunkDecoder, ThinkTagDecoder])
        decoder = kind(1)
        decoder.keeps_halves = False
        begun = [*decoder.feed(body[:cut]), *decoder.feed(b"")]
        whole_events = [*begun, *decoder.feed(body[cut:]), *decoder.finish()]
        assert said(folded(whole_events)) == asked(CALLS)
        assert followed_again(kind, body, begun) == folded(whole_events), (cut, body)


def followed_again(kind: type[ChunkDecoder], body: bytes, begun: Sequence[Delta]) -> list[ToolCall]:
    """Return the calls of a run that is read from its start again, behind what is known."""
    known = folded(begun)
    attached = Attached(RUN, 0, 0, 0, tool_calls=tuple(len(call.arguments) for call in known))
    rerun = Rerun(attached, begun[-1].seq if begun else 1)
    decoder = kind(1)
    new = [*rerun.add(decoder.feed(body)), *rerun.add(decoder.finish()), *rerun.end()]
    return folded([*begun, *new])


def test_a_call_that_is_cut_for_good_keeps_what_came() -> None:
    body = b"".join(data(chunk(delta)) for delta in deltas([CITY], ()))
    decoder = ChunkDecoder(1)
    got = decoder.feed(body[: len(body) // 2])
    decoder.failure = UpstreamError("upstream_cut")
    [call] = folded([*got, *decoder.finish()])
    assert call.name == "weather"
    assert "".join(CITY.arguments).startswith(call.arguments)
