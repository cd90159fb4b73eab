"""Record which workers serve, in memory that all workers of one master share.

On a reload (HUP) gunicorn starts the new workers and tells the old ones to end at the same moment. The new workers
serve seconds later, once they have loaded the application, or never, if they cannot load it. So an old worker
continues to serve until all workers of the newest generation serve.
"""

import mmap
import os
import struct
import time

_STOPPING = 0
_GENERATION = struct.Struct("=QQd")
"""The newest generation: the age of its first worker, its number of workers, the monotonic time of its start."""
_GENERATION_AT = 8
_SERVING_AT = _GENERATION_AT + _GENERATION.size
_PLACES = mmap.PAGESIZE - _SERVING_AT
"""Number of bytes for workers. A master has fewer workers at a time, so that each has a byte of its own."""


class Succession:
    """The shared memory. Create it in the master, before the first worker starts."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._configuration: object = None

    def start(self, age: int, configuration: object, workers: int) -> None:
        """Record in the master that it starts a worker. `age` is gunicorn's: workers are numbered from 1.

        A reload makes a new configuration. Its first worker begins a generation.
        """
        self._memory[_place(age)] = False
        if configuration is not self._configuration:
            self._configuration = configuration
            _GENERATION.pack_into(self._memory, _GENERATION_AT, age, workers, time.monotonic())

    def stop(self) -> None:
        """Record in the master that it stops. No worker waits for its successors from here on."""
        self._memory[_STOPPING] = True

    def serve(self, age: int) -> None:
        """Record that the worker of that age serves."""
        self._memory[_place(age)] = True

    def has_begun(self) -> bool:
        """Return whether any worker has ever served."""
        return any(self._memory[_SERVING_AT:])

    def awaited(self, age: int, seconds: float) -> bool:
        """Return whether a worker should wait: its successors do not all serve, and began less than `seconds` ago."""
        first, _, began_at = self._generation()
        return age < first and not self.over(age) and time.monotonic() < began_at + seconds

    def over(self, age: int) -> bool:
        """Return whether a worker should end: all its successors serve, or the master stops."""
        if self._memory[_STOPPING]:
            return True
        first, workers, _ = self._generation()
        return age < first and all(self._memory[_place(successor)] for successor in range(first, first + workers))

    def _generation(self) -> tuple[int, int, float]:
        first, workers, began_at = _GENERATION.unpack_from(self._memory, _GENERATION_AT)
        return first, workers, began_at


class Place:
    """One worker's place in the succession. It waits for its successors `seconds` from the start of their first."""

    def __init__(self, succession: Succession, age: int, *, master: int, seconds: float) -> None:
        self._succession = succession
        self._age = age
        self._master = master
        self._seconds = seconds
        self._serves = False

    def serve(self) -> None:
        """Record that this worker serves."""
        self._serves = True
        self._succession.serve(self._age)

    def awaits_successors(self) -> bool:
        """Return whether this worker should still serve after it was told to end."""
        return os.getppid() == self._master and self._succession.awaited(self._age, self._seconds)

    def is_over(self) -> bool:
        """Return whether this worker should end now, after it waited for its successors."""
        return os.getppid() != self._master or self._succession.over(self._age)

    def is_dispensable(self) -> bool:
        """Return whether this worker has not served, but another one has."""
        return not self._serves and self._succession.has_begun()


def _place(age: int) -> int:
    return _SERVING_AT + age % _PLACES
