"""The states of an answer, and every transition between them. Every decision between states is in this module.

The producer changes its state by `move` alone. Where the table has no transition, `move` raises. A producer takes that
as a defect like any other: it logs it, and the answer ends as `failed` with the code `internal`.

`python -m service.lifecycle` prints the diagram and the tables of docs/lifecycle.md. This module imports nothing of
ours.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """A state of an answer, or, in `WATCH`, of its audience."""

    NEW = "new"
    BEGUN = "begun"
    CLAIMED = "claimed"
    WAITING = "waiting"
    STREAMING = "streaming"
    BROKEN = "broken"
    LEAVING = "leaving"
    STOPPING = "stopping"
    FINISHING = "finishing"
    FAILING = "failing"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    ORPHANED = "orphaned"
    LOST = "lost"
    GONE = "gone"

    WATCHED = "watched"
    UNWATCHED = "unwatched"

    __hash__ = str.__hash__  # `Enum`'s is a function in Python.


class Cause(StrEnum):
    """The cause of a transition."""

    ASK = "ask"
    CLAIM = "claim"
    STEP = "first step"
    CONTINUE = "continue"
    RESTART = "restart"
    GIVE_UP = "give up"
    CHUNK = "first chunk"
    BREAK = "break"
    FINISH = "finish"
    FAIL = "fail"
    STOP = "stop"
    LEAVE = "leave"
    HAND_OVER = "hand over"
    LOGGED = "logged"
    NOT_LOGGED = "not logged"
    DIE = "die"
    LOSE = "lose"
    ERASE = "erase"
    EXPIRE = "expire"

    COME = "come"
    GO = "go"

    __hash__ = str.__hash__


class UndeclaredTransitionError(Exception):
    """The table has no transition from this state by this cause: a defect of the code that asked for it."""


class Transition(NamedTuple):
    """One row of the table."""

    source: State
    cause: Cause
    target: State
    writes: str = ""
    """The event that the log gets with it, by its type."""


WORKING = (State.BEGUN, State.CLAIMED, State.WAITING, State.STREAMING, State.BROKEN)
"""The producer works. It can still be stopped and told to leave."""
ENDING = (State.FINISHING, State.FAILING, State.STOPPING)
"""The outcome is decided. Only a failure of the log changes it."""
PRODUCED = (*WORKING, State.LEAVING, *ENDING)
"""A producer holds the answer's lease."""
ENDED = (State.DONE, State.FAILED, State.STOPPED)
"""The log has its terminal event."""
STARTS = (State.BEGUN, State.CLAIMED)
"""A producer before its task's first step."""
WRITES_MANY = {State.STREAMING: "delta"}
"""The events that a state writes, any number of them, without a transition."""


def _from(sources: Sequence[State], cause: Cause, target: State) -> Iterator[Transition]:
    return (Transition(source, cause, target) for source in sources)


ANSWER: tuple[Transition, ...] = (
    Transition(State.NEW, Cause.ASK, State.BEGUN, "start"),
    Transition(State.ORPHANED, Cause.CLAIM, State.CLAIMED),
    Transition(State.BEGUN, Cause.STEP, State.WAITING),
    Transition(State.CLAIMED, Cause.CONTINUE, State.WAITING),
    Transition(State.CLAIMED, Cause.RESTART, State.WAITING, "restart"),
    Transition(State.CLAIMED, Cause.GIVE_UP, State.FAILING),
    Transition(State.WAITING, Cause.RESTART, State.WAITING, "restart"),
    Transition(State.WAITING, Cause.CHUNK, State.STREAMING, "delta"),
    *_from((State.WAITING, State.STREAMING), Cause.BREAK, State.BROKEN),
    Transition(State.BROKEN, Cause.CONTINUE, State.WAITING),
    Transition(State.BROKEN, Cause.RESTART, State.WAITING, "restart"),
    *_from((State.WAITING, State.STREAMING), Cause.FINISH, State.FINISHING),
    *_from(WORKING, Cause.FAIL, State.FAILING),
    *_from((*WORKING, State.LEAVING), Cause.STOP, State.STOPPING),
    *_from(WORKING, Cause.LEAVE, State.LEAVING),
    Transition(State.LEAVING, Cause.HAND_OVER, State.ORPHANED),
    Transition(State.FINISHING, Cause.LOGGED, State.DONE, "done"),
    Transition(State.FAILING, Cause.LOGGED, State.FAILED, "failed"),
    Transition(State.STOPPING, Cause.LOGGED, State.STOPPED, "stopped"),
    *_from(ENDING, Cause.NOT_LOGGED, State.ORPHANED),
    *_from(PRODUCED, Cause.DIE, State.ORPHANED),
    *_from([state for state in PRODUCED if state is not State.BEGUN], Cause.LOSE, State.LOST),
    *_from(ENDED, Cause.ERASE, State.GONE),
    *_from(ENDED, Cause.EXPIRE, State.GONE),
)
"""The life of an answer, from its question to its log's removal."""

WATCH: tuple[Transition, ...] = (
    Transition(State.WATCHED, Cause.GO, State.UNWATCHED),
    Transition(State.UNWATCHED, Cause.COME, State.WATCHED),
)
"""The audience of an answer that has a producer, beside the answer's own state."""

_TARGETS = {(source, cause): target for source, cause, target, _ in (*ANSWER, *WATCH)}


def move(state: State, cause: Cause) -> State:
    """Return the state after the cause.

    Raises:
        UndeclaredTransitionError: the table has no such transition.
    """
    target = _TARGETS.get((state, cause))
    if target is None:
        raise UndeclaredTransitionError(f"{state}: {cause}")
    return target


def accepts(state: State, cause: Cause) -> bool:
    """Return whether the table has a transition from the state by the cause."""
    return (state, cause) in _TARGETS


STATES = {
    State.BEGUN: "The log has its `start`. The producer's task has not taken its first step.",
    State.CLAIMED: "Another worker holds the lease of an orphan. Its producer has not asked the upstream.",
    State.WAITING: "The upstream has been asked, perhaps more than once. It has sent no chunk.",
    State.STREAMING: "Each chunk is in the log, as `delta`, before any follower receives it.",
    State.BROKEN: "The upstream broke off in the middle. After a pause it is asked to go on.",
    State.LEAVING: "The worker leaves; the connection to the upstream is being closed.",
    State.STOPPING: "The connection to the upstream is being closed, then `stopped` is written.",
    State.FINISHING: "The upstream has completed its answer; `done` is being written.",
    State.FAILING: "The answer cannot be finished; `failed` is being written.",
    State.DONE: "The log has the whole text.",
    State.STOPPED: "The log names the cause of the stop.",
    State.FAILED: "The log has the error.",
    State.ORPHANED: "The log has no terminal event, and no worker holds its lease.",
    State.LOST: "This producer may no longer write: another worker holds the lease, or may claim it.",
    State.GONE: "The log has been removed. An answer's id is never used again.",
    State.WATCHED: "The answer has a follower, on any worker, or its producer has not checked yet.",
    State.UNWATCHED: "The answer has no follower. It is stopped after `FOLYAM_UNWATCHED_SECONDS`.",
}
"""The meaning of each state."""

CAUSES = {
    Cause.ASK: "A question is accepted.",
    Cause.CLAIM: "A worker finds the orphan, and takes its lease.",
    Cause.STEP: "The producer's task runs, and asks the upstream.",
    Cause.CONTINUE: "The upstream is asked to go on from the text so far, or its own run is followed again.",
    Cause.RESTART: "The upstream is asked again, from the start; or, asked to go on, it begins another answer.",
    Cause.GIVE_UP: "`FOLYAM_RECOVERY` is `fail`, there were too many attempts, or its request cannot be read.",
    Cause.CHUNK: "The upstream sends its first chunk; behind a seam, the first one that is new.",
    Cause.BREAK: "The upstream breaks off, and another request may mend that (`FOLYAM_RECOVERY`).",
    Cause.FINISH: "The upstream completes its answer.",
    Cause.FAIL: "The upstream fails, a limit is reached, the log cannot be written, or the service has a defect.",
    Cause.STOP: "A client requests a stop, on any worker, or the answer has had no follower for too long.",
    Cause.LEAVE: "The worker is leaving, and its drain is over.",
    Cause.HAND_OVER: "The connection to the upstream is closed; the producer gives up the lease.",
    Cause.LOGGED: "The terminal event is written.",
    Cause.NOT_LOGGED: "The terminal event cannot be written, because of a full disk, for example.",
    Cause.DIE: "The worker dies, which frees its lease.",
    Cause.LOSE: "The log refuses a write: this worker no longer holds the lease.",
    Cause.ERASE: "A client erases the answer, or the upstream refused its question.",
    Cause.EXPIRE: "The answer is older than `FOLYAM_RETENTION_SECONDS`, or a limit on all logs is exceeded.",
    Cause.GO: "The last follower, on any worker, leaves; or a claimed answer already had none.",
    Cause.COME: "A follower arrives, or the answer ends.",
}
"""The meaning of each cause."""


def _names(states: Sequence[State]) -> str:
    return ", ".join(f"`{state}`" for state in states)


def _grouped(table: Sequence[Transition]) -> list[tuple[list[State], Cause, State, str]]:
    """Return the rows, with the sources of rows that agree in all else put together."""
    groups: dict[tuple[Cause, State, str], list[State]] = {}
    for source, cause, target, writes in table:
        groups.setdefault((cause, target, writes), []).append(source)
    return [(sources, cause, target, writes) for (cause, target, writes), sources in groups.items()]


def _table(table: Sequence[Transition]) -> list[str]:
    lines = ["| from | cause | to | the log gets | |", "| --- | --- | --- | --- | --- |"]
    for sources, cause, target, writes in _grouped(table):
        start = "" if sources == [State.NEW] else _names(sources)
        written = f"`{writes}`" if writes else ""
        lines.append(f"| {start} | {cause} | `{target}` | {written} | {CAUSES[cause]} |")
    return lines


def _arrows(table: Sequence[Transition]) -> list[tuple[State | str, State, str]]:
    """Return the arrows with their labels. A transition from nearly every state with a producer is one arrow."""
    arrows: dict[tuple[State | str, State], list[str]] = {}
    for sources, cause, target, _ in _grouped(table):
        if len(sources) >= len(PRODUCED) - 1:
            others = [state for state in PRODUCED if state not in sources]
            label = f"{cause} (not {', '.join(others)})" if others else str(cause)
            arrows.setdefault(("produced", target), []).append(label)
        else:
            for source in sources:
                arrows.setdefault((source, target), []).append(cause)
    return [(source, target, ", ".join(labels)) for (source, target), labels in arrows.items()]


def _diagram(table: Sequence[Transition]) -> list[str]:
    """Return the diagram, with the states that have a producer in a box."""
    box: list[str] = []
    around: list[str] = []
    for source, target, label in _arrows(table):
        arrow = f"{'[*]' if source is State.NEW else source} --> {target}: {label}"
        (box if source in PRODUCED and target in PRODUCED else around).append(arrow)
    inside = ["    state produced {", *(f"        {arrow}" for arrow in box), "    }"] if box else []
    return ["```mermaid", "stateDiagram-v2", *inside, *(f"    {arrow}" for arrow in around), "```"]


def page() -> str:
    """Return the generated part of docs/lifecycle.md, in Markdown."""
    states = [f"| `{state}` | {meaning} |" for state, meaning in STATES.items()]
    return "\n".join(
        [
            *_diagram(ANSWER),
            "",
            "| state | |",
            "| --- | --- |",
            *states,
            "",
            *_table(ANSWER),
            "",
            "The audience, while there is a producer:",
            "",
            *_diagram(WATCH),
            "",
            *_table(WATCH),
        ]
    )


if __name__ == "__main__":
    print(page())  # noqa: T201 (python -m service.lifecycle writes the page)
