"""Whether an answer has a follower, on any worker, and for how long it goes on without one."""

import asyncio

from service.eventlog import Lease
from service.lifecycle import Cause, State, move


class Watch:
    """The audience of one answer, seen from its producer. Goes on for `seconds` without a follower.

    An answer in the background, for which `seconds` is None, needs none.
    """

    def __init__(self, lease: Lease, seconds: float | None) -> None:
        self.until: float | None = None
        """When the answer is to be stopped, by the event loop's clock. None while it is watched."""
        self._lease = lease
        self._seconds = seconds
        self._state = State.WATCHED
        self._time = asyncio.get_running_loop().time
        if seconds is not None and lease.unwatched_seconds_left is not None:
            self._go(min(lease.unwatched_seconds_left, seconds))

    def is_over(self) -> bool:
        """Look for a follower. Return whether there has been none for too long.

        Raises:
            Unavailable: the log cannot tell.
        """
        if self._seconds is None:
            return False
        if self._lease.watched():
            self.end()
            return False
        until = self._go(self._seconds) if self.until is None else self.until
        return self._time() >= until

    def end(self) -> None:
        """Note that the answer has a follower, or needs none any more."""
        if self.until is not None:
            self._state = move(self._state, Cause.COME)
            self.until = None
            self._lease.clear_unwatched()

    def _go(self, seconds: float) -> float:
        self._state = move(self._state, Cause.GO)
        self.until = self._time() + seconds
        self._lease.mark_unwatched(seconds)
        return self.until
