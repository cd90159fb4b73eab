"""Find answers without a producer: of workers that are dead, of those that left, and of this one."""

from collections.abc import Callable

from service.eventlog.valkey.keys import NOBODY
from service.eventlog.valkey.store import Store
from service.eventlog.valkey.tail import Tails

OWN_INDEX_ROUNDS = 10
"""Every so many searches, the answers that the server lists for this worker are compared with those that it has."""


class Orphans:
    """The orphans that this worker has found in the indexes of the server.

    A server that forgets may leave index and lease apart. So a claim goes by the lease, and a name is taken out of an
    index only when the answer has ended, or when a living worker has it.
    """

    def __init__(self, store: Store, tails: Tails) -> None:
        self._store = store
        self._tails = tails
        self._on_orphan: Callable[[str], None] | None = None
        self._listed: dict[str, str] = {}
        """The worker in whose index an answer was found."""
        self._reported: set[str] = set()
        """The orphans that were reported since the last search began."""
        self._rounds = 0

    def look_soon(self) -> None:
        """Compare this worker's own index with what it has, in the next search."""
        self._rounds = 0

    async def find(self, on_orphan: Callable[[str], None]) -> None:
        """Call `on_orphan` with each orphan. It is kept, and called again when one is found between two searches.

        Raises:
            ErrorReply, Unavailable: the indexes cannot be read.
        """
        self._on_orphan = on_orphan
        self._reported.clear()
        workers = {NOBODY, *self._store.workers.dead()}
        if self._rounds % OWN_INDEX_ROUNDS == 0:
            workers.add(self._store.me)
        self._rounds += 1
        await self._find(workers)

    async def died(self, workers: set[str]) -> None:
        """Report the answers of workers that have just died."""
        if self._on_orphan is not None:
            await self._find(workers)

    def handed_over(self, answer_id: str, worker: str) -> None:
        """Report an answer that another worker gave up. One that gave it up itself leaves, or could not go on."""
        if worker == self._store.me:
            return
        self._listed[answer_id] = NOBODY
        self._report(answer_id)

    async def _find(self, workers: set[str]) -> None:
        store = self._store
        asked = [(worker, store.connection.call("SMEMBERS", store.keys.leases(worker))) for worker in workers]
        for worker, reply in asked:
            answers = [answer.decode() for answer in await reply]
            for answer_id in answers:
                channel = self._tails.channels.get(answer_id)
                if channel is None or channel.lease is None:
                    self._listed[answer_id] = worker
                    self._report(answer_id)
            if not answers and store.workers.is_listed(worker) and worker not in (NOBODY, store.me):
                store.send("HDEL", store.keys.workers, worker)
                store.send("HDEL", store.keys.running, worker)

    def _report(self, answer_id: str) -> None:
        if self._on_orphan is not None and answer_id not in self._reported:
            self._reported.add(answer_id)
            self._on_orphan(answer_id)

    def settled(self, answer_id: str, owner: str | None) -> None:
        """Put the answer into its owner's index, if it was found in another one. None: it has ended, and is in none.

        It stays in an index while it runs. An owner may be giving it up: where the server had refused both commands for
        a while (`NOREPLICAS`), the answer may be among those of nobody before its lease is.
        """
        self._reported.discard(answer_id)
        listed = self._listed.pop(answer_id, None)
        if listed is None or listed == owner:
            return
        leases = self._store.keys.leases
        if owner is None:
            self._store.send("SREM", leases(listed), answer_id)
        else:
            self._store.send("SMOVE", leases(listed), leases(owner), answer_id)
