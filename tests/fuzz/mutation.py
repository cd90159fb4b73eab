"""Fuzzing cases: well-formed data with a few changes, and places to cut it. The seed determines all of it."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

MAX_BYTES = 1 << 14
"""Limit on a case. Longer ones find nothing more, and take longer."""
MAX_CHANGES = 6
MAX_CUTS = 12
ONE_BYTE_AT_A_TIME = 0.05
"""Share of the cases that are cut at every byte."""


def mutated(rng: Random, corpus: Sequence[bytes], dictionary: Sequence[bytes]) -> bytes:
    """Return one of the corpus with up to `MAX_CHANGES` changes; sometimes with none."""
    data = rng.choice(corpus)
    for _ in range(rng.randrange(MAX_CHANGES + 1)):
        data = _change(rng, data, corpus, dictionary)
    return data[:MAX_BYTES]


def _change(rng: Random, data: bytes, corpus: Sequence[bytes], dictionary: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    end = min(len(data), start + rng.choice((0, 1, 1, 2, 8, 64, 1 << 20)))
    match rng.randrange(8):
        case 0:
            put = rng.randbytes(max(1, end - start) % 16)
        case 1 | 2:
            put = rng.choice(dictionary)
        case 3:
            put = rng.choice(dictionary) * rng.choice((2, 3, 100, 1000))
        case 4:
            put = data[start:end] * 2
        case 5:
            other = rng.choice(corpus)
            at = rng.randint(0, len(other))
            put = other[at : at + rng.choice((1, 16, 256))]
        case 6:
            put = bytes(byte ^ 1 << rng.randrange(8) for byte in data[start : start + 2])
        case _:
            put = b""
    return data[:start] + put + data[end:]


def cut(rng: Random, data: bytes) -> list[bytes]:
    """Return the data in pieces, none of them empty."""
    if rng.random() < ONE_BYTE_AT_A_TIME:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted({0, len(data), *(rng.randint(0, len(data)) for _ in range(rng.randrange(MAX_CUTS)))})
    return [data[start:end] for start, end in pairwise(places)]
