"""The producer: the one task that reads the upstream into an answer's log, until a terminal event is there.

It outlives the request that began it. It ends with the upstream's answer, by a stop from any worker, after a time
without followers, or with its worker. In the last case another worker carries the answer on. `service.lifecycle` has
the states that it goes through.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from service.deadline import Deadline
from service.errors import FolyamError, Unavailable, UpstreamError
from service.eventlog import Lease, LeaseLostError
from service.events import (
    NO_RUN,
    Delta,
    Done,
    Event,
    Failed,
    Restart,
    Run,
    Seam,
    Stopped,
    StoppedBy,
    Terminal,
    Timing,
    Usage,
)
from service.finish_reasons import Meaning, meaning_of
from service.intake import Intake
from service.lifecycle import STARTS, WORKING, Cause, State, accepts, move
from service.recovery import How, Mending, Recoverer
from service.report import Report
from service.request import Request
from service.telemetry import metrics
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.stream import Upstream, UpstreamStream
from service.usage import SpentUsage
from service.watch import Watch
from service.writer import Writer

OVERDUE_GRACE_SECONDS = 15.0
"""Grace period after an answer's timeout, for a busy machine. An answer that still runs then counts as stuck."""

_MENDED: dict[How, str] = {"attach": "reattached", "continue": "continued", "restart": "restarted"}

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one answer."""

    answer_seconds: float
    answer_bytes: int
    unwatched_seconds: float


class Producer:
    """One answer's producer. `task` runs it."""

    task: asyncio.Task[None]

    def __init__(
        self,
        lease: Lease,
        request: Request,
        upstream: Upstream,
        limits: Limits,
        counted: AnswerMetrics,
        recoverer: Recoverer,
        *,
        begun_at: float,
        taken_over: Mending | None = None,
    ) -> None:
        self.answer_id = lease.answer_id
        self.begun_at = begun_at
        self._state = State.ORPHANED if taken_over else State.NEW
        self._move(Cause.CLAIM if taken_over else Cause.ASK)
        self._lease = lease
        self._request = request
        self._upstream = upstream
        self._limits = limits
        self._metrics = counted
        self._report = Report(
            counted, self.answer_id, request, begun_at=begun_at, taken_over=taken_over.how if taken_over else None
        )
        self._recoverer = recoverer
        self._taken_over = taken_over
        self._has_grown = False
        self._had_begun = False
        self._usage = SpentUsage(taken_over)
        self._run = taken_over.run if taken_over else None
        self._left_run: Run | None = None  # not followed again, and not stopped yet
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[UpstreamError | None] | None = self._loop.create_future()
        self._stopped_by: StoppedBy = "user"
        self._started: asyncio.Task[None] | None = None
        is_background = request.via is not None and request.via.background
        self._watch = Watch(lease, None if is_background else limits.unwatched_seconds)
        self._writer = Writer(lease, recoverer.state, self.look)
        self._asking: asyncio.Task[None] | None = None
        lease.on_change = self.look

    def _move(self, cause: Cause) -> None:
        self._state = move(self._state, cause)

    async def status(self, seconds: float) -> UpstreamError | None:
        """Wait up to `seconds` for the upstream's status. Return the upstream's failure, if it is known by then."""
        # Not by `asyncio.wait_for`, which would take four times as long.
        timer = self._loop.call_later(seconds, self._status_came)
        status = self._status
        if status is None:
            return None
        try:
            return await status
        finally:
            timer.cancel()
            self._status = None  # Raised, the error refers to frames that refer to this producer: a cycle.

    def first_chunk_sent(self) -> None:
        """Note that the client that asked has been sent the first chunk."""
        self._report.first_chunk_sent()

    def stop(self, by: StoppedBy) -> None:
        """Stop the answer, unless it is ending."""
        if accepts(self._state, Cause.STOP):
            self._move(Cause.STOP)
            self._stopped_by = by
            self._report.stop(by)
            self._interrupt()

    def hand_over(self) -> None:
        """Leave the answer to another worker, unless it is ending."""
        if accepts(self._state, Cause.LEAVE):
            self._move(Cause.LEAVE)
            self._report.leave()
            self._interrupt()

    def _interrupt(self) -> None:
        # A task that is cancelled before its first step takes none, and could not log the end.
        if self._started is not None:
            self._started.cancel()

    def look(self) -> None:
        """React to news of other workers.

        Stop if the lease is lost, if a client asked for it on another worker, or if the answer has had no follower for
        too long. Give the text anew if a reader has lost its place.
        """
        if not accepts(self._state, Cause.STOP):
            return
        try:
            if self._lease.lost():
                self._interrupt()
            elif by := self._lease.stop_requested():
                self.stop(by)
            elif self._watch.is_over():
                self._ask_for_followers()
            elif self._lease.anew_requested() and self._state in WORKING:
                self._writer.give_anew()
        except Unavailable:
            pass  # A broken disk, or no descriptor left: the next look may tell.

    def _ask_for_followers(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._stop_if_unwatched())

    async def _stop_if_unwatched(self) -> None:
        # What is known of other workers' followers may be old.
        try:
            if not await self._lease.still_unwatched():
                self._watch.end()
            elif self._watch.is_over():
                self.stop("unwatched")
        except Unavailable:
            pass  # The next look asks again.

    def is_overdue(self) -> bool:
        """Return whether it still runs although its timeout should have ended it."""
        return self._loop.time() > self.begun_at + self._limits.answer_seconds + OVERDUE_GRACE_SECONDS

    async def run(self) -> None:
        """Produce the answer, and log how it ends."""
        self._started = asyncio.current_task()
        try:
            terminal = await self._outcome()
            if terminal is None:
                self._leave()
            else:
                await self._end(terminal)
        except LeaseLostError:
            self._move(Cause.LOSE)
            self._report.lose(self._lease.last_seq)
        finally:
            self._lease.release()
            self._status_came()
            if self._asking is not None:
                self._asking.cancel()
            await self._writer.aclose()
            # They refer back. A body of many megabytes would stay until the garbage collector runs.
            self._lease.on_change = None
            del self._writer

    async def _outcome(self) -> Terminal | None:
        """Return the terminal event; None if the answer is left to another worker.

        A stop or a hand-over takes precedence over the interrupted work's error.

        Raises:
            LeaseLostError: the answer is another worker's.
        """
        failed: Failed | None = None
        try:
            self._report.begin()
            if self._state in STARTS:  # It was not interrupted before its first step.
                return await self._produce()
        except asyncio.CancelledError:
            if self._lease.lost() and accepts(self._state, Cause.LOSE):
                raise LeaseLostError from None
        except LeaseLostError:
            raise
        except FolyamError as error:
            failed = self._failed(error)
        except Exception:  # A defect. Followers must see an end all the same.
            _logger.exception("answer_broke", answer=self.answer_id)
            failed = self._failed(FolyamError("internal"))
        if self._state is State.STOPPING:
            self._report.stop_took_effect()
            return Stopped(self._lease.last_seq + 1, self._stopped_by, *self._spent())
        if self._state is not State.LEAVING:
            # If nothing failed, the event loop is closing, and cancels every task.
            self._move(Cause.FAIL if failed else Cause.LEAVE)
        return failed if self._state is State.FAILING else None

    async def _produce(self) -> Terminal:
        if self._taken_over is not None and self._taken_over.how == "fail":
            self._move(Cause.GIVE_UP)
            return self._failed(FolyamError("interrupted"))
        try:
            with Deadline(self.begun_at + self._limits.answer_seconds):
                stream = await self._ask()
        except TimeoutError:
            raise UpstreamError("answer_timeout") from None
        reason = stream.finish_reason or ""
        if self._state is State.WAITING and not self._had_begun and not stream.has_tool_calls:
            self._report.count_as("empty")
        elif meaning_of(reason) is Meaning.UNKNOWN:
            self._report.count_as("unknown")
        self._move(Cause.FINISH)
        return self._done(reason)

    def _done(self, finish_reason: str) -> Done:
        usage, is_complete, timing = self._spent()
        lacks_some = usage is not None and not is_complete
        return Done(self._lease.last_seq + 1, finish_reason, usage, timing, False if lacks_some else UNSET)

    def _spent(self) -> tuple[Usage | None, bool, Timing]:
        """Return the usage as far as it is known, whether that is all of it, and the timing so far."""
        return self._usage.total, self._usage.is_complete, self._report.timing()

    async def _ask(self) -> UpstreamStream:
        """Ask the upstream, again after each break that can be mended. Return the stream that came to its end.

        Raises:
            UpstreamError: the upstream failed; what broke the answer off, where it could not be mended.
        """
        mending = self._taken_over
        broken_by: UpstreamError | None = None
        lost_run = False  # whether that is only why a dead worker's run could not be followed
        while True:
            await self._begin(mending)
            stream = self._stream(mending)
            try:
                await self._log(stream, mending)
            except UpstreamError as error:
                error.upstream_status = error.upstream_status or stream.status
                stream.close()
                if (mending is None and not self._has_grown) or error.code == "answer_too_long":
                    raise
                if _is_refused_in_the_middle(error, stream, mending):
                    raise
                grown, self._has_grown = self._has_grown, False
                if grown or broken_by is None or (lost_run and not _follows(mending)):
                    broken_by, lost_run = error, not grown and _follows(mending)
                mending = await self._recoverer.mend(
                    error, progress=grown, run_ended=stream.run_ended, reached=stream.status is not None
                )
                if mending is None:
                    raise broken_by from broken_by.__cause__  # The log names its exception.
                self._move(Cause.BREAK)
                self._report.broke(mending.why, error.reason, how=mending.how)
                await asyncio.sleep(self._recoverer.pause(error))
            else:
                self._had_begun = mending is not None and mending.has_words
                return stream
            finally:
                self._usage.add(stream)
                stream.close()

    async def _begin(self, mending: Mending | None) -> None:
        """Move on to the next request. Take back what was said if it is to begin anew."""
        if mending is not None and mending.how != "attach":
            self._left_run, self._run = self._run or self._left_run, None
            if mending.how == "continue" and self._left_run not in (None, NO_RUN):
                await self._log_run(NO_RUN)  # Else what follows would be taken for that run's.
        if mending is None:
            self._move(Cause.STEP)
            return
        seq = self._lease.last_seq + 1
        events: list[Event] = []
        if mending.how == "restart" and mending.discards:
            events.append(Restart(seq))
            if self._left_run not in (None, NO_RUN):
                events.append(Delta(seq + 1, run=NO_RUN))  # Else the run might have begun anew by itself.
        await self._writer.append([*events, Delta(seq + len(events), attempt=self._recoverer.made)])
        if events:
            self._stop_left_run()
        self._move(Cause.CONTINUE if mending.has_seam else Cause.RESTART)

    def _stream(self, mending: Mending | None) -> UpstreamStream:
        said = None if mending is None else mending.said
        return self._upstream.stream(
            self._request,
            # A seam, or a restart, comes before the first delta of a continuation.
            last_seq=self._lease.last_seq + (mending is not None and mending.has_seam),
            said=said,
            attached=None if mending is None else mending.attached,
            attempt=self._recoverer.attempt,
            passes_breaker=mending is not None,
            may_break=self._recoverer.may_mend,
            most_bytes=self._limits.answer_bytes - self._lease.size,
            on_status=self._status_came,
            on_run=self._log_run,
        )

    async def _log_run(self, run: Run) -> Run:
        """Log the run. Return it as it is in the log."""
        if not self._usage.has_all_told:
            run = replace(run, tells_all=False)
        await self._writer.append([Delta(self._lease.last_seq + 1, run=run)])
        self._run = run
        self._stop_left_run()
        return run

    def _stop_left_run(self) -> None:
        # Not before something is logged: another worker that has the answer would follow the run.
        if self._left_run is not None:
            self._upstream.stop(self._left_run)
            self._left_run = None

    async def _log(self, stream: UpstreamStream, mending: Mending | None) -> None:
        """Write the stream's deltas into the log, until its end."""
        asked_at = self._loop.time()
        deltas = await stream.read()
        if not deltas:
            return
        intake = Intake(self._writer, self._watch, self._metrics, self._limits.answer_bytes, self._loop.time)
        first_at = intake.arrived_at
        await self._log_first(deltas, stream, mending)
        self._report.answered(stream.endpoint)
        self._report.first_chunk(first_at, asked_at)
        if self._watch.until is not None:
            metrics.chunks_unwatched(len(deltas))
        await intake.run(stream)
        if stream.usage is not None and (mending is None or mending.attached is None):  # else it is the whole run's
            shows_reasoning = isinstance(said := deltas[0], Delta) and said.reasoning is not None
            self._report.generated(stream.usage, intake.arrived_at - first_at, shows_reasoning=shows_reasoning)

    async def _log_first(self, deltas: Sequence[Event], stream: UpstreamStream, mending: Mending | None) -> None:
        events: Sequence[Event] = deltas
        if mending is not None:
            how = "restarted" if stream.is_anew else _mended(mending)
            if mending.has_seam:
                events = [self._seam(how, mending), *deltas]
            self._report.mended(how)
        size = self._lease.size  # and not `last_seq`: renewing the claim raises that, and text given anew
        try:
            await self._writer.append(events)
        finally:
            if self._lease.size > size:  # Also where this worker leaves: the append has completed meanwhile.
                self._lease.grew()
        self._stop_left_run()
        self._move(Cause.CHUNK)
        self._has_grown = True

    def _seam(self, how: str, mending: Mending) -> Event:
        seq = self._lease.last_seq + 1
        if how != "restarted":
            return Delta(seq, seam=Seam(how, mending.why))
        self._move(Cause.RESTART)
        return Restart(seq)

    def _status_came(self) -> None:
        if self._status is not None and not self._status.done():
            self._status.set_result(None)

    def _failed(self, error: FolyamError) -> Failed:
        self._report.fail(error)
        _forget_frames(error)
        if isinstance(error, UpstreamError):
            self._metrics.upstream_failed(error.reason)
            if self._status is not None and not self._status.done():
                self._status.set_result(error)
        return Failed(self._lease.last_seq + 1, error.code, error.message, error.retryable, *self._spent())

    async def _end(self, terminal: Terminal) -> None:
        try:
            await self._writer.end(terminal)
            self._move(Cause.LOGGED)
        except LeaseLostError:
            raise
        except FolyamError as error:
            # The log cannot take the end either. Released, the answer is an orphan, and ends when the log works again.
            self._move(Cause.NOT_LOGGED)
            self._report.not_logged(error.code, self._lease.last_seq)
        else:
            self._report.end(terminal, self._lease.size)
            # Not before: another worker that has the answer, or will have it, follows the run.
            self._stop_left_run()
            if self._run is not None and not isinstance(terminal, Done):
                self._upstream.stop(self._run)
        self._watch.end()

    def _leave(self) -> None:
        self._move(Cause.HAND_OVER)
        self._lease.hand_over()
        self._report.hand_over(self._lease.last_seq)


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of the error and of its causes, whose frames refer to the producer and the stream's parts.

    These parts keep the error that they raised: a cycle, in which a body of many megabytes would stay until the garbage
    collector runs.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


def _is_refused_in_the_middle(error: UpstreamError, stream: UpstreamStream, mending: Mending | None) -> bool:
    """Return whether a run that is followed again says the refusal that it would have said without the break."""
    return _follows(mending) and stream.status is not None and not error.retryable


def _follows(mending: Mending | None) -> bool:
    return mending is not None and mending.how == "attach"


def _mended(mending: Mending) -> str:
    """Return what a seam is called that was made so."""
    known = mending.attached
    if known is not None and known.said is not None and not (any(known.characters.values()) or known.tool_calls):
        return _MENDED["continue"]  # A continuation broke off before its first delta, whose seam this is.
    return _MENDED[mending.how]
