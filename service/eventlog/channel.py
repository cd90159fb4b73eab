"""What this worker knows of one answer: its lease, its tail and its readers. The same for every backend.

A backend's log, lease and reader speak to the channel and not to each other:

    create, claim ─► Channels.of(id).hold(lease, …)      this worker produces the answer
    append ────────► channel.appended(events, …)         the tail is known, and the readers wake
    open ──────────► a reader, which joins the channel
    release ───────► channel.release(…)                  the readers wake, and read from the storage from now on

A reader that has read up to the tail is handed the tail's events from memory. So an answer's followers on its
producer's worker cost the storage nothing.

A *place* is how far a log has been read or written, as a whole number that grows: a file's offset in bytes, or an
event's seq where the backend finds events by it.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from service.eventlog.alarm import Alarm
from service.eventlog.base import Lease
from service.events import Event

L = TypeVar("L", bound=Lease)

NOWHERE = -1
"""A place that no reader has."""
UNKNOWN = sys.maxsize
"""The end of a log that another worker writes: further than any reader has come."""


class Channel(Generic[L]):
    """One answer, as this worker knows it."""

    def __init__(self, answer_id: str, channels: "Channels[L]") -> None:
        self.answer_id = answer_id
        self.lease: L | None = None
        """Held by this worker's producer, or None."""
        self.tail: Sequence[Event] = ()
        """The events of the last append."""
        self.tail_at = NOWHERE
        """The place at which they begin. `NOWHERE` where they must be read from the storage."""
        self.end = UNKNOWN
        """The place behind the last event."""
        self.last_seq = 0
        """The last event's, where `end` is known."""
        self._readers: set[ChannelReader[L]] = set()
        self._channels = channels

    def hold(self, lease: L, end: int, last_seq: int) -> None:
        """Note that this worker has the lease, and how far the log is."""
        self.lease = lease
        self._ends(end, last_seq)

    def appended(self, events: Sequence[Event], end: int, last_seq: int) -> None:
        """Note what the log now ends with, and wake the readers."""
        self.tail = events
        self.tail_at = self.end
        self.end = end
        self.last_seq = last_seq
        for reader in self._readers:  # not `wake`: a call less for each chunk
            reader.wake()

    def appended_in_part(self, end: int, last_seq: int) -> None:
        """Note how far the log is, where only the storage knows its last events; wake the readers."""
        self._ends(end, last_seq)
        self.wake()

    def release(self, lease: L) -> None:
        """Note that the lease has ended, and wake the readers. Does nothing for a lease that ended before."""
        if self.lease is not lease:
            return
        self.lease = None
        self._ends(UNKNOWN, 0)
        self.wake()
        self._drop_if_unused()

    def _ends(self, end: int, last_seq: int) -> None:
        self.tail = ()
        self.tail_at = NOWHERE
        self.end = end
        self.last_seq = last_seq

    def join(self, reader: "ChannelReader[L]") -> None:
        """Add a reader."""
        self._readers.add(reader)
        if reader.watches:
            self.changed()

    def leave(self, reader: "ChannelReader[L]") -> None:
        """Remove a reader."""
        self._readers.discard(reader)
        if reader.watches:
            self.changed()
        self._drop_if_unused()

    def watched(self) -> bool:
        """Return whether a reader of this worker counts as a follower."""
        return any(reader.watches for reader in self._readers)

    def wake(self) -> None:
        """End the readers' waits: there may be more to read."""
        for reader in self._readers:
            reader.wake()

    def changed(self) -> None:
        """Tell this worker's producer, if there is one, that a follower came or left or that a stop was asked for."""
        if self.lease is not None and self.lease.on_change is not None:
            self.lease.on_change()

    def _drop_if_unused(self) -> None:
        if self.lease is None and not self._readers:
            self._channels.drop(self.answer_id)


class Channels(Generic[L]):
    """A worker's channels, one for each answer that it produces or reads."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel[L]] = {}

    def of(self, answer_id: str) -> Channel[L]:
        """Return the answer's channel. A new one stays until its last lease or reader has left."""
        channel = self._channels.get(answer_id)
        if channel is None:
            channel = self._channels[answer_id] = Channel(answer_id, self)
        return channel

    def get(self, answer_id: str) -> Channel[L] | None:
        """Return the answer's channel, or None where this worker neither produces nor reads it."""
        return self._channels.get(answer_id)

    def drop(self, answer_id: str) -> None:
        """Forget the channel."""
        self._channels.pop(answer_id, None)

    def leases(self) -> list[L]:
        """Return the leases that this worker holds."""
        return [channel.lease for channel in self._channels.values() if channel.lease is not None]

    def __iter__(self) -> Iterator[Channel[L]]:
        """Iterate over those that are there now."""
        return iter(list(self._channels.values()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._channels)


class ChannelReader(ABC, Generic[L]):
    """A reader that asks the storage only for what the channel does not have. See `service.eventlog.base.Reader`.

    A backend says how to read (`_fetch`), how to be woken by other workers (`_listen`), how a follower shows there
    (`_watch`) and what is to be closed (`_close`).
    """

    def __init__(self, channel: Channel[L], seq: int, place: int, *, at_end: bool, watch: bool) -> None:
        self.answer_id = channel.answer_id
        self.at_end = at_end
        self.watches = watch
        self._channel = channel
        self._seq = seq
        """The last event's that was read."""
        self._place = place
        """The place behind it."""
        self._alarm = Alarm()
        self.wake = self._alarm.ring
        """End the wait, if there is one."""
        self._listening = False
        """Whether `wake` is called, too, when another worker appends."""
        self._closed = False
        channel.join(self)

    async def read(self) -> Sequence[Event]:
        """See `service.eventlog.base.Reader.read`."""
        channel = self._channel
        if self._place == channel.tail_at:
            self._place = channel.end
            self._seq = channel.last_seq
            return channel.tail
        if self._place >= channel.end:
            return ()
        return await self._fetch()

    async def wait(self, seconds: float) -> None:
        """See `service.eventlog.base.Reader.wait`."""
        if not self._listening and self._channel.lease is None:
            patience = self._listen()
            if not patience:
                return
            seconds = min(seconds, patience)
        await self._alarm.wait(seconds)

    def watch(self) -> None:
        """See `service.eventlog.base.Reader.watch`."""
        if not self.watches:
            self._watch()
            self.watches = True
            self._channel.changed()

    def close(self) -> None:
        """See `service.eventlog.base.Reader.close`."""
        if not self._closed:
            self._closed = True
            self._close()
            self._alarm.close()
            self._channel.leave(self)

    @abstractmethod
    async def _fetch(self) -> Sequence[Event]:
        """Read the next events from the storage; set `_seq` and `_place` to where they end. Empty if none yet."""

    @abstractmethod
    def _listen(self) -> float:
        """Have `wake` called when another worker appends, and set `_listening` where that could be arranged.

        Called before each wait, until it could be, while this worker does not produce the answer. Return the seconds
        after which to look in any case: 0 where there is more to read already, infinity where none are needed.
        """

    @abstractmethod
    def _watch(self) -> None:
        """Count as a follower in other workers' eyes."""

    @abstractmethod
    def _close(self) -> None:
        """Close what the backend opened, and count as a follower no more. Called once."""
