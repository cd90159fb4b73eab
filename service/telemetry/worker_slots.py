"""A worker's place among those that count together, in the directory where their metrics meet.

prometheus_client keeps a worker's counts in files that it names after the process id, for ever: a worker more, some
files more, and each costs every scrape. Here the files have a *slot*'s number, and whoever comes next into a slot that
is free counts on in its files. The kernel holds a slot for its worker, and so frees it whatever the worker's end was.
"""

import fcntl
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import multiprocess

_TAKEN = b"taken\n"
_SERVED = b"serves\n"
"""What is in a slot's file until its worker has left in order, from its first moment, and once it serves."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that is this process's until it ends."""

    directory: Path
    number: int
    lost: int
    """How many workers were found to have ended without leaving, on the way to it."""
    _descriptor: int

    def serve(self) -> None:
        """Say that this worker serves: from now on its death is one to count.

        One that is told to end while it starts has no way to leave, and takes nothing from anybody.
        """
        os.pwrite(self._descriptor, _SERVED, 0)

    def leave(self) -> None:
        """Say that this worker ends in order, and take it out of the gauges that sum over the living."""
        os.ftruncate(self._descriptor, 0)
        _forget(self.directory, self.number)


def claim(directory: Path) -> Slot:
    """Return the first slot that no living process has.

    Raises:
        OSError: the directory cannot be written, or its disk is full.
    """
    lost = sweep(directory)
    for number in itertools.count():
        descriptor = _lock(directory / f"{number}.slot", os.O_RDWR | os.O_CREAT)
        if descriptor is not None:
            lost += _tidy(directory, number, descriptor)
            try:
                os.pwrite(descriptor, _TAKEN, 0)
            except OSError:
                os.close(descriptor)
                raise
            return Slot(directory, number, lost, descriptor)
    raise AssertionError  # there is no last number


def sweep(directory: Path) -> int:
    """Take the dead out of the gauges that sum over the living; return how many had served and not left in order.

    Whoever finds one first counts it, and nobody does again.
    """
    lost = 0
    for path in directory.glob("*.slot"):
        descriptor = _lock(path, os.O_RDWR)
        if descriptor is not None:
            try:
                lost += _tidy(directory, int(path.stem), descriptor)
            finally:
                os.close(descriptor)
    return lost


def _lock(path: Path, flags: int) -> int | None:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _tidy(directory: Path, number: int, descriptor: int) -> int:
    said = os.pread(descriptor, len(_SERVED), 0)
    if said:
        os.ftruncate(descriptor, 0)
        _forget(directory, number)
    return int(said == _SERVED)


def _forget(directory: Path, number: int) -> None:
    multiprocess.mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]
