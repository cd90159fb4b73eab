"""Answers that are held in a chosen state, with a real log and a scripted upstream.

Run as `python -m tests.stages <directory>`, it holds one answer in each state that has a producer, prints their ids and
waits to be killed.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog

from service.answer import AnswerState, Attached, Said
from service.errors import UpstreamError
from service.eventlog import EventLog, Lease, Retention
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Event, Run, Start, Usage, new_answer_id
from service.lifecycle import PRODUCED, STARTS, State
from service.producer import Limits, Producer
from service.question import to_request
from service.recovery import TAKEOVER, Mending, Policy, Recoverer
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.endpoint import Role
from service.upstream.stream import Upstream
from tests.waiting import until

MODEL = "test-model"
LIMITS = Limits(answer_seconds=60, answer_bytes=1 << 20, unwatched_seconds=60)


class ToldUpstream:
    """An upstream with one stream, which returns the given results in order."""

    status = 200
    finish_reason = "stop"
    usage: Usage | None = None
    has_all_usage = False
    untold_run: Run | None = None
    attached: Attached | None = None
    has_tool_calls = False
    is_anew = False
    run_ended = False
    endpoint: Role = "primary"

    def __init__(self) -> None:
        self._replies = asyncio.Queue[list[Delta] | Exception]()

    def stream(self, *_: Any, **__: Any) -> "ToldUpstream":  # noqa: ANN401 (they make no difference)
        return self

    def tell(self, reply: list[Delta] | Exception) -> None:
        self._replies.put_nowait(reply)

    async def read(self) -> list[Delta]:
        reply = await self._replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def flow(self, push: object) -> None: ...

    def close(self) -> None: ...


class ToldRecoverer(Recoverer):
    """Mends no break until it is told how, and then after `pause_seconds`."""

    def __init__(self, taken_over: Mending | None) -> None:
        super().__init__(Policy("continue", continues=True), self._nothing, taken_over=taken_over)
        self.mending: Mending | None = None
        self.pause_seconds = 60.0

    @staticmethod
    async def _nothing() -> AnswerState:
        return AnswerState()

    async def mend(
        self, error: UpstreamError, *, progress: bool, run_ended: bool = False, reached: bool = True
    ) -> Mending | None:
        del error, progress, run_ended, reached
        return self.mending

    def pause(self, error: UpstreamError) -> float:
        del error
        return self.pause_seconds


class HeldLease:
    """A lease whose `append` can be held, and whose next `append` can fail, also at its cancellation."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.held = False
        self.failure: Exception | None = None
        self.on_change: Callable[[], None] | None = None
        self.released = asyncio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the log's own has)
        return getattr(self.lease, name)

    def append_now(self, events: Sequence[Event]) -> bool:
        del events
        return False

    async def append(self, events: Sequence[Event]) -> None:
        try:
            if self.held:
                await self.released.wait()
        except asyncio.CancelledError:
            if self.failure is None:
                raise
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        await self.lease.append(events)


class Stage:
    """One answer, held in a state."""

    def __init__(self, lease: Lease, *, claimed: bool) -> None:
        self.lease = HeldLease(lease)
        self.upstream = ToldUpstream()
        self.answer_id = lease.answer_id
        taken_over = Mending("restart", TAKEOVER) if claimed else None
        self.recoverer = ToldRecoverer(taken_over)
        counted = AnswerMetrics.of(MODEL, [MODEL])
        counted.started()
        self.producer = Producer(
            cast("Lease", self.lease),
            to_request("words", model=MODEL),
            cast("Upstream", self.upstream),
            LIMITS,
            counted,
            self.recoverer,
            begun_at=asyncio.get_running_loop().time(),
            taken_over=taken_over,
        )
        self.task = self.producer.task = asyncio.create_task(self.producer.run())

    @property
    def state(self) -> State:
        return self.producer._state

    async def come_to(self, state: State) -> None:
        """Bring the answer to the state and hold it there."""
        if state in STARTS:
            return
        await until(lambda: self.state is State.WAITING)
        match state:
            case State.STREAMING:
                self.upstream.tell([Delta(self.lease.last_seq + 1, text="w1 ")])
            case State.BROKEN:
                self.recoverer.mending = self.recoverer.mending or Mending("continue", "cut", Said("w1 "))
                self.upstream.tell([Delta(self.lease.last_seq + 1, text="w1 ")])
                self.upstream.tell(UpstreamError("upstream_cut"))
            case State.LEAVING:
                self.producer.hand_over()
                return  # It goes on with the loop's next turn.
            case State.STOPPING:
                self.lease.held = True
                self.producer.stop("user")
            case State.FINISHING:
                self.lease.held = True
                self.upstream.tell([])
            case State.FAILING:
                self.lease.held = True
                self.upstream.tell(UpstreamError("upstream_cut"))
        await until(lambda: self.state is state)

    async def end(self) -> None:
        """Wait until the producer has ended."""
        self.lease.released.set()
        await asyncio.wait_for(self.task, 10)


async def staged(log: EventLog, state: State) -> Stage:
    """Return an answer that is held in the state."""
    lease: Lease | None = await log.create(Start.asking(new_answer_id(), to_request("words", model=MODEL), at=0))
    assert lease is not None
    if state is State.CLAIMED:
        lease.release()
        lease = await log.claim(lease.answer_id)
        assert lease is not None
    stage = Stage(lease, claimed=state is State.CLAIMED)
    await stage.come_to(state)
    assert stage.state is state
    return stage


async def _hold_all(directory: str) -> None:
    log = FileEventLog(directory, Retention())
    # Those go on with the loop's next turn, so they come last, and the loop then stands still.
    brief = (State.BEGUN, State.CLAIMED, State.LEAVING)
    stages = [await staged(log, state) for state in PRODUCED if state not in brief]
    waiting = await staged(log, State.WAITING)
    for state in (State.BEGUN, State.CLAIMED):
        stages.append(await staged(log, state))  # noqa: PERF401 (in this order)
    waiting.producer.hand_over()
    stages.append(waiting)
    sys.stdout.write(json.dumps({stage.state: stage.answer_id for stage in stages}) + "\n")
    sys.stdout.flush()
    time.sleep(60)  # noqa: ASYNC251 (that is the point)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # not among the ids
    asyncio.run(_hold_all(sys.argv[1]))
