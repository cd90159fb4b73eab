"""The protocols in which an answer can be followed, and the choice among them by a request's Accept header."""

from collections.abc import Sequence

from service.renderings.accept import quality, ranges
from service.renderings.base import Rendering
from service.renderings.ndjson import JsonLines
from service.renderings.sse import ServerSentEvents
from service.renderings.text import PlainText

__all__ = ["RENDERINGS", "Rendering", "choose_rendering"]

RENDERINGS: tuple[tuple[str, Rendering], ...] = (
    # In the order of preference among equals: a client that takes anything gets JSON lines.
    ("application/json", JsonLines("application/json")),
    ("application/x-ndjson", JsonLines("application/x-ndjson")),
    ("text/event-stream", ServerSentEvents()),
    ("text/plain", PlainText()),
)
MEDIA_TYPES = tuple(media_type for media_type, _ in RENDERINGS)
WITH_TERMINAL_EVENT = tuple(media_type for media_type in MEDIA_TYPES if media_type != "text/plain")
"""Those whose body shows by itself whether it is whole. Plain text relies on how HTTP ends a body."""


def choose_rendering(accept: str | None, offered: Sequence[str] = MEDIA_TYPES) -> Rendering | None:
    """Return the one of the offered renderings that the Accept header likes best; None where it takes none of them."""
    if not accept:
        return RENDERINGS[0][1]
    liked = ranges(accept)
    best, best_quality = None, 0.0
    for media_type, rendering in RENDERINGS:
        this = quality(liked, media_type) if media_type in offered else 0.0
        if this > best_quality:
            best, best_quality = rendering, this
    return best
