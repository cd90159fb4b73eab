"""Names of answers: a hash for each name, with a field for each answer.

A field's value is `<time in microseconds> <1 if delivered, or 0> <worker> <digest>`. A name is written before the log
of its answer. While the log is not there, the name is kept for the worker that wrote it: for `PENDING_SECONDS`, or
until the worker is dead. After that it is free, as when the log was erased or has expired. A worker that creates the
log later finds that it has lost the name, and gives the log up before the upstream is asked.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from service.errors import Unavailable
from service.eventlog.base import DamagedLogError, NameTakenError
from service.eventlog.valkey.entries import decode_reply
from service.eventlog.valkey.failures import PATIENCE_SECONDS, soon
from service.eventlog.valkey.scripts import NAME, NAME_DELIVERED
from service.eventlog.valkey.store import Store
from service.events import Start
from service.names import Named, Naming

PENDING_SECONDS = 5.0
"""Time for which a name without a log is kept for the worker that wrote it. More than the patience of its requests."""
PENDING_POLL_SECONDS = 0.05
MOST_ANSWERS = 16
"""Answers of a name, the newest ones."""
RUNNING_MILLISECONDS = 86_400_000
"""Time for which a name is kept beyond the retention of an ended log. It is set anew at the end. It has a limit all the
same, for a worker that dies just then, and so great a one that the server, when its memory is full, evicts names of
running answers last."""


class _Field(NamedTuple):
    answer: str
    named_at: int
    digest: str
    delivered: bool
    worker: str


class Names:
    """The names on one server."""

    def __init__(self, store: Store, keep_milliseconds: int) -> None:
        self._store = store
        self._keep_milliseconds = keep_milliseconds

    async def read(self, name: str) -> list[Named]:
        """Return the answers of the name whose logs are there, the newest last.

        Raises:
            Unavailable: see `soon`.
        """
        reply = await soon(self._store.connection.call("HGETALL", self._key(name)))
        fields = _fields(reply)
        there = await self._are_there([field.answer for field in fields])
        return [
            Named(field.answer, field.digest, field.delivered)
            for field, is_there in zip(fields, there, strict=True)
            if is_there
        ]

    async def take(self, answer_id: str, names: Sequence[Naming]) -> None:
        """Write the names of an answer whose log is created next.

        Raises:
            NameTakenError: a name may stand for one answer only, and does. None of the names is written.
            Unavailable: see `soon`; or another worker is just creating the answer of a name, and takes long.
        """
        try:
            for naming in names:
                await self._take(answer_id, naming)
        except BaseException:
            self.forget(answer_id, [naming.name for naming in names])
            raise

    async def _take(self, answer_id: str, naming: Naming) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        gone: list[str] = []
        while True:
            status, now, *fields = await soon(
                self._store.connection.run(
                    NAME,
                    [self._key(naming.name)],
                    answer_id,
                    naming.digest,
                    naming.how,
                    self._store.me,
                    self._keep_milliseconds + RUNNING_MILLISECONDS,
                    MOST_ANSWERS,
                    *gone,
                )
            )
            if status == b"ok":
                return
            found = _fields(dict(zip(fields[::2], fields[1::2], strict=True)))
            there = await self._are_there([field.answer for field in found])
            if any(there):
                raise NameTakenError
            gone = [field.answer for field in found if not self._is_pending(field, int(now))]
            if len(gone) == len(found):
                continue
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable("log_unavailable")
            await asyncio.sleep(PENDING_POLL_SECONDS)

    def _is_pending(self, field: _Field, now: int) -> bool:
        is_old = now - field.named_at > PENDING_SECONDS * 1_000_000
        return not is_old and not self._store.workers.is_dead(field.worker)

    def has(self, answer_id: str, names: Sequence[Naming]) -> "asyncio.Future[list[Any]]":
        """Return the reply whether the answer still has the names: None for each that it has lost."""
        call = self._store.connection.call
        return asyncio.gather(*[call("HGET", self._key(naming.name), answer_id) for naming in names])

    def forget(self, answer_id: str, names: Sequence[str]) -> None:
        """Remove the answer from the names."""
        for name in names:
            self._store.send("HDEL", self._key(name), answer_id)

    def forget_all(self, answer_id: str) -> None:
        """Remove the answer, whose log is removed by a later command, from its names."""
        self._names_of(answer_id).add_done_callback(
            lambda reply: self.forget(answer_id, _names_in(reply))  # The reply comes although the log is removed then.
        )

    def mark_delivered(self, name: str, answer_id: str) -> None:
        """Note that the answer was delivered."""
        self._store.run(NAME_DELIVERED, [self._key(name)], answer_id)

    def ended(self, answer_id: str, names: Sequence[str] | None) -> None:
        """Keep the names of an ended answer as long as its log. With None, they are looked up in the log."""
        if names is None:
            self._names_of(answer_id).add_done_callback(lambda reply: self.ended(answer_id, _names_in(reply)))
            return
        for name in names:
            self._store.send("PEXPIRE", self._key(name), self._keep_milliseconds)

    def _key(self, name: str) -> str:
        return self._store.keys.name(name)

    def _names_of(self, answer_id: str) -> "asyncio.Future[Any]":
        return self._store.connection.call("XRANGE", self._store.keys.log(answer_id), "-", "+", "COUNT", 1)

    async def _are_there(self, answers: Sequence[str]) -> list[bool]:
        """Return whether each answer has a log.

        Raises:
            Unavailable: see `soon`.
        """
        call, log = self._store.connection.call, self._store.keys.log
        replies = asyncio.gather(*[call("XREVRANGE", log(answer), "+", "-", "COUNT", 1) for answer in answers])
        return [bool(reply) for reply in await soon(replies)]


def _names_in(reply: "asyncio.Future[Any]") -> Sequence[str]:
    """Return the names that the log's first entry tells of; none if it cannot be read."""
    if reply.cancelled() or reply.exception():
        return ()
    try:
        entries = decode_reply(reply.result())
    except DamagedLogError:
        return ()
    start = entries[0].events[0] if entries and entries[0].events else None
    return start.names if isinstance(start, Start) else ()


def _fields(reply: dict[bytes, bytes]) -> list[_Field]:
    """Return the fields, the oldest first."""
    fields = []
    for answer, value in reply.items():
        named_at, delivered, worker, digest = value.decode().split(" ", 3)
        fields.append(_Field(answer.decode(), int(named_at), digest, delivered == "1", worker))
    return sorted(fields, key=lambda field: field.named_at)
