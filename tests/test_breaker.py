"""An upstream that is down makes only one request at a time wait for it."""

from service.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def tripped(clock: Clock) -> Breaker:
    breaker = Breaker(3, 2.0, clock)
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    return breaker


def test_it_trips_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(3, 2.0, Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        assert breaker.admits()
        breaker.succeeded()
    assert not tripped(Clock()).admits()


def test_tripped_it_lets_one_through_every_so_many_seconds() -> None:
    clock = Clock()
    breaker = tripped(clock)
    for _ in range(3):
        clock.now += 1.9
        assert not breaker.admits()
        clock.now += 0.2
        assert breaker.admits()
        assert not breaker.admits()
        breaker.failed()


def test_one_success_closes_it() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.now += 2
    assert breaker.admits()
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(10))
