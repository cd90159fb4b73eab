"""Durable Streams' read side (https://github.com/durable-streams/durable-streams, PROTOCOL.md, version 1.0).

An answer is a stream of content type `application/json`, and each event of it one message. An offset is the seq of the
last event before it, padded so that offsets sort as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import SEQ_DIGITS, TERMINAL, Event, encode_lines, public_events
from service.renderings.base import Schema

READS_HELD = 4
"""Most reads of the log in one `data` message, while the follower is behind: some tens of kilobytes."""

CURSOR_EPOCH = 1_728_432_000
"""Unix time of 9 October 2024, from which the protocol counts its intervals."""
CURSOR_SECONDS = 20
"""Length of an interval."""


def offset_of(seq: int) -> str:
    """Return the offset behind the event."""
    return f"{seq:0{SEQ_DIGITS}d}"


def next_cursor(now: float, last: str | None) -> str:
    """Return the number of the interval at the Unix time `now`, or the one after the client's last cursor.

    Each response of a stream that a cache answers for many clients so has another address than the one before it.
    """
    interval = int(now - CURSOR_EPOCH) // CURSOR_SECONDS
    if last is not None and last.isascii() and last.isdecimal() and len(last) <= SEQ_DIGITS:
        interval = max(interval, int(last) + 1)
    return str(interval)


def json_array(events: Sequence[Event]) -> bytes:
    """Return the events' public form as one JSON array."""
    shown = public_events(events) if events else ()
    if len(shown) == 1:
        return b"[%b]" % encode_lines(shown)[:-1]
    return b"[" + b",".join(encode_lines((event,))[:-1] for event in shown) + b"]"


NAME = "streams"
"""The metric label."""


def _control(fields: str) -> bytes:
    """Return the `control` message with the fields, and a place for the seq."""
    # The conformance suite takes the lines apart without SSE's optional blank.
    return b'event: control\ndata:{"streamNextOffset":"%%0%dd",%b}\n\n' % (SEQ_DIGITS, fields.encode())


CLOSED = _control('"streamClosed":true')
"""The last message. The seq of the terminal event is to be filled in."""


class _Encoder:
    """Pairs each `data` message with a `control` message.

    Both are one piece: a client that is cut between them gets the data twice.
    """

    finished = False

    def __init__(self, after: int, cursor: str) -> None:
        self._behind = _control(f'"streamCursor":"{cursor}"')
        self._at_tail = _control(f'"streamCursor":"{cursor}","upToDate":true')
        self._seq = after
        self._told = -1
        """The place at which the client was told that it has all."""
        self._held: list[Sequence[Event]] = []

    def advance(self, events: Sequence[Event]) -> None:
        """Do nothing: the messages do not depend on earlier ones."""

    def abandon(self, before: int) -> None:
        """Do nothing: a restart is a message."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """Hold the events back until the follower has read all, because only then the client can be told so."""
        self._held.append(events)
        self._seq = events[-1].seq
        if type(events[-1]) in TERMINAL:
            self._told = self._seq
            return self._messages(CLOSED)
        if len(self._held) == READS_HELD:
            return self._messages(self._behind)
        return b""

    def caught_up(self) -> bytes:
        """Return what was held back, and that it is all."""
        if self._told == self._seq:
            return b""
        self._told = self._seq
        return self._messages(self._at_tail)

    def _messages(self, control: bytes) -> bytes:
        data = json_array(self._held[0] if len(self._held) == 1 else [event for read in self._held for event in read])
        self._held.clear()
        if data == b"[]":
            return control % self._seq
        return b"event: data\ndata:%b\n\n%b" % (data, control % self._seq)


@dataclass(frozen=True, slots=True)
class DurableStream:
    """The protocol's Server-Sent Events, from behind the event `after`."""

    after: int
    cursor: str
    media_type: str = "text/event-stream"
    name: str = NAME
    headers: tuple[tuple[bytes, bytes], ...] = ((b"cross-origin-resource-policy", b"same-origin"),)
    preamble: bytes = b""
    heartbeat: bytes = b":\n"
    opening: bytes = b""
    closing: bytes = b""
    from_start: bool = False
    self_delimiting: bool = True

    def encoder(self, answer_id: str) -> _Encoder:  # noqa: ARG002 (no message has it)
        """Return the encoder of one follower."""
        return _Encoder(self.after, self.cursor)

    def description(self, event: Schema, event_id: Schema) -> Schema:  # noqa: ARG002 (offsets are no event ids)
        """Describe one SSE event: OpenAPI 3.2's `itemSchema`."""
        messages = {"type": "string", "contentMediaType": "application/json"}
        data = {"event": {"const": "data"}, "data": {**messages, "contentSchema": {"type": "array", "items": event}}}
        control = {"event": {"const": "control"}, "data": {**messages, "contentSchema": CONTROL}}
        return {
            "itemSchema": {
                "oneOf": [
                    {"type": "object", "properties": properties, "required": ["event", "data"]}
                    for properties in (data, control)
                ]
            }
        }


OFFSET: Schema = {"type": "string", "pattern": f"^[0-9]{{{SEQ_DIGITS}}}$"}
CONTROL: Schema = {
    "type": "object",
    "properties": {
        "streamNextOffset": OFFSET,
        "streamCursor": {"type": "string", "pattern": "^[0-9]+$"},
        "upToDate": {"const": True},
        "streamClosed": {"const": True},
    },
    "required": ["streamNextOffset"],
}
