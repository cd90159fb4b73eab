"""The JSON body of a door: read within limits, and decoded only where it is checked.

A body of 32 MiB may hold millions of values. Decoded, they would block the event loop for seconds and take twenty times
the body's memory. So each field stays raw JSON, and goes so to the log and to the upstream.
"""

import asyncio
import codecs
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import msgspec
from fastapi import Request
from msgspec import Raw

from service.errors import BadInput, Unavailable

MOST_OTHER_BYTES = 1 << 18
"""Limit on the fields that are none of `_Large`, together. As a dictionary, 32 MiB of small ones took 1.7 s."""
_ONE_TURN_BYTES = 1 << 20
"""Length of a body that is read in one turn of the event loop."""
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
"""JSON has line ends between its values alone. The log has one line an event."""


class Bodies:
    """The bodies under way in one worker: from their first byte until nothing refers to them any more.

    A producer refers to its request, and so to the body, until its answer has ended. The parts of an ended answer must
    not refer to each other in cycles: a body would stay, and count, until the garbage collector runs.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.bytes = 0

    def add(self, count: int) -> None:
        """Count bytes in.

        Raises:
            Unavailable: they would be too many.
        """
        if self.bytes + count > self._most_bytes:
            raise Unavailable("too_many_bodies")
        self.bytes += count


class _Body(bytearray):
    """A body. Its raw fields refer to it. Nothing changes it any more once they do."""

    def __init__(self, bodies: Bodies) -> None:
        super().__init__()
        self._bodies = bodies
        self._counted = 0

    def add(self, piece: bytes) -> None:
        self._bodies.add(len(piece))
        self._counted += len(piece)
        self.extend(piece.translate(_LINE_ENDS) if b"\n" in piece or b"\r" in piece else piece)

    def __del__(self) -> None:
        self._bodies.bytes -= self._counted


class _Large(msgspec.Struct, gc=False):
    """The fields that may be large, whatever they hold."""

    context: Raw = Raw()
    functions: Raw = Raw()
    input: Raw = Raw()
    instructions: Raw = Raw()
    message: Raw = Raw()
    messages: Raw = Raw()
    metadata: Raw = Raw()
    prediction: Raw = Raw()
    prompt: Raw = Raw()
    response_format: Raw = Raw()
    state: Raw = Raw()
    text: Raw = Raw()
    tools: Raw = Raw()


_decode_large = msgspec.json.Decoder(_Large).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


async def read_fields(request: Request, bodies: Bodies) -> dict[str, Raw] | None:
    """Return the fields of the request's body, each as raw JSON; None if the client disconnects before its end.

    The JSON is valid. Each field, and with it the whole body, is on one line.

    Raises:
        BadInput: the body is no JSON object, or its small fields are too many.
        Unavailable: too many bodies are under way.
        FolyamError: 413, the body is too large.
    """
    body = _Body(bodies)
    as_text = codecs.getincrementaldecoder("utf-8")().decode
    try:
        while (message := await request.receive())["type"] != "http.disconnect":
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            if not piece.isascii() or not more:
                as_text(piece, not more)
            body.add(piece)
            if not more:
                return await _fields(body)
    except UnicodeDecodeError:
        raise BadInput("invalid_json") from None
    return None


async def _fields(body: _Body) -> dict[str, Raw]:
    if body.startswith(codecs.BOM_UTF8):
        del body[: len(codecs.BOM_UTF8)]
    try:
        if len(body) > _ONE_TURN_BYTES:
            large = _decode_large(body)
            others = len(body) - sum(len(memoryview(getattr(large, name))) for name in _Large.__struct_fields__)
            if others > MOST_OTHER_BYTES:
                raise BadInput("fields_too_large", most=MOST_OTHER_BYTES)
            await asyncio.sleep(0)
        return _decode_fields(body)
    except msgspec.ValidationError:
        raise BadInput("invalid_input", "body") from None
    except (ValueError, RecursionError):
        raise BadInput("invalid_json") from None


_decoder = lru_cache(maxsize=256)(msgspec.json.Decoder)


def value_of(fields: dict[str, Raw], name: str, kind: object, wanted: str) -> Any:  # noqa: ANN401 (of that type)
    """Return the field as a value of this type, which msgspec can decode. A missing field is null.

    Raises:
        BadInput: it is none. `wanted` says what it should be.
    """
    try:
        return _decoder(kind).decode(fields.get(name, b"null"))
    except (ValueError, RecursionError):
        raise BadInput("invalid_input", "value", field=name, wanted=wanted) from None


def keep(values: Sequence[Raw], bodies: Bodies) -> list[Raw]:
    """Return copies of the values, which are one more body under way. What they were copied from can go.

    A door that makes other JSON of a body keeps it so: of a long body, a single field would hold all of it.

    Raises:
        Unavailable: too many bodies are under way.
    """
    body = _Body(bodies)
    for value in values:
        body.add(bytes(value))
    whole, ends = memoryview(body), list(accumulate(len(memoryview(value)) for value in values))
    return [Raw(whole[begin:end]) for begin, end in pairwise([0, *ends])]
