"""The protocols in which an answer can be followed, and the choice among them by a request's Accept header."""

from functools import lru_cache

from service.renderings.accept import quality, ranges
from service.renderings.base import Encoder, Rendering
from service.renderings.ndjson import JsonLines
from service.renderings.sse import ServerSentEvents
from service.renderings.text import PlainText

__all__ = [
    "DOORS",
    "MEDIA_TYPES",
    "NAMES",
    "RENDERINGS",
    "SELF_DELIMITING",
    "Encoder",
    "Rendering",
    "choose_rendering",
]

_RENDERINGS: tuple[Rendering, ...] = (
    # In the order of preference among equal qualities: `*/*` gets JSON lines.
    JsonLines("application/json"),
    JsonLines("application/x-ndjson"),
    ServerSentEvents(),
    PlainText(),
)
RENDERINGS = {rendering.media_type.partition(";")[0]: rendering for rendering in _RENDERINGS}
"""Every rendering by its media type in `Accept`."""
MEDIA_TYPES = tuple(RENDERINGS)
SELF_DELIMITING = tuple(media_type for media_type, rendering in RENDERINGS.items() if rendering.self_delimiting)
"""The media types to offer over HTTP/1.0, which does not tell a whole body from a cut one."""
DOORS = ("chat", "responses", "ui", "ag-ui", "streams")
"""The names of the doors' renderings, which the address chooses."""
NAMES = frozenset((*(rendering.name for rendering in _RENDERINGS), *DOORS))
"""The values of the metric label `rendering`."""
KEPT_CHARACTERS = 128
"""Length of an Accept header whose choice is kept for the next one. Most clients send the same short one each time."""


def choose_rendering(accept: str | None, offered: tuple[str, ...] = MEDIA_TYPES) -> Rendering | None:
    """Return the offered rendering with the highest quality in the Accept header; None if it accepts none of them."""
    if not accept:
        return RENDERINGS[MEDIA_TYPES[0]]
    return (_choose_kept if len(accept) <= KEPT_CHARACTERS else _choose)(accept, offered)


def _choose(accept: str, offered: tuple[str, ...]) -> Rendering | None:
    liked = ranges(accept)
    best, best_quality = None, 0.0
    for media_type in offered:
        this = quality(liked, media_type)
        if this > best_quality:
            best, best_quality = RENDERINGS[media_type], this
    return best


_choose_kept = lru_cache(maxsize=64)(_choose)
