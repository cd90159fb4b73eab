"""The interface of an event log. `files` keeps logs on one machine's disk; another backend may serve many machines.

A log has one *lease*. Its holder is the answer's producer. The lease ends with the holder's process.
A log has any number of *readers*. Each holds an offset and no queue.

The numbers of a log's events, its *seqs*, rise: by one as long as one producer writes. A backend that may forget events
gives each claim a number, too, greater than any that was ever given. So a seq never names two events. Files forget
nothing, and their seqs have no gaps. Only the log knows whether it has a seq: the layers above compare no seqs to find
out, and compute none, except that a producer numbers its events on from `Lease.last_seq`.

What a lease or a reader tells of other workers is *as last heard*: `watched`, `stop_requested`, `anew_requested`,
`lost`, `orphaned`. Files are never late. A backend that serves many machines may be half a second late, and some
seconds about a worker that died.

Methods that read or write raise `Unavailable` if the storage fails, and never the storage's own errors. Methods that
end something (`release`, `hand_over`, `close`, `aclose`) do not raise. Nor do notes, which may get lost: `grew`,
`mark_unwatched`, `clear_unwatched`, `mark_delivered`.

A log has any number of *names* (`service.names`), which its first event tells of. They are gone with it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.errors import UnknownAnswer
from service.events import Event, Start, StoppedBy, UnknownEvent
from service.names import Named, Naming

Push = Callable[[Sequence[Event]], bool]
"""Takes the events of an append, in the turn of the event loop in which the log has them. Returns whether the next ones
may be pushed, too."""


class DamagedLogError(UnknownAnswer):
    """The log was shortened or overwritten. The rest is not an answer, so it counts as unknown."""


class AheadOfLogError(UnknownAnswer):
    """The answer is still running and has no event of this number yet."""


class LeaseLostError(Exception):
    """This worker may no longer write to the log: another worker holds the lease, or may claim it.

    The lease has ended. `release` does nothing. The answer's stop requests and notes belong to the next producer.
    """


class NameTakenError(Exception):
    """Another answer was begun under the name, which may stand for one only. Nothing was created."""


class UnusableLog(Exception):
    """The URL cannot be used for a log. The text says what it should be, and why."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Limits on ended answers. The oldest are erased first. Running answers are never erased."""

    seconds: float = 3600.0
    answers: int = 10_000
    bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Claims:
    """The number of claims of an answer, each within a minute of the previous one. The current claim is counted."""

    total: int = 0
    """0 for the worker that began the answer."""
    without_growth: int = 0
    """The latest claims in a row without growth of the answer. The current claim is counted."""


class Lease(Protocol):
    """The exclusive right to write to a log, held by the answer's producer."""

    answer_id: str
    last_seq: int
    """The seq of the last event, or the number of a later claim or renewal. The next event has the number after it."""
    size: int
    """The log's length in bytes, without what was given anew."""
    claims: Claims
    unwatched_seconds_left: float | None
    """The rest of the time for which the answer goes on without a follower. None if the last producer saw a follower,
    or if the answer was not taken over."""
    on_change: Callable[[], None] | None
    """Called when a follower on this worker comes or leaves, when a stop or the text anew is requested, and when the
    lease is lost."""

    async def append(self, events: Sequence[Event], *, anew: bool = False) -> None:
        """Write the events. When this returns, followers on every worker can read them.

        An append completes or fails even if its caller is cancelled: `CancelledError` is raised only after that, and
        `last_seq` then counts what was written. See `service.eventlog.completion`.

        With `anew` the events are for readers that have lost their place: a `Restart` that is `again`, and what the
        answer has said since its last restart. Any other reader passes over them, unless it was placed among them. They
        are one entry: a reader gets all of them or none.

        Raises:
            LeaseLostError: this worker no longer holds the lease. None of the events is in the log.
            Unavailable: not all events were written, because of a full disk, say. `last_seq` is the last one written.
        """

    def append_now(self, events: Sequence[Event]) -> bool:
        """Write the events as `append` does, without a wait. Return False, with nothing written, if that is impossible.

        Raises:
            LeaseLostError, Unavailable: see `append`.
        """

    async def renew(self) -> None:
        """Claim the log anew from this worker itself, before text is given anew. `last_seq` is then the claim's number.

        It completes or fails even if its caller is cancelled, like `append`. It does not count as a claim.

        Raises:
            LeaseLostError, Unavailable: see `append`.
        """

    def anew_requested(self) -> bool:
        """Return whether a reader has lost its place since the last append with `anew`.

        The producer then calls `renew`, and gives the text so far anew. Files never request it.
        """

    def lost(self) -> bool:
        """Return whether the lease has ended. Another worker may have the answer. Nothing can be appended."""

    def grew(self) -> None:
        """Note that the answer grew under this claim."""

    def watched(self) -> bool:
        """Return whether the answer has a follower, on any worker."""

    async def still_unwatched(self) -> bool:
        """Ask the log whether the answer has no follower on any worker, before that is acted on.

        Raises:
            Unavailable: the log cannot tell.
        """

    def mark_unwatched(self, seconds: float) -> None:
        """Note that the answer has no follower and goes on for so long. A worker that takes it over reads the note."""

    def clear_unwatched(self) -> None:
        """Note that the answer has a follower again, or has ended."""

    def stop_requested(self) -> StoppedBy | None:
        """Return who requested a stop, on any worker; None without a request."""

    def release(self) -> None:
        """Give up the lease. Without a terminal event in the log, the answer is then an orphan."""

    def hand_over(self) -> None:
        """Give up the lease of a healthy answer: reset its count of claims."""


class Reader(Protocol):
    """One reader's place in a log."""

    answer_id: str
    at_end: bool
    """Whether it was opened behind the terminal event, so that nothing follows."""
    unknown_seq: int
    """The seq of the last event of an unknown type that `read` left out; 0 without one."""

    async def start(self) -> Start:
        """Return the log's first event. Does not move the reader.

        Raises:
            DamagedLogError: the first event cannot be read.
            Unavailable: the log cannot be read.
        """

    def watch(self) -> None:
        """Count as a follower from now on. May be called twice.

        Raises:
            Unavailable: the storage fails.
        """

    async def read(self) -> Sequence[Event]:
        """Return the next events, up to some tens of kilobytes of them. Empty if there are none yet.

        Events of unknown types are left out: see `unknown_seq`.

        A reader whose place is not in the log (see `EventLog.open`) reads nothing until its place is back, or until the
        text is given anew, which begins with a `Restart`.

        Raises:
            DamagedLogError: the log was shortened or overwritten, or the answer has ended without the reader's place.
            Unavailable: the log cannot be read. A log on a server first reads as empty for a while.
        """

    def wait(self, seconds: float, push: Push | None = None) -> Awaitable[None]:
        """Wait until there may be more to read, or for so many seconds.

        With `push`, the log may call it with the events of an append instead of ending the wait. The events then count
        as read. The wait goes on as long as `push` returns True, and raises what `push` raises.
        """

    def orphaned(self) -> bool:
        """Return whether the lease is free. To learn whether the log has ended, read it."""

    def close(self) -> None:
        """Stop reading, and stop counting as a follower. May be called twice."""


class EventLog(Protocol):
    """The logs of all answers."""

    async def create(self, start: Start, names: Sequence[Naming] = ()) -> Lease:
        """Create a log with its first event, and the names that the start tells of. Either all or none is created.

        A large request is kept beside the log: see `with_request`.

        Of two workers that create under a name that may stand for one answer only, one does, and the other one's call
        raises `NameTakenError`. A name whose answer is gone is free, and so is one whose worker died before it created
        the log.

        Raises:
            NameTakenError: see above.
            Unavailable: it cannot be written.
        """

    async def with_request(self, start: Start) -> Start:
        """Return the first event of a log with its request, if the log keeps that beside it.

        The event is returned as it is if it has its request, or if the request is gone.

        Raises:
            Unavailable: the log cannot be read.
        """

    async def named(self, name: str) -> Sequence[Named]:
        """Return the answers that the name stands for, the newest last. Empty for an unknown name.

        Raises:
            Unavailable: the log cannot be read.
        """

    def mark_delivered(self, name: str, answer_id: str) -> None:
        """Note that a response with the answer was written to its end. It may get lost, like other notes."""

    async def followed(self, answer_id: str) -> bool:
        """Return whether the answer has a follower on any worker. As last heard, and False for one that has ended.

        Raises:
            Unavailable: the log cannot tell.
        """

    async def claim(self, answer_id: str) -> Lease | None:
        """Take over an orphan. None if the answer has a producer, has ended, or is gone.

        The lease's `last_seq` may be greater than the last event's seq.

        Raises:
            Unavailable: the log cannot be written.
        """

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> Reader:
        """Return a reader placed behind the event `after`. 0 is the place before the first event.

        With `watch` the reader counts as a follower.

        Whether a running answer has no event `after` yet, or no longer, only some backends can tell. Files forget
        nothing: the place is ahead of the log, and in a log that has ended, it is the end. A backend that may forget
        returns a reader that waits: for the place to come back, or for the text anew, which it requests.

        Raises:
            UnknownAnswer: there is no such log.
            AheadOfLogError: the answer is still running and has no event `after` yet.
            DamagedLogError: another event has that number's place, or the answer has ended without it.
            Unavailable: the log cannot be read.
        """

    async def last(self, answer_id: str) -> Event | UnknownEvent:
        """Return the log's last event.

        Raises:
            UnknownAnswer: there is no such log.
            Unavailable: the log cannot be read.
        """

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        """Request that the producer, on any worker, stops.

        Raises:
            Unavailable: the log cannot be written.
        """

    async def erase(self, answer_id: str) -> None:
        """Remove the log, the answer's names and its request.

        Open readers come to its end, or `read` raises `DamagedLogError`.

        Raises:
            Unavailable: the log cannot be written.
        """

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        """Call `on_orphan` with the id of each orphan, and erase expired answers.

        Raises:
            Unavailable: the log cannot be reached.
        """

    async def check(self) -> None:
        """Check that the log can be written.

        Raises:
            Unavailable: it cannot.
        """

    def lost(self) -> bool:
        """Return whether the storage was removed or replaced, and only a new process can use what is there now.

        False where a new process could not start either: this one still responds.
        """

    async def aclose(self) -> None:
        """Release all leases and close everything."""
