"""Large requests, which a log keeps beside its first event. Every admission and every follower reads that event."""

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from service.events import Start, encode_lines
from service.request import GenerateRequest, Request

LARGE_BYTES = 1 << 15
"""Length of the first event from which its request is kept beside it."""


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of `Start` that have the request."""

    request: GenerateRequest | None = None
    chat: Request | None = None


class Split(NamedTuple):
    """A first event whose request is kept beside it."""

    start: Start
    line: bytes
    request: bytes
    """What is kept beside it."""


_decode = msgspec.json.Decoder(_Kept).decode


def split(start: Start) -> Split:
    """Return the first event without its request."""
    request = msgspec.json.encode(_Kept(start.request, start.chat))
    start = replace(start, request=None, chat=None, request_bytes=len(request))
    return Split(start, encode_lines([start]), request)


def joined(start: Start, request: bytes) -> Start:
    """Return the first event with what was kept beside it; without, if that is damaged."""
    if len(request) != start.request_bytes:
        return start
    try:
        kept = _decode(request)
    except (ValueError, RecursionError):
        return start
    return replace(start, request=kept.request, chat=kept.chat, request_bytes=0)
