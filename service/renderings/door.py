"""The rendering of a door: a vocabulary in a framing, which the door's address chooses, and no `Accept` header."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from service.renderings.base import Schema
from service.renderings.fold import NOTHING, FoldEncoder, Framing, Message, Vocabulary

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class DoorRendering:
    """One follower's rendering. The defaults are those of Server-Sent Events without ids."""

    name: str
    """One of `service.renderings.DOORS`."""
    vocabulary: Callable[[str], Vocabulary]
    """From the answer's id, its follower's vocabulary."""
    framing: Framing
    closing: bytes = b""
    after: int = NOTHING
    """The number of the last message that the client has."""
    merges: bool = True
    """Whether neighbouring deltas may be one message: not where the framing shows the numbers."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    media_type: str = "text/event-stream"
    preamble: bytes = b""
    opening: bytes = b""
    # A comment, and the blank line of an event that has nothing else. The OpenAI SDKs pass over it where no event has
    # an id; some clients read event by event, and would pass over the event behind a comment that belongs to it.
    heartbeat: bytes = b":\n\n"
    from_start: bool = True
    self_delimiting: bool = True

    def encoder(self, answer_id: str) -> FoldEncoder:
        """Return the follower's encoder."""
        return FoldEncoder(self.vocabulary(answer_id), self.framing, after=self.after, merges=self.merges)

    def description(self, event: Schema, event_id: Schema) -> Schema:  # noqa: ARG002 (a door describes its messages)
        """Describe the body as a string."""
        return {"schema": {"type": "string"}}


class DataFraming:
    """Server-Sent Events that have data alone: no type, no id, no `retry` (the OpenAI SDKs do not take them all)."""

    def frame(self, number: int, message: Message) -> bytes:  # noqa: ARG002 (not shown)
        """See `service.renderings.fold.Framing`."""
        return b"data: " + _encode(message.data) + b"\n\n"


DATA = DataFraming()
