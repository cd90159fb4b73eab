"""JSON lines: one event a line, an empty line as the heartbeat."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import Event, Start, encode_lines


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line, under whichever of its two names the client asked for."""

    media_type: str
    name: str = "ndjson"
    preamble: bytes = b""
    opening: bytes = b""
    heartbeat: bytes = b"\n"

    def render(self, answer_id: str, events: Sequence[Event]) -> bytes:  # noqa: ARG002 (the start event carries the id)
        """Return a line an event."""
        if type(first := events[0]) is Start:
            events = [first.public(), *events[1:]]
        return encode_lines(events)
