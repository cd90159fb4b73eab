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
from weakref import WeakValueDictionary

from service.events import Event, encode_lines, public_events
from service.renderings.base import Schema, StatelessEncoder

RETRY_MILLISECONDS = 1000
"""Reconnection time of an EventSource. Browsers' default is some seconds, which a reader notices."""

_NAMES: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in Event.__args__}  # the union's members
_STARTS = {kind: b"event: %b\ndata: " % name.encode("ascii") for kind, name in _NAMES.items()}


class _EventEncoder(StatelessEncoder):
    __slots__ = ("__weakref__", "_data", "_event", "_id")

    def __init__(self, answer_id: str) -> None:
        self._id = b"id: %b:%%d\n\n" % answer_id.encode("ascii")
        self._event: Event | None = None  # the last one that was encoded alone, and its bytes
        self._data = b""

    def encode(self, events: Sequence[Event]) -> bytes:
        if len(events) > 1:
            return b"".join(map(self._message, public_events(events)))
        event = events[0]
        if event is not self._event:
            shown = public_events(events)  # `_message`, without a call
            self._data = _STARTS[type(event)] + encode_lines(shown) + self._id % event.seq if shown else b""
            self._event = event
        return self._data

    def _message(self, event: Event) -> bytes:
        return _STARTS[type(event)] + encode_lines((event,)) + self._id % event.seq


_ENCODERS: WeakValueDictionary[str, _EventEncoder] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class ServerSentEvents:
    """`event` is the event's type, `data` its JSON, `id` the event id. A comment line is the heartbeat."""

    media_type: str = "text/event-stream"
    name: str = "sse"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    preamble: bytes = b"retry: %d\n" % RETRY_MILLISECONDS
    heartbeat: bytes = b":\n"
    # Not empty: Node's `http-proxy`, which Vite uses, holds a response's headers back until its first byte.
    opening: bytes = heartbeat
    closing: bytes = b""
    from_start: bool = False
    self_delimiting: bool = True

    def encoder(self, answer_id: str) -> _EventEncoder:
        """Return the encoder that all followers of the answer share: an event is encoded once for all at the tail."""
        encoder = _ENCODERS.get(answer_id)
        if encoder is None:
            encoder = _ENCODERS[answer_id] = _EventEncoder(answer_id)
        return encoder

    def description(self, event: Schema, event_id: Schema) -> Schema:
        """Describe one SSE event: OpenAPI 3.2's `itemSchema`."""
        properties = {
            "id": {"type": "string", **event_id},
            "event": {"enum": list(_NAMES.values())},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": event},
        }
        return {"itemSchema": {"type": "object", "properties": properties, "required": list(properties)}}
