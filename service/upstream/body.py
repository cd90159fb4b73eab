"""A response's body: read and decoded, with a time limit on each wait."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from service.errors import UpstreamError
from service.events import Event, Run, Usage
from service.upstream.compression import Decompressed
from service.upstream.connection import BrokenConnectionError, Exchange
from service.upstream.endpoint import TimeOuts
from service.upstream.errors import broken_body

USAGE_SECONDS = 3.0
"""Time limit after the finish reason for the usage, which most servers send in a chunk of its own."""
FINISHED_SECONDS = 0.5
"""Time limit after the finish reason and the usage for `[DONE]` and the body's end. Some servers send neither."""


class Decoder(Protocol):
    """Turns a body's bytes into events. See `service.upstream.chunks.ChunkDecoder`."""

    keeps_halves: bool
    last_seq: int
    finish_reason: str | None
    usage: Usage | None
    usage_complete: bool
    done: bool
    failure: UpstreamError | None
    run_ended: bool
    has_tool_calls: bool

    @property
    def is_unreadable(self) -> bool:
        """Whether something came and nothing of it could be read."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """Return the events that the bytes complete."""

    def end(self) -> Sequence[Event]:
        """Return the events that the end of the body completes."""

    def finish(self) -> Sequence[Event]:
        """Return what was held back."""


class Joint(Protocol):
    """Leaves out of a body's deltas what the log has already, and numbers the others on from `last_seq`."""

    last_seq: int

    @property
    def is_anew(self) -> bool:
        """Whether the upstream began another answer."""

    @property
    def is_found(self) -> bool:
        """Whether the next deltas are new, each as it is."""

    def add(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the new events among these, as soon as they are known to be new."""

    def end(self) -> Sequence[Event]:
        """Return the events that were held back. None follows."""


class Body:
    """Reads deltas from one response.

    `begun` is set with the first delta, `ended` once the answer is complete.

    Time limits: `TimeOuts.first_chunk` until the first delta, then `TimeOuts.silence` for anything, a comment among
    others; after the finish reason, USAGE_SECONDS or FINISHED_SECONDS.
    """

    def __init__(self, exchange: Exchange | Decompressed, decoder: Decoder, time_outs: TimeOuts) -> None:
        self.decoder = decoder
        self.status = exchange.status
        self.begun = False
        self.ended = False
        self._finished = False
        self._has_usage = False
        self._push: Callable[[Sequence[Event]], bool] | None = None
        self.run: Run | None = None
        """The upstream's run of the answer, where it has one and it is new."""
        self.early: Sequence[Event] | None = None
        """What was read while the run was waited for: the first deltas; None if there are none yet."""
        self.joint: Joint | None = None
        """What the deltas still have to pass, where the body has again what is known."""
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._silence_seconds = time_outs.silence
        self._first_chunk_seconds = time_outs.first_chunk
        self._give_up_at = self._loop.time() + time_outs.first_chunk
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    async def flow(self, push: Callable[[Sequence[Event]], bool]) -> None:
        """Wait until `read` would return or raise, or until `push` returns False. Call it behind the first delta only.

        During the wait, `push` is called with the deltas, in the turn of the event loop in which they come.

        Raises:
            Exception: what `push` raises.
        """
        if self.decoder.failure is None and not self.decoder.done:
            self._push = push
            try:
                await self._exchange.flow(self._pushed)
            finally:
                self._push = None  # It may refer to this body.

    def _pushed(self, data: bytes) -> bool:
        decoder = self.decoder
        deltas = decoder.feed(data)
        if decoder.finish_reason is None:
            self._give_up_at = self._loop.time() + self._silence_seconds
        elif not decoder.done:
            self._hurry(deltas)
        goes_on = not deltas or self._push is None or self._push(deltas)
        return goes_on and decoder.failure is None and not decoder.done

    async def read(self) -> Sequence[Event]:  # noqa: C901, PLR0912 (once a read: no coroutine more)
        """Return the next deltas, at least one; an empty list once the answer is complete.

        Raises:
            UpstreamError: the stream timed out, was cut, ended early, or cannot be decoded.
        """
        decoder = self.decoder
        while True:
            if decoder.failure is not None:
                raise decoder.failure
            if decoder.done:
                return self._end()
            try:
                data = await self._exchange.read()
            except TimeoutError:
                if decoder.finish_reason is None:
                    raise self._silent() from None
                data = b""
            except (BrokenConnectionError, UpstreamError) as error:
                # Behind the finish reason nothing is missing, and what is held back is no half of anything.
                if decoder.finish_reason is None:
                    decoder.failure = error if isinstance(error, UpstreamError) else broken_body(error)
                data = b""
            if data:
                deltas = decoder.feed(data)
            elif decoder.finish_reason is not None:
                return self._end()
            elif decoder.failure is not None:
                deltas = decoder.finish()
            else:
                deltas = decoder.end()
            if decoder.finish_reason is not None:
                if not decoder.done:
                    self._hurry(deltas)
            elif deltas or self.begun:
                self._give_up_at = self._loop.time() + self._silence_seconds
            if deltas:
                self.begun = True
                return deltas

    def await_first(self) -> None:
        """Wait for the first delta, behind something that came before it."""
        self.begun = False
        self._give_up_at = self._loop.time() + self._first_chunk_seconds
        self._set_timer()

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and the connection is back in the pool."""
        self._stop_looking()
        if not self.ended:
            self._exchange.close()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> Sequence[Event]:
        # The model has finished. An improper close of the stream no longer matters.
        deltas = self.decoder.finish()
        if deltas:
            self.begun = True
        else:
            if self.decoder.is_unreadable:
                raise UpstreamError("upstream_malformed", "stream")
            self._stop_looking()
            self.ended = True
            self._exchange.leave()
        return deltas

    def _hurry(self, deltas: Sequence[Event]) -> None:
        """Limit the wait after the finish reason. Only deltas and the usage set the time anew, comments do not."""
        has_usage = self.decoder.usage is not None
        if deltas or not self._finished or has_usage is not self._has_usage:
            self._finished = True
            self._has_usage = has_usage
            self._give_up_at = self._loop.time() + (FINISHED_SECONDS if has_usage else USAGE_SECONDS)
            self._set_timer()

    def _silent(self) -> UpstreamError:
        if self.begun:
            return UpstreamError("upstream_timeout", "silence_timeout")
        return UpstreamError("upstream_timeout", "first_chunk_timeout")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Not later than `silence`, so that the first delta, behind which that is the limit, need not set it again.
        at = min(self._give_up_at, self._loop.time() + self._silence_seconds)
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        # One timer for the whole stream, set again if it fires too early, costs less than one for each chunk.
        if self._loop.time() < self._give_up_at:
            self._set_timer()
        else:
            self._timer = None
            self._exchange.expire()
