"""What must hold for a client and for a log on a server that may forget.

A log's numbers rise by one from entry to entry, except behind a claim. What the server forgot leaves no gap in the log.
A client whose events the server forgot gets the text anew (`restart`, then the text), or is told that the answer is
gone. Until then it may have seen what is in no log any more: each such text is still how the upstream's begins.
"""

from collections.abc import Sequence
from dataclasses import replace

from service.lifecycle import ANSWER, State, Transition
from tests.e2e.logfile import Event, public, unmerged
from tests.faults.checks import Circumstances, as_text, check_end, check_log, check_responses, text_of
from tests.faults.hosts.logs import ANEW, CLAIM, ServerLog
from tests.faults.questions import Question
from tests.faults.viewing import TERMINAL, Viewing

RESTARTED = b"\n[restarted: the answer begins anew]\n"


def renumbered(events: Sequence[Event], log: Sequence[Event]) -> list[Event] | None:
    """Return the events with their places in the log, from 1, as numbers; None if one is not in the log."""
    places = {event["seq"]: place for place, event in enumerate(log, 1)}
    if any(event["seq"] not in places for event in events):
        return None
    return [{**event, "seq": places[event["seq"]]} for event in events]


def check_server_log(log: ServerLog, question: Question, around: Circumstances, *, asked_stop: bool) -> list[str]:
    """Check a log that should have a terminal event."""
    wrong = check_numbers(log)
    for entry in log.entries:
        if entry.kind == ANEW and text_of(entry.events) != log.text_before(entry):
            wrong.append("what was given anew is not the text so far")
    events = renumbered(log.events, log.events)
    assert events is not None
    return wrong + check_log(events, question, around, asked_stop=asked_stop)


def check_numbers(log: ServerLog) -> list[str]:
    """Check that each number is the next one, or behind a claim the one after the claim's, which is higher."""
    before = 0
    for entry in log.entries:
        if entry.kind == CLAIM:
            if entry.seq <= before:
                return ["a claim has a number that is not new"]
        elif [event["seq"] for event in entry.events] != list(range(before + 1, entry.seq + 1)):
            return ["the log's numbers have a gap or a double"]
        before = entry.seq
    return []


def check_server_viewing(
    seen: Viewing, log: ServerLog, around: Circumstances, *, asked_stop: bool, forgotten: bool
) -> list[str]:
    """Check a client's events. `forgotten` tells whether the server forgot anything since the client began."""
    wrong = check_responses(seen)
    if seen.hung:
        wrong.append(f"hung: {seen.hung}")
    if seen.refused:
        return wrong
    if seen.gone:
        if not forgotten:
            wrong.append(f"lost: {seen.refusals[-1].status} for an answer that it had not seen to its end")
        return wrong
    if not seen.answer:
        return wrong if seen.manner.leaves or seen.hung else [*wrong, "neither an answer nor a refusal"]
    if seen.is_text:
        return wrong + _check_text(seen, log, forgotten=forgotten)
    return wrong + _check_events(seen, log, around, asked_stop=asked_stop, forgotten=forgotten)


def _check_events(
    seen: Viewing, log: ServerLog, around: Circumstances, *, asked_stop: bool, forgotten: bool
) -> list[str]:
    events = seen.events()
    if not events:
        return [] if seen.manner.leaves or seen.hung else ["nothing was seen"]
    if events[0]["seq"] != 1 or events[0]["type"] != "start":
        return [f"the first event seen is {events[0]}"]
    numbers = [event["seq"] for event in events]
    if numbers != sorted(set(numbers)):
        return ["numbers came twice or in disorder"]
    if any(event["type"] in TERMINAL for event in events[:-1]):
        return ["events came behind a terminal event"]
    if events[-1]["type"] not in TERMINAL and not (seen.manner.leaves or seen.hung):
        return ["no terminal event was seen"]
    *earlier, last = _parts(events, log)
    wrong = []
    for part in earlier:
        if not forgotten:
            wrong.append("the text was given anew, and nothing had been forgotten")
        wrong += _check_branch(part, seen.question, around, asked_stop=asked_stop)
    return wrong + _check_last(last, seen, log, around, asked_stop=asked_stop, forgotten=forgotten)


def _parts(events: Sequence[Event], log: ServerLog) -> list[list[Event]]:
    """Return the events in parts: each but the first begins with a text that was given anew."""
    parts: list[list[Event]] = [[]]
    for event in events:
        if event["type"] == "restart" and (event.get("again") or log.given_anew(event["seq"])):
            parts.append([])
        parts[-1].append(event)
    return parts


def _check_last(
    events: list[Event],
    seen: Viewing,
    log: ServerLog,
    around: Circumstances,
    *,
    asked_stop: bool,
    forgotten: bool,
) -> list[str]:
    """Check the events since the text was last given anew: they are the log's, as far as they go."""
    anew = log.given_anew(events[0]["seq"])
    shown: list[Event] = list(log.events) if anew is None else [*anew.events, *log.behind(anew)]
    ours, theirs = renumbered(events, shown), renumbered(shown, shown)
    assert theirs is not None
    if ours is None:
        if not forgotten:
            return ["what was seen is not what the log has: a number is not in it"]
        return _check_branch(events, seen.question, around, asked_stop=asked_stop)
    try:
        parts = unmerged(ours, theirs)
    except (AssertionError, KeyError, StopIteration) as error:
        return [f"what was seen is not what the log has: {str(error)[:300]}"]
    if parts != (there := public(theirs))[: len(parts)]:
        place = next((n for n, pair in enumerate(zip(parts, there, strict=False)) if pair[0] != pair[1]), len(there))
        return [f"what was seen parts from the log at its event {place + 1}"]
    if events[-1]["type"] in TERMINAL:
        return check_end(parts, seen.question, around, asked_stop=asked_stop)
    return []


def _check_branch(events: Sequence[Event], question: Question, around: Circumstances, *, asked_stop: bool) -> list[str]:
    """Check what is in no log any more: it is true by itself."""
    if events[-1]["type"] in TERMINAL:
        return check_end(events, question, replace(around, claims_forgotten=True), asked_stop=asked_stop)
    if question.text is not None and not question.text.startswith(text_of(events)):
        return ["the text is not how the upstream's begins"]
    return []


def _check_text(seen: Viewing, log: ServerLog, *, forgotten: bool) -> list[str]:
    logged = as_text(log.events).encode()
    for response in seen.bodies:
        body = bytes(response.body)
        if logged.startswith(body) and not (response.whole and (not log.has_ended or body != logged)):
            continue
        if forgotten:
            # What was given anew is behind a mark. What is in no log any more is true by itself.
            parts = [part.partition(b"\n[") for part in body.split(RESTARTED)]
            text = (seen.question.text or "").encode()
            if not all(text.startswith(part) for part, _, _ in parts):
                return ["the text seen is not how the upstream's begins"]
            if response.whole and not parts[-1][1] and parts[-1][0] != text:
                return ["plain text came to a whole end that is not the whole text"]
        elif not logged.startswith(body):
            return ["the text seen is not how the log's begins"]
        else:
            return ["plain text came to a whole end before the answer did: a cut that looks like an end"]
    return []


def check_producers(moves: Sequence[Transition]) -> list[str]:
    """Check the moves of one producer against the table of an answer's transitions."""
    table = {(row.source, row.cause): row.target for row in ANSWER}
    wrong = []
    state: State | None = None
    for source, cause, target, _ in moves:
        if state is not None and source is not state:
            wrong.append(f"a producer left {state} without a move, for {source}")
        if table.get((source, cause)) is not target:
            wrong.append(f"a transition that is not in the table: {source}, {cause}, {target}")
        state = target
    return wrong
