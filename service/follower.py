"""One response that follows an answer: its history from an offset, then its live tail, until the terminal event."""

import asyncio
from collections.abc import Callable, Sequence

from service.eventlog import DamagedLogError, Reader
from service.events import TERMINAL, Delta, Event, merge_deltas
from service.renderings import Rendering
from service.telemetry import metrics

LOOK_SECONDS = 1.0
"""How often a follower that hears nothing looks whether the answer still has a producer."""


class CutShortError(Exception):
    """This worker has left, or the log was damaged. The response must not look as if it were whole."""

    def __init__(self, *, damaged: bool = False) -> None:
        super().__init__()
        self.damaged = damaged


class Follower:
    """Reads a log and renders what it reads. It holds an offset and never a queue: a slow reader costs no memory."""

    def __init__(
        self,
        reader: Reader,
        rendering: Rendering,
        *,
        heartbeat_seconds: float,
        on_orphan: Callable[[str], None],
        has_left: Callable[[], bool],
        on_first_chunk: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._reader = reader
        self._rendering = rendering
        self._heartbeat_seconds = heartbeat_seconds
        self._on_orphan = on_orphan
        self._has_left = has_left
        self._on_first_chunk = on_first_chunk
        self._on_close = on_close
        self._time = asyncio.get_running_loop().time
        self._heard_at = self._time()
        self._preamble = rendering.preamble
        self._begun = False
        self._ended = False
        self._closed = False
        metrics.follower_came()

    async def next(self) -> bytes | None:  # noqa: C901 (once a chunk: a coroutine more takes a thousand instructions)
        """Return the next bytes to send, waiting for them; None after the terminal event.

        They are events or, where there were none for `heartbeat_seconds`, a sign of life. Where the first event is yet
        to come, the rendering's opening comes first and at once, so that the response can begin.

        Raises:
            CutShortError: this worker has left before the terminal event, or the log was damaged.
            Unavailable: the log cannot be read.
        """
        if self._ended:
            return None
        waited = False
        while True:
            try:
                events = await self._reader.read()
            except DamagedLogError:
                raise CutShortError(damaged=True) from None
            if events:
                data = self._render(events)
                if data or not self._begun or self._ended:
                    self._begun = True
                    return data
                continue
            if self._has_left():
                raise CutShortError
            if not self._begun:
                self._begun = True
                return self._rendering.opening
            if waited and self._reader.orphaned():
                self._on_orphan(self._reader.answer_id)
            now = self._time()
            left = self._heard_at + self._heartbeat_seconds - now
            if left <= 0:
                self._heard_at = now
                if self._rendering.heartbeat:
                    return self._rendering.heartbeat
                left = self._heartbeat_seconds
            await self._reader.wait(min(left, LOOK_SECONDS))
            waited = True

    def close(self) -> None:
        """Stop following. May be called twice."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            metrics.follower_left()
            if self._on_close is not None:
                self._on_close()

    def _render(self, events: Sequence[Event]) -> bytes:
        self._heard_at = self._time()
        self._ended = type(events[-1]) in TERMINAL
        data = self._rendering.render(self._reader.answer_id, merge_deltas(events))
        if self._on_first_chunk is not None and any(type(event) is Delta for event in events):
            self._on_first_chunk()
            self._on_first_chunk = None
        if self._preamble:
            data, self._preamble = self._preamble + data, b""
        return data
