"""What a rendering is: log events in, one client's protocol out. Pure functions over bytes, no I/O."""

from collections.abc import Sequence
from typing import Protocol

from service.events import Event


class Rendering(Protocol):
    """Turns an answer's events into the bytes of one client's protocol."""

    @property
    def name(self) -> str:
        """The metric label."""

    @property
    def media_type(self) -> str:
        """The response's Content-Type."""

    @property
    def preamble(self) -> bytes:
        """Put before the first event, in the same piece; may be empty."""

    @property
    def opening(self) -> bytes:
        """Sent first where the first event is yet to come; may be empty."""

    @property
    def heartbeat(self) -> bytes:
        """Sent when nothing else was for a while; empty where the protocol has no room for one."""

    def render(self, answer_id: str, events: Sequence[Event]) -> bytes:
        """Return the events' bytes; `Start.request` is private and must not be among them."""
