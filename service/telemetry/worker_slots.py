"""Slots for the workers' metrics files, in the directory that all workers share.

By default prometheus_client names a worker's files after its process id and keeps them for ever. Each new worker adds
files, and each file makes every scrape slower. Here the files carry the number of a *slot*. A new worker takes a free
slot and continues its counters. A slot is held by a file lock, which the kernel frees however the worker ends.
"""

import fcntl
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import multiprocess

_TAKEN = b"taken\n"
_SERVED = b"serves\n"
"""Content of a slot's file: `taken` from the claim on, `serves` once the worker serves, empty after a clean exit."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that this process holds until it ends."""

    directory: Path
    number: int
    lost: int
    """Number of workers that the claim found to have ended uncleanly while they served."""
    _descriptor: int

    def serve(self) -> None:
        """Mark the worker as serving. An unclean exit is counted from here on.

        A worker that is told to end during its start cannot exit cleanly, and no request is lost by it.
        """
        os.pwrite(self._descriptor, _SERVED, 0)

    def leave(self) -> None:
        """Mark the worker's exit as clean, and remove it from the gauges of live workers."""
        os.ftruncate(self._descriptor, 0)
        _forget(self.directory, self.number)


def claim(directory: Path) -> Slot:
    """Return the first slot that no live process holds.

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
    raise AssertionError  # unreachable: the numbers do not end


def sweep(directory: Path) -> int:
    """Remove dead workers from the gauges of live ones. Return how many of them had served and ended uncleanly.

    Each dead worker is returned once, to the process that finds it first.
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
    state = os.pread(descriptor, len(_SERVED), 0)
    if state:
        os.ftruncate(descriptor, 0)
        _forget(directory, number)
    return int(state == _SERVED)


def _forget(directory: Path, number: int) -> None:
    multiprocess.mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]
