"""A short, seeded part of `python -m tests.faults --breaks --runs`, and proof that it detects defects."""

import asyncio
from pathlib import Path

import pytest

from service.upstream.known import Known
from tests.faults import run_breaks


def test_a_run_is_followed_again_wherever_and_however_it_breaks_off(tmp_path: Path) -> None:
    outcome = asyncio.run(run_breaks.breaks(tmp_path, 60, seed=5))
    assert outcome.answers == 60
    assert len(outcome.pauses) >= 30
    assert outcome.violations() == [], "\n".join(outcome.lines())


def test_a_doubled_piece_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Known, "_new", lambda _self, _voice, piece: piece)
    outcome = asyncio.run(run_breaks.breaks(tmp_path, 20, seed=5))
    assert outcome.wrong
    assert outcome.violations()
