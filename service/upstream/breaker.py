"""A breaker: keeps an upstream that is down from making everybody wait for its time-outs. Pure, but for the clock."""

from collections.abc import Callable, Hashable


class Breaker:
    """Opens after so many different questions have failed in a row; then lets one through every so many seconds.

    The first success closes it. Different questions are counted, so that one question that makes the upstream fail
    each time, however often it is asked, does not keep others from being asked.
    """

    def __init__(self, questions: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most_questions = questions
        self._seconds = seconds
        self._clock = clock
        self._failed: set[Hashable] = set()
        self._next_try_at = 0.0

    def admits(self) -> bool:
        """Return whether a question may be asked. While open, the answer is true once in `seconds`."""
        if not self._is_open():
            return True
        now = self._clock()
        if now < self._next_try_at:
            return False
        self._next_try_at = now + self._seconds
        return True

    def succeeded(self) -> None:
        """Note an answer, of whatever kind: the upstream is there."""
        self._failed.clear()

    def failed(self, question: Hashable) -> None:
        """Note that the upstream was not there for this question."""
        if self._is_open():
            return
        self._failed.add(question)
        if self._is_open():
            self._next_try_at = self._clock() + self._seconds

    def _is_open(self) -> bool:
        return len(self._failed) >= self._most_questions
