"""Bodies that come compressed although identity was asked for."""

import gzip
import zlib
from typing import cast

import pytest

from service.errors import UpstreamError
from service.upstream.compression import FREE_BYTES, PIECE_BYTES, RATIO, Decompressed, decompressed
from service.upstream.connection import Exchange
from tests.upstream.bodies import PLAIN

RAW = zlib.compress(PLAIN, wbits=-zlib.MAX_WBITS)


class Given:
    """An exchange with a body in the given pieces."""

    def __init__(self, encoding: str, pieces: list[bytes]) -> None:
        self.status = 200
        self.headers = [(b"Content-Type", b"text/event-stream"), (b"Content-Encoding", encoding.encode())]
        self.pieces = pieces

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def expire(self) -> None: ...
    def close(self) -> None: ...
    def leave(self) -> None: ...


async def read_all(encoding: str, *pieces: bytes) -> list[bytes]:
    """What each read returns."""
    body = decompressed(cast("Exchange", Given(encoding, list(pieces))))
    assert isinstance(body, Decompressed)
    return [piece async for piece in aiter_of(body)]


async def aiter_of(body: Decompressed):  # type: ignore[no-untyped-def]
    while piece := await body.read():
        yield piece


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PLAIN)),
        ("x-gzip", gzip.compress(PLAIN[:50]) + gzip.compress(PLAIN[50:])),
        (" GZIP ", gzip.compress(PLAIN) + b"\0\0\0"),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", RAW),
        ("deflate", zlib.compress(PLAIN) + b"junk"),
    ],
)
async def test_a_body_is_the_same_at_every_byte_split(encoding: str, body: bytes) -> None:
    for cut in range(1, len(body)):
        assert b"".join(await read_all(encoding, body[:cut], body[cut:])) == PLAIN
    assert b"".join(await read_all(encoding, *(body[place : place + 1] for place in range(len(body))))) == PLAIN


@pytest.mark.parametrize("encoding", ["", "identity", "br", "zstd", "gzip, br"])
async def test_other_bodies_are_left_alone(encoding: str) -> None:
    given = cast("Exchange", Given(encoding, [PLAIN]))
    assert decompressed(given) is given


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES])
async def test_no_read_returns_more_than_a_piece(size: int) -> None:
    pieces = await read_all("gzip", gzip.compress(b"x" * size))
    assert b"".join(pieces) == b"x" * size
    assert max(map(len, pieces)) <= PIECE_BYTES


async def test_a_body_out_of_proportion_is_malformed_before_it_is_whole() -> None:
    bomb = gzip.compress(b"x" * (64 << 20))
    body = decompressed(cast("Exchange", Given("gzip", [bomb])))
    read: list[int] = []

    async def read_on() -> None:
        while piece := await body.read():
            read.append(len(piece))

    with pytest.raises(UpstreamError) as caught:
        await read_on()
    assert caught.value.code == "upstream_malformed"
    assert 0 < sum(read) <= FREE_BYTES + RATIO * len(bomb)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_of_another_form_is_malformed(encoding: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await read_all(encoding, b"\xff\xff" + PLAIN)
    assert caught.value.code == "upstream_malformed"


async def test_what_came_before_a_broken_part_is_read() -> None:
    whole = gzip.compress(PLAIN)
    body = decompressed(cast("Exchange", Given("gzip", [whole[:-8], b"\0" * 8])))
    assert await body.read() == PLAIN
    with pytest.raises(UpstreamError):
        await body.read()
