"""A reader of event streams by the HTML standard, independent of the service's code.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """An event as an EventSource dispatches it."""

    event: str
    data: str
    last_event_id: str


@dataclass
class EventStream:
    """The result of an EventSource for a stream."""

    messages: list[Message]
    retry: int | None
    comments: int


def parse(stream: bytes) -> EventStream:
    # "Streams must be decoded using the UTF-8 decode algorithm", which strips one byte order mark.
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    found = EventStream([], None, 0)
    data, event, last_event_id = "", "", ""
    # Only CRLF, LF and CR end a line, unlike in str.splitlines. Text without a line end is not a line yet.
    for line in re.split("\r\n|\n|\r", text)[:-1]:
        if not line and data:
            # "If the data buffer's last character is a U+000A LINE FEED, then remove it."
            found.messages.append(Message(event or "message", data.removesuffix("\n"), last_event_id))
        if not line:
            data, event = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                found.comments += 1
            case "data":
                data += value + "\n"
            case "event":
                event = value
            case "id" if "\0" not in value:
                last_event_id = value
            case "retry" if re.fullmatch("[0-9]+", value):
                found.retry = int(value)
    return found
