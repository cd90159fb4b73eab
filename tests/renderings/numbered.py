"""A rendering whose encoder keeps state, with every part of the interface."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from service.answer import AnswerState
from service.events import Delta, Event, Restart
from service.renderings.base import Schema


class NumberedEncoder:
    """A line an event: its number among the messages, its type, and the text so far.

    The start is no message. The protocol cannot take words back, so a restart after the first of them ends the body.
    """

    def __init__(self) -> None:
        self.finished = False
        self._state = AnswerState()
        self._messages = 0

    caught_up = None  # This protocol does not tell.

    def advance(self, events: Sequence[Event]) -> None:
        for event in events:
            self._line(event)

    def abandon(self, before: int) -> None:
        """Do nothing: this protocol tells of restarts."""

    def encode(self, events: Sequence[Event]) -> bytes:
        lines: list[bytes] = []
        for event in events:
            spoken = bool(self._state.deltas)
            lines.append(self._line(event))
            if isinstance(event, Restart) and spoken:
                lines.append(b"error\n")
                self.finished = True
                break
        return b"".join(lines)

    def whole(self) -> tuple[int, bytes]:
        failed = self._state.failure is not None
        return (502 if failed else 200), json.dumps([self._messages, self._state.reply]).encode()

    def _line(self, event: Event) -> bytes:
        self._state.advance([event])
        if not isinstance(event, Delta | Restart) and self._state.end is None:
            return b""
        self._messages += 1
        return b"%d %b %b\n" % (self._messages, type(event).__name__.encode(), json.dumps(self._state.text).encode())


@dataclass(frozen=True)
class Numbered:
    """The rendering."""

    media_type: str = "text/x-numbered"
    name: str = "numbered"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"x-numbered", b"1"),)
    preamble: bytes = b"preamble\n"
    opening: bytes = b"opening\n"
    heartbeat: bytes = b"heartbeat\n"
    closing: bytes = b"[DONE]\n"
    from_start: bool = True
    self_delimiting: bool = True

    def encoder(self, answer_id: str) -> NumberedEncoder:  # noqa: ARG002 (its lines have no id)
        return NumberedEncoder()

    def description(self, event: Schema, event_id: Schema) -> Schema:  # noqa: ARG002 (neither is in its lines)
        return {"schema": {"type": "string"}}
