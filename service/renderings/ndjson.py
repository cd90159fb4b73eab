"""JSON lines: one event a line, and an empty line as the heartbeat."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import Event, encode_lines, public_events
from service.renderings.base import Schema, StatelessEncoder


class _LineEncoder(StatelessEncoder):
    __slots__ = ()

    def encode(self, events: Sequence[Event]) -> bytes:
        return encode_lines(public_events(events))


_ENCODER = _LineEncoder()


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line. The media type is the one of its two names that the client asked for."""

    media_type: str
    name: str = "ndjson"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    preamble: bytes = b""
    opening: bytes = b""
    heartbeat: bytes = b"\n"
    closing: bytes = b""
    from_start: bool = False
    self_delimiting: bool = True

    def encoder(self, answer_id: str) -> _LineEncoder:  # noqa: ARG002 (the start event carries the id)
        """Return the encoder that all followers share."""
        return _ENCODER

    def description(self, event: Schema, event_id: Schema) -> Schema:  # noqa: ARG002 (a line has none)
        """Describe one line."""
        return {"schema": {"description": "Lines, each either empty (a heartbeat) or one such object.", **event}}
