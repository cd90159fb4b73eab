"""One timer for a reader's many waits."""

import asyncio


class Alarm:
    """Waits that end when the alarm is rung, or at their timeout. One wait at a time.

    A timer for each wait would cost as much as the wait. This one is set once. If it fires before the current wait's
    timeout, it is set again.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.waiter: asyncio.Future[None] | None = None
        """The last wait."""
        self._due_at = 0.0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's handles for less than half a millisecond have no `when()`.

    def wait(self, seconds: float) -> asyncio.Future[None]:
        """Return a future that completes when the alarm is rung, or after so many seconds."""
        self._due_at = self._loop.time() + seconds
        if self._timer is None or self._due_at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer()
        waiter = self.waiter = self._loop.create_future()
        return waiter

    def ring(self) -> None:
        """End the wait, if there is one."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Make the wait raise the error."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self._timer_at = self._due_at
        self._timer = self._loop.call_at(self._timer_at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self.waiter is None or self.waiter.done():
            return
        if self._loop.time() < self._due_at:
            self._set_timer()
        else:
            self.ring()
