"""What an event log is. `files` keeps it on one machine's disk; another backend may keep it for many machines.

One *lease* a log: whoever holds it is the answer's producer, and it ends with the holder's process.
Any number of *readers* a log: each holds an offset, never a queue.

A method that reads or writes raises `Unavailable` where the storage fails, and no error of the storage's own. Methods
that end something (`release`, `hand_over`, `close`, `aclose`) and notes that may be lost (`grew`, `mark_unwatched`,
`clear_unwatched`) do not raise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.errors import UnknownAnswer
from service.events import Event, Start, StoppedBy


class DamagedLogError(UnknownAnswer):
    """A log is not as it was written: shortened, or overwritten. What is left is no answer that anybody knows."""


class AheadOfLogError(UnknownAnswer):
    """The answer goes on, and has no event of that number yet."""


class LeaseLostError(Exception):
    """This worker may not write to the log any more: another one holds the lease, or may come to.

    The lease has ended: `release` does nothing, and `watched`, `stop_requested` and the notes are another producer's.
    """


class UnusableLog(Exception):
    """No log can be kept at this URL. The text says what the URL should be, and why."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds on ended answers: the oldest go first. Running answers are never erased."""

    seconds: float = 3600.0
    answers: int = 10_000
    bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Claims:
    """How often an answer was claimed, each time within a minute of the one before, the present claim included."""

    total: int = 0
    """0 for the worker that began the answer."""
    without_growth: int = 0
    """The latest claims between which the answer did not grow, the present one included."""


class Lease(Protocol):
    """The producer's claim on a log."""

    answer_id: str
    last_seq: int
    size: int
    """The log's length in bytes."""
    claims: Claims
    unwatched_seconds_left: float | None
    """Of the time for which the answer goes on without a follower. None where the last producer saw a follower, or
    where the answer was not taken over."""
    on_change: Callable[[], None] | None
    """Called when a follower of this worker came or left, or when somebody asked for a stop."""

    async def append(self, events: Sequence[Event]) -> None:
        """Write the events. Followers of every worker can read them when this returns.

        Raises:
            LeaseLostError: this worker does not hold the lease any more. None of the events is in the log.
            Unavailable: the log cannot take them all (a full disk, say); `last_seq` tells what it took.
        """

    def grew(self) -> None:
        """Note that the answer grew under this claim."""

    def watched(self) -> bool:
        """Tell whether the answer has at least one follower, in any worker."""

    def mark_unwatched(self, seconds: float) -> None:
        """Note, for a worker that takes the answer over, that the answer has no follower and goes on for so long."""

    def clear_unwatched(self) -> None:
        """Note that the answer has a follower again, or has ended."""

    def stop_requested(self) -> StoppedBy | None:
        """Return who asked for a stop, on whichever worker, or None."""

    def release(self) -> None:
        """Give up the claim. Without a terminal event in the log, the answer is then an orphan."""

    def hand_over(self) -> None:
        """Give up the claim of an answer that goes well: this claim and those before are no longer counted."""


class Reader(Protocol):
    """One reader's place in a log."""

    answer_id: str
    at_end: bool
    """Whether the place at which it was opened is behind the terminal event, so that nothing comes."""

    async def start(self) -> Start:
        """Return the log's first event. The place does not change.

        Raises:
            DamagedLogError: there is none that can be read.
            Unavailable: the log cannot be read.
        """

    def watch(self) -> None:
        """Count as a follower from now on. May be called twice.

        Raises:
            Unavailable: the log cannot note it.
        """

    async def read(self) -> Sequence[Event]:
        """Return the next events, as many as there are up to some tens of kilobytes; empty if none yet.

        Raises:
            DamagedLogError: the log is not as it was.
            Unavailable: the log cannot be read.
        """

    async def wait(self, seconds: float) -> None:
        """Return when there may be more to read, or after that many seconds."""

    def orphaned(self) -> bool:
        """Tell whether nobody holds the log's lease. Whether the log has ended only reading it tells."""

    def close(self) -> None:
        """Stop reading; if this reader watched, the answer has one follower fewer. May be called twice."""


class EventLog(Protocol):
    """All the logs."""

    async def create(self, start: Start) -> Lease:
        """Begin a log with its first event.

        Raises:
            Unavailable: the log cannot take it.
        """

    async def claim(self, answer_id: str) -> Lease | None:
        """Take over an orphan. None if it has a producer, has ended, or is gone.

        Raises:
            Unavailable: the log cannot be written.
        """

    async def open(self, answer_id: str, after: int = 0, *, watch: bool = True) -> Reader:
        """Return a reader placed behind the event `after`, or at the end of a log that ended before it.

        With `watch` the reader counts as a follower.

        Raises:
            UnknownAnswer: there is no such log.
            AheadOfLogError: the answer goes on, and has no event `after` yet.
            DamagedLogError: the event of that number is not the one that was written.
        """

    async def last(self, answer_id: str) -> Event:
        """Return the log's last event.

        Raises:
            UnknownAnswer: there is no such log.
        """

    async def request_stop(self, answer_id: str, by: StoppedBy) -> None:
        """Ask the producer, on whichever worker, to stop."""

    async def erase(self, answer_id: str) -> None:
        """Remove the log. Those who still read it come to its end."""

    async def tend(self, on_orphan: Callable[[str], None]) -> None:
        """Tell of each orphan, by its id, and erase what has expired.

        Raises:
            Unavailable: the log cannot be reached.
        """

    async def check(self) -> None:
        """Do nothing if the log works.

        Raises:
            Unavailable: it does not.
        """

    def lost(self) -> bool:
        """Return whether the place of the logs was removed or replaced, so that only a new process can use it."""

    async def aclose(self) -> None:
        """Close what is open. Leases end."""
