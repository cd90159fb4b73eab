"""Measure the server's memory."""

import asyncio
from typing import Any

from service.eventlog.valkey.store import Store
from service.telemetry import metrics

EVERY = 5
"""Every so many calls, the server is asked. With a call a second, a scrape finds a value of the last seconds."""


class Memory:
    """Asks the server for its memory. A server that does not tell makes no difference."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls = 0

    def look(self) -> None:
        """Ask, if it is time to. Does not wait for the reply."""
        if self._calls % EVERY == 0:
            self._store.connection.call("INFO", "memory").add_done_callback(_told)
        self._calls += 1


def _told(reply: "asyncio.Future[Any]") -> None:
    if reply.cancelled() or reply.exception():
        return
    lines = bytes(reply.result()).decode(errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    try:
        used, limit = int(fields["used_memory"]), int(fields["maxmemory"])
    except (KeyError, ValueError):
        return  # Not all managed servers tell both.
    metrics.log_memory(used=used, limit=limit)
