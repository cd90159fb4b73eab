"""Many paced streams on one timer."""

import asyncio
import heapq
from collections.abc import Callable

SLOTS_PER_SECOND = 1000


class Pacer:
    """Calls callbacks at their times, grouped by millisecond.

    A timer and a task for each of four hundred streams would cost more than their chunks. All callbacks of a
    millisecond share one wake-up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Callable[[], None]]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Schedule a call at this time of the loop's clock: never earlier, and not from within this method."""
        slot = int(when * SLOTS_PER_SECOND) + 1
        calls = self._slots.get(slot)
        if calls is not None:
            calls.append(call)
            return
        self._slots[slot] = [call]
        heapq.heappush(self._order, slot)
        if self._timer is None or slot < self._armed_for:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = self._order[0]
        self._timer = self._loop.call_at(self._armed_for / SLOTS_PER_SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = int(self._loop.time() * SLOTS_PER_SECOND)
        # The timer counts whole milliseconds and may fire a little early. Its work is due all the same.
        now = max(now, self._armed_for)
        while self._order and self._order[0] <= now:
            for call in self._slots.pop(heapq.heappop(self._order)):
                call()
        if self._order and self._timer is None:
            self._arm()
