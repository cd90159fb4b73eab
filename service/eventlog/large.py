"""Large requests, which a log keeps beside its first event. Every admission and every follower reads that event."""

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


_decode = msgspec.json.Decoder(_Kept).decode


def written(start: Start) -> tuple[Start, bytes, bytes]:
    """Return the first event as it is written, its line, and what is kept beside it: its request, if that is large."""
    # Not encoded to learn its length where that is known: 32 MiB take 40 ms of the event loop.
    if start.chat is None or not _has_large_message(start.chat):
        line = encode_lines([start])
        has_request = start.request is not None or start.chat is not None
        if len(line) < LARGE_BYTES or not has_request:
            return start, line, b""
    request = msgspec.json.encode(_Kept(start.request, start.chat))
    start = replace(start, request=None, chat=None, request_bytes=len(request))
    return start, encode_lines([start]), request


def _has_large_message(request: Request) -> bool:
    return any(
        isinstance(message, msgspec.Raw) and len(memoryview(message)) >= LARGE_BYTES for message in request.messages
    )


def joined(start: Start, request: bytes) -> Start:
    """Return the first event with what was kept beside it; without, if that is damaged."""
    if len(request) != start.request_bytes:
        return start
    try:
        kept = _decode(request)
    except (ValueError, RecursionError):
        return start
    return replace(start, request=kept.request, chat=kept.chat, request_bytes=0)
