"""The order in which workers wait for each other when they are replaced."""

import os

from service.succession import Place, Succession

LONG_SECONDS = 1000.0


def generation(succession: Succession, first: int, workers: int = 2) -> list[Place]:
    """Start workers as the master does in a reload, or at first."""
    configuration = object()
    for age in range(first, first + workers):
        succession.start(age, configuration, workers)
    return [Place(succession, age, master=os.getppid(), seconds=LONG_SECONDS) for age in range(first, first + workers)]


def test_workers_await_their_successors_until_all_of_them_serve() -> None:
    succession = Succession()
    old = generation(succession, 1)
    assert not any(place.awaits_successors() for place in old)
    new = generation(succession, 3)
    for place in new:
        assert all(each.awaits_successors() and not each.is_over() for each in old)
        place.serve()
    assert all(each.is_over() and not each.awaits_successors() for each in old)
    assert not any(each.awaits_successors() or each.is_over() for each in new)


def test_all_earlier_generations_await_the_newest() -> None:
    succession = Succession()
    oldest, old = generation(succession, 1), generation(succession, 3)
    for place in old:
        place.serve()
    new = generation(succession, 5)
    assert all(each.awaits_successors() for each in (*oldest, *old))
    for place in new:
        place.serve()
    assert all(each.is_over() for each in (*oldest, *old))


def test_one_that_is_started_in_place_of_a_dead_one_is_of_the_same_generation() -> None:
    succession = Succession()
    configuration = object()
    succession.start(1, configuration, 1)
    succession.start(2, configuration, 1)
    assert not Place(succession, 1, master=os.getppid(), seconds=LONG_SECONDS).awaits_successors()


def test_no_worker_waits_once_the_master_stops_or_is_gone_or_after_some_time() -> None:
    succession = Succession()
    [place, _] = generation(succession, 1)
    generation(succession, 3)
    orphan = Place(succession, 1, master=0, seconds=LONG_SECONDS)
    assert orphan.is_over()
    assert not orphan.awaits_successors()
    impatient = Place(succession, 1, master=os.getppid(), seconds=0)
    assert not impatient.is_over(), "it goes on serving"
    assert not impatient.awaits_successors()
    assert place.awaits_successors()
    succession.stop()
    assert place.is_over()
    assert not place.awaits_successors()


def test_a_worker_is_dispensable_if_another_one_served_and_it_did_not() -> None:
    succession = Succession()
    one, two = generation(succession, 1)
    assert not one.is_dispensable(), "one that fails at the start ends the service"
    two.serve()
    assert one.is_dispensable()
    assert not two.is_dispensable()


def test_a_master_may_start_any_number_of_workers() -> None:
    succession = Succession()
    for number in range(5000):  # more than the shared memory has places
        old = generation(succession, 1 + 2 * number)
        new = generation(succession, 3 + 2 * number)
        assert all(each.awaits_successors() for each in old)
        for each in new:
            each.serve()
        assert all(each.is_over() for each in old)
