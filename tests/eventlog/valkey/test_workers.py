"""Which workers are alive, by a clock of the test's own."""

import pytest

from service.eventlog.valkey.workers import DEAD_SECONDS, FORGET_SECONDS, GAP_SECONDS, HEARTBEAT_SECONDS, Workers


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(workers: Workers, clock: Clock, counts: dict[str, int], seconds: float) -> set[str]:
    """Look at heartbeats that stand still; return who died."""
    died: set[str] = set()
    until = clock.now + seconds
    while clock.now < until:
        died |= workers.look(counts)
        clock.now += HEARTBEAT_SECONDS
    return died


def test_a_worker_whose_heartbeat_stands_still_is_dead(clock: Clock) -> None:
    workers = Workers("me", clock)
    assert watch(workers, clock, {"me": 1, "V": 7}, DEAD_SECONDS) == set()
    assert not workers.is_dead("V")
    assert workers.look({"me": 1, "V": 7}) == {"V"}
    assert workers.is_dead("V")
    assert not workers.is_dead("me")
    assert workers.look({"me": 1, "V": 7}) == set(), "it is told once"
    assert workers.silent_seconds("V") >= DEAD_SECONDS


def test_a_worker_that_beats_again_is_alive_again(clock: Clock) -> None:
    workers = Workers("me", clock)
    watch(workers, clock, {"V": 7}, DEAD_SECONDS + 1)
    assert not workers.is_alive("V")
    workers.look({"V": 8})
    assert workers.is_alive("V")
    assert not workers.is_dead("V")
    assert workers.silent_seconds("V") == 0


def test_a_server_that_was_away_makes_no_worker_dead(clock: Clock) -> None:
    workers = Workers("me", clock)
    for _ in range(10):
        assert workers.look({"V": 7}) == set()
        clock.now += GAP_SECONDS + 0.1
    assert not workers.is_dead("V")


def test_who_was_seen_only_once_is_neither_alive_nor_dead(clock: Clock) -> None:
    workers = Workers("me", clock)
    workers.look({"V": 7})
    assert not workers.is_alive("V")
    assert not workers.is_dead("V")


def test_who_is_not_listed_is_dead_after_it_was_watched(clock: Clock) -> None:
    workers = Workers("me", clock)
    workers.look({})
    assert not workers.is_dead("V")
    watch(workers, clock, {}, DEAD_SECONDS + 1)
    assert workers.is_dead("V")
    assert not workers.is_alive("V")
    watch(workers, clock, {}, FORGET_SECONDS + 1)
    assert not workers.is_dead("V"), "nobody asked for it: it is watched anew"
    watch(workers, clock, {}, DEAD_SECONDS + 1)
    assert workers.is_dead("V")


def test_the_living_are_counted(clock: Clock) -> None:
    workers = Workers("me", clock)
    workers.look({"me": 1, "V": 1})
    assert workers.alive() == 2
    watch(workers, clock, {"me": 1, "V": 1}, DEAD_SECONDS + 1)
    assert workers.alive() == 1
