"""The deltas of a stream, on their way into the answer's log."""

from collections.abc import Callable, Sequence

from service.errors import UpstreamError
from service.events import Event
from service.telemetry import metrics
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.stream import UpstreamStream
from service.watch import Watch
from service.writer import Writer


class Intake:
    """Appends the deltas of one stream behind its first ones. `most_bytes` is the limit on the log, `time` a clock."""

    def __init__(
        self, writer: Writer, watch: Watch, counted: AnswerMetrics, most_bytes: int, time: Callable[[], float]
    ) -> None:
        self._writer = writer
        self._watch = watch
        self._metrics = counted
        self._most_bytes = most_bytes
        self._left: Sequence[Event] = ()
        self._time = time
        self.arrived_at = time()
        """When the last deltas came, by the clock."""

    async def run(self, stream: UpstreamStream) -> None:
        """Append the deltas until the stream ends, if possible in the turn of the event loop in which they come.

        Raises:
            UpstreamError: the stream broke off, or the log is too long.
            LeaseLostError, Unavailable: see `service.eventlog.base.Lease.append`.
        """
        while self._writer.size <= self._most_bytes:
            await stream.flow(self._push)
            if self._writer.size > self._most_bytes:
                break  # before a read, which would wait
            if self._left:
                deltas, self._left = self._left, ()
            elif deltas := await stream.read():
                self._count(deltas)
            else:
                return
            await self._writer.append(deltas)
        raise UpstreamError("answer_too_long")

    def _push(self, deltas: Sequence[Event]) -> bool:
        """Append the deltas, while `run` waits. Return False if it must go on."""
        self._count(deltas)
        if self._writer.append_now(deltas):
            return self._writer.size <= self._most_bytes
        self._left = deltas
        return False

    def _count(self, deltas: Sequence[Event]) -> None:
        now = self._time()
        self._metrics.chunks_arrived(now - self.arrived_at)
        self.arrived_at = now
        if self._watch.until is not None:
            metrics.chunks_unwatched(len(deltas))
