"""While an upstream is down, only one request at a time waits for it."""

from service.upstream.breaker import MOST_BREAKERS, Breaker, Breakers


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


def test_each_model_has_a_breaker_of_its_own() -> None:
    clock = Clock()
    breakers = Breakers(3, 2.0, clock)
    for question in range(3):
        breakers.failed("down", question)
        breakers.failed("limping", 0)
    assert [breakers.admits(model) for model in ("down", "limping", "another")] == [False, True, True]
    breakers.succeeded("another")
    assert not breakers.admits("down")
    breakers.succeeded("down")
    assert breakers.admits("down")


def test_their_number_is_bounded_and_the_one_that_failed_last_is_kept() -> None:
    breakers = Breakers(1, 2.0, Clock())
    for number in range(MOST_BREAKERS):
        breakers.failed(f"model {number}", 0)
    breakers.failed("model 0", 1)
    breakers.failed("one more", 0)
    assert not breakers.admits("model 0")
    assert breakers.admits("model 1")
    assert not breakers.admits("one more")
    assert len(breakers._of_models) == MOST_BREAKERS
