"""Another Folyam's events, as the upstream of this one."""

import pytest

from service.answer import Attached, fold
from service.events import (
    Delta,
    Done,
    Event,
    Failed,
    Restart,
    Run,
    Seam,
    Start,
    Stopped,
    Timing,
    ToolCall,
    Usage,
    encode_lines,
)
from service.upstream.folyam_events import LINE_BYTES, FolyamDecoder

ID = "0123456789abcdef0123456789abcdef"
RUN = Run(ID, "http://inner:8000")
USAGE = Usage(1, 2, 3)
DONE = Done(9, "length", USAGE, Timing(0.1, 0.2))
ANSWER: list[Event] = [
    Start(1, ID, "model"),
    Delta(2, reasoning="hm "),
    Delta(3, text="A river "),
    Delta(4, seam=Seam("continued", "cut")),
    Delta(5, text="flows"),
    Delta(6, refusal="no"),
    DONE,
]


def decoded(
    events: list[Event], known: Attached | None = None, step: int = 1 << 20
) -> tuple[list[Event], FolyamDecoder]:
    decoder = FolyamDecoder(10, RUN, known)
    data = b"\n" + encode_lines(events) + b"\n"
    got: list[Event] = []
    for at in range(0, len(data), step):
        got += decoder.feed(data[at : at + step])
    if not decoder.done:
        got += decoder.end()
    return got, decoder


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_an_answers_pieces_are_numbered_on(step: int) -> None:
    got, decoder = decoded(ANSWER, step=step)
    assert got == [
        Delta(11, reasoning="hm "),
        Delta(12, text="A river "),
        Delta(13, text="flows"),
        Delta(14, refusal="no"),
    ]
    assert (decoder.done, decoder.finish_reason, decoder.usage, decoder.last_seq) == (True, "length", USAGE, 14)


def test_what_is_known_of_a_run_is_left_out_however_it_is_merged() -> None:
    got, _ = decoded(ANSWER, Attached(RUN, text=len("A ri"), reasoning=3, refusal=0))
    assert got == [Delta(11, text="ver "), Delta(12, text="flows"), Delta(13, refusal="no")]
    merged: list[Event] = [Delta(2, reasoning="hm "), Delta(5, text="A river flows"), DONE]
    got, _ = decoded(merged, Attached(RUN, text=len("A ri"), reasoning=2, refusal=0))
    assert got == [Delta(11, reasoning=" "), Delta(12, text="ver flows")]


CALLING: list[Event] = [
    Delta(2, tool_call=ToolCall(index=0, id="a", name="f", arguments="")),
    Delta(3, tool_call=ToolCall(index=0, arguments='{"x"')),
    Delta(4, tool_call=ToolCall(index=1, id="b", name="g", arguments="{}")),
    Delta(5, tool_call=ToolCall(index=0, arguments=":1}")),
    DONE,
]
MERGED: list[Event] = [
    Delta(3, tool_call=ToolCall(index=0, id="a", name="f", arguments='{"x"')),
    *CALLING[2:],
]


def test_calls_of_tools_are_passed_on() -> None:
    got, decoder = decoded(CALLING)
    assert [event.tool_call for event in got if isinstance(event, Delta)] == [
        event.tool_call for event in CALLING if isinstance(event, Delta)
    ]
    assert decoder.has_tool_calls


@pytest.mark.parametrize("again", [CALLING, MERGED])
@pytest.mark.parametrize("count", range(5))
def test_what_is_known_of_a_call_is_left_out_however_it_is_merged(again: list[Event], count: int) -> None:
    got = list(CALLING[:count])
    state = fold(got)
    known = Attached(RUN, 0, 0, 0, tool_calls=tuple(len(call.arguments) for call in state.tool_calls))
    rest, _ = decoded(again, known)
    assert fold([*got, *rest]).tool_calls == fold(CALLING).tool_calls
    heads = [event.tool_call.id for event in [*got, *rest] if isinstance(event, Delta) and event.tool_call]
    assert sorted(filter(None, heads)) == ["a", "b"]


@pytest.mark.parametrize("known_restarts", [0, 2])
def test_a_text_that_is_told_again_is_none_more_of_the_runs_restarts(known_restarts: int) -> None:
    """Followed again from its start, the run has no such restart, and no word would come behind the one that lacks."""
    known = Attached(Run(RUN.id, RUN.at, known_restarts), 3, 0, 0) if known_restarts else None
    again = Restart(1_795_667_998_131_690, again=True)
    got, _ = decoded([Start(1, ID, "model"), again, Delta(again.seq + 1, text="Anew")], known)
    assert got == [Restart(11), Delta(12, run=Run(RUN.id, RUN.at, known_restarts)), Delta(13, text="Anew")]


def test_a_restart_of_the_upstream_is_one_of_this_answer_and_its_run_goes_on() -> None:
    events: list[Event] = [Delta(2, text="A"), Restart(3), Delta(4, text="B river"), DONE]
    again = Run(ID, RUN.at, 1)
    got, _ = decoded(events)
    assert got == [Delta(11, text="A"), Restart(12), Delta(13, run=again), Delta(14, text="B river")]
    got, _ = decoded(events, Attached(again, text=2, reasoning=0, refusal=0))
    assert got == [Delta(11, text="river")]
    got, _ = decoded(events, Attached(RUN, text=1, reasoning=0, refusal=0))
    assert got == [Restart(11), Delta(12, run=again), Delta(13, text="B river")]


@pytest.mark.parametrize("end", [Stopped(3, "shutdown"), Failed(3, "upstream_cut", "Cut.", retryable=True)])
def test_a_run_that_ended_without_an_answer_is_no_answer(end: Event) -> None:
    got, decoder = decoded([Delta(2, text="A"), end])
    assert got == [Delta(11, text="A")]
    assert decoder.failure is not None
    assert (decoder.failure.code, decoder.run_ended, decoder.done) == ("upstream_error", True, False)
    assert (decoder.usage, decoder.usage_complete) == (None, False)


@pytest.mark.parametrize(
    "end",
    [
        Done(3, "stop", USAGE, Timing(0.1, 0.2), usage_complete=False),
        Stopped(3, "shutdown", USAGE, usage_complete=False),
        Failed(3, "upstream_cut", "Cut.", retryable=True, usage=USAGE, usage_complete=True),
    ],
)
def test_each_end_of_a_run_tells_its_usage_and_whether_that_is_all(end: Done | Stopped | Failed) -> None:
    _, decoder = decoded([Delta(2, text="A"), end])
    assert (decoder.usage, decoder.usage_complete) == (USAGE, end.usage_complete)


def test_a_cut_is_no_end() -> None:
    _, decoder = decoded([Delta(2, text="A")])
    assert decoder.failure is not None
    assert (decoder.failure.code, decoder.run_ended) == ("upstream_truncated", False)


@pytest.mark.parametrize("data", [b"<html>\n", b'{"type":1}\n', b"x" * (LINE_BYTES + 1)])
def test_what_is_no_event_is_malformed(data: bytes) -> None:
    decoder = FolyamDecoder(1, RUN)
    assert decoder.feed(data) == []
    assert decoder.failure is not None
    assert decoder.failure.code == "upstream_malformed"


def test_a_later_versions_events_are_passed_over() -> None:
    decoder = FolyamDecoder(1, RUN)
    assert decoder.feed(b'{"type":"weather","seq":2}\n{"type":"delta","seq":3,"tool":"x"}\n') == []
    assert decoder.failure is None
