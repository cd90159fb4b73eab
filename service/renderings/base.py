"""What a rendering and its encoders are: log events in, one protocol's bytes out. No I/O."""

from collections.abc import Sequence
from typing import Any, Protocol

from service.events import Event

Schema = dict[str, Any]
"""A JSON schema, or an OpenAPI object."""


class Encoder(Protocol):
    """Writes one follower's body, and may remember what it has written."""

    @property
    def finished(self) -> bool:
        """Whether the encoder has ended the body before the answer's end, with a last word such as an error.

        Nothing is written after it, not even `closing`. The body then ends as HTTP has it, and is not cut: a browser
        that sees a cut drops what it has not read yet, the last word among it.
        """

    def advance(self, events: Sequence[Event]) -> None:
        """Take in the next events, which the follower already has. Only where the rendering is `from_start`."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """Take in the next events, at least one, and return their bytes, which may be none.

        The events are unmerged, as the log has them: a protocol that numbers its messages counts them so. A follower
        that is behind is given many at once, and most protocols write `merge_deltas` of them.
        `Start.request`, `Start.at` and `Start.owner` are private and must not be among the bytes.
        """


class WholeEncoder(Encoder, Protocol):
    """An encoder of a protocol that also has a whole response, for a client that asks for no stream."""

    def whole(self) -> tuple[int, bytes]:
        """Return the HTTP status and the body that say what `advance` has taken in."""


class Rendering(Protocol):
    """A protocol in which an answer can be followed. It keeps nothing; its encoders may."""

    @property
    def name(self) -> str:
        """The metric label."""

    @property
    def media_type(self) -> str:
        """The response's Content-Type, with its parameters."""

    @property
    def preamble(self) -> bytes:
        """Put before the first event, in the same piece; may be empty."""

    @property
    def opening(self) -> bytes:
        """Sent first where the first event is yet to come; may be empty."""

    @property
    def heartbeat(self) -> bytes:
        """Sent when nothing else was for a while; empty where the protocol has no room for one."""

    @property
    def closing(self) -> bytes:
        """Put behind the terminal event, in the same piece; may be empty. A body that is cut does not have it."""

    @property
    def from_start(self) -> bool:
        """Whether an encoder has to be given every event of the log, also those that its follower already has."""

    @property
    def self_delimiting(self) -> bool:
        """Whether a reader can tell a whole body from a cut one without HTTP's help."""

    def encoder(self, answer_id: str) -> Encoder:
        """Return the encoder for one follower of the answer."""

    def description(self, event: Schema, event_id: Schema) -> Schema:
        """Return the body's OpenAPI media type object, from the schemas of an event and of an event id."""


class StatelessEncoder:
    """The parts of an encoder that remembers nothing."""

    __slots__ = ()
    finished = False

    def advance(self, events: Sequence[Event]) -> None:
        """Take in nothing."""
