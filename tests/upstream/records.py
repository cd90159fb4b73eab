"""What an upstream remembers of the requests it got."""

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

KEPT = 20_000
"""Requests remembered; the oldest are forgotten first."""


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
    """The whole request, messages left out."""
    headers: dict[str, str]
    """Names in lower case; the value of Authorization is hidden."""
    connection: int
    """The number of the connection it came on, to see whether connections are used again."""
    opened_at: float = field(default_factory=time.monotonic)
    status_sent_at: float | None = None
    first_chunk_at: float | None = None
    closed_at: float | None = None
    """When the response ended, by whomever."""
    closed_by: Literal["client", "server"] | None = None
    chunks_sent: int = 0
    """Text chunks."""
    finished: bool = False
    """The body was sent to its clean end."""

    def close(self, by: Literal["client", "server"], *, finished: bool = False) -> None:
        """The response is over; the first to say so is right."""
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
        """Remember a request."""
        record = Record(id=self._next_id, **known)
        self._next_id += 1
        self._records.append(record)
        self._counts[record.key] = self._counts.get(record.key, 0) + 1
        return record

    def count(self, key: str) -> int:
        """How many requests of this key there were."""
        return self._counts.get(key, 0)

    def select(self, key: str | None, query: str | None) -> list[dict[str, Any]]:
        """The records, of one key or query text where given."""
        return [asdict(record) for record in self._records if _fits(record, key, query)]

    def forget(self, key: str | None, query: str | None) -> None:
        """Drop them, and begin to count their keys anew."""
        kept = []
        for record in self._records:
            if _fits(record, key, query):
                self._counts.pop(record.key, None)
            else:
                kept.append(record)
        self._records = deque(kept, maxlen=KEPT)


def _fits(record: Record, key: str | None, query: str | None) -> bool:
    return (key is None or record.key == key) and (query is None or record.query == query)
