"""A short, seeded part of `python -m tests.faults --breaks`: answers whose upstream breaks off at a random byte."""

import asyncio
import random
from pathlib import Path

from tests.faults import breaks


def test_an_answer_goes_on_wherever_and_however_its_upstream_breaks_off(tmp_path: Path) -> None:
    outcome = asyncio.run(breaks.breaks(tmp_path, 60, seed=5))
    assert outcome.answers == 60
    assert len(outcome.pauses) >= 30
    assert outcome.violations() == [], "\n".join(outcome.lines())


def test_a_plan_has_every_way_at_every_place(tmp_path: Path) -> None:
    numbers = random.Random(1)  # noqa: S311 (reproducible, not secret)
    planned = [breaks.plan(numbers, number, tmp_path) for number in range(len(breaks.WAYS) * len(breaks.PLACES))]
    assert {(each.way, each.place) for each in planned} == {
        (way, place) for way in breaks.WAYS for place in breaks.PLACES
    }
