"""Lists of objects in a body, of which decoding stops at the first that is too many.

Two million empty objects, which fit into 32 MiB, would hold the event loop for seconds.
"""

import msgspec

MOST_OBJECTS = 10_000
"""Limit on the objects of a list, together with those of the lists in it."""


class Counted(msgspec.Struct, gc=False):
    """An object of such a list."""

    def __post_init__(self) -> None:
        """Count it.

        Raises:
            ValueError: it is one too many.
        """
        global _count  # noqa: PLW0603 (a list is decoded in one turn of the event loop)
        _count += 1
        if _count > MOST_OBJECTS:
            raise ValueError


_count = 0


def begin() -> None:
    """Begin to count at 0."""
    global _count  # noqa: PLW0603 (see `Counted`)
    _count = 0


def is_too_many() -> bool:
    """Return whether decoding stopped because of the number."""
    return _count > MOST_OBJECTS
