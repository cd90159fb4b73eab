"""The text alone, for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import Delta, Event, Failed, Restart, Stopped


@dataclass(frozen=True, slots=True)
class PlainText:
    """The answer's text and refusal; its reasoning is left out.

    Plain text has no room for an event, so whatever is not a whole answer says so in a bracketed line of its own: a
    failure must not look like a success.
    """

    media_type: str = "text/plain; charset=utf-8"
    name: str = "text"
    preamble: bytes = b""
    opening: bytes = b""
    heartbeat: bytes = b""

    def render(self, answer_id: str, events: Sequence[Event]) -> bytes:  # noqa: ARG002 (a header carries the id)
        """Return the text in the events."""
        return "".join([_text(event) for event in events]).encode()


def _text(event: Event) -> str:
    match event:
        case Delta(text=text, refusal=refusal):
            return text or refusal or ""
        case Restart():
            return "\n[restarted: the answer begins anew]\n"
        case Stopped(by=by):
            return f"\n[stopped: {by}]\n"
        case Failed(message=message):
            return f"\n[failed: {message}]\n"
        case _:
            return ""
