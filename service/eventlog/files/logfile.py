"""A log's file: create it, find a place in it, decode it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from service.eventlog.base import AheadOfLogError, DamagedLogError
from service.eventlog.files.locks import LEASE, lock
from service.eventlog.files.records import last_line, line_before, offset_after, offset_before
from service.events import Event, Start, Terminal, UnknownEvent, decode_any

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

    The time depends on the number of events from there to the nearer end of the log.

    Raises:
        AheadOfLogError: the log has not ended and has no such event yet.
        DamagedLogError: another event has its place, or the log has no event that can be read.
    """
    if not after:
        # A log is created with its first event. After a machine's crash a file may be there without it.
        if offset_after(descriptor, 1) is None:
            raise DamagedLogError
        return 0, False
    last, end = last_whole_event(descriptor)
    if last is not None and after > last.seq:
        if isinstance(last, Terminal):
            return end, True
        raise AheadOfLogError
    for offset in _offsets(descriptor, after, last.seq if last else 0, end):
        if (at_end := _ends_at(descriptor, offset, after)) is not None:
            return offset, at_end
    raise DamagedLogError


def _offsets(descriptor: int, after: int, last_seq: int, end: int) -> Iterator[int]:
    """Yield the offset behind the event `after`, counted from the nearer end of the log, then from the other.

    They differ in a damaged log, whose lines are fewer than its numbers. `last_seq` is 0 if it cannot be read.
    """
    from_end = after > last_seq // 2
    for backwards in (from_end, not from_end):
        if not backwards:
            offset = offset_after(descriptor, after)
        else:
            offset = offset_before(descriptor, end, last_seq - after) if last_seq else None
        if offset:
            yield offset


def _ends_at(descriptor: int, offset: int, seq: int) -> bool | None:
    """Return whether the event before the offset is terminal; None if it is not the event `seq`."""
    try:
        events, _ = decode_lines(line_before(descriptor, offset), seq - 1)
    except DamagedLogError:
        return None
    return bool(events) and isinstance(events[0], Terminal)


def first_event(descriptor: int) -> Start:
    """Return the log's first event.

    Raises:
        DamagedLogError: it cannot be read.
    """
    end = offset_after(descriptor, 1)
    events, _ = decode_lines(os.pread(descriptor, end, 0), 0) if end else ((), 0)
    if not (events and isinstance(events[0], Start)):
        raise DamagedLogError
    return events[0]


def decode_lines(lines: bytes, after: int) -> tuple[Sequence[Event], int]:
    """Return the events in these lines, without those of unknown types, and the last line's seq.

    Raises:
        DamagedLogError: a line is no event, or the lines do not go on from the seq `after`.
    """
    try:
        events = _decode_lines(lines)
    except (ValueError, RecursionError):
        return _decode_each(lines, after)
    if not events or events[0].seq != after + 1 or events[-1].seq != after + len(events):
        raise DamagedLogError  # The file was truncated, and its producer went on writing.
    return events, events[-1].seq


def _decode_each(lines: bytes, after: int) -> tuple[Sequence[Event], int]:
    """Decode lines one by one: at least one of them is of an unknown type, or damaged."""
    events: list[Event] = []
    for line in lines.split(b"\n")[:-1]:
        try:
            event = decode_any(line)
        except (ValueError, RecursionError):
            raise DamagedLogError from None
        after += 1
        if event.seq != after:
            raise DamagedLogError
        if not isinstance(event, UnknownEvent):
            events.append(event)
    return events, after


def last_whole_event(descriptor: int) -> tuple[Event | UnknownEvent | None, int]:
    """Return the last event and the offset behind it; `(None, 0)` if it cannot be read."""
    line, end = last_line(descriptor)
    try:
        return decode_any(line), end
    except (ValueError, RecursionError):
        return None, 0
