"""An answer's states: the tables, the page generated from them, and a test for each transition."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service import lifecycle
from service.errors import Unavailable, UnknownAnswer, UpstreamError
from service.eventlog import LeaseLostError, Retention
from service.eventlog.files.log import FileEventLog
from service.events import Attempt, Delta, Done, Failed, Restart, Start, Stopped, Terminal, Timing, new_answer_id
from service.lifecycle import (
    ANSWER,
    CAUSES,
    ENDED,
    ENDING,
    PRODUCED,
    STATES,
    WATCH,
    WORKING,
    Cause,
    State,
    UndeclaredTransitionError,
    accepts,
    move,
)
from service.recovery import Mending
from service.telemetry import tracing
from tests import test_breaks, test_producer
from tests.stages import Stage, staged
from tests.waiting import until
from tests.walking import WALKERS, walked, walks, walks_from
from tests.working import without_figures

ROOT = Path(__file__).parents[1]
ENDS: dict[State, Terminal] = {
    State.DONE: Done(2, "stop", None, Timing(None, 0.0)),
    State.FAILED: Failed(2, "upstream_cut", "Cut.", retryable=True),
    State.STOPPED: Stopped(2, "user"),
}


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[FileEventLog]:
    log = FileEventLog(str(tmp_path), Retention())
    yield log
    await log.aclose()


# The tables


def test_the_page_is_what_the_tables_say() -> None:
    text = (ROOT / "docs/lifecycle.md").read_text(encoding="utf-8")
    [written] = re.findall(r"<!-- lifecycle: begin -->\n(.*?)\n<!-- lifecycle: end -->", text, re.DOTALL)
    assert written == lifecycle.page(), "python -m service.lifecycle writes it"


def test_the_pages_part_can_be_printed() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "service.lifecycle"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert printed.stdout == lifecycle.page() + "\n"


def test_each_transition_is_declared_once_and_each_state_and_cause_has_a_meaning() -> None:
    table = [*ANSWER, *WATCH]
    steps = [(row.source, row.cause) for row in table]
    assert len(steps) == len(set(steps))
    assert {state for row in table for state in (row.source, row.target)} == set(State)
    assert set(STATES) == set(State) - {State.NEW}
    assert {row.cause for row in table} == set(Cause) == set(CAUSES)


def test_each_transition_is_walked_by_a_test() -> None:
    # Their imports fill the registry, as this module's does.
    assert test_producer.__name__ != test_breaks.__name__
    table = {(row.source, row.cause) for row in (*ANSWER, *WATCH)}
    assert table - set(WALKERS) == set(), "no test walks these"
    assert set(WALKERS) - table == set(), "these are walked, and not in the table"


async def test_a_test_that_does_not_walk_what_it_declares_fails() -> None:
    async def idle() -> None: ...

    with pytest.raises(AssertionError, match="not walked"):
        await walks((State.NEW, Cause.ASK))(idle)()


def test_a_transition_that_is_not_in_the_tables_raises() -> None:
    targets = {(row.source, row.cause): row.target for row in (*ANSWER, *WATCH)}
    for step in itertools.product(State, Cause):
        assert accepts(*step) == (step in targets)
        if step in targets:
            assert move(*step) is targets[step]
        else:
            with pytest.raises(UndeclaredTransitionError):
                move(*step)


async def test_a_producer_that_makes_an_undeclared_move_fails_its_answer_and_logs_why(log: FileEventLog) -> None:
    stage = await staged(log, State.STREAMING)
    with capture_logs() as lines:
        stage.producer._state = State.BEGUN  # from where nothing can finish
        stage.upstream.tell([])
        await stage.end()
    end = await log.last(stage.answer_id)
    assert isinstance(end, Failed)
    assert end.code == "internal"
    assert [line for line in lines if line["event"] == "answer_broke" and line["exc_info"]]


# Interruptions


@walks_from((*WORKING, State.LEAVING), Cause.STOP)
async def test_a_stop_is_the_end_in_every_state_of_a_working_producer(log: FileEventLog, state: State) -> None:
    stage = await staged(log, state)
    stage.producer.stop("user")
    stage.producer.hand_over()  # too late
    await stage.end()
    end = await log.last(stage.answer_id)
    assert isinstance(end, Stopped)
    assert end.by == "user"


@walks_from(WORKING, Cause.LEAVE)
async def test_a_worker_that_leaves_leaves_orphans_in_every_state(log: FileEventLog, state: State) -> None:
    stage = await staged(log, state)
    stage.producer.hand_over()
    stage.producer.hand_over()  # again
    await stage.end()
    assert stage.state is State.ORPHANED
    assert await is_orphan(log, stage.answer_id)


@pytest.mark.parametrize("state", ENDING)
async def test_nothing_interrupts_an_answer_that_is_ending(log: FileEventLog, state: State) -> None:
    stage = await staged(log, state)
    stage.producer.stop("unwatched")
    stage.producer.hand_over()
    stage.producer.look()
    await stage.end()
    end = await log.last(stage.answer_id)
    assert isinstance(end, Terminal)
    assert stage.state in ENDED
    assert not (isinstance(end, Stopped) and end.by == "unwatched")


@pytest.mark.parametrize("cause", [Cause.STOP, Cause.LEAVE])
async def test_an_interruption_in_the_middle_of_a_write_is_obeyed(log: FileEventLog, cause: Cause) -> None:
    stage = await staged(log, State.WAITING)
    stage.lease.held = True
    stage.upstream.tell([Delta(2, text="w1 ")])
    await until(stage.upstream._replies.empty)
    if cause is Cause.STOP:
        stage.producer.stop("user")
        await stage.end()
        assert without_figures(await log.last(stage.answer_id)) == Stopped(2, "user")
    else:
        stage.producer.hand_over()
        await stage.end()
        assert (await log.last(stage.answer_id)).seq == 1
        assert await is_orphan(log, stage.answer_id)


# Failures


class BrokenTracer:
    def start_span(self, *_: object) -> tracing.Span:
        raise RuntimeError("some words")


@walks_from(WORKING, Cause.FAIL)
async def test_a_failure_in_any_state_is_the_answers_end(
    log: FileEventLog, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await (staged_restarting(log) if state is State.BROKEN else staged(log, state))
    if state is State.BEGUN:
        monkeypatch.setattr(tracing, "_tracer", BrokenTracer())
    elif state in (State.CLAIMED, State.BROKEN):
        stage.lease.failure = Unavailable("log_full")
    else:
        stage.upstream.tell(UpstreamError("upstream_cut"))
    await stage.end()
    end = await log.last(stage.answer_id)
    assert isinstance(end, Failed)
    assert end.code == {
        State.BEGUN: "internal",
        State.CLAIMED: "log_full",
        State.BROKEN: "log_full",
    }.get(state, "upstream_cut")


async def staged_restarting(log: FileEventLog) -> Stage:
    """An answer that is going to begin anew after a break."""
    stage = await staged(log, State.STREAMING)
    stage.recoverer.mending = Mending("restart", "cut")
    stage.recoverer.pause_seconds = 0.01
    stage.upstream.tell(UpstreamError("upstream_cut"))
    return stage


@walks_from(ENDING, Cause.NOT_LOGGED)
async def test_an_answer_whose_end_the_log_does_not_take_is_an_orphan_and_not_counted_as_ended(
    log: FileEventLog, state: State
) -> None:
    stage = await staged(log, state)
    finished, flying = total("folyam_streams_finished_total"), total("folyam_streams_in_flight")
    stage.lease.failure = Unavailable("log_full")
    with capture_logs() as lines:
        await stage.end()
    assert stage.state is State.ORPHANED
    assert await is_orphan(log, stage.answer_id)
    assert [(line["event"], line["code"]) for line in lines] == [("end_not_logged", "log_full")]
    assert total("folyam_streams_finished_total") == finished
    assert total("folyam_streams_in_flight") == flying - 1


@walks_from([state for state in PRODUCED if state is not State.BEGUN], Cause.LOSE)
async def test_a_producer_that_has_lost_its_lease_neither_counts_nor_tells_an_end(
    log: FileEventLog, state: State
) -> None:
    stage = await lost(log, state)
    stage.producer.look()  # It has no follower, which is noted for the next producer,
    unwatched = log.path(stage.answer_id).with_suffix(".unwatched")
    finished, flying = total("folyam_streams_finished_total"), total("folyam_streams_in_flight")
    with capture_logs() as lines:
        await stage.end()
    assert stage.state is State.LOST
    assert total("folyam_streams_finished_total") == finished
    assert total("folyam_streams_in_flight") == flying - 1
    assert [line["event"] for line in lines if line["event"] != "upstream_broke"] == ["lease_lost"]
    assert not isinstance(await log.last(stage.answer_id), Terminal)
    assert stage.producer._status is None or stage.producer._status.done()
    assert unwatched.exists() or state not in WORKING  # and is now that one's to change.


async def lost(log: FileEventLog, state: State) -> Stage:
    """An answer whose next write finds the lease lost."""
    interrupted = state in (State.LEAVING, State.STOPPING)
    if state is State.BROKEN:
        stage = await staged_restarting(log)
    else:
        stage = await staged(log, State.WAITING if interrupted else state)
    stage.lease.failure = LeaseLostError()
    stage.lease.held = interrupted
    if interrupted or state in (State.WAITING, State.STREAMING):
        stage.upstream.tell([Delta(stage.lease.last_seq + 1, text="w ")])
    if interrupted:
        await until(stage.upstream._replies.empty)
        if state is State.STOPPING:
            stage.producer.stop("user")
        else:
            stage.producer.hand_over()
    return stage


def total(name: str) -> float:
    return sum(sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == name)


async def is_orphan(log: FileEventLog, answer_id: str) -> bool:
    """Whether another worker can take the answer over: its lease is free, and its log has no end."""
    lease = await log.claim(answer_id)
    if lease is not None:
        lease.release()
    return lease is not None


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The log that a worker left which was killed with an answer in each state, and their ids."""
    directory = tmp_path_factory.mktemp("killed")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stages", str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        answers = json.loads(worker.stdout.readline())
        worker.kill()
    return directory, answers


@walks_from(PRODUCED, Cause.DIE)
async def test_a_killed_worker_leaves_an_orphan_in_every_state(
    killed: tuple[Path, dict[str, str]], state: State
) -> None:
    directory, answers = killed
    log = FileEventLog(str(directory), Retention())
    assert not isinstance(await log.last(answers[state]), Terminal)
    assert await is_orphan(log, answers[state])
    walked(state, Cause.DIE)
    await log.aclose()


# Afterwards


async def ended(log: FileEventLog, state: State) -> str:
    lease = await log.create(Start(1, new_answer_id(), "model"))
    await lease.append([ENDS[state]])
    lease.release()
    return lease.answer_id


@walks_from(ENDED, Cause.ERASE)
async def test_an_ended_answer_can_be_erased(log: FileEventLog, state: State) -> None:
    answer = await ended(log, state)
    assert await log.last(answer) == ENDS[state]
    await log.erase(answer)
    with pytest.raises(UnknownAnswer):
        await log.last(answer)
    walked(state, Cause.ERASE)


@walks_from(ENDED, Cause.EXPIRE)
async def test_an_ended_answer_expires_and_no_other_does(tmp_path: Path, state: State) -> None:
    log = FileEventLog(str(tmp_path), Retention(seconds=-1))
    running = await log.create(Start(1, new_answer_id(), "model"))
    answer = await ended(log, state)
    await log.tend(lambda _: None)
    with pytest.raises(UnknownAnswer):
        await log.last(answer)
    assert await log.last(running.answer_id)
    walked(state, Cause.EXPIRE)
    await log.aclose()


async def test_a_restart_is_in_the_log_before_the_upstream_is_waited_for(log: FileEventLog) -> None:
    stage = await staged(log, State.CLAIMED)
    await until(lambda: stage.state is State.WAITING)
    reader = await log.open(stage.answer_id, after=1, watch=False)
    assert list(await reader.read()) == [Restart(2), Delta(3, attempt=Attempt(1, 1))]
    reader.close()
    stage.producer.stop("user")
    await stage.end()
