"""An answer's state so far: a fold of its log's events. No I/O and no clock.

Reading an answer as a whole, taking it over, and renderings that need more than the next event all begin here.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from service.events import (
    Attempt,
    Delta,
    Done,
    Event,
    Failed,
    Restart,
    Run,
    Start,
    Stopped,
    Terminal,
    Timing,
    ToolCall,
    Usage,
    merge_deltas,
)

State = Literal["running", "done", "stopped", "failed"]

_STATES: dict[type[Terminal], State] = {Done: "done", Stopped: "stopped", Failed: "failed"}


class Said(NamedTuple):
    """What an answer goes on from."""

    text: str = ""
    reasoning: str = ""


class Attached(NamedTuple):
    """A run that is followed again, and what of it is known."""

    run: Run
    text: int
    """Number of characters."""
    reasoning: int
    refusal: int
    said: Said | None = None
    """What the run was begun with to go on from; None if it began the answer."""
    tool_calls: tuple[int, ...] = ()
    """The calls of tools that have begun, by their index: the number of characters of the arguments."""

    @property
    def characters(self) -> dict[str | int, int]:
        """The number of characters of each voice, and of each call by its index."""
        voices: dict[str | int, int] = {"text": self.text, "reasoning": self.reasoning, "refusal": self.refusal}
        return {**voices, **dict(enumerate(self.tool_calls))}


class AnswerState:
    """An answer after some of its events, from the first one on.

    It changes only by `advance`, whose time is linear in the events. Each reading of a voice joins its pieces anew.
    """

    __slots__ = (
        "_run_at",
        "_run_said",
        "attempt",
        "deltas",
        "end",
        "last_seq",
        "restart_seq",
        "run",
        "start",
        "unknown_seq",
    )

    def __init__(self) -> None:
        self.start: Start | None = None
        """Model, request and owner; None before the first event."""
        self.deltas: list[Delta] = []
        """The deltas since the last restart, without seams, runs and attempts. Neighbours may be merged."""
        self.end: Terminal | None = None
        self.last_seq = 0
        self.restart_seq = 0
        """The seq of the last restart; 0 without one."""
        self.run: Run | None = None
        """The upstream's run that the last deltas are of."""
        self.attempt = Attempt()
        """The last further request for the answer; its `without_progress` is 0 once anything new came of it."""
        self._run_at = 0
        """The number of deltas before the run's first one."""
        self._run_said: Said | None = None
        """What the run was begun with to go on from, where it began another answer instead."""
        self.unknown_seq = 0
        """The seq of the last event of a type that this version does not know (see `Reader.unknown_seq`)."""

    def advance(self, events: Sequence[Event]) -> None:
        """Take in the log's next events, unmerged."""
        for event in merge_deltas(events):
            match event:
                case Delta():
                    self._take_in(event)
                case Restart():
                    self._begin_anew(is_told_again=event.again)
                    self.restart_seq = event.seq
                case Start():
                    self.start = event
                case _:
                    self.end = event
            self.last_seq = event.seq

    def _begin_anew(self, *, is_told_again: bool) -> None:
        if is_told_again or self._run_at < len(self.deltas):
            self.run = None
        elif self.deltas:
            self._run_said = _said(self.deltas)  # It has no delta yet: the restart is its own, in place of a seam.
        self._run_at = 0
        self.deltas.clear()

    def _take_in(self, delta: Delta) -> None:
        if delta.run is not None:
            self.run = delta.run
            self._run_at = len(self.deltas)
            self._run_said = None
        elif delta.attempt is not None:
            self.attempt = delta.attempt
        elif delta.seam is None:
            self.deltas.append(delta)
            if self.attempt.without_progress:
                self.attempt = replace(self.attempt, without_progress=0)
        elif delta.seam.how != "reattached" and self._run_at < len(self.deltas):
            self.run = None  # What follows is another request's. A run that has no delta yet is that request's own.

    @property
    def has_unknown_events(self) -> bool:
        """Whether an event since the last restart is of a type that this version does not know."""
        return self.unknown_seq > self.restart_seq

    @property
    def state(self) -> State:
        """The terminal event's kind, or `running` before it."""
        return "running" if self.end is None else _STATES[type(self.end)]

    @property
    def text(self) -> str:
        """The text since the last restart."""
        return "".join([delta.text or "" for delta in self.deltas])

    @property
    def reasoning(self) -> str:
        """The reasoning since the last restart."""
        return "".join([delta.reasoning or "" for delta in self.deltas])

    @property
    def refusal(self) -> str:
        """The refusal since the last restart."""
        return "".join([delta.refusal or "" for delta in self.deltas])

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls of tools since the last restart, each as far as it goes, by their index."""
        return _calls(self.deltas)

    @property
    def reply(self) -> str:
        """Text and refusal since the last restart, in the order in which they came."""
        return "".join([delta.text or delta.refusal or "" for delta in self.deltas])

    @property
    def said(self) -> Said | None:
        """What a model can go on from: text, and the reasoning before it. None if there is anything else, or nothing.

        Only reasoning that comes before all text can be handed back.
        """
        return _said(self.deltas)

    @property
    def attached(self) -> Attached | None:
        """The run that can be followed again; None without one, or if there is a voice that this version lacks."""
        if self.run is None or not all(delta.has_voice for delta in self.deltas):
            return None
        before, known = self.deltas[: self._run_at], self.deltas[self._run_at :]
        said = _said(before) or self._run_said
        if before and said is None:
            return None
        calls = _calls(known)
        if [call.index for call in calls] != list(range(len(calls))):
            return None  # They are not the run's own.
        text, reasoning, refusal = _voices(known)
        lengths = tuple([len(call.arguments) for call in calls])
        return Attached(self.run, len(text), len(reasoning), len(refusal), said, lengths)

    @property
    def usage(self) -> Usage | None:
        """The tokens of an answer that has ended, as far as the upstream told them."""
        return self.end.usage or None if self.end else None

    @property
    def usage_complete(self) -> bool | None:
        """Whether `usage` has all of the answer's tokens; None if the terminal event does not say, or is not there."""
        return None if self.end is None or self.end.usage_complete is UNSET else self.end.usage_complete

    @property
    def timing(self) -> Timing | None:
        """The timing of an answer that has ended."""
        return self.end.timing or None if self.end else None

    @property
    def failure(self) -> Failed | None:
        """Code, message and retryability of an answer that failed."""
        return self.end if isinstance(self.end, Failed) else None


def _voices(deltas: Sequence[Delta]) -> tuple[str, str, str]:
    """Return the text, the reasoning and the refusal of the deltas."""
    return (
        "".join([delta.text or "" for delta in deltas]),
        "".join([delta.reasoning or "" for delta in deltas]),
        "".join([delta.refusal or "" for delta in deltas]),
    )


def _calls(deltas: Sequence[Delta]) -> list[ToolCall]:
    """Return the calls of tools in the deltas, by their index."""
    pieces: dict[int, list[ToolCall]] = {}
    for delta in deltas:
        if delta.tool_call is not None:
            pieces.setdefault(delta.tool_call.index, []).append(delta.tool_call)
    return [
        replace(of_call[0], arguments="".join([piece.arguments for piece in of_call]))
        for _, of_call in sorted(pieces.items())
    ]


def _said(deltas: Sequence[Delta]) -> Said | None:
    if not deltas or any(delta.text is None and delta.reasoning is None for delta in deltas):
        return None
    begun = False
    for delta in deltas:
        begun = begun or delta.text is not None
        if begun and delta.text is None:
            return None
    text, reasoning, _ = _voices(deltas)
    return Said(text, reasoning)


def fold(events: Iterable[Event]) -> AnswerState:
    """Return the state of an answer after these events, which begin with the log's first."""
    state = AnswerState()
    state.advance(list(events))
    return state
