"""One log's file: begin it, find a place in it, decode it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from service.eventlog.base import DamagedLogError
from service.eventlog.files.locks import LEASE, lock
from service.eventlog.files.records import last_line, line_before, offset_after
from service.events import Event, decode

_decode_lines = msgspec.json.Decoder(Event).decode_lines


def begin(name: str, new: str, line: bytes) -> int:
    """Make a log with its first line; return its descriptor, which holds the lease.

    Raises:
        OSError: it cannot be made or written.
    """
    # Under another name until it is locked and begun: no reader ever sees a log without a producer or a start.
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


def place(descriptor: int, after: int) -> int:
    """Return the offset behind the event `after`.

    Raises:
        DamagedLogError: the log has no such event.
    """
    offset = offset_after(descriptor, after)
    if offset is None:
        raise DamagedLogError  # Not as far as that.
    if after and decode_lines(line_before(descriptor, offset))[0].seq != after:
        raise DamagedLogError
    return offset


def decode_lines(lines: bytes) -> Sequence[Event]:
    """Return the events that these lines are.

    Raises:
        DamagedLogError: one of them is none.
    """
    try:
        return _decode_lines(lines)
    except ValueError:
        raise DamagedLogError from None


def last_whole_event(descriptor: int) -> tuple[Event | None, int]:
    """Return the last event and the offset behind it; None where there is no readable one."""
    line, end = last_line(descriptor)
    try:
        return decode(line), end
    except ValueError:
        return None, 0
