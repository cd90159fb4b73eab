"""Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

The data is JSON on one line, so that no model's text can end an event or begin one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import Event, Start, encode

RETRY_MILLISECONDS = 1000
"""How long an EventSource waits before it reconnects. Its own default is some seconds, which a reader notices."""


@dataclass(frozen=True, slots=True)
class ServerSentEvents:
    """`id` is the event id, `event` the event's type, `data` its JSON. A comment is the heartbeat."""

    media_type: str = "text/event-stream"
    name: str = "sse"
    preamble: bytes = b"retry: %d\n\n" % RETRY_MILLISECONDS
    heartbeat: bytes = b":\n\n"

    def render(self, answer_id: str, events: Sequence[Event]) -> bytes:
        """Return an SSE event an event."""
        answer = answer_id.encode("ascii")
        return b"".join(
            [
                b"id: %b:%d\nevent: %b\ndata: %b\n\n"
                % (
                    answer,
                    event.seq,
                    _NAMES[type(event)],
                    encode(event.public() if type(event) is Start else event),
                )
                for event in events
            ]
        )


_NAMES: dict[type, bytes] = {
    kind: str(kind.__struct_config__.tag).encode("ascii")
    for kind in Event.__args__  # the union's members
}
