"""Logs as producers write them, for protocols whose clients put the answer together again."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

from service.events import Delta, Event, Restart, Seam, Start, ToolCall
from service.renderings.base import Rendering
from service.request import Via
from tests.strategies import ANSWER, terminals, texts

NAMES = ("get", "put", "größe")
"""The tools that are called, each once at most."""


def call(seq: int, index: int, arguments: str, *, begins: bool) -> Delta:
    """Return a piece of a call."""
    named = {"id": f"call_{index}", "name": NAMES[index]} if begins else {}
    return Delta(seq, tool_call=ToolCall(index=index, arguments=arguments, **named))


@st.composite
def logs(draw: st.DrawFn, *, via: Via | None = None, restarts: bool = True) -> list[Event]:
    """An answer that has ended: voices and calls in any order, with seams and restarts between them."""
    events: list[Event] = [Start(1, ANSWER, "model", via=via)]
    begun: set[int] = set()
    for seq in range(2, 2 + draw(st.integers(0, 10))):
        kind = draw(st.sampled_from(["text", "reasoning", "refusal", "call", "call", "seam", "restart"]))
        if kind == "restart" and restarts:
            events.append(Restart(seq))
            begun.clear()
        elif kind in ("seam", "restart"):
            events.append(Delta(seq, seam=Seam("continued", "takeover")))
        elif kind == "call":
            index = draw(st.integers(0, len(NAMES) - 1))
            events.append(
                call(
                    seq,
                    index,
                    draw(st.sampled_from(['{"a":1}', '{"a', '":1}', "", "[]", "{", "\n"]) | texts),
                    begins=index not in begun,
                )
            )
            begun.add(index)
        else:
            events.append(Delta(seq, **{kind: draw(texts)}))  # type: ignore[arg-type] # none is a call
    events.append(draw(terminals(len(events) + 1)))
    return events


places = st.lists(st.integers(0, 100), max_size=4)


def body_of(rendering: Rendering, events: Sequence[Event], places: Sequence[int] = (), *, late: bool = False) -> bytes:
    """Return the body of a follower that gets the log in pieces. A late one comes behind the last restart."""
    encoder = rendering.encoder(ANSWER)
    last = max((event.seq for event in events if isinstance(event, Restart)), default=0)
    if late and last:
        encoder.abandon(last)
    body = rendering.opening
    cuts = sorted({0, len(events), *(place % len(events) for place in places)})
    for begin, end in pairwise(cuts):
        if not encoder.finished:
            body += encoder.encode(events[begin:end])
    return body if encoder.finished else body + rendering.closing
