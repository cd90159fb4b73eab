"""A worker's view of one answer: its lease, its tail and its readers. The same for every backend.

A backend's log, lease and reader speak to the channel and not to each other:

    create, claim ─► Channels.of(id).hold(lease, …)      this worker produces the answer
    append ────────► channel.appended(events, …)         the tail is known, and the readers are told
    open ──────────► a reader, which joins the channel
    release ───────► channel.release(…)                  the readers wake, and read from the storage from now on

A reader that has read up to the tail gets the tail's events from memory. So followers on the producer's worker cost no
access to the storage. The events are pushed to a reader that waits there with a `push`, and its task is not woken.

A *place* is a position in a log, as an integer that grows: a byte offset in a file, or a seq where the backend finds
events by seq.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator, Sequence
from typing import Generic, TypeVar

from service.eventlog.alarm import Alarm
from service.eventlog.base import Lease, Push
from service.events import Event

L = TypeVar("L", bound=Lease)

NOWHERE = -1
"""A place that no reader has."""
UNKNOWN = sys.maxsize
"""The end of a log that another worker writes: greater than every place."""


class Channel(Generic[L]):
    """This worker's view of one answer."""

    def __init__(self, answer_id: str, channels: "Channels[L]") -> None:
        self.answer_id = answer_id
        self.lease: L | None = None
        """None unless this worker produces the answer."""
        self.tail: Sequence[Event] = ()
        """The events of the last append."""
        self.tail_at = NOWHERE
        """The place where they begin; `NOWHERE` if they must be read from the storage."""
        self.end = UNKNOWN
        """The place behind the last event."""
        self.last_seq = 0
        """The seq of the last event, if `end` is known."""
        self._readers: set[ChannelReader[L]] = set()
        self._channels = channels

    def hold(self, lease: L, end: int, last_seq: int) -> None:
        """Note this worker's lease and the end of the log."""
        self.lease = lease
        self._ends(end, last_seq)

    def appended(self, events: Sequence[Event], end: int, last_seq: int) -> None:
        """Note the new tail, which is in the log, and push it to the readers or wake them."""
        self.tail = events
        self.tail_at = self.end
        self.end = end
        self.last_seq = last_seq
        for reader in tuple(self._readers):  # A push may close a reader.
            reader.tell(events)

    def appended_in_part(self, end: int, last_seq: int) -> None:
        """Note the new end, behind events that must be read from the storage; wake the readers."""
        self._ends(end, last_seq)
        self.wake()

    def release(self, lease: L) -> None:
        """Note that the lease has ended, and wake the readers. Does nothing if it is not the current lease."""
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
        """Return whether a reader on this worker counts as a follower."""
        return any(reader.watches for reader in self._readers)

    def wake(self) -> None:
        """End the readers' waits, because there may be more to read."""
        for reader in self._readers:
            reader.wake()

    def changed(self) -> None:
        """Call the lease's `on_change`: a follower came or left, or a stop was requested."""
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
        """Return the answer's channel, created if needed. It is dropped with its last lease or reader."""
        channel = self._channels.get(answer_id)
        if channel is None:
            channel = self._channels[answer_id] = Channel(answer_id, self)
        return channel

    def get(self, answer_id: str) -> Channel[L] | None:
        """Return the answer's channel; None if this worker neither produces nor reads the answer."""
        return self._channels.get(answer_id)

    def drop(self, answer_id: str) -> None:
        """Remove the channel."""
        self._channels.pop(answer_id, None)

    def leases(self) -> list[L]:
        """Return the leases that this worker holds."""
        return [channel.lease for channel in self._channels.values() if channel.lease is not None]

    def __iter__(self) -> Iterator[Channel[L]]:
        """Iterate over a copy, so that channels may come and go meanwhile."""
        return iter(list(self._channels.values()))

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self._channels)


class ChannelReader(ABC, Generic[L]):
    """A reader that takes events from the channel if it has them, and else from the storage.

    See `service.eventlog.base.Reader`.

    A backend implements `_fetch` (read), `_listen` (be woken by other workers), `_watch` (be seen as a follower),
    `_close`, `start` and `orphaned`.
    """

    def __init__(self, channel: Channel[L], seq: int, place: int, *, at_end: bool, watch: bool) -> None:
        self.answer_id = channel.answer_id
        self.at_end = at_end
        self.unknown_seq = 0
        self.watches = watch
        self._channel = channel
        self._seq = seq
        """The seq of the last event read."""
        self._place = place
        """The place behind it."""
        self._alarm = Alarm()
        self._push: Push | None = None
        self.wake = self._alarm.ring
        """End the wait, if there is one."""
        self._listening = False
        """Whether `wake` is also called when another worker appends."""
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

    def wait(self, seconds: float, push: Push | None = None) -> Awaitable[None]:
        """See `service.eventlog.base.Reader.wait`."""
        self._push = push
        if not self._listening and self._channel.lease is None:
            seconds = min(seconds, self._listen())
        # No coroutine of its own: each one that a chunk passes through takes a thousand instructions.
        return self._alarm.wait(seconds)

    def tell(self, events: Sequence[Event]) -> None:
        """Push the channel's new tail, if the reader waits where it begins; end any other wait."""
        push, channel, alarm = self._push, self._channel, self._alarm
        waiter = alarm.waiter
        if waiter is None or waiter.done():
            return
        if push is None or self._place != channel.tail_at:
            alarm.ring()
            return
        self._place = channel.end
        self._seq = channel.last_seq
        try:
            if not push(events):
                alarm.ring()
        except Exception as error:  # noqa: BLE001 (the reader's own: the producer and the other readers go on)
            alarm.fail(error)

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
            self._push = None  # It refers to the follower, which refers to this reader.
            self._channel.leave(self)

    @abstractmethod
    async def _fetch(self) -> Sequence[Event]:
        """Read the next events from the storage, and move `_seq` and `_place` behind them. Empty if none yet."""

    @abstractmethod
    def _listen(self) -> float:
        """Arrange for `wake` to be called when another worker appends; set `_listening` if that worked.

        While another worker produces the answer, this is called before each wait until it has worked. Return the
        longest wait, in seconds: 0 if there is more to read already, infinity if it worked, else the poll interval.
        """

    @abstractmethod
    def _watch(self) -> None:
        """Count as a follower for other workers."""

    @abstractmethod
    def _close(self) -> None:
        """Close the backend's files or connections, and stop counting as a follower. Called once."""
