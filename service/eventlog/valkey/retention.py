"""Erase ended answers beyond the limits on their number and bytes, the oldest first.

The server itself expires them by age.
"""

import asyncio
from typing import Any

from service.eventlog.base import Retention
from service.eventlog.valkey.keys import NOBODY
from service.eventlog.valkey.names import Names
from service.eventlog.valkey.store import Store
from service.eventlog.valkey.tail import Tails
from service.telemetry import metrics

BATCH = 200
"""Ended answers that are looked at in one round."""


class Retainer:
    """Holds the limits. Every worker does so: what one has erased, the next does not find."""

    def __init__(self, store: Store, retention: Retention, tails: Tails, names: Names) -> None:
        self._store = store
        self._names = names
        self._retention = retention
        self._tails = tails

    async def run(self) -> None:
        """Erase what is too much, and drop what is noted of answers that have expired.

        Raises:
            ErrorReply, Unavailable: the server cannot tell.
        """
        store, call, keys = self._store, self._store.connection.call, self._store.keys
        bytes_here = sum(lease.size + lease.request_bytes for lease in self._tails.channels.leases())
        store.send("HSET", keys.running, store.me, bytes_here)
        oldest, count, total, running, workers, now = await asyncio.gather(
            call("ZRANGE", keys.ended, 0, BATCH - 1, "WITHSCORES"),
            call("ZCARD", keys.ended),
            call("GET", keys.ended_total),
            call("HGETALL", keys.running),
            call("HGETALL", keys.workers),
            call("TIME"),
        )
        names = {store.me, NOBODY, *(worker.decode() for worker in workers)}
        leases = await asyncio.gather(*[call("SCARD", keys.leases(worker)) for worker in names])
        answers = count + sum(leases)
        size = int(total or 0) + sum(int(each) for each in running.values())
        metrics.log_swept(answers, size)
        expired = int(now[0]) * 1000 - self._retention.seconds * 1000
        sizes = await asyncio.gather(*[call("HGET", keys.ended_bytes, answer) for answer, _ in oldest])
        for (answer, at), length in zip(oldest, sizes, strict=True):
            if at < expired:
                store.forget(answer.decode())  # It has expired by itself.
            elif answers > self._retention.answers or size > self._retention.bytes:
                self.remove(answer.decode())
            else:
                break
            answers -= 1
            size -= int(length or 0)

    def remove(self, answer_id: str) -> "asyncio.Future[Any]":
        """Erase the answer. Return the reply."""
        store, keys = self._store, self._store.keys
        self._names.forget_all(answer_id)
        removed = store.connection.call(
            "UNLINK", keys.log(answer_id), keys.lease(answer_id), keys.watch(answer_id), keys.request(answer_id)
        )
        store.forget(answer_id)
        store.send("SPUBLISH", keys.channel(answer_id), "erased")
        return removed
