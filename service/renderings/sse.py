"""Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

The data is JSON on one line, so that no model's text can end an event or begin one.

Two rules of the layout are for clients that do not follow the standard:

- `id` is the last line of an event. `@microsoft/fetch-event-source` records an id when it has read the line, and
  resumes behind it even if the rest of the event never came. Over 28 answers cut at 224 random places, all 28 lost text
  with `id` as the first line, and 3 with `id` as the last.
- A blank line only ends an event. `httpx-sse` and the OpenAI client make an empty event of any other blank line after
  an `id` or a `retry`, and `@microsoft/fetch-event-source` of every other blank line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import Event, encode, public_events
from service.renderings.base import Schema, StatelessEncoder

RETRY_MILLISECONDS = 1000
"""Reconnection time of an EventSource. Browsers' default is some seconds, which a reader notices."""

_NAMES: dict[type, bytes] = {
    kind: str(kind.__struct_config__.tag).encode("ascii")
    for kind in Event.__args__  # the union's members
}


class _EventEncoder(StatelessEncoder):
    __slots__ = ("_answer_id",)

    def __init__(self, answer_id: str) -> None:
        self._answer_id = answer_id.encode("ascii")

    def encode(self, events: Sequence[Event]) -> bytes:
        answer_id = self._answer_id
        return b"".join(
            [
                b"event: %b\ndata: %b\nid: %b:%d\n\n"
                % (
                    _NAMES[type(event)],
                    encode(event),
                    answer_id,
                    event.seq,
                )
                for event in public_events(events)
            ]
        )


@dataclass(frozen=True, slots=True)
class ServerSentEvents:
    """`event` is the event's type, `data` its JSON, `id` the event id. A comment line is the heartbeat."""

    media_type: str = "text/event-stream"
    name: str = "sse"
    preamble: bytes = b"retry: %d\n" % RETRY_MILLISECONDS
    heartbeat: bytes = b":\n"
    # Not empty: Node's `http-proxy`, which Vite uses, holds a response's headers back until its first byte.
    opening: bytes = heartbeat
    closing: bytes = b""
    from_start: bool = False
    self_delimiting: bool = True

    def encoder(self, answer_id: str) -> _EventEncoder:
        """Return an encoder, whose only state is the answer's id for the event ids."""
        return _EventEncoder(answer_id)

    def description(self, event: Schema, event_id: Schema) -> Schema:
        """Describe one SSE event: OpenAPI 3.2's `itemSchema`."""
        properties = {
            "id": {"type": "string", **event_id},
            "event": {"enum": [name.decode("ascii") for name in _NAMES.values()]},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": event},
        }
        return {"itemSchema": {"type": "object", "properties": properties, "required": list(properties)}}
