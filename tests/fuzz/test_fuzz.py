"""A short part of `python -m tests.fuzz`, and proof that it detects defects."""

import time
from random import Random

import pytest

from service.events import Delta
from service.upstream import event_stream
from service.upstream.chunks import ChunkDecoder
from tests.fuzz import run as runner
from tests.fuzz import targets
from tests.fuzz.run import run

CASES = 5000
SEED = 2026


@pytest.mark.parametrize("target", targets.TARGETS)
def test_nothing_is_found(target: str) -> None:
    done, _, finding = run(target, SEED, range(CASES))
    assert finding is None, str(finding)
    assert done == CASES


def test_a_case_can_be_seen_again() -> None:
    for target in targets.TARGETS.values():
        first, again = (
            target.case(Random("one seed"))  # noqa: S311 (reproducible)
            for _ in range(2)
        )
        assert first == again


def test_it_notices_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "is_whole", str.encode)  # raises for half a character
    _, _, finding = run("chunks", SEED, range(CASES))
    assert finding is not None
    assert "chunks" in str(finding)


def test_it_notices_what_depends_on_the_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = ChunkDecoder.feed

    def forgetful(self: ChunkDecoder, data: bytes) -> list[Delta]:
        self._after_cr = False
        return feed(self, data)

    monkeypatch.setattr(ChunkDecoder, "feed", forgetful)
    _, _, finding = run("chunks", SEED, range(CASES))
    assert finding is not None
    assert "depends on how the bytes are cut" in finding.error


def test_it_notices_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CASE_SECONDS", 0.2)
    monkeypatch.setattr(targets, "parse_event_id", lambda _: time.sleep(60))
    _, seconds, finding = run("event-ids", SEED, range(CASES))
    assert finding is not None
    assert finding.error.startswith("EndlessError")
    assert seconds < 30
