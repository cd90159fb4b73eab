"""The upstream's records of its requests."""

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

KEPT = 20_000
"""Limit on the records. The oldest are dropped first."""


@dataclass
class Record:
    """One request. Times are seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    id: int
    key: str
    query: str
    """The text of the last user message."""
    messages: list[Any]
    model: str
    body: dict[str, Any]
    """The request without its messages."""
    headers: dict[str, str]
    """Names in lower case; the value of Authorization is hidden."""
    connection: int
    """The number of its connection, to check the reuse of connections."""
    peer: str = ""
    """The address that it came from."""
    opened_at: float = field(default_factory=time.monotonic)
    status_sent_at: float | None = None
    first_chunk_at: float | None = None
    closed_at: float | None = None
    """The end of the response, by either side."""
    closed_by: Literal["client", "server"] | None = None
    chunks_sent: int = 0
    """Text chunks."""
    finished: bool = False
    """Whether the body was sent to its clean end."""

    def close(self, by: Literal["client", "server"], *, finished: bool = False) -> None:
        """Record the response's end. Only the first call counts."""
        if self.closed_at is None:
            self.closed_at = time.monotonic()
            self.closed_by = by
            self.finished = finished


class Records:
    """All requests, oldest first."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=KEPT)
        self._next_id = 1
        self._counts: dict[str, int] = {}

    def add(self, **known: Any) -> Record:  # noqa: ANN401  # the fields of Record
        """Add a request."""
        record = Record(id=self._next_id, **known)
        self._next_id += 1
        self._records.append(record)
        self._counts[record.key] = self._counts.get(record.key, 0) + 1
        return record

    def count(self, key: str) -> int:
        """Return the number of requests of this key."""
        return self._counts.get(key, 0)

    def select(self, key: str | None, query: str | None) -> list[dict[str, Any]]:
        """Return the records, optionally of one key or query text."""
        return [asdict(record) for record in self._records if _fits(record, key, query)]

    def forget(self, key: str | None, query: str | None) -> None:
        """Drop the records and the counts of their keys."""
        kept = []
        for record in self._records:
            if _fits(record, key, query):
                self._counts.pop(record.key, None)
            else:
                kept.append(record)
        self._records = deque(kept, maxlen=KEPT)


def _fits(record: Record, key: str | None, query: str | None) -> bool:
    return (key is None or record.key == key) and (query is None or record.query == query)
