"""A log's file: create it, find a place in it, decode it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from service.eventlog.base import AheadOfLogError, DamagedLogError
from service.eventlog.files.locks import LEASE, lock
from service.eventlog.files.records import last_line, line_before, offset_after
from service.events import Event, Start, Terminal, decode

_decode_lines = msgspec.json.Decoder(Event).decode_lines


def begin(name: str, new: str, line: bytes) -> int:
    """Create a log with its first line. Return its descriptor, which holds the lease.

    Raises:
        OSError: it cannot be created or written.
    """
    # Under another name until it is locked and has its start: no reader sees a log without a producer or a start.
    descriptor = os.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    begun = False
    try:
        lock(descriptor, LEASE, fcntl.F_WRLCK)
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "")
        os.rename(new, name)  # noqa: PTH104 (see `FileEventLog.name`)
        begun = True
    finally:
        if not begun:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                Path(new).unlink()
    return descriptor


def place(descriptor: int, after: int) -> tuple[int, bool]:
    """Return the offset behind the event `after`, and whether the log ends there.

    Raises:
        AheadOfLogError: the log has not ended and has no such event yet.
        DamagedLogError: another event has its place.
    """
    offset = offset_after(descriptor, after)
    if offset is None:
        last, end = last_whole_event(descriptor)
        if isinstance(last, Terminal):
            return end, True
        raise AheadOfLogError
    if not after:
        return offset, False
    event = decode_lines(line_before(descriptor, offset))[0]
    if event.seq != after:
        raise DamagedLogError
    return offset, isinstance(event, Terminal)


def first_event(descriptor: int) -> Start:
    """Return the log's first event.

    Raises:
        DamagedLogError: it cannot be read.
    """
    end = offset_after(descriptor, 1)
    event = decode_lines(os.pread(descriptor, end, 0))[0] if end else None
    if not isinstance(event, Start):
        raise DamagedLogError
    return event


def decode_lines(lines: bytes) -> Sequence[Event]:
    """Return the events in these lines.

    Raises:
        DamagedLogError: a line is not an event.
    """
    try:
        return _decode_lines(lines)
    except ValueError:
        raise DamagedLogError from None


def last_whole_event(descriptor: int) -> tuple[Event | None, int]:
    """Return the last event and the offset behind it; `(None, 0)` if it cannot be read."""
    line, end = last_line(descriptor)
    try:
        return decode(line), end
    except ValueError:
        return None, 0
