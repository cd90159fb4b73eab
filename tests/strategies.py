"""Hypothesis strategies: arbitrary events and requests."""

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

from service.events import Delta, Done, Event, Failed, Restart, Start, Stopped, Timing, ToolCall, Usage
from service.request import GenerateRequest, Request, Turn, Via

ANSWER = "0123456789abcdef0123456789abcdef"

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    # Characters that break line-based and quoted formats, more often than at random.
    st.text(st.sampled_from('\r\n\0\x0b\x0c\x1b\x85\u2028\u2029"\\{}:, \ufeff\ufffdd😀é')),
    st.sampled_from(["\n\nevent: done\ndata: {}\n\n", "\r\rid: x\r\r", ":\n\n", "[DONE]", '"}\n{"type":"done"}', ""]),
)
counts = st.integers(0, 1 << 40)
seconds = st.floats(0, 1e6, allow_nan=False)

turns = st.builds(Turn, role=st.sampled_from(["user", "assistant", "system"]), content=texts)
generate_requests = st.builds(
    GenerateRequest,
    query=texts,
    model=texts,
    history=st.lists(turns, max_size=3).map(tuple),
    temperature=st.none() | st.floats(0, 2),
    max_tokens=st.none() | st.integers(1, 10**6),
    traceparent=texts,
)
"""Any request of `/generate`."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
requests = generate_requests.map(GenerateRequest.neutral) | st.builds(
    Request,
    model=texts,
    messages=st.lists(
        turns
        | turns.map(msgspec.to_builtins)
        | st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "name"]) | texts, json_values, max_size=4),
        max_size=3,
    ).map(tuple),
    parameters=st.dictionaries(
        st.sampled_from(["temperature", "max_tokens", "tools"]) | texts, json_values, max_size=3
    ),
    traceparent=texts,
)
"""Any neutral request."""
details = st.none() | st.dictionaries(texts, st.none() | counts, max_size=3)
usages = st.builds(Usage, counts, counts, counts, details, details)
timings = st.builds(Timing, st.none() | seconds, seconds)


def as_read(asked: Request) -> Request:
    """The request as read from a log: its messages and parameters are raw JSON."""
    return msgspec.json.decode(msgspec.json.encode(asked), type=Request)


ways = st.builds(Via, texts, st.dictionaries(texts, json_values, max_size=3), st.booleans()).map(
    lambda via: msgspec.json.decode(msgspec.json.encode(via), type=Via)
)
"""Any way in which an answer was asked for, as read from a log: what is repeated of the request is raw JSON."""


def starts(seq: int = 1) -> st.SearchStrategy[Start]:
    at = st.floats(0, 2e9, allow_nan=False)
    return st.one_of(
        st.builds(Start, st.just(seq), st.just(ANSWER), texts, at=at),
        st.builds(Start, st.just(seq), st.just(ANSWER), texts, st.none() | generate_requests, at, texts, st.none()),
        st.builds(Start, st.just(seq), st.just(ANSWER), texts, st.none(), at, texts, requests.map(as_read)),
        st.builds(Start, st.just(seq), st.just(ANSWER), texts, generate_requests, at, texts, st.none(), ways),
    )


def tool_calls(words: st.SearchStrategy[str] = texts) -> st.SearchStrategy[ToolCall]:
    """Pieces of calls, and whole ones."""
    return st.builds(
        ToolCall,
        index=st.integers(0, 3),
        id=st.just("") | words,
        name=st.just("") | words,
        arguments=words,
    )


def deltas(seq: int, words: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Delta]:
    return st.one_of(
        st.builds(Delta, st.just(seq), text=words),
        st.builds(Delta, st.just(seq), reasoning=words),
        st.builds(Delta, st.just(seq), refusal=words),
        st.builds(Delta, st.just(seq), tool_call=tool_calls(words)),
    )


def terminals(seq: int) -> st.SearchStrategy[Event]:
    return st.one_of(
        st.builds(Done, st.just(seq), texts, st.none() | usages, timings, st.sampled_from([UNSET, False])),
        st.builds(Stopped, st.just(seq), st.sampled_from(["user", "unwatched", "shutdown"])),
        st.builds(
            Stopped,
            st.just(seq),
            st.sampled_from(["user", "unwatched", "shutdown"]),
            st.none() | usages,
            st.booleans(),
            timings,
        ),
        st.builds(Failed, st.just(seq), texts, texts, st.booleans()),
        st.builds(Failed, st.just(seq), texts, texts, st.booleans(), st.none() | usages, st.booleans(), timings),
    )


def any_event(seq: int = 7) -> st.SearchStrategy[Event]:
    return st.one_of(starts(seq), deltas(seq), st.builds(Restart, st.just(seq), st.booleans()), terminals(seq))


@st.composite
def answers(draw: st.DrawFn, most_events: int = 8) -> list[Event]:
    """The first events of a log, with or without an end."""
    seqs = range(2, 2 + draw(st.integers(0, most_events)))
    events: list[Event] = [draw(starts())]
    events += [draw(deltas(seq)) if draw(st.integers(0, 9)) else Restart(seq) for seq in seqs]
    if draw(st.booleans()):
        events.append(draw(terminals(len(events) + 1)))
    return events
