"""The checks on small logs: each kind of violation is found, and correct logs pass."""

import json
import random
from dataclasses import replace

import pytest

from service.events import Attempt
from service.lifecycle import Cause, State, Transition
from service.upstream.chunks import ChunkDecoder
from tests.e2e.logfile import Event
from tests.faults import questions, viewing
from tests.faults.checks import (
    Circumstances,
    as_text,
    check_damaged,
    check_log,
    check_moves,
    check_viewing,
    check_written,
    text_of,
)
from tests.faults.harness import Happened, held_still
from tests.faults.kinds import DiskFull, Fault, WorkerKilled, WorkerPaused
from tests.faults.questions import Question
from tests.faults.soak import is_flat, thirds
from tests.faults.viewing import Manner, Refusal, Viewing
from tests.faults.wire import Response
from tests.upstream.body import Body, End
from tests.upstream.script import parse

ID = "0" * 32
QUESTION = Question("plain", "k", "", "w1 w2 w3 ", frozenset({"upstream_cut"}))
START: Event = {"type": "start", "seq": 1, "answer": ID, "model": "m"}
CALM = Circumstances()


def log(*rest: Event) -> list[Event]:
    return [START, *({**event, "seq": seq} for seq, event in enumerate(rest, 2))]


def delta(text: str) -> Event:
    return {"type": "delta", "text": text}


DONE: Event = {"type": "done", "finish_reason": "stop"}
WHOLE = log(delta("w1 "), delta("w2 "), delta("w3 "), DONE)


def lines(*events: Event) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def seen(*bodies: bytes, rendering: str = "application/json", whole: bool = True, leaves: bool = False) -> Viewing:
    """A client that was sent these bodies."""
    each = Viewing("1", QUESTION, Manner(rendering, leaves=leaves), answer=ID)
    headers = {"x-answer-id": ID, "content-type": rendering}
    each.responses = [Response("", 200, headers, bytearray(body), whole=whole) for body in bodies]
    return each


@pytest.mark.parametrize(
    ("events", "around", "wrong"),
    [
        (WHOLE, CALM, ""),
        (WHOLE[:-1], CALM, "no terminal event"),
        (log(delta("w1 "), DONE), CALM, "done, with"),
        (log(delta("w2 "), DONE), CALM, "not how the upstream's begins"),
        ([*WHOLE, {**DONE, "seq": 6}], CALM, "behind a terminal"),
        ([*WHOLE[:2], *WHOLE[3:]], CALM, "gap or a double"),
        (log(delta("w1 "), {"type": "restart"}, *WHOLE[1:]), CALM, ""),
        (log({"type": "failed", "code": "upstream_cut"}), CALM, ""),
        (log({"type": "failed", "code": "internal"}), CALM, "failed with internal"),
        (log({"type": "failed", "code": "interrupted"}), CALM, "failed with interrupted"),
        (log({"type": "failed", "code": "interrupted"}), Circumstances("fail", claims="."), ""),
        (log({"type": "failed", "code": "interrupted"}), Circumstances(claims="+...."), ""),
        (log({"type": "failed", "code": "interrupted"}), Circumstances(claims="...+..."), "failed with interrupted"),
        (log({"type": "failed", "code": "interrupted"}), Circumstances(attempts=Attempt(20, 1)), ""),
        (log({"type": "failed", "code": "interrupted"}), Circumstances(attempts=Attempt(7, 6)), ""),
        (log({"type": "failed", "code": "interrupted"}), Circumstances(attempts=Attempt(19, 5)), "with interrupted"),
        (log({"type": "failed", "code": "interrupted"}), Circumstances(claims_forgotten=True), ""),
        (log({"type": "stopped", "by": "user"}), CALM, "who did not ask"),
        (log({"type": "stopped", "by": "unwatched"}), CALM, "was watched"),
        (log({"type": "stopped", "by": "unwatched"}), Circumstances(may_be_unwatched=True), ""),
        (log({"type": "stopped", "by": "shutdown"}), CALM, "stopped by shutdown"),
    ],
)
def test_a_log(events: list[Event], around: Circumstances, wrong: str) -> None:
    found = check_log(events, QUESTION, around, asked_stop=False)
    assert bool(found) == bool(wrong)
    assert wrong in "; ".join(found)


def test_a_log_that_no_walk_through_the_table_writes() -> None:
    restart, stopped = {"type": "restart"}, {"type": "stopped", "by": "user"}
    for events in (WHOLE, log(DONE), log(stopped), log(restart, restart, *WHOLE[1:]), log(delta("w1 "), restart)):
        assert not check_written(events)
    for events in (log(delta("w1 "), START), log(DONE, delta("w1 ")), log(stopped, restart), WHOLE[1:]):
        assert check_written(events)


ASKED = [
    Transition(State.NEW, Cause.ASK, State.BEGUN),
    Transition(State.BEGUN, Cause.STEP, State.WAITING),
    Transition(State.WAITING, Cause.CHUNK, State.STREAMING),
]
CLAIMED = [
    Transition(State.ORPHANED, Cause.CLAIM, State.CLAIMED),
    Transition(State.CLAIMED, Cause.CONTINUE, State.WAITING),
]
ENDED = [
    Transition(State.WAITING, Cause.FINISH, State.FINISHING),
    Transition(State.FINISHING, Cause.LOGGED, State.DONE),
]


@pytest.mark.parametrize(
    ("moves", "wrong"),
    [
        ([*ASKED, *CLAIMED, *ENDED], ""),
        ([*ASKED[:1], *CLAIMED[:1], *CLAIMED, *ENDED], ""),
        ([*CLAIMED, *ENDED], ""),
        ([*ASKED, *ENDED], "left streaming without a move, for waiting"),
        ([*ASKED[:2], *ENDED, *CLAIMED], "left done without a move, for orphaned"),
        ([*ASKED[:2], *ASKED[1:2]], "left waiting without a move, for begun"),
        ([*ASKED[:2], Transition(State.WAITING, Cause.FINISH, State.DONE)], "not in the table"),
        ([*ASKED[:2], Transition(State.WAITING, Cause.LOGGED, State.WAITING)], "not in the table"),
    ],
)
def test_the_moves_of_an_answers_producers(moves: list[Transition], wrong: str) -> None:
    found = check_moves(moves, [])
    assert bool(found) == bool(wrong)
    assert wrong in "; ".join(found)


@pytest.mark.parametrize(
    ("moves", "events", "right"),
    [
        ([*ASKED[:2], *ENDED], WHOLE, True),
        ([*ASKED[:2], *ENDED[:1]], WHOLE, True),
        ([*ASKED[:2], *ENDED], [], True),
        (ASKED, WHOLE[:-1], True),
        (ASKED, WHOLE, False),
        ([*ASKED[:2], *ENDED], WHOLE[:-1], False),
        ([*ASKED[:2], *ENDED], log({"type": "stopped", "by": "user"}), False),
    ],
)
def test_the_last_move_is_what_the_log_ends_with(moves: list[Transition], events: list[Event], *, right: bool) -> None:
    assert right == (not check_moves(moves, events))


@pytest.mark.parametrize(
    ("viewed", "wrong"),
    [
        (seen(lines(*WHOLE)), ""),
        (seen(lines(*WHOLE[:3]) + b'{"type":"del', lines(*WHOLE[3:])), ""),
        (seen(lines(START, {**delta("w1 w2 w3 "), "seq": 4}, WHOLE[-1])), ""),
        (seen(lines(*WHOLE[:3]), lines(*WHOLE[2:])), "not what the log has"),
        (seen(lines(*WHOLE[:2]), lines(*WHOLE[3:])), "not what the log has"),
        (seen(lines(*WHOLE[:2], {**delta("w9 "), "seq": 3})), "not what the log has"),
        (seen(lines(*WHOLE[:3])), "no terminal event was seen"),
        (seen(lines(*WHOLE[:3]), leaves=True), ""),
        (seen(lines(*WHOLE[1:])), "the first event"),
        (seen(as_text(WHOLE).encode(), rendering="text/plain"), ""),
        (seen(b"w1 w2 ", as_text(WHOLE).encode(), rendering="text/plain", whole=False), ""),
        (seen(b"w1 w2 ", rendering="text/plain"), "a cut that looks like an end"),
        (seen(b"w1 w3 ", rendering="text/plain", whole=False), "not how the log's begins"),
        (seen(lines(*WHOLE), rendering="text/event-stream"), "nothing was seen"),
    ],
)
def test_a_client(viewed: Viewing, wrong: str) -> None:
    found = check_viewing(viewed, WHOLE, CALM, asked_stop=False)
    assert bool(found) == bool(wrong)
    assert wrong in "; ".join(found)


def test_a_lost_answer_is_found_unless_its_log_was_damaged() -> None:
    gone = seen(lines(*WHOLE[:2]))
    gone.gone = True
    gone.refusals = [Refusal(0, 404, "unknown_answer", None)]
    assert check_viewing(gone, WHOLE, CALM, asked_stop=False)
    assert not check_damaged(gone, asked_stop=False)


def test_a_refusal_is_in_the_contracts_form_and_never_500() -> None:
    refused = seen()
    refused.refused = True
    refused.refusals = [Refusal(0, 429, "upstream_rate_limited", "7")]
    assert not check_viewing(refused, [], CALM, asked_stop=False)
    refused.refusals = [Refusal(0, 500, "internal", None), Refusal(0, 503, "", "1")]
    assert len(check_viewing(refused, [], CALM, asked_stop=False)) == 2


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (lines(*WHOLE), ""),
        (lines(*WHOLE[:2], {**DONE, "seq": 3}), "the text is not whole"),
        (lines(START, {**delta("forged"), "seq": 2}), "did not send"),
        (lines(*WHOLE[:2], *WHOLE[:2]), "twice"),
    ],
)
def test_a_client_of_a_damaged_log(body: bytes, wrong: str) -> None:
    found = check_damaged(seen(body), asked_stop=False)
    assert bool(found) == bool(wrong)
    assert wrong in "; ".join(found)


def test_a_restart_forgets_the_text_so_far() -> None:
    assert text_of(log(delta("w1 "), {"type": "restart"}, delta("w1 "), delta("w2 "))) == "w1 w2 "


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (reproducible, not secret)


def test_clients_and_questions_follow_from_the_seed() -> None:
    drawn = [(questions.draw(numbers, "k"), viewing.draw(numbers)) for numbers in (seeded(1), seeded(1))]
    assert drawn[0] == drawn[1]
    assert {questions.draw(seeded(seed), "k").kind for seed in range(2000)} == set(questions.KINDS)


@pytest.mark.parametrize("key", ["k", "4711/28/51"])
def test_a_broken_question_is_of_every_way_and_every_manner_of_continuing(key: str) -> None:
    scripts = [parse(json.loads(questions.broken(seeded(seed), key).query)) for seed in range(400)]
    asked = {(script.first[0]["break_how"], script.echo) for script in scripts}
    assert asked == {(how, echo) for how in questions.BROKEN for echo in questions.ECHOES}
    for script in scripts:
        course = Body(replace(script, first=(), **script.first[0]), model="test-model", include_usage=True)
        sent = b"".join(b"".join(beat) for beat in course if not isinstance(beat, End))
        decoder = ChunkDecoder(0)
        assert decoder.feed(sent), "nothing came before the break"


@pytest.mark.parametrize(("recovery", "is_true"), [("continue", False), ("restart", False), ("fail", True)])
def test_a_break_that_can_be_mended_may_end_an_answer_only_where_none_is(recovery: str, *, is_true: bool) -> None:
    failed = log(delta("w1 "), {"type": "failed", "code": "upstream_cut"})
    question = replace(QUESTION, mended=True)
    assert (check_log(failed, question, Circumstances(recovery), asked_stop=False) == []) is is_true
    assert not check_log(failed, QUESTION, Circumstances(recovery), asked_stop=False)


def test_growth_after_the_warm_up_is_told_from_noise() -> None:
    assert thirds([1, 1, 1, 5, 5, 5, 9, 9, 9]) == (1, 9)
    assert is_flat("memory_mib", 400, 430)
    assert not is_flat("memory_mib", 400, 500)
    assert not is_flat("metric_files", 50, 90)


@pytest.mark.parametrize("kind", [WorkerPaused, DiskFull])
@pytest.mark.parametrize(
    ("pauses", "seconds"),
    [
        ((), 0),
        (((0, 9), (21, 22)), 0),
        (((9, 12),), 2),
        (((19, 25),), 1),
        (((11, 14), (12, 13), (13, 16)), 5),
        (((0, 30), (11, 12)), 10),
    ],
)
def test_seconds_of_workers_that_were_held_still_count_once(
    pauses: tuple[tuple[float, float], ...], seconds: float, kind: type[Fault]
) -> None:
    happened = [Happened(kind.name, orphans=False, at=at, until=until) for at, until in pauses]
    happened.append(Happened(WorkerKilled.name, orphans=True, at=10, until=20))
    assert held_still(happened, 10, 20) == seconds
