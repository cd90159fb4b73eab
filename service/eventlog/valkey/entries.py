"""The entries of a log, and the last of them in memory."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from service.eventlog.base import DamagedLogError
from service.events import Event, UnknownEvent, decode_any

KEPT_BYTES = 1 << 16
"""What is kept of a log's end: to serve readers, and to put back what the server forgot. About a second of writing."""

EVENTS, CLAIM, ANEW = b"e", b"c", b"a"
"""The kinds of entries. See `service.eventlog.valkey.keys`."""

_decode_lines = msgspec.json.Decoder(Event).decode_lines


@dataclass(frozen=True, slots=True)
class Entry:
    """What one append or claim wrote."""

    seq: int
    """The seq of the last event, or a claim's number. It is the entry's id."""
    kind: bytes
    value: bytes
    """The events as lines, or the claimer."""
    first: int
    """The seq of the first event, or a claim's number."""
    events: Sequence[Event]
    """Without those of unknown types."""
    unknown_seq: int = 0
    """The seq of the last event of an unknown type."""

    def has(self, place: int) -> bool:
        """Return whether the place is the entry's end or behind one of its events."""
        return self.first <= place <= self.seq


def decode_entry(seq: int, kind: bytes, value: bytes) -> Entry:
    """Return the entry.

    Raises:
        DamagedLogError: the value is not what an entry of this kind holds.
    """
    if kind == CLAIM:
        return Entry(seq, kind, value, seq, ())
    try:
        events = _decode_lines(value)
    except (ValueError, RecursionError):
        return _decode_each(seq, kind, value)
    if not events or events[-1].seq != seq or events[0].seq != seq - len(events) + 1:
        raise DamagedLogError
    return Entry(seq, kind, value, events[0].seq, events)


def _decode_each(seq: int, kind: bytes, value: bytes) -> Entry:
    """Decode lines one by one: at least one of them is of an unknown type, or damaged."""
    try:
        decoded = [decode_any(line) for line in value.split(b"\n")[:-1]]
    except (ValueError, RecursionError):
        raise DamagedLogError from None
    first = seq - len(decoded) + 1
    if not decoded or [event.seq for event in decoded] != list(range(first, seq + 1)):
        raise DamagedLogError
    unknown = max((event.seq for event in decoded if isinstance(event, UnknownEvent)), default=0)
    return Entry(seq, kind, value, first, [each for each in decoded if not isinstance(each, UnknownEvent)], unknown)


def decode_reply(reply: Iterable[Any]) -> list[Entry]:
    """Return the entries of the reply to XRANGE or XREVRANGE.

    Raises:
        DamagedLogError: one of them cannot be read.
    """
    entries = []
    for name, fields in reply:
        if not fields:
            raise DamagedLogError
        entries.append(decode_entry(int(name.partition(b"-")[0]), fields[0], fields[1]))
    return entries


class Chain:
    """The last entries of a log, each with the seq of the one before."""

    def __init__(self) -> None:
        self._entries: deque[tuple[int, Entry]] = deque()
        self._bytes = 0

    @property
    def end(self) -> int:
        """The seq of the last entry; -1 if there is none."""
        return self._entries[-1][1].seq if self._entries else -1

    def add(self, before: int, entry: Entry) -> None:
        """Add an entry, which follows the entry `before`. Entries that it does not follow are dropped."""
        if before != self.end:
            self.clear()
        self._entries.append((before, entry))
        self._bytes += len(entry.value)
        while self._bytes > KEPT_BYTES and len(self._entries) > 1:
            self._bytes -= len(self._entries.popleft()[1].value)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self._bytes = 0

    def behind(self, place: int) -> list[Entry] | None:
        """Return the entries that have events behind the place; None unless the place is known to be in the log."""
        entries = self._entries
        if not entries:
            return None
        if place == entries[-1][1].seq:
            return []
        for index in range(len(entries) - 1, -1, -1):  # Most readers are near the end.
            before, entry = entries[index]
            if place == before or (entry.has(place) and place != entry.seq):
                return [entry for _, entry in islice(entries, index, None)]
            if place >= entry.seq:
                return None
        return None

    def written_after(self, seq: int) -> list[tuple[int, Entry]] | None:
        """Return the entries behind the entry `seq`, with the seqs before them; None unless all of them are kept."""
        if seq == self.end:
            return []
        for index, (before, _) in enumerate(self._entries):
            if before == seq:
                return list(islice(self._entries, index, None))
        return None
