"""Framings of Server-Sent Events that have no name: each message is JSON on one line."""

import msgspec

from service.renderings.fold import Message

_encode = msgspec.json.Encoder().encode


class DataLines:
    """Events of `data` alone. The protocol has no position, and a reconnected client gets all of them again."""

    def frame(self, number: int, message: Message) -> bytes:  # noqa: ARG002 (the bytes do not show it)
        """See `service.renderings.fold.Framing.frame`."""
        return b"data: " + _encode(message.data) + b"\n\n"


class NumberedDataLines:
    """Events of `data` with the id `<answer id>:<number>`, behind which a client can go on.

    `id` is the last line: see `service.renderings.sse`.
    """

    def __init__(self, answer_id: str) -> None:
        self._id = b"\nid: %b:%%d\n\n" % answer_id.encode("ascii")

    def frame(self, number: int, message: Message) -> bytes:
        """See `service.renderings.fold.Framing.frame`."""
        return b"data: " + _encode(message.data) + self._id % number
