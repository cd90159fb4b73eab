"""A circuit breaker: requests fail at once while the upstream is down. Pure, except for the clock."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial

MOST_BREAKERS = 100
"""Limit on the models of an endpoint that are failing at once, each with a breaker of its own."""


class Breaker:
    """Opens after failures of a number of different questions in a row; then admits one question per interval.

    The first success closes it. Different questions are counted, so one question that always fails does not open it,
    however often it is asked.
    """

    def __init__(self, questions: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most_questions = questions
        self._seconds = seconds
        self._clock = clock
        self._failed: set[Hashable] = set()
        self._next_try_at = 0.0

    def admits(self) -> bool:
        """Return whether a question may be asked. An open breaker admits one in `seconds`."""
        if not self._is_open():
            return True
        now = self._clock()
        if now < self._next_try_at:
            return False
        self._next_try_at = now + self._seconds
        return True

    def succeeded(self) -> None:
        """Record any answer of the upstream, an error among them: the upstream is up."""
        self._failed.clear()

    def failed(self, question: Hashable) -> None:
        """Record that the upstream was down for this question."""
        if self._is_open():
            return
        self._failed.add(question)
        if self._is_open():
            self._next_try_at = self._clock() + self._seconds

    def _is_open(self) -> bool:
        return len(self._failed) >= self._most_questions


class Breakers:
    """The breakers of an endpoint, one for each model: behind a router, one model's server may be down alone.

    Only models with failures have one. Above MOST_BREAKERS, the one whose last failure is longest ago is dropped.
    """

    def __init__(self, questions: int, seconds: float, clock: Callable[[], float]) -> None:
        self._new = partial(Breaker, questions, seconds, clock)
        self._of_models: OrderedDict[str, Breaker] = OrderedDict()

    def admits(self, model: str) -> bool:
        """Return whether a question to the model may be asked."""
        breaker = self._of_models.get(model)
        return breaker is None or breaker.admits()

    def succeeded(self, model: str) -> None:
        """Record any answer of the model, an error among them."""
        self._of_models.pop(model, None)

    def failed(self, model: str, question: Hashable) -> None:
        """Record that the model was down for this question."""
        if model not in self._of_models:
            self._of_models[model] = self._new()
        self._of_models.move_to_end(model)
        self._of_models[model].failed(question)
        if len(self._of_models) > MOST_BREAKERS:
            self._of_models.popitem(last=False)
