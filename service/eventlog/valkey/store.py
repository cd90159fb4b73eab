"""What the log, its leases and its readers share: the connection, the names and the workers."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from service.errors import UnknownAnswer
from service.eventlog.valkey.connection import Connection
from service.eventlog.valkey.entries import Entry, decode_reply
from service.eventlog.valkey.failures import soon
from service.eventlog.valkey.keys import Keys
from service.eventlog.valkey.script import Script
from service.eventlog.valkey.scripts import CLAIM, CONFIRM, FORGET, NOTE, RECORD, WATCH
from service.eventlog.valkey.workers import Workers
from service.events import Event, UnknownEvent

READ_ENTRIES = 200
"""Entries read at once."""
LAST_ENTRIES = 2
"""Entries read at once to find the last event. The last entry may be a claim."""


class Store:
    """Requests about answers, as commands."""

    def __init__(self, connection: Connection, keys: Keys, workers: Workers) -> None:
        self.connection = connection
        self.keys = keys
        self.workers = workers
        self.me = workers.me

    def entries_from(self, answer_id: str, place: int) -> "asyncio.Future[Any]":
        """Return the reply with the first entries from the place on, that of the place included."""
        return self.connection.call(
            "XRANGE", self.keys.log(answer_id), f"{place}-0" if place else "-", "+", "COUNT", READ_ENTRIES
        )

    def owner(self, answer_id: str) -> "asyncio.Future[Any]":
        """Return the reply with the owner of the answer's lease; None if it is not running."""
        return self.connection.call("HGET", self.keys.lease(answer_id), "owner")

    def watchers(self, answer_id: str) -> "asyncio.Future[Any]":
        """Return the reply with the workers that have followers of the answer and do not produce it."""
        return self.connection.call("SMEMBERS", self.keys.watch(answer_id))

    def watch(self, answer_id: str) -> None:
        """Note that this worker has followers of the answer, if that is running."""
        self.run(WATCH, [self.keys.lease(answer_id), self.keys.watch(answer_id)], self.me)

    def unwatch(self, answer_id: str) -> None:
        """Note that this worker has no follower of the answer any more."""
        self.send("SREM", self.keys.watch(answer_id), self.me)

    def confirm(self, answer_id: str, seq: int) -> "asyncio.Future[Any]":
        """Return the reply whether the log ends with the entry `seq`, and the lease is this worker's."""
        keys = self.keys
        return self.connection.run(CONFIRM, [keys.log(answer_id), keys.lease(answer_id)], seq, self.me)

    def claim(
        self, answer_id: str, owner: str, *, silent_milliseconds: int = 0, last_seq: int | None = None
    ) -> "asyncio.Future[Any]":
        """Claim the answer from its owner. With `last_seq`, only if the log ends with that entry."""
        keys = [self.keys.log(answer_id), self.keys.lease(answer_id), self.keys.channel(answer_id)]
        end = () if last_seq is None else (last_seq,)
        return self.connection.run(CLAIM, keys, self.me, owner, silent_milliseconds, secrets.token_hex(8), *end)

    def note(self, answer_id: str, field: str, value: str | float, *, owner: str = "") -> "asyncio.Future[Any]":
        """Note something about a running answer, if `owner` owns it; or else in any case."""
        return self.connection.run(NOTE, [self.keys.lease(answer_id)], field, str(value), owner)

    def send(self, *command: bytes | str | int) -> None:
        """Send a command whose reply is of no interest, again after a lost connection."""
        self.connection.call(*command)

    def run(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int) -> None:
        """Run a script whose result is of no interest, as `send`."""
        self.connection.run(script, keys, *arguments)

    def record(self, answer_id: str, size: int) -> None:
        """Note that the answer has ended, with its length in bytes."""
        self.run(RECORD, self._ended(), answer_id, size)

    def forget(self, answer_id: str) -> None:
        """Drop what is noted of an ended answer."""
        self.run(FORGET, self._ended(), answer_id)

    def _ended(self) -> list[str]:
        return [self.keys.ended, self.keys.ended_bytes, self.keys.ended_total]

    async def last_entry(self, answer_id: str) -> Entry:
        """Return the last entry with an event.

        Raises:
            UnknownAnswer: there is no log.
            DamagedLogError: it cannot be read.
            Unavailable: see `soon`.
        """
        count = LAST_ENTRIES
        while True:
            log = self.keys.log(answer_id)
            reply = await soon(self.connection.call("XREVRANGE", log, "+", "-", "COUNT", count))
            for entry in decode_reply(reply):
                if entry.events or entry.unknown_seq:
                    return entry
            if len(reply) < count:
                raise UnknownAnswer
            count *= 8

    async def last_event(self, answer_id: str) -> Event | UnknownEvent:
        """Return the last event. Errors as `last_entry`."""
        entry = await self.last_entry(answer_id)
        return UnknownEvent(entry.seq) if entry.unknown_seq == entry.seq else entry.events[-1]
