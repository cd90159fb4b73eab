"""Decode the events of another Folyam's answer into deltas. Pure: no I/O, no clock.

The stream is JSON lines (docs/protocol.md).
"""

from collections.abc import Sequence

from msgspec.structs import replace

from service.answer import Attached
from service.errors import UpstreamError
from service.events import Delta, Done, Event, Failed, Restart, Run, Stopped, Usage, decode_any
from service.upstream.known import Known
from service.upstream.refusals import refusal_of_folyam

LINE_BYTES = 1 << 20
"""Limit on a line. A merged delta is far shorter."""


class FolyamDecoder:
    """Decodes the bytes of a run, in any pieces, into events with the seqs after `last_seq`.

    A run that is followed again is read from its start, and what is known of it is left out. A restart of the upstream
    is passed on, with the run, which goes on. The attributes are `ChunkDecoder`'s; `run_ended` is set if the upstream
    has ended the run without an answer.
    """

    keeps_halves = True
    has_tool_calls = False
    is_unreadable = False

    def __init__(self, last_seq: int, run: Run, known: Attached | None = None) -> None:
        self.last_seq = last_seq
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.usage_complete = True
        self.done = False
        self.failure: UpstreamError | None = None
        self.run_ended = False
        self.run = run
        self._restarts = 0
        self._known_restarts = known.run.restarts if known else 0
        self._known = Known(known)
        self._tail = b""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that the bytes complete, up to the run's end or its `failure`."""
        events: list[Event] = []
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._line(line, events)
            if self.done or self.failure is not None:
                return events
        if len(self._tail) > LINE_BYTES:
            self.failure = UpstreamError("upstream_malformed", "event_length")
        return events

    def end(self) -> list[Event]:
        """Process the end of the body, which is a cut unless the run has ended."""
        if not self.done and self.failure is None:
            self.failure = UpstreamError("upstream_truncated")
        return []

    def finish(self) -> Sequence[Event]:
        """Return nothing: no part of an event is held back."""
        return []

    def _line(self, line: bytes, events: list[Event]) -> None:
        try:
            event = decode_any(line)
        except (ValueError, RecursionError):
            self.failure = UpstreamError("upstream_malformed", "event")
            return
        match event:
            case Delta():
                self._delta(event, events)
            case Restart(again=again):
                self._restart(events, again=again)
            case Done():
                self.finish_reason, self.usage = event.finish_reason, event.usage
                self.usage_complete = event.usage_complete is not False
                self.done = True
            case Stopped() | Failed():
                self.usage, self.usage_complete = event.usage or None, event.usage_complete is True
                refusal = refusal_of_folyam(event.code) if isinstance(event, Failed) else None
                self.failure = refusal or UpstreamError("upstream_error")
                self.run_ended = True

    def _delta(self, delta: Delta, events: list[Event]) -> None:
        if self._restarts < self._known_restarts:
            return
        self.has_tool_calls = self.has_tool_calls or delta.tool_call is not None
        if (rest := self._known.rest(delta, self.last_seq + 1)) is not None:
            self.last_seq += 1
            events.append(rest)

    def _restart(self, events: list[Event], *, again: bool) -> None:
        # Text that is told again is this answer's, too, and may differ from what was lost. But the run has no such
        # restart when it is read from its start again, and would count too few.
        self._restarts = max(self._restarts, self._known_restarts) if again else self._restarts + 1
        if again or self._restarts > self._known_restarts:
            self._known.forget()
            events.append(Restart(self.last_seq + 1))
            self.run = replace(self.run, restarts=self._restarts)
            self.last_seq += 2
            events.append(Delta(self.last_seq, run=self.run))
