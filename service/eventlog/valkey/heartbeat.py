"""This worker's heartbeats, and what is looked at with each of them."""

import asyncio
import contextlib

import structlog

from service.errors import Unavailable
from service.eventlog.valkey.orphans import Orphans
from service.eventlog.valkey.pipeline import ErrorReply
from service.eventlog.valkey.store import Store
from service.eventlog.valkey.tail import Tail, Tails
from service.eventlog.valkey.workers import HEARTBEAT_SECONDS
from service.telemetry import metrics


class Heartbeat:
    """Counts this worker's heartbeats on the server, and looks at those of the others."""

    def __init__(self, store: Store, tails: Tails, orphans: Orphans) -> None:
        self._store = store
        self._tails = tails
        self._orphans = orphans
        self._soon = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def beat_soon(self) -> None:
        """Beat at once."""
        self._soon.set()

    async def _run(self) -> None:
        while True:
            self._soon.clear()
            if self._store.connection.connected:
                try:
                    await self._beat()
                except (ErrorReply, Unavailable) as error:
                    structlog.get_logger().warning("heartbeat_failed", exception=type(error).__name__)
                except Exception as error:  # noqa: BLE001 (this task must not end: the worker would be held for dead)
                    context = {"message": "a heartbeat failed", "exception": error}
                    asyncio.get_running_loop().call_exception_handler(context)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._soon.wait()

    async def _beat(self) -> None:
        store, call = self._store, self._store.connection.call
        leases = [lease for lease in self._tails.channels.leases() if lease.needs_watchers()]
        beat = call("HINCRBY", store.keys.workers, store.me, 1)
        listed = call("HGETALL", store.keys.workers)
        watchers = [(lease, store.watchers(lease.answer_id)) for lease in leases]
        await beat
        counts = {worker.decode(): int(count) for worker, count in (await listed).items()}
        died = store.workers.look(counts)
        metrics.log_workers(store.workers.alive())
        for lease, reply in watchers:
            lease.heard_watchers(await reply)
        self._tails.each(Tail.ask_if_silent)
        if died:
            self._tails.each(lambda tail: tail.died(died))
            await self._orphans.died(died)

    async def aclose(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
