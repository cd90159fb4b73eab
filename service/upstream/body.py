"""A response's body: read and decoded, with a time limit on each wait."""

import asyncio

from service.errors import UpstreamError
from service.events import Delta
from service.upstream.chunks import ChunkDecoder
from service.upstream.connection import BrokenConnectionError, Exchange
from service.upstream.endpoint import TimeOuts
from service.upstream.errors import broken_body


class Body:
    """Reads deltas from one response.

    `begun` is set with the first delta, `ended` once the answer is complete.

    Time limits: `TimeOuts.first_chunk` until the first delta, `TimeOuts.silence` between two.
    """

    def __init__(self, exchange: Exchange, decoder: ChunkDecoder, time_outs: TimeOuts) -> None:
        self.decoder = decoder
        self.status = exchange.status
        self.begun = False
        self.ended = False
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._silence_seconds = time_outs.silence
        self._give_up_at = self._loop.time() + time_outs.first_chunk
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    async def read(self) -> list[Delta]:  # noqa: C901 (once a chunk: a coroutine more takes a thousand instructions)
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
            except BrokenConnectionError as error:
                decoder.failure = broken_body(error)
                data = b""
            if data:
                deltas = decoder.feed(data)
            elif decoder.finish_reason is not None:
                return self._end()
            elif decoder.failure is not None:
                deltas = decoder.finish()
            else:
                deltas = decoder.end()
            if deltas:
                self._give_up_at = self._loop.time() + self._silence_seconds
                if not self.begun:
                    self.begun = True
                    self._set_timer()  # `first_chunk` may be longer than `silence`.
                return deltas

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and the connection is back in the pool."""
        self._stop_looking()
        if not self.ended:
            self._exchange.close()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> list[Delta]:
        # The model has finished. An improper close of the stream no longer matters.
        deltas = self.decoder.finish()
        if deltas:
            self.begun = True
        else:
            # Some servers never send a finish_reason. `[DONE]` after a text is also an end.
            if self.decoder.finish_reason is None and not (self.decoder.done and self.begun):
                raise UpstreamError("upstream_truncated")
            self._stop_looking()
            self.ended = True
            self._exchange.leave()
        return deltas

    def _silent(self) -> UpstreamError:
        if self.begun:
            return UpstreamError("upstream_timeout", "silence_timeout")
        return UpstreamError("upstream_timeout", "first_chunk_timeout")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._give_up_at, self._look)

    def _look(self) -> None:
        # One timer for the whole stream, set again if it fires too early, costs less than one for each chunk.
        if self._loop.time() < self._give_up_at:
            self._set_timer()
        else:
            self._timer = None
            self._exchange.expire()
