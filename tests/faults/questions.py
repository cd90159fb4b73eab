"""The clients' questions: each has a script for the upstream, and the ends that are true for it."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.upstream.body import Body, End, whole_text
from tests.upstream.script import command, parse

SILENCE_SECONDS = 6.0
"""The service's timeout for a silent upstream: longer than a worker is stopped, shorter than a run."""


@dataclass(frozen=True)
class Question:
    """One question."""

    kind: str
    key: str
    query: str
    text: str | None
    """The upstream's whole numbered text; None for a real model, whose text is not known beforehand."""
    codes: frozenset[str] = frozenset()
    """Codes of `failed` events and rejections that are true for the upstream's behaviour."""
    even: bool = False
    """Whether the upstream writes evenly, so that a gap is the service's fault."""
    fields: tuple[tuple[str, object], ...] = ()
    """Further fields of the body of POST /generate."""
    mended: bool = False
    """Whether the codes are true only where breaks are not mended."""


WEIGHTS = {"plain": 12, "broken": 4}
"""The kinds that are asked more often than others."""
BROKEN = {
    "reset": "upstream_cut",
    "stall": "upstream_timeout",
    "truncate": "upstream_truncated",
    "garbage": "upstream_malformed",
}
"""The ways in which an answer breaks off at a random byte, with the codes of breaks that are not mended."""
ECHOES = ("", "word", "all", "stripped")
"""What a continuation repeats of the given text (see `tests.upstream.script`)."""


def plain(
    numbers: random.Random, key: str, chunks: tuple[int, int] = (20, 120), paces: Sequence[float] = (0.02, 0.04, 0.06)
) -> Question:
    """Return a question with a regular answer at a readable pace."""
    pace = numbers.choice(paces)
    return _question("plain", key, even=True, chunks=numbers.randint(*chunks), pace=pace)


def long(numbers: random.Random, key: str) -> Question:
    """Return a question whose answer would outlast the run, for clients that disconnect."""
    return _question("long", key, chunks=numbers.randint(2000, 4000), pace=0.1)


def rate_limited(key: str) -> Question:
    """Return a question that the upstream rejects at once."""
    return _question(
        "429", key, "upstream_rate_limited", status=429, headers={"Retry-After": "7"}, error={"message": "slow down"}
    )


def broken(numbers: random.Random, key: str) -> Question:
    """Return a question whose answer breaks off once, at a random byte, and is continued in one of the manners.

    The byte is behind the first piece: a break before that is no break in the middle. Each piece has a word of five
    letters, which a seam can tell from chance, and a character of several bytes.
    """
    how, echo = numbers.choice(list(BROKEN)), numbers.choice(ECHOES)
    script: dict[str, Any] = {
        "chunks": numbers.randint(10, 60),
        "text": "árvíz{n}🌊 ",
        "reasoning": [f"gondolat{n} " for n in range(numbers.choice([0, 0, 10]))],
        "escape": numbers.random() < 0.5,
    }
    # With the key, which each chunk's id has: a longer one moves the first piece on.
    whole = Body(parse({"key": key, **script}), model="test-model", include_usage=True)
    body = b"".join(b"".join(beat) for beat in whole if not isinstance(beat, End))
    first_piece = re.search(rb'"(reasoning_)?content":"[^"]', body)
    assert first_piece is not None
    begun = body.index(b"\n\n", first_piece.end()) + 2
    first = [{"break_at": numbers.randrange(begun, len(body)), "break_how": how}]
    question = _question("broken", key, BROKEN[how], **script, pace=0.03, echo=echo, first=first)
    return replace(question, mended=True)


def draw(numbers: random.Random, key: str) -> Question:
    """Draw a question at random."""
    kind = numbers.choices(KINDS, [WEIGHTS.get(kind, 1) for kind in KINDS])[0]
    return _make(kind, numbers, key)


KINDS = (
    "plain",
    "unicode",
    "reasoning",
    "split at every byte",
    "trickle",
    "burst",
    "late",
    "late status",
    "flaky",
    "broken",
    "reset",
    "closed",
    "stall",
    "truncated",
    "garbage",
    "error",
    "429",
    "500",
)


def _make(kind: str, numbers: random.Random, key: str) -> Question:  # noqa: C901, PLR0911, PLR0912 (a table)
    chunks = numbers.randint(10, 60)
    place = numbers.randrange(chunks)
    given: dict[str, Any] = {"chunks": chunks, "pace": 0.03}
    match kind:
        case "plain":
            return plain(numbers, key)
        case "unicode":
            return _question(kind, key, even=True, **given, text="ű{n}🐟\r\n\n event: done ")
        case "reasoning":
            return _question(kind, key, even=True, **given, reasoning=[f"r{n} " for n in range(20)])
        case "split at every byte":
            return _question(kind, key, chunks=4, split="bytes", role=numbers.random() < 0.5)
        case "trickle":
            return _question(kind, key, chunks=12, pace=0.5)
        case "burst":
            return _question(kind, key, chunks=2000, batch=50)
        case "late":
            return _question(kind, key, **given, first_chunk_delay=numbers.uniform(1, 3))
        case "late status":
            return _question(kind, key, **given, status_delay=numbers.uniform(0.5, 3))
        case "flaky":
            return _question(kind, key, **given, first=[{"cut_after": 0}])
        case "broken":
            return broken(numbers, key)
        case "reset":
            return _question(kind, key, "upstream_cut", **given, cut_after=place)
        case "closed":
            return _question(kind, key, "upstream_cut", **given, cut_after=place, cut="fin")
        case "stall":
            return _question(kind, key, "upstream_timeout", **given, stall_after=place)
        case "truncated":
            return _question(kind, key, "upstream_truncated", **given, truncate_after=place)
        case "garbage":
            garbage = numbers.choice(['data: {"choices": [oops\n\n', "data: \xff\xfe\n\n", 'data: lo"}}]}\n\n'])
            return _question(kind, key, "upstream_malformed", **given, garbage_after=place, garbage=garbage)
        case "error":
            return _question(kind, key, "upstream_error", **given, error_after=place)
        case "429":
            return rate_limited(key)
        case "500":
            return _question(kind, key, "upstream_unavailable", status=500)
    raise ValueError(kind)


def _question(kind: str, key: str, *codes: str, even: bool = False, **script: Any) -> Question:  # noqa: ANN401 (Script)
    query = command(key=key, **script)
    return Question(kind, key, query, whole_text(parse({"key": key, **script})), frozenset(codes), even)
