"""While an upstream is down, only one request at a time waits for it."""

from service.upstream.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def tripped(clock: Clock) -> Breaker:
    breaker = Breaker(3, 2.0, clock)
    for _ in range(3):
        assert breaker.admits()
        breaker.failed(object())
    return breaker


def test_it_opens_after_so_many_failed_questions_in_a_row() -> None:
    breaker = Breaker(3, 2.0, Clock())
    for _ in range(5):
        breaker.failed("one")
        breaker.failed("another")
        assert breaker.admits()
        breaker.succeeded()
    assert not tripped(Clock()).admits()


def test_one_question_that_always_fails_does_not_open_it() -> None:
    breaker = Breaker(3, 2.0, Clock())
    for _ in range(10):
        breaker.failed("the same")
        assert breaker.admits()


def test_open_it_lets_one_through_every_so_many_seconds() -> None:
    clock = Clock()
    breaker = tripped(clock)
    for _ in range(3):
        clock.now += 1.9
        assert not breaker.admits()
        clock.now += 0.2
        assert breaker.admits()
        assert not breaker.admits()
        breaker.failed("another still")


def test_one_success_closes_it() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.now += 2
    assert breaker.admits()
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(10))
