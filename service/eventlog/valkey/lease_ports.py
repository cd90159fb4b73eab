"""What a lease tells the rest of its worker."""

from typing import Protocol, TypeVar

from service.eventlog.valkey.entries import Chain, Entry

L_contra = TypeVar("L_contra", contravariant=True)
"""The class of the lease."""


class Heard(Protocol[L_contra]):
    """What a lease tells its worker's view of the answer. See `tail.Tail`."""

    answer_id: str
    chain: Chain

    def wrote(self, before: int, entry: Entry) -> None:
        """Take in what the lease wrote."""

    def release(self, lease: L_contra, owner: str | None) -> None:
        """Note that the lease has ended, and who has the answer now, if that is known."""

    def watched_here(self) -> bool:
        """Return whether this worker has followers."""


class Ended(Protocol[L_contra]):
    """Called with a lease that has ended. `given_up` is whether this worker ended it."""

    def __call__(self, lease: L_contra, *, given_up: bool) -> None:
        """See above."""
