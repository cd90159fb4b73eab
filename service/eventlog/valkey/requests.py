"""Large requests: a hash beside the log, whose fields are pieces.

Pieces leave room for the appends of other answers, which have the same connection.
"""

from service.eventlog.valkey.failures import soon
from service.eventlog.valkey.names import RUNNING_MILLISECONDS
from service.eventlog.valkey.store import Store

PIECE_BYTES = 1 << 18


class Requests:
    """The large requests on one server."""

    def __init__(self, store: Store, keep_milliseconds: int) -> None:
        self._store = store
        self._keep_milliseconds = keep_milliseconds

    async def write(self, answer_id: str, request: bytes) -> None:
        """Write the request.

        Raises:
            Unavailable: see `soon`. Nothing is left of it.
        """
        key, call = self._store.keys.request(answer_id), self._store.connection.call
        try:
            for number, at in enumerate(range(0, len(request), PIECE_BYTES)):
                await soon(call("HSET", key, number, request[at : at + PIECE_BYTES]))
                if not number:
                    self._store.send("PEXPIRE", key, self._keep_milliseconds + RUNNING_MILLISECONDS)
        except BaseException:
            self.forget(answer_id)
            raise

    async def read(self, answer_id: str, length: int) -> bytes:
        """Return the request; a part of it, or nothing, if it is gone.

        Raises:
            Unavailable: see `soon`.
        """
        key, call = self._store.keys.request(answer_id), self._store.connection.call
        pieces = [await soon(call("HGET", key, number)) for number in range(-(-length // PIECE_BYTES))]
        return b"".join(piece or b"" for piece in pieces)

    def ended(self, answer_id: str) -> None:
        """Keep the request as long as the log of an ended answer."""
        self._store.send("PEXPIRE", self._store.keys.request(answer_id), self._keep_milliseconds)

    def forget(self, answer_id: str) -> None:
        """Remove the request."""
        self._store.send("UNLINK", self._store.keys.request(answer_id))
