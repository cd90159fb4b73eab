"""Write again what the server forgot of a log."""

from collections.abc import Awaitable, Callable
from typing import Any

from service.eventlog.base import LeaseLostError
from service.eventlog.valkey.entries import Chain, Entry

ROUNDS = 5
"""Limit on the times that the server may forget again while it is given back what it forgot."""

Append = Callable[[Entry, int], Awaitable[Any]]
"""Appends the entry behind that of the seq, and returns the reply of `scripts.APPEND`."""


class PutBack:
    """Appends again from the chain of what was written last. `on_written` is called for each entry."""

    def __init__(self, append: Append, chain: Chain, on_written: Callable[[], None]) -> None:
        self._append = append
        self._chain = chain
        self._on_written = on_written

    async def run(self, last: int, new: tuple[int, Entry] | None) -> None:
        """Append what is behind the entry `last`, then the new one, which comes with the seq of the entry before.

        Raises:
            LeaseLostError: the log has another history, or is gone.
            ErrorReply, Unavailable: not all of it was appended.
        """
        for _ in range(ROUNDS):
            missing = self._chain.written_after(last)
            if missing is None:
                break
            status, last = await self._write(missing if new is None else [*missing, new], new)
            if status == b"ok":
                return
            if status != b"other":
                break
        raise LeaseLostError

    async def _write(self, entries: list[tuple[int, Entry]], new: tuple[int, Entry] | None) -> tuple[bytes, int]:
        """Return the status of the last append, and the seq of the log's last entry if it is another one."""
        for before, entry in entries:
            status, *rest = await self._append(entry, before)
            if status != b"ok":
                return status, seq_of(rest[0]) if rest else 0
            if new is None or entry is not new[1]:
                self._on_written()
        return b"ok", 0


def seq_of(name: bytes) -> int:
    """Return the seq of the entry with this id."""
    return int(name.partition(b"-")[0])
