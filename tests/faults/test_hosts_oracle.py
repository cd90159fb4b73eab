"""The oracle of logs that may forget accuses what is wrong, and nothing else."""

import json
from collections.abc import Sequence

from tests.e2e.client import JSON_LINES, TEXT
from tests.e2e.logfile import Event
from tests.faults.checks import Circumstances
from tests.faults.hosts.logs import ANEW, CLAIM, EVENTS, LogEntry, ServerLog
from tests.faults.hosts.oracle import check_numbers, check_server_log, check_server_viewing
from tests.faults.questions import Question
from tests.faults.viewing import Manner, Refusal, Viewing
from tests.faults.wire import Response

QUESTION = Question("plain", "key", "query", "w1 w2 w3 ")
CLAIMED = 1_700_000_000_000_000
"""The number of a claim."""
RENEWED = CLAIMED + 1000


def start() -> Event:
    return {"type": "start", "seq": 1, "answer": "a", "model": "m"}


def delta(seq: int, text: str) -> Event:
    return {"type": "delta", "seq": seq, "text": text}


def restart(seq: int) -> Event:
    return {"type": "restart", "seq": seq, "again": True}


def done(seq: int) -> Event:
    return {"type": "done", "seq": seq, "finish_reason": "stop"}


def entry(*events: Event, kind: str = EVENTS) -> LogEntry:
    return LogEntry(events[-1]["seq"], kind, events, "", b"")


def claim(seq: int, claimer: str = "other") -> LogEntry:
    return LogEntry(seq, CLAIM, (), claimer, b"")


def log(*entries: LogEntry) -> ServerLog:
    return ServerLog("a", entries)


WHOLE = log(
    entry(start()),
    entry(delta(2, "w1 ")),
    claim(CLAIMED),
    entry(delta(CLAIMED + 1, "w2 "), delta(CLAIMED + 2, "w3 ")),
    entry(done(CLAIMED + 3)),
)
AGAIN = log(
    entry(start()),
    entry(delta(2, "w1 ")),
    claim(CLAIMED),
    entry(delta(CLAIMED + 1, "w2 ")),
    claim(RENEWED),
    entry(restart(RENEWED + 1), delta(RENEWED + 2, "w1 w2 "), kind=ANEW),
    entry(delta(RENEWED + 3, "w3 ")),
    entry(done(RENEWED + 4)),
)
"""With the text given anew for a client that saw more of the first producer's than the log kept."""


def seen(events: Sequence[Event], rendering: str = JSON_LINES) -> Viewing:
    viewing = Viewing("1", QUESTION, Manner(rendering), answer="a")
    body = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    headers = {"x-answer-id": "a", "content-type": rendering}
    viewing.responses.append(Response("GET", 200, headers, bytearray(body), whole=True))
    return viewing


def said(text: str) -> Viewing:
    viewing = seen([], TEXT)
    viewing.responses[0].body = bytearray(text.encode())
    return viewing


def accused(viewing: Viewing, of: ServerLog, *, forgotten: bool = False) -> list[str]:
    return check_server_viewing(viewing, of, Circumstances(), asked_stop=False, forgotten=forgotten)


def accused_log(of: ServerLog) -> list[str]:
    return check_server_log(of, QUESTION, Circumstances(), asked_stop=False)


def test_a_log_with_a_take_over_is_sound() -> None:
    assert not accused_log(WHOLE)
    assert WHOLE.claims == "+"


def test_a_log_with_a_text_given_anew_is_sound_and_the_renewal_is_no_take_over() -> None:
    assert not accused_log(AGAIN)
    assert AGAIN.claims == "+"


def test_a_gap_a_double_and_an_old_number_are_found() -> None:
    assert check_numbers(log(entry(start()), entry(delta(3, "w1 "))))
    assert check_numbers(log(entry(start()), entry(delta(1, "w1 "))))
    assert check_numbers(log(entry(start()), entry(delta(2, "w1 ")), claim(2)))
    assert check_numbers(log(entry(start()), claim(CLAIMED), entry(delta(2, "w1 "))))


def test_a_text_given_anew_that_is_not_the_text_so_far_is_found() -> None:
    entries = list(AGAIN.entries)
    entries[5] = entry(restart(RENEWED + 1), delta(RENEWED + 2, "w1 "), kind=ANEW)
    assert accused_log(log(*entries)) == ["what was given anew is not the text so far"]


def test_an_answer_without_an_end_is_found() -> None:
    assert "no terminal event came" in accused_log(log(*WHOLE.entries[:-1]))


def test_a_client_that_saw_the_log_is_sound_with_deltas_merged_too() -> None:
    assert not accused(seen(WHOLE.events), WHOLE)
    merged = [start(), delta(2, "w1 "), delta(CLAIMED + 2, "w2 w3 "), done(CLAIMED + 3)]
    assert not accused(seen(merged), WHOLE)


def test_a_reader_with_its_place_passes_over_what_is_given_anew() -> None:
    assert not accused(seen(AGAIN.events), AGAIN)


def test_a_client_that_skipped_an_event_is_found() -> None:
    assert accused(seen([event for event in WHOLE.events if event["seq"] != CLAIMED + 1]), WHOLE, forgotten=True)


def test_who_saw_what_was_forgotten_gets_the_text_anew() -> None:
    events = [
        start(),
        delta(2, "w1 "),
        delta(3, "w2 "),
        restart(RENEWED + 1),
        delta(RENEWED + 2, "w1 w2 "),
        delta(RENEWED + 3, "w3 "),
        done(RENEWED + 4),
    ]
    assert not accused(seen(events), AGAIN, forgotten=True)
    assert accused(seen(events), AGAIN) == ["the text was given anew, and nothing had been forgotten"]
    behind = [*events[:5], done(RENEWED + 4)]
    assert accused(seen(behind), AGAIN, forgotten=True), "an event is missing behind it"


def test_who_goes_on_behind_what_was_forgotten_without_the_text_anew_is_found() -> None:
    events = [start(), delta(2, "w1 "), delta(3, "w2 "), delta(CLAIMED + 1, "w2 "), delta(CLAIMED + 2, "w3 ")]
    wrong = accused(seen([*events, done(CLAIMED + 3)]), WHOLE, forgotten=True)
    assert "the text is not how the upstream's begins" in wrong


def test_an_end_that_was_forgotten_is_true_by_itself() -> None:
    events = [start(), delta(2, "w1 "), delta(3, "w2 "), delta(4, "w3 "), done(5)]
    assert not accused(seen(events), WHOLE, forgotten=True)
    assert accused(seen(events), WHOLE)
    assert accused(seen([*events[:3], done(4)]), WHOLE, forgotten=True), "the text is not whole"


def test_an_answer_is_gone_only_if_something_was_forgotten() -> None:
    viewing = seen([start()])
    viewing.gone = True
    viewing.refusals.append(Refusal(0.0, 404, "unknown_answer", None))
    assert not accused(viewing, log(), forgotten=True)
    assert accused(viewing, log())


def test_numbers_that_do_not_rise_are_found() -> None:
    events = [start(), delta(2, "w1 "), delta(2, "w1 ")]
    assert accused(seen(events), WHOLE, forgotten=True) == ["numbers came twice or in disorder"]


def test_plain_text_is_whole_and_begins_anew_behind_a_mark_only_if_something_was_forgotten() -> None:
    assert not accused(said("w1 w2 w3 "), WHOLE)
    assert accused(said("w1 w2 "), WHOLE)
    assert accused(said("w1 w2 "), WHOLE, forgotten=True)
    anew = said("w1 w2 \n[restarted: the answer begins anew]\nw1 w2 w3 ")
    assert accused(anew, WHOLE)
    assert not accused(anew, WHOLE, forgotten=True)
    assert accused(said("w2 \n[restarted: the answer begins anew]\nw1 w2 w3 "), WHOLE, forgotten=True)
