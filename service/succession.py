"""Which workers serve, in memory that all workers of one master share: an old worker ends when its successors serve.

On a reload (HUP) gunicorn starts the new workers and tells the old ones to end in the same moment. The new ones serve
only seconds later, when they have loaded the application, or never, when they cannot. So an old worker goes on serving
until all workers of the newest generation do.
"""

import mmap
import os
import struct
import time

_STOPPING = 0
_GENERATION = struct.Struct("=QQd")
"""The age of the newest generation's first worker, how many workers it has, and when the first was started."""
_GENERATION_AT = 8
_SERVING_AT = _GENERATION_AT + _GENERATION.size
_PLACES = mmap.PAGESIZE - _SERVING_AT
"""More than a master has workers at a time, so that each has a byte of its own."""


class Succession:
    """The shared memory. It has to be made in the master, before the first worker is started."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._configuration: object = None

    def start(self, age: int, configuration: object, workers: int) -> None:
        """Note in the master that it starts a worker. `age` is gunicorn's: the number of the worker among all.

        A reload makes a new configuration. The first worker that has it begins a generation.
        """
        self._memory[_place(age)] = False
        if configuration is not self._configuration:
            self._configuration = configuration
            _GENERATION.pack_into(self._memory, _GENERATION_AT, age, workers, time.monotonic())

    def stop(self) -> None:
        """Note in the master that it stops: no worker waits for another any more."""
        self._memory[_STOPPING] = True

    def serve(self, age: int) -> None:
        """Note that the worker of that age serves."""
        self._memory[_place(age)] = True

    def has_begun(self) -> bool:
        """Return whether any worker ever served."""
        return any(self._memory[_SERVING_AT:])

    def awaited(self, age: int, seconds: float) -> bool:
        """Return whether a worker has successors that do not all serve yet, and began no longer ago than `seconds`."""
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
    """One worker's place in the succession. It waits `seconds` for its successors, from the start of their first."""

    def __init__(self, succession: Succession, age: int, *, master: int, seconds: float) -> None:
        self._succession = succession
        self._age = age
        self._master = master
        self._seconds = seconds
        self._serves = False

    def serve(self) -> None:
        """Note that this worker serves."""
        self._serves = True
        self._succession.serve(self._age)

    def awaits_successors(self) -> bool:
        """Return whether this worker, told to end, should still serve."""
        return os.getppid() == self._master and self._succession.awaited(self._age, self._seconds)

    def is_over(self) -> bool:
        """Return whether this worker, told to end before, should end now."""
        return os.getppid() != self._master or self._succession.over(self._age)

    def is_dispensable(self) -> bool:
        """Return whether this worker has not served, and another one has."""
        return not self._serves and self._succession.has_begun()


def _place(age: int) -> int:
    return _SERVING_AT + age % _PLACES
