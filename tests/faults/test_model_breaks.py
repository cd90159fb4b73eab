"""The comparison of a model's broken answers with its uncut ones, with the tests' upstream as the model."""

import asyncio
from pathlib import Path

import pytest

from service.upstream.overlap import Overlap
from tests.faults import model_breaks, sabotage
from tests.upstream.process import UpstreamProcess


def compare(directory: Path, count: int) -> model_breaks.Outcome:
    with UpstreamProcess.start() as upstream:
        return asyncio.run(model_breaks.breaks(directory, upstream.base_url, "test-model", count, seed=3))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_breaks, "SILENCE_SECONDS", 1.0)


def test_each_answer_breaks_off_and_is_equal_to_the_uncut_one(tmp_path: Path) -> None:
    outcome = compare(tmp_path, 12)
    assert outcome.equal == outcome.answers == 12
    assert outcome.counted["seams: 1"] >= 6
    assert outcome.violations() == []
    assert all(outcome.counted[f"by {way}"] for way in model_breaks.WAYS)


@pytest.mark.parametrize("broken", [sabotage.doubled_seam, sabotage.lost_seam])
def test_an_answer_that_differs_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: sabotage.Sabotage
) -> None:
    monkeypatch.setattr(Overlap, "add", Overlap.add)  # put back behind the test
    broken()
    outcome = compare(tmp_path, 3)
    assert outcome.wrong
    assert outcome.violations()


def test_the_questions_follow_from_the_seed() -> None:
    most = len(model_breaks.FORMS) * len(model_breaks.NOUNS)
    assert most >= 200
    assert model_breaks.plan(1, 20) == model_breaks.plan(1, 20) != model_breaks.plan(2, 20)
    assert len({each.query for each in model_breaks.plan(1, most)}) == most
    with pytest.raises(SystemExit):
        model_breaks.plan(1, most + 1)
