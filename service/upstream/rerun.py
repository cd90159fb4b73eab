"""Leave out of a run that is read from its start again what the log has of it. Pure: no I/O, no clock."""

from collections.abc import Sequence

from service.answer import Attached
from service.events import Delta, Event
from service.upstream.continuation import Continuation
from service.upstream.known import Known


class Rerun:
    """The deltas of a run that is followed again, without what is known. They are numbered on from `last_seq`.

    The server sends the same events again, so that the same deltas come of them: first those that repeat what the run
    went on from, which a `Continuation` drops as it did before, and then as many characters as the log has.
    """

    def __init__(self, known: Attached, last_seq: int, most_bytes: int | None = None) -> None:
        """`most_bytes` limits what is held back, in bytes of the log, while nothing of the run is in it."""
        self.last_seq = last_seq
        self._known = Known(known)
        self._is_new = self._known.is_over
        if not self._known.is_over:
            most_bytes = None  # What was held back is logged, and counted, already.
        self._continuation = None if known.said is None else Continuation(known.said, last_seq, most_bytes)

    @property
    def is_found(self) -> bool:
        """Whether the next deltas are new, each as it is."""
        return self._known.is_over and (self._continuation is None or self._continuation.is_found)

    @property
    def is_anew(self) -> bool:
        """Whether the upstream did not go on from what was handed back, and began another answer.

        False where the log has something of it: then it has the restart, too.
        """
        return self._is_new and self._continuation is not None and self._continuation.is_anew

    def add(self, events: Sequence[Event]) -> list[Event]:
        """Return the new deltas among these."""
        if self._continuation is not None and not self._continuation.is_found:
            events = self._continuation.add(events)
        return self._new(events)

    def end(self) -> list[Event]:
        """Return the deltas that were held back. None follows."""
        return [] if self._continuation is None else self._new(self._continuation.end())

    def _new(self, events: Sequence[Event]) -> list[Event]:
        new: list[Event] = []
        for delta in events:
            if not isinstance(delta, Delta):
                continue  # Chat completions have nothing else.
            if (rest := self._known.rest(delta, self.last_seq + 1)) is not None:
                self.last_seq += 1
                new.append(rest)
        return new
