"""Follow an answer: its history from an offset, then its live tail, until the terminal event."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from service.answer import AnswerState
from service.eventlog import DamagedLogError, EventLog, Reader
from service.events import TERMINAL, Delta, Event
from service.renderings import Encoder, Rendering
from service.renderings.base import WholeEncoder
from service.telemetry import metrics

ORPHAN_POLL_SECONDS = 1.0
"""Poll interval for detecting an orphaned answer, while a follower waits for its next event."""

RETRY_SECONDS = 10.0
"""Time for which a response without a stream may still get lost: OpenAI's SDKs repeat after a pause of up to 8 s."""
PORTION_READS = 16
"""Most reads of the log in one `Portion`. The log's backends bound a read to some tens of kilobytes."""

_seq = attrgetter("seq")


class Sink(Protocol):
    """Takes a follower's bytes in any turn of the event loop, without a task."""

    def write(self, data: bytes) -> bool:
        """Send the bytes. Return False if the client is slow: await `drain` before the next bytes."""

    async def drain(self) -> None:
        """Wait until the bytes that were written are sent."""


@dataclass(frozen=True, slots=True)
class Portion:
    """A piece of a log, for a client that asks for one piece after the other."""

    events: Sequence[Event]
    """As in the log, unmerged."""
    is_all: bool
    """Whether the log had nothing behind them."""
    has_ended: bool = False
    """Whether the answer ends with them."""


class CutShortError(Exception):
    """This worker has left, or the log was damaged. The response must look cut, not whole."""

    def __init__(self, *, damaged: bool = False) -> None:
        super().__init__()
        self.damaged = damaged


async def encoder_at(
    log: EventLog, answer_id: str, after: int, rendering: Rendering, *, is_new: bool = False
) -> Encoder:
    """Return an encoder for a follower whose reader was opened behind the event `after`.

    If the rendering is `from_start`, the encoder is first told of the log's last restart, and given the log up to that
    event, from a second reader. Open the follower's reader before: it checks that the event exists. `is_new` is for an
    answer that has only begun, and cannot have a restart.

    Raises:
        UnknownAnswer: the log is gone or damaged.
        Unavailable: the log cannot be read.
    """
    encoder = rendering.encoder(answer_id)
    if rendering.from_start and not is_new:
        if restarted_at := await _last_restart(log, answer_id):
            encoder.abandon(restarted_at)
        if after:
            await _bring_up(encoder, log, answer_id, after)
    return encoder


async def _last_restart(log: EventLog, answer_id: str) -> int:
    """Return the seq of the log's last restart; 0 without one."""
    state = AnswerState()
    with closing(await log.open(answer_id, watch=False)) as reader:
        while events := await reader.read():
            state.advance(events)
    return state.restart_seq


async def _bring_up(encoder: Encoder, log: EventLog, answer_id: str, after: int) -> None:
    with closing(await log.open(answer_id, watch=False)) as reader:
        while events := await reader.read():
            encoder.advance(events[: bisect_right(events, after, key=_seq)])
            if events[-1].seq >= after:
                break


class Follower:
    """Reads a log and sends it through an encoder.

    It holds an offset and no queue, so a slow client costs no memory. With a sink, the log pushes each append to it as
    long as it has read everything and the sink is not full. No task is woken then.
    """

    def __init__(
        self,
        reader: Reader,
        rendering: Rendering,
        encoder: Encoder,
        *,
        heartbeat_seconds: float,
        on_orphan: Callable[[str], None],
        has_left: Callable[[], bool],
        on_first_chunk: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.answer_id = reader.answer_id
        self._reader = reader
        self._rendering = rendering
        self._encoder = encoder
        self._heartbeat_seconds = heartbeat_seconds
        self._on_orphan = on_orphan
        self._has_left = has_left
        self._on_first_chunk = on_first_chunk
        self._on_close = on_close
        self.on_delivered: Callable[[], None] | None = None
        """Called when a response is written to the answer's end."""
        self.on_left: Callable[[], None] | None = None
        """Called when it is closed."""
        self._sink: Sink | None = None
        self._time = asyncio.get_running_loop().time
        self._sent_at = self._time()
        self._preamble = rendering.preamble
        self._begun = False
        self._ended = False
        self._closed = False
        metrics.follower_came()

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """Wait for the next bytes to send and return them; None after the end.

        The bytes are events, or a heartbeat after `heartbeat_seconds` without bytes. If there is no event yet, the
        first call returns the rendering's opening at once, so that the response can begin.

        With a sink, events that come during the wait are written to it and not returned. Send all returned bytes before
        the next call.

        Raises:
            CutShortError: this worker has left before the terminal event, or the log was damaged.
            Unavailable: the log cannot be read.
        """
        waited = False
        while not self._ended:
            try:
                events = await self._reader.read()
            except DamagedLogError:
                raise CutShortError(damaged=True) from None
            if events:
                data = self._encode(events)
                if data or self._ended:
                    self._begun = True
                    return data
                continue
            if (told := self._caught_up()) is not None:
                return told
            if waited and self._reader.orphaned():
                self._on_orphan(self._reader.answer_id)
            now = self._time()
            left = self._sent_at + self._heartbeat_seconds - now
            if left <= 0:
                self._sent_at = now
                if self._rendering.heartbeat:
                    return self._rendering.heartbeat
                left = self._heartbeat_seconds
            await self._wait(min(left, ORPHAN_POLL_SECONDS), sink)
            waited = True
        return None

    async def whole(self) -> tuple[int, bytes]:
        """Wait for the answer's end; return the status and the body of the response without a stream.

        The follower's encoder is a `WholeEncoder`. Nothing is sent meanwhile.

        Raises:
            CutShortError: this worker has left before the terminal event, or the log was damaged.
            Unavailable: the log cannot be read.
        """
        encoder: WholeEncoder = self._encoder  # type: ignore[assignment] # the rendering has whole responses
        while not self._ended:
            try:
                events = await self._reader.read()
            except DamagedLogError:
                raise CutShortError(damaged=True) from None
            if events:
                encoder.advance(events)
                self._note_first_chunk(events)
                self._ended = type(events[-1]) in TERMINAL
                continue
            if self._has_left():
                raise CutShortError
            if self._reader.orphaned():
                self._on_orphan(self._reader.answer_id)
            await self._reader.wait(ORPHAN_POLL_SECONDS)
        return encoder.whole()

    def delivered(self) -> None:
        """Note that the response was written to its end. Without effect unless that was the answer's, too."""
        if self._ended and self.on_delivered is not None:
            self.on_delivered()

    def delivered_soon(self) -> None:
        """Note `RETRY_SECONDS` later that the response was written to its end.

        Of a response that is written at once, the end may be on its way for long. SDKs repeat a request whose response
        was cut in its head, or anywhere if it is no stream.
        """
        if self._ended and self.on_delivered is not None:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self.on_delivered)

    async def portion(self, seconds: float) -> Portion:
        """Return what the log has next, up to PORTION_READS reads; if there is nothing, wait for so many seconds.

        Raises:
            UnknownAnswer: the log was damaged, or erased.
            Unavailable: the log cannot be read.
        """
        events: list[Event] = []
        is_waiting = True
        until = self._time() + seconds
        for _ in range(PORTION_READS):
            read = await self._reader.read()
            while not read and is_waiting and (left := until - self._time()) > 0 and not self._has_left():
                if self._reader.orphaned():
                    self._on_orphan(self._reader.answer_id)
                await self._reader.wait(min(left, ORPHAN_POLL_SECONDS))
                read = await self._reader.read()
            events += read
            is_waiting = is_waiting and all(type(event) is Delta and event.is_private for event in read)
            if not read:
                return Portion(events, is_all=True)
            if type(read[-1]) in TERMINAL:
                return Portion(events, is_all=True, has_ended=True)
        return Portion(events, is_all=False)

    def close(self) -> None:
        """Stop following. May be called twice."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            metrics.follower_left()
            if self._on_close is not None:
                self._on_close()
            if self.on_left is not None:
                self.on_left()

    def _caught_up(self) -> bytes | None:
        """Return what is to be sent where the log has no more for now; None for nothing."""
        if self._encoder.caught_up is not None and (data := self._encoder.caught_up()):
            self._begun = True
            return self._sent(data)
        if self._has_left():
            raise CutShortError
        if not self._begun:
            self._begun = True
            return self._rendering.opening
        return None

    async def _wait(self, seconds: float, sink: Sink | None) -> None:
        if sink is None:
            await self._reader.wait(seconds)
        else:
            self._sink = sink
            await self._reader.wait(seconds, self._push)
            await sink.drain()

    def _push(self, events: Sequence[Event]) -> bool:
        """Write the events to the sink, while `next` waits. Return False if it must go on."""
        data = self._encode(events, is_all=True)
        is_taken = not data or self._sink is None or self._sink.write(data)
        return is_taken and not self._ended

    def _encode(self, events: Sequence[Event], *, is_all: bool = False) -> bytes:
        encoder = self._encoder
        data = encoder.encode(events)
        if is_all and encoder.caught_up is not None:
            data += encoder.caught_up()
        if encoder.finished:
            self._ended = True
        elif type(events[-1]) in TERMINAL:
            self._ended = True
            data += self._rendering.closing
        if self._on_first_chunk is not None:
            self._note_first_chunk(events)
        if data:  # Private events put no heartbeat off.
            self._sent_at = self._time()  # `_sent`, without a call
            if self._preamble:
                data, self._preamble = self._preamble + data, b""
        return data

    def _sent(self, data: bytes) -> bytes:
        self._sent_at = self._time()
        if self._preamble:
            data, self._preamble = self._preamble + data, b""
        return data

    def _note_first_chunk(self, events: Sequence[Event]) -> None:
        if self._on_first_chunk is not None and any(type(event) is Delta and not event.is_private for event in events):
            self._on_first_chunk()
            self._on_first_chunk = None
