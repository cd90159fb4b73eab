"""The calls of tools in an answer, in the ways in which servers split them into deltas. Pure."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Literal

Style = Literal[
    "whole", "zero", "repeated", "no_id", "no_index", "nulls", "objects", "glued", "interleaved", "function_call"
]


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str = "look_up"
    arguments: tuple[str, ...] = ("{}",)
    """The pieces of the arguments, which are JSON once they are put together."""
    id: str = ""
    """Without one it is `call_1`, `call_2`, …"""


def deltas(calls: Sequence[Call], style: Sequence[Style]) -> Iterator[dict[str, Any]]:
    """Yield the deltas that make the calls. By default as OpenAI does: one call behind the other, piece by piece.

    `whole`: all calls in one delta. `zero`: all with index 0. `repeated`: id and name in each piece. `no_id`,
    `no_index`: without these. `nulls`: null in place of what a further piece does not repeat. `objects`: the arguments
    as an object, whole. `glued`: the first piece has the first arguments. `interleaved`: parallel calls take turns.
    `function_call`: the first call in the form before tools.
    """
    if "function_call" in style:
        yield from ({"function_call": each["function"]} for each in _pieces(0, calls[0], style))
        return
    pieces = [list(_pieces(index, call, style)) for index, call in enumerate(calls)]
    if "whole" in style:
        yield {"tool_calls": list(chain.from_iterable(pieces))}
        return
    turns: Iterable[Any] = zip_longest(*pieces) if "interleaved" in style else pieces
    for piece in chain.from_iterable(turns):
        if piece is not None:
            yield {"tool_calls": [piece]}


def message_calls(calls: Sequence[Call], style: Sequence[Style]) -> dict[str, Any]:
    """Return the field of a whole message that has the calls."""
    [delta] = deltas(calls, (*style, "whole")) if "function_call" not in style else [{}]
    if not delta:
        return {"function_call": {"name": calls[0].name, "arguments": "".join(calls[0].arguments)}}
    for piece in delta["tool_calls"]:
        piece.pop("index", None)
    return delta


def _pieces(index: int, call: Call, style: Sequence[Style]) -> Iterator[dict[str, Any]]:
    named: dict[str, Any] = {"id": call.id or f"call_{index + 1}", "type": "function"}
    if "no_id" in style:
        del named["id"]
    place = {} if "no_index" in style else {"index": 0 if "zero" in style else index}
    said: list[Any] = list(call.arguments)
    if "objects" in style:
        said = [json.loads("".join(said))]
    elif "whole" in style:
        said = ["".join(said)]
    elif "glued" not in style:
        said = ["", *said]
    for number, arguments in enumerate(said):
        if not number or "repeated" in style:
            yield {**place, **named, "function": {"name": call.name, "arguments": arguments}}
        elif "nulls" in style:
            yield {**place, **dict.fromkeys(named), "function": {"name": None, "arguments": arguments}}
        else:
            yield {**place, "function": {"arguments": arguments}}
