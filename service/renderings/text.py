"""Plain text, for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.events import Delta, Event, Failed, Restart, Stopped
from service.renderings.base import Schema, StatelessEncoder


class _TextEncoder(StatelessEncoder):
    __slots__ = ()

    def encode(self, events: Sequence[Event]) -> bytes:
        return "".join([_text(event) for event in events]).encode()


_ENCODER = _TextEncoder()


@dataclass(frozen=True, slots=True)
class PlainText:
    """The answer's text and refusal, without its reasoning.

    Plain text has no events. An incomplete answer therefore ends with a line in brackets: a failure must not look like
    a success. Only HTTP's framing shows a cut body.
    """

    media_type: str = "text/plain; charset=utf-8"
    name: str = "text"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    preamble: bytes = b""
    opening: bytes = b""
    heartbeat: bytes = b""
    closing: bytes = b""
    from_start: bool = False
    self_delimiting: bool = False

    def encoder(self, answer_id: str) -> _TextEncoder:  # noqa: ARG002 (a header carries the id)
        """Return the encoder that all followers share."""
        return _ENCODER

    def description(self, event: Schema, event_id: Schema) -> Schema:  # noqa: ARG002 (neither is in the text)
        """Describe the body as a string."""
        return {"schema": {"type": "string"}}


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
