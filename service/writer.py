"""Append one producer's events to its log: one append at a time, numbered on from the log's last number.

The upstream's decoders number their deltas by themselves, from `Lease.last_seq` on. Once text has been given anew, the
log's last number is another one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec.structs import replace

from service.answer import AnswerState
from service.errors import FolyamError
from service.eventlog import Lease, LeaseLostError
from service.events import Event, Restart, Terminal, merge_deltas
from service.telemetry import metrics

_logger = structlog.get_logger()


class Writer:
    """One producer's way to its log. `state` folds the log, `on_loss` is called if giving text anew loses the lease."""

    def __init__(self, lease: Lease, state: Callable[[], Awaitable[AnswerState]], on_loss: Callable[[], None]) -> None:
        self._lease = lease
        self._state = state
        self._on_loss = on_loss
        self._lock = asyncio.Lock()
        self._giving: asyncio.Task[None] | None = None
        self._has_ended = False
        self._time = asyncio.get_running_loop().time

    @property
    def size(self) -> int:
        """See `service.eventlog.base.Lease.size`."""
        return self._lease.size

    async def append(self, events: Sequence[Event]) -> None:
        """See `service.eventlog.base.Lease.append`. A cancelled caller may not have begun to append.

        Raises:
            LeaseLostError, Unavailable: as there.
        """
        async with self._lock:
            begun_at = self._time()
            await self._lease.append(_numbered(events, self._lease.last_seq))
            metrics.append_took(self._time() - begun_at)

    def append_now(self, events: Sequence[Event]) -> bool:
        """See `service.eventlog.base.Lease.append_now`.

        Raises:
            LeaseLostError, Unavailable: as there.
        """
        if self._giving is not None or events[0].seq != self._lease.last_seq + 1:
            return False
        return self._lease.append_now(events)

    async def end(self, terminal: Terminal) -> None:
        """Append the terminal event. No text is given anew from here on.

        Raises:
            LeaseLostError, Unavailable: see `append`.
        """
        async with self._lock:
            self._has_ended = True
            await self._lease.append(_numbered([terminal], self._lease.last_seq))

    def give_anew(self) -> None:
        """Begin to give the text so far anew, unless that is under way or the answer has ended. Returns at once."""
        if self._giving is None and not self._has_ended:
            self._giving = asyncio.create_task(self._give_anew())
            self._giving.add_done_callback(self._gave)

    async def aclose(self) -> None:
        """Stop giving text anew."""
        self._has_ended = True
        if self._giving is not None:
            self._giving.cancel()
            await asyncio.wait([self._giving])

    async def _give_anew(self) -> None:
        async with self._lock:
            if self._has_ended:
                return
            try:
                await self._lease.renew()
                state = await self._state()
                if state.start is None:
                    return  # The log is damaged. What it has is not the text so far.
                said = merge_deltas(state.deltas) if state.deltas else ()
                again = _numbered([Restart(0, again=True), *said], self._lease.last_seq)
                await self._lease.append(again, anew=True)
            except LeaseLostError:
                self._on_loss()
            except FolyamError as error:
                # It stays requested, so the producer begins again.
                _logger.warning("text_not_given_anew", answer=self._lease.answer_id, code=error.code)
            else:
                metrics.text_given_anew()
                _logger.info("text_given_anew", answer=self._lease.answer_id)

    def _gave(self, _: object) -> None:
        self._giving = None


def _numbered(events: Sequence[Event], last_seq: int) -> Sequence[Event]:
    """Return the events with the numbers after `last_seq`."""
    if events[0].seq == last_seq + 1 and events[-1].seq == last_seq + len(events):
        return events  # A seam may have the right number, and the deltas behind it those of before.
    return [replace(event, seq=seq) for seq, event in enumerate(events, last_seq + 1)]
