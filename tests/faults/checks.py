"""The invariant of a client and of a log, as functions that return violations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.events import Attempt, Delta, decode_any
from service.lifecycle import ANSWER, ENDED, PRODUCED, WRITES_MANY, Cause, State, Transition
from service.recovery import NONE_BEFORE, is_given_up
from tests.e2e.logfile import Event, public, read_log, unmerged
from tests.faults.questions import Question
from tests.faults.viewing import TERMINAL, Viewing

CLAIMS_WITHOUT_GROWTH_LIMIT = 3
"""Claims after deaths without growth after which the service gives an answer up."""


@dataclass(frozen=True)
class Circumstances:
    """Events that may have affected an answer, apart from its upstream's behaviour."""

    recovery: str = "continue"
    claims: str = ""
    """Its take-overs: `+` for each after which it grew, `.` for each other."""
    attempts: Attempt = NONE_BEFORE
    """Its last further request to the upstream, which the log has."""
    claims_forgotten: bool = False
    """Whether there may have been more: the service forgets claims after a minute of wall-clock time."""
    keeps_runs: bool = False
    """Whether the upstream keeps its runs. It ends the response of one that breaks off, as any other."""
    may_be_unwatched: bool = False
    disk_full: bool = False
    damaged: bool = False
    """Whether the harness truncated or deleted its log."""

    @property
    def codes(self) -> frozenset[str]:
        """Codes of `failed` events that are true in these circumstances, with any script of the upstream."""
        codes = set()
        without_growth = len(self.claims) - len(self.claims.rstrip("."))
        given_up = without_growth > CLAIMS_WITHOUT_GROWTH_LIMIT or is_given_up(self.attempts)
        if given_up or self.claims_forgotten or (self.recovery == "fail" and self.claims):
            codes.add("interrupted")
        if self.keeps_runs:
            codes.add("upstream_truncated")
        if self.disk_full or self.damaged:
            codes |= {"log_full", "log_unavailable"}
        return frozenset(codes)


def text_of(events: Sequence[Event]) -> str:
    """Return the text that a screen shows after the events."""
    parts: list[str] = []
    for event in events:
        if event["type"] == "restart":
            parts.clear()
        elif event["type"] == "delta":
            parts.append(event.get("text", ""))
    return "".join(parts)


def as_text(events: Sequence[Event]) -> str:
    """Return the events as plain text, in which an incomplete answer ends with a line in brackets."""
    parts = []
    for event in events:
        match event["type"]:
            case "delta":
                parts.append(event.get("text") or event.get("refusal") or "")
            case "restart":
                parts.append("\n[restarted: the answer begins anew]\n")
            case "stopped":
                parts.append(f"\n[stopped: {event['by']}]\n")
            case "failed":
                parts.append(f"\n[failed: {event['message']}]\n")
    return "".join(parts)


def check_log(log: Sequence[Event], question: Question, around: Circumstances, *, asked_stop: bool) -> list[str]:
    """Check a log that should have a terminal event."""
    if not log:
        return ["the log is empty"]
    wrong = []
    if [event["seq"] for event in log] != list(range(1, len(log) + 1)):
        wrong.append("the log's numbers have a gap or a double")
    if log[0]["type"] != "start" or any(event["type"] == "start" for event in log[1:]):
        wrong.append("the log does not begin with its one start")
    if any(event["type"] in TERMINAL for event in log[:-1]):
        wrong.append("the log goes on behind a terminal event")
    wrong += check_written(log)
    if log[-1]["type"] not in TERMINAL:
        return [*wrong, "no terminal event came"]
    return [*wrong, *check_end(log, question, around, asked_stop=asked_stop)]


def check_written(log: Sequence[Event]) -> list[str]:
    """Check that a path through the table of an answer's transitions writes this log."""
    states = {State.NEW}
    for event in log:
        kind, states = event["type"], _silently_reached(states)
        states = {row.target for row in ANSWER if row.source in states and row.writes == kind} | {
            state for state in states if WRITES_MANY.get(state) == kind
        }
        if not states:
            return [f"no walk through the lifecycle's table writes this {kind}"]
    return []


def _silently_reached(states: set[State]) -> set[State]:
    """Return the states, and all states that transitions without an event reach from them."""
    reached = set(states)
    while more := {row.target for row in ANSWER if row.source in reached and not row.writes} - reached:
        reached |= more
    return reached


def check_moves(moves: Sequence[Transition], log: Sequence[Event]) -> list[str]:
    """Check the moves of an answer's producers in order, against the table and the end of the log.

    The log is empty where the answer was erased or has expired. A producer whose worker dies moves no more; its last
    move may not have been recorded. The next producer begins with an orphan.
    """
    table = {(row.source, row.cause): row.target for row in ANSWER}
    wrong = []
    state = State.NEW
    for source, cause, target, _ in moves:
        died = source is State.ORPHANED and state in (State.NEW, *PRODUCED)
        if source is not state and not died:
            wrong.append(f"a producer left {state} without a move, for {source}")
        if table.get((source, cause)) is not target:
            wrong.append(f"a transition that is not in the table: {source}, {cause}, {target}")
        state = target
    if log:
        end = log[-1]["type"]
        if end in TERMINAL or state in ENDED:
            said = table.get((state, Cause.LOGGED), state)  # killed before it recorded its move
            if end != said:
                wrong.append(f"the log ends with {end}, and its last producer with {state}")
    return wrong


def moves_of(file: Path) -> dict[str, list[Transition]]:
    """Return the moves that the workers recorded, in order, by answer."""
    moves: dict[str, list[Transition]] = {}
    for (answer, _), made in moves_of_producers(file).items():
        moves.setdefault(answer, []).extend(made)
    return moves


def moves_of_producers(file: Path) -> dict[tuple[str, str], list[Transition]]:
    """Return the moves that the workers recorded, in order, by answer and producer."""
    moves: dict[tuple[str, str], list[Transition]] = {}
    for line in file.read_text(encoding="ascii").splitlines():
        answer, source, cause, target, producer = line.split("\t")
        moves.setdefault((answer, producer), []).append(Transition(State(source), Cause(cause), State(target)))
    return moves


def check_end(events: Sequence[Event], question: Question, around: Circumstances, *, asked_stop: bool) -> list[str]:
    """Check that a terminal event is true."""
    end, text = events[-1], text_of(events)
    wrong = []
    if question.text is not None and not question.text.startswith(text):
        wrong.append("the text is not how the upstream's begins")
    match end["type"]:
        case "done":
            if not _is_whole(text, question):
                wrong.append(f"done, with {len(text)} characters that are not the whole text")
        case "stopped":
            if end["by"] == "user" and not asked_stop:
                wrong.append("stopped by a user who did not ask")
            if end["by"] == "unwatched" and not around.may_be_unwatched:
                wrong.append("stopped as unwatched, and was watched")
            if end["by"] not in ("user", "unwatched"):
                wrong.append(f"stopped by {end['by']}")
        case "failed":
            own = question.codes if around.recovery == "fail" or not question.mended else frozenset[str]()
            if end["code"] not in own | around.codes:
                wrong.append(f"failed with {end['code']}, though nothing made that true")
    return wrong


def _is_whole(text: str, question: Question) -> bool:
    return text == question.text or (question.text is None and bool(text))


def check_viewing(viewing: Viewing, log: Sequence[Event], around: Circumstances, *, asked_stop: bool) -> list[str]:
    """Check a client's events against the log."""
    wrong = check_responses(viewing)
    if viewing.hung:
        wrong.append(f"hung: {viewing.hung}")
    if viewing.refused:
        return wrong
    if viewing.gone:
        if not around.damaged:
            wrong.append(f"lost: {viewing.refusals[-1].status} for an answer that it had not seen to its end")
        return wrong
    if not viewing.answer:
        if not (viewing.manner.leaves or viewing.hung):
            wrong.append("neither an answer nor a refusal")
        return wrong
    if viewing.is_text:
        return wrong + _check_text(viewing, log)
    return wrong + _check_events(viewing, log, around, asked_stop=asked_stop)


def check_responses(viewing: Viewing) -> list[str]:
    """Check the properties that every response has, with any faults."""
    wrong = []
    for response in viewing.bodies:
        if viewing.answer != response.headers.get("x-answer-id"):
            wrong.append("two responses of one answer name different answers")
        if response.headers.get("content-type", "").partition(";")[0] != viewing.manner.rendering:
            wrong.append("the rendering is not the one asked for")
    for refusal in viewing.refusals:
        if refusal.status not in (204, 404, 429, 502, 503, 504):
            wrong.append(f"refused with {refusal.status} {refusal.code}")
        elif refusal.status != 204 and not refusal.code:
            wrong.append(f"refused with {refusal.status} in another form than the contract's")
        if refusal.code == "upstream_rate_limited" and refusal.retry_after != "7":
            wrong.append("the upstream's Retry-After was lost")
    return wrong


def _check_events(viewing: Viewing, log: Sequence[Event], around: Circumstances, *, asked_stop: bool) -> list[str]:
    seen = viewing.events()
    if not seen:
        return [] if viewing.manner.leaves or viewing.hung else ["nothing was seen"]
    if seen[0]["seq"] != 1 or seen[0]["type"] != "start":
        return [f"the first event seen is {seen[0]}"]
    try:
        parts = unmerged(seen, log)
    except (AssertionError, KeyError, StopIteration) as error:
        return [f"what was seen is not what the log has: {str(error)[:300]}"]
    shown = public(log)
    if parts != shown[: len(parts)]:
        place = next((n for n, pair in enumerate(zip(parts, shown, strict=False)) if pair[0] != pair[1]), len(shown))
        return [f"what was seen parts from the log at its event {place + 1}"]
    if seen[-1]["type"] in TERMINAL:
        return check_end(parts, viewing.question, around, asked_stop=asked_stop)
    return [] if viewing.manner.leaves or viewing.hung else ["no terminal event was seen"]


def _check_text(viewing: Viewing, log: Sequence[Event]) -> list[str]:
    if not log:
        return ["there is no log"]
    whole = as_text(log).encode()
    for response in viewing.bodies:
        if not whole.startswith(response.body):
            return ["the text seen is not how the log's begins"]
        if response.whole and (log[-1]["type"] not in TERMINAL or bytes(response.body) != whole):
            return ["plain text came to a whole end before the answer did: a cut that looks like an end"]
    return []


def check_damaged(viewing: Viewing, *, asked_stop: bool) -> list[str]:
    """Check a client whose answer's log was damaged: no hang, no forged text, no false success."""
    wrong = [f"hung: {viewing.hung}"] if viewing.hung else []
    question = viewing.question
    if viewing.is_text:
        for response in viewing.bodies:
            text = response.body.decode(errors="replace")
            if response.whole and "\n[" not in text and text != question.text:
                wrong.append("plain text came to a whole end that is not the whole text")
        return wrong
    try:
        seen = viewing.events()
    except ValueError:
        return [*wrong, "what came is not JSON"]
    numbers = [event["seq"] for event in seen]
    if numbers != sorted(set(numbers)):
        wrong.append("numbers came twice or in disorder")
    for event in seen:
        if question.text is not None and event.get("text", "") not in question.text:
            wrong.append("a text came that the upstream did not send")
            break
    if seen and seen[-1]["type"] == "done" and text_of(seen) != question.text:
        wrong.append("done, and the text is not whole")
    if seen and seen[-1]["type"] == "stopped" and seen[-1]["by"] == "user" and not asked_stop:
        wrong.append("stopped by a user who did not ask")
    return wrong


def log_of(directory: Path, answer: str) -> list[Event]:
    """Return the answer's log; empty if there is none or if it cannot be read."""
    try:
        return read_log(directory, answer)
    except (OSError, ValueError):
        return []


def claims_of(directory: Path, answer: str) -> str:
    """Return the answer's take-overs that the service remembers: see `Circumstances.claims`."""
    try:
        return (directory / f"{answer}.claims").read_text(encoding="ascii")
    except OSError:
        return ""


def attempts_of(directory: Path, answer: str) -> Attempt:
    """Return the answer's last further request to the upstream; one that is none where the log has none."""
    try:
        lines = (directory / f"{answer}.jsonl").read_bytes().splitlines()
        events = [decode_any(line) for line in lines if b'"attempt":' in line]
    except (OSError, ValueError):
        return NONE_BEFORE
    made = [event.attempt for event in events if isinstance(event, Delta) and event.attempt is not None]
    return made[-1] if made else NONE_BEFORE
