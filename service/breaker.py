"""A breaker: keeps an upstream that is down from making everybody wait for its time-outs. Pure, but for the clock."""

from collections.abc import Callable


class Breaker:
    """Trips after so many failures in a row, and lets one question through every so many seconds to see.

    The first success closes it again.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most_failures = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._next_try_at = 0.0

    def admits(self) -> bool:
        """Tell whether a request may go through. A true answer while tripped is given once in `seconds`."""
        if self._failures < self._most_failures:
            return True
        now = self._clock()
        if now < self._next_try_at:
            return False
        self._next_try_at = now + self._seconds
        return True

    def succeeded(self) -> None:
        """Note an answer, of whatever kind: the upstream is there."""
        self._failures = 0

    def failed(self) -> None:
        """Note that the upstream was not there."""
        self._failures += 1
        if self._failures == self._most_failures:
            self._next_try_at = self._clock() + self._seconds
