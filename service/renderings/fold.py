"""Protocols with messages of their own: a vocabulary makes messages of events, a framing makes bytes of messages.

Messages are numbered from 0 on, by the log's unmerged events. So a message has the same number on each worker and at
any time. A protocol whose framing shows the numbers can be resumed by them: the log is folded from its start, and what
is above the number is sent.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import msgspec

from service.errors import BadInput
from service.events import TERMINAL, Delta, Done, Event, Failed, Restart, Start, Stopped, merge_deltas

NOTHING = -1
"""The number before the first message's."""


class Message(NamedTuple):
    """One message of a protocol."""

    kind: str
    """Its type, for a framing that names it."""
    data: dict[str, Any]


class Vocabulary(Protocol):
    """One follower's fold of an answer into the messages of a protocol."""

    @property
    def has_spoken(self) -> bool:
        """Whether a message since the start, or since the last `begin_anew`, had something of the answer."""

    @property
    def finished(self) -> bool:
        """Whether the last message has ended the body (see `service.renderings.base.Encoder.finished`)."""

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        """Return the messages of the log's next event. A delta has one of the four voices."""

    def begin_anew(self) -> None:
        """Forget what the answer has said: the follower has not been sent anything of it."""

    def restart(self) -> Iterable[Message]:
        """Return the messages of a restart behind something that the follower has been sent."""

    def whole(self) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the body of the response without a stream. The answer has ended."""


class Framing(Protocol):
    """Turns messages into bytes. Stateless."""

    def frame(self, number: int, message: Message) -> bytes:
        """Return the message's bytes."""


class FoldEncoder:
    """Encodes one follower's body in a vocabulary and a framing. `service.renderings.base.WholeEncoder`.

    Args:
        after: The number of the last message that the client has.
        merges: Whether neighbouring deltas of one voice may be one message. Their numbers then mean nothing.
    """

    def __init__(self, vocabulary: Vocabulary, framing: Framing, *, after: int = NOTHING, merges: bool = False) -> None:
        self._vocabulary = vocabulary
        self._framing = framing
        self._after = after
        self._merges = merges
        self._next = 0
        self._seq = 0
        self._abandoned = 0
        self.caught_up: Callable[[], bytes] | None = None if after == NOTHING else self._refuse_place
        """Nothing once the client's place is reached: no vocabulary tells that there is no more for now."""

    @property
    def finished(self) -> bool:
        """See `service.renderings.base.Encoder.finished`."""
        return self._vocabulary.finished

    def abandon(self, before: int) -> None:
        """See `service.renderings.base.Encoder.abandon`."""
        self._abandoned = before

    def advance(self, events: Sequence[Event]) -> None:
        """See `service.renderings.base.Encoder.advance`."""
        for event in merge_deltas(events):
            for _ in self._messages(event):
                pass

    def encode(self, events: Sequence[Event]) -> bytes:
        """See `service.renderings.base.Encoder.encode`.

        Raises:
            BadInput: there is no message `after`, also at the answer's end, or it was abandoned by a restart.
        """
        parts: list[bytes] = []
        for event in merge_deltas(events) if self._merges else events:
            is_left_out = event.seq < self._abandoned and type(event) is not Start
            for message in self._messages(event):
                if self._next > self._after and not is_left_out:
                    parts.append(self._framing.frame(self._next, message))
                self._next += 1
            if self._vocabulary.finished:
                break
        if self._after >= self._next:
            if type(events[-1]) in TERMINAL:
                self._refuse_place()
        elif self.caught_up is not None:
            self.caught_up = None
        return b"".join(parts)

    def _refuse_place(self) -> NoReturn:
        """Refuse a number that the answer has not reached: a body without its end would look like a whole one."""
        raise BadInput("bad_last_event_id", "ahead")

    def whole(self) -> tuple[int, bytes]:
        """See `service.renderings.base.WholeEncoder.whole`."""
        status, body = self._vocabulary.whole()
        return status, msgspec.json.encode(body)

    def _messages(self, event: Event) -> Iterable[Message]:
        seq = event.seq
        if seq > self._seq + 1 and self._seq and not self._merges:
            self._jump(seq)
        self._seq = seq
        if type(event) is Delta:
            if event.text is None and not event.has_voice:
                return ()
        elif isinstance(event, Restart):
            return self._restart(event)
        return self._vocabulary.feed(event)

    def _jump(self, seq: int) -> None:
        """Go on with the number `seq` where another producer wrote on: some of its numbers may have been forgotten."""
        if self._next <= self._after < seq:
            raise BadInput("answer_restarted")
        self._next = max(self._next, seq)

    def _restart(self, event: Restart) -> Iterable[Message]:
        """Return a restart's messages. Its number is used for every follower, also if there is no message."""
        if self._vocabulary.has_spoken:
            if event.seq > self._abandoned and self._next > self._after:
                return self._vocabulary.restart()
            if NOTHING < self._after <= self._next:
                raise BadInput("answer_restarted")
        self._vocabulary.begin_anew()
        self._next += 1
        return ()
