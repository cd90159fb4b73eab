"""The workers, and which of them are alive.

Each worker counts its heartbeats on the server. A worker is dead to another one that has itself watched that number
stand still for `DEAD_SECONDS` over a connection that worked. So no two clocks are compared, and a server that was away
makes no worker dead.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping

HEARTBEAT_SECONDS = 0.5
"""Interval of the heartbeats."""
DEAD_SECONDS = 2.0
"""Silence after which a worker is dead."""
GAP_SECONDS = 1.25
"""Longest time between two looks at the heartbeats. After a longer one, the silence of every worker counts anew."""
FORGET_SECONDS = 60.0
"""Time after which a worker that is not listed is no longer watched, unless it is asked for."""


def new_worker() -> str:
    """Return a name for this process. It has no blanks."""
    host = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in socket.gethostname())
    return f"{host}.{os.getpid()}.{secrets.token_hex(4)}"


class _Seen:
    """What is known of one worker."""

    __slots__ = ("asked_at", "count", "moved", "since")

    def __init__(self, count: int | None, now: float) -> None:
        self.count = count
        """None if it is not listed."""
        self.since = now
        """When the count was first seen."""
        self.asked_at = now
        self.moved = False
        """Whether the count was seen to change."""


class Workers:
    """What this worker has seen of the others."""

    def __init__(self, me: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.me = me
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._looked_at = -GAP_SECONDS
        self._dead: set[str] = set()

    def look(self, counts: Mapping[str, int]) -> set[str]:
        """Take in the counts of all workers. Return those that are dead since this look."""
        now = self._clock()
        if now - self._looked_at > GAP_SECONDS:
            for seen in self._seen.values():
                seen.since = now
        self._looked_at = now
        for worker, count in counts.items():
            seen = self._seen.setdefault(worker, _Seen(count, now))
            if seen.count != count:
                seen.count, seen.since, seen.moved = count, now, True
            seen.asked_at = now
        for worker, seen in list(self._seen.items()):
            if worker not in counts:
                seen.count, seen.moved = None, False
                if now - seen.asked_at > FORGET_SECONDS:
                    del self._seen[worker]
        dead = {worker for worker, seen in self._seen.items() if now - seen.since >= DEAD_SECONDS} - {self.me}
        died, self._dead = dead - self._dead, dead
        return died

    def dead(self) -> set[str]:
        """Return the dead workers."""
        return set(self._dead)

    def is_dead(self, worker: str) -> bool:
        """Return whether the worker is dead. One that was never seen is watched from now on."""
        if worker == self.me:
            return False
        seen = self._seen.get(worker)
        if seen is None:
            seen = self._seen[worker] = _Seen(None, self._clock())
        seen.asked_at = self._clock()
        return worker in self._dead

    def is_alive(self, worker: str) -> bool:
        """Return whether a heartbeat of the worker was seen. One that is neither alive nor dead is being watched."""
        seen = self._seen.get(worker)
        return worker == self.me or (seen is not None and seen.moved and worker not in self._dead)

    def silent_seconds(self, worker: str) -> float:
        """Return for how long the worker has been silent; 0 if it is alive."""
        return self._clock() - self._seen[worker].since if worker in self._dead else 0.0

    def is_listed(self, worker: str) -> bool:
        """Return whether the server lists the worker."""
        seen = self._seen.get(worker)
        return seen is not None and seen.count is not None

    def alive(self) -> int:
        """Return the number of listed workers that are not dead, this one included."""
        return sum(seen.count is not None for worker, seen in self._seen.items() if worker not in self._dead)
