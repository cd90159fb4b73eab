"""The state of an answer: the same for any split of its events, with the parts that its readers need."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answer import AnswerState, Attached, Said, fold
from service.events import (
    MAX_SEQ,
    Attempt,
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
)
from service.request import GenerateRequest
from tests.strategies import ANSWER, answers

START = Start(1, ANSWER, "model", GenerateRequest("a question", "model"), 1.5, "owner")
USAGE = Usage(1, 2, 3)
TIMING = Timing(0.1, 0.2)


def known(state: AnswerState) -> dict[str, object]:
    """All that a state says. How its deltas are merged is no part of it."""
    return {
        name: getattr(state, name)
        for name in (
            *("start", "end", "last_seq", "restart_seq", "state", "text", "reasoning", "refusal", "reply"),
            *("tool_calls", "said", "has_unknown_events", "attempt", "usage", "usage_complete", "timing", "failure"),
        )
    }


def pieces(events: list[Event], places: list[int]) -> list[list[Event]]:
    """The events, split at the places."""
    cuts = sorted({place % (len(events) + 1) for place in places} | {0, len(events)})
    return [events[begin:end] for begin, end in pairwise(cuts)]


@given(answers(), st.lists(st.integers(0, 100), max_size=6))
def test_any_split_of_the_events_makes_the_same_state(events: list[Event], places: list[int]) -> None:
    state = AnswerState()
    for piece in pieces(events, places):
        state.advance(piece)
    assert known(state) == known(fold(events))


@given(answers())
def test_a_state_that_was_looked_at_goes_on_as_one_that_was_not(events: list[Event]) -> None:
    state = AnswerState()
    for number, event in enumerate(events, 1):
        state.advance([event])
        assert known(state) == known(fold(events[:number]))


@given(answers())
def test_the_words_are_those_since_the_last_restart(events: list[Event]) -> None:
    last_restart = max((place for place, event in enumerate(events) if isinstance(event, Restart)), default=0)
    said = [event for event in events[last_restart:] if isinstance(event, Delta)]
    state = fold(events)
    assert state.text == "".join(delta.text or "" for delta in said)
    assert state.reasoning == "".join(delta.reasoning or "" for delta in said)
    assert state.refusal == "".join(delta.refusal or "" for delta in said)
    assert state.reply == "".join(delta.text or delta.refusal or "" for delta in said)
    assert state.said is None or state.said == (state.text, state.reasoning)
    assert state.restart_seq == (events[last_restart].seq if last_restart else 0)
    assert state.last_seq == events[-1].seq


def test_before_its_first_event_an_answer_is_running_and_says_nothing() -> None:
    assert known(fold([])) == {
        "start": None,
        "end": None,
        "last_seq": 0,
        "restart_seq": 0,
        "state": "running",
        "text": "",
        "reasoning": "",
        "refusal": "",
        "reply": "",
        "tool_calls": [],
        "said": None,
        "has_unknown_events": False,
        "attempt": Attempt(),
        "usage": None,
        "usage_complete": None,
        "timing": None,
        "failure": None,
    }


FAILED = Failed(3, "upstream_cut", "The connection was cut.", retryable=True)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (Delta(3, refusal="b"), {"state": "running", "text": "a", "refusal": "b", "reply": "ab", "end": None}),
        (Done(3, "stop", USAGE, TIMING), {"state": "done", "usage": USAGE, "timing": TIMING, "failure": None}),
        (Stopped(3, "user"), {"state": "stopped", "usage": None, "timing": None, "end": Stopped(3, "user")}),
        (FAILED, {"state": "failed", "failure": FAILED, "text": "a"}),
        (Restart(3), {"state": "running", "text": "", "restart_seq": 3, "start": START}),
    ],
)
def test_the_last_event_tells_how_the_answer_is(last: Event, expected: dict[str, object]) -> None:
    state = known(fold([START, Delta(2, text="a"), last]))
    assert state["last_seq"] == 3
    assert {name: state[name] for name in expected} == expected


def test_a_delta_in_no_known_voice_is_not_text() -> None:
    """A newer version wrote it, a tool call for instance: an answer with one cannot be continued from its text."""
    state = fold([START, Delta(2, text="a"), Delta(3)])
    assert state.said is None
    assert (state.reply, state.last_seq) == ("a", 3)


def test_the_calls_of_a_run_are_counted_from_its_beginning() -> None:
    run = Delta(2, run=Run("r", "http://x"))
    calls = [
        Delta(4, tool_call=ToolCall(index=0, id="a", name="f", arguments='{"x')),
        Delta(5, tool_call=ToolCall(index=1, id="b", name="g", arguments="")),
        Delta(6, tool_call=ToolCall(index=0, arguments='":1}')),
    ]
    state = fold([START, run, Delta(3, text="Hm."), *calls])
    assert state.attached == Attached(Run("r", "http://x"), 3, 0, 0, None, (7, 0))
    assert state.tool_calls == [
        ToolCall(index=0, id="a", name="f", arguments='{"x":1}'),
        ToolCall(index=1, id="b", name="g", arguments=""),
    ]
    assert state.said is None
    assert fold([START, run, Delta(3, text="Hm."), *calls, Restart(7)]).tool_calls == []
    # Calls before the run cannot be handed back, and calls of another request are not the run's.
    assert fold([START, calls[0], Delta(5, run=Run("r", "http://x")), Delta(6, text="A")]).attached is None
    assert fold([START, run, calls[1]]).attached is None


@pytest.mark.parametrize(
    ("deltas", "said"),
    [
        ([Delta(2, text="a"), Delta(3, seam=Seam("continued", "cut")), Delta(4, text="b")], Said("ab")),
        ([Delta(2, reasoning="r"), Delta(3, reasoning="s")], Said("", "rs")),
        ([Delta(2, reasoning="r"), Delta(3, text="a")], Said("a", "r")),
        ([Delta(2, text="a"), Delta(3, reasoning="r")], None),
        ([Delta(2, text="a"), Delta(3, refusal="b")], None),
        ([Delta(2, text="a"), Restart(3)], None),
        ([Delta(2, refusal="a"), Restart(3), Delta(4, text="b")], Said("b")),
    ],
)
def test_a_model_can_go_on_from_text_and_the_reasoning_before_it(deltas: list[Event], said: Said | None) -> None:
    assert fold([START, *deltas]).said == said


def test_neighbours_that_come_together_are_kept_as_one() -> None:
    """A long history takes as much memory as its words."""
    state = fold([START, *(Delta(seq, text="a") for seq in range(2, 1002))])
    assert state.deltas == [Delta(1001, text="a" * 1000)]


@pytest.mark.parametrize(
    ("events", "unknown_seq", "has_unknown_events"),
    [
        ([START, Delta(2, "a"), Delta(3, "b")], 0, False),
        ([START, Delta(2, "a"), Delta(MAX_SEQ - 1, "b")], 0, False),
        ([START, Delta(3, "a")], 2, True),
        ([START, Delta(2, "a")], 3, True),
        ([START, Delta(3, "a"), Restart(4), Delta(5, "b")], 2, False),
        ([START, Restart(2), Delta(4, "b")], 3, True),
    ],
)
def test_an_event_since_the_last_restart_may_be_unknown_to_this_version(
    events: list[Event],
    unknown_seq: int,
    has_unknown_events: bool,  # noqa: FBT001
) -> None:
    state = fold(events)
    state.unknown_seq = unknown_seq
    assert state.has_unknown_events == has_unknown_events
