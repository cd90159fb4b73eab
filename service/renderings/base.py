"""The interface of renderings and encoders, which turn a log's events into the bytes of a protocol. No I/O."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from service.events import Event

Schema = dict[str, Any]
"""A JSON schema, or an OpenAPI object."""


class Encoder(Protocol):
    """Encodes one follower's body. It may keep state."""

    @property
    def finished(self) -> bool:
        """Whether the encoder has ended the body before the answer's end, with a last message such as an error.

        Nothing is written after that message, not even `closing`. The body then ends properly in HTTP and is not cut: a
        browser that sees a cut drops the data that the page has not read yet.
        """

    def advance(self, events: Sequence[Event]) -> None:
        """Update the state with events that the follower already has. Called only if the rendering is `from_start`."""

    def abandon(self, before: int) -> None:
        """Leave out what was said before the restart with this seq, which the log has already.

        Called before any event is given, and only if the rendering is `from_start`.
        """

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return the bytes of the next events, of which there is at least one. The bytes may be empty.

        The events are unmerged, as in the log: a protocol with numbered messages counts each. A follower that is behind
        passes many at once, and most protocols encode `public_events` of them.
        `Start.request`, `Start.chat`, `Start.at`, `Start.owner`, `Start.via`, `Delta.run` and `Delta.attempt` are
        private. They must not be encoded, except for what of `Start.via` the protocol repeats of the request.
        """

    @property
    def caught_up(self) -> Callable[[], bytes] | None:
        """Returns the bytes for a follower that has now read all that the log has; empty if there is nothing to tell.

        Called after a read that found nothing, and after each push. None in protocols that do not tell: a call that
        returns nothing takes 1 % of a chunk.
        """


class WholeEncoder(Encoder, Protocol):
    """An encoder of a protocol that also has a response without a stream."""

    def whole(self) -> tuple[int, bytes]:
        """Return the HTTP status and the body for the events that `advance` was given."""


class Rendering(Protocol):
    """A protocol in which an answer can be followed. It has no state; its encoders may."""

    @property
    def name(self) -> str:
        """The metric label."""

    @property
    def media_type(self) -> str:
        """The response's Content-Type, with its parameters."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Further headers of the response, in lower case."""

    @property
    def preamble(self) -> bytes:
        """Bytes before the first event, in the same piece; may be empty."""

    @property
    def opening(self) -> bytes:
        """Bytes to send at once while there is no event yet; may be empty."""

    @property
    def heartbeat(self) -> bytes:
        """Bytes to send after a silence; empty if the protocol has no heartbeat."""

    @property
    def closing(self) -> bytes:
        """Bytes after the terminal event, in the same piece; may be empty. A cut body ends without them."""

    @property
    def from_start(self) -> bool:
        """Whether an encoder needs every event of the log, also those that its follower already has."""

    @property
    def self_delimiting(self) -> bool:
        """Whether the body itself shows a cut, without HTTP's framing."""

    def encoder(self, answer_id: str) -> Encoder:
        """Return the encoder for one follower of the answer."""

    def description(self, event: Schema, event_id: Schema) -> Schema:
        """Return the body's OpenAPI media type object, from the schemas of an event and of an event id."""


class StatelessEncoder:
    """The common part of encoders without state."""

    __slots__ = ()
    finished = False
    caught_up = None

    def advance(self, events: Sequence[Event]) -> None:
        """Do nothing: there is no state."""

    def abandon(self, before: int) -> None:
        """Do nothing: the protocol tells of restarts."""
