"""Usage and timing of an answer, however it ends: told as far as they are known, and counted."""

import json
import uuid
from typing import Any

import prometheus_client
import pytest
from msgspec import UNSET
from structlog.testing import capture_logs

from service.answer import fold
from service.errors import UpstreamError
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Done, Failed, Start, Stopped, Terminal, Usage, encode
from service.lifecycle import State
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.endpoint import TimeOuts
from tests.stages import MODEL, Stage, staged
from tests.test_upstream import SOON_SECONDS, ask, endpoint, read_all, request, upstream_of
from tests.upstream.process import UpstreamProcess

USAGE = Usage(5, 2, 7)


def sample(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


async def ended(log: FileEventLog, stage: Stage, how: str) -> Terminal:
    """End the stage's answer, and return how."""
    match how:
        case "stopped":
            stage.producer.stop("user")
        case "failed":
            stage.upstream.tell(UpstreamError("upstream_cut"))
        case "done":
            stage.upstream.tell([])
    await stage.end()
    last = await log.last(stage.answer_id)
    assert isinstance(last, Terminal)
    return last


# In the log


@pytest.mark.parametrize("how", ["stopped", "failed"])
@pytest.mark.parametrize(
    ("usage", "has_all", "is_complete"), [(None, False, False), (USAGE, False, False), (USAGE, True, True)]
)
async def test_an_answer_that_is_cut_short_tells_its_usage_as_far_as_it_is_known(
    log: FileEventLog,
    how: str,
    usage: Usage | None,
    has_all: bool,  # noqa: FBT001
    is_complete: bool,  # noqa: FBT001
) -> None:
    stage = await staged(log, State.STREAMING)
    stage.upstream.usage, stage.upstream.has_all_usage = usage, has_all
    end = await ended(log, stage, how)
    assert isinstance(end, Stopped | Failed)
    assert (end.usage, end.usage_complete) == (usage, is_complete)
    assert end.timing
    assert end.timing.first_chunk_seconds is not None
    assert end.timing.duration_seconds >= end.timing.first_chunk_seconds


@pytest.mark.parametrize("how", ["stopped", "failed"])
async def test_an_answer_without_a_chunk_tells_its_duration_alone(log: FileEventLog, how: str) -> None:
    end = await ended(log, await staged(log, State.WAITING), how)
    assert end.timing
    assert end.timing.first_chunk_seconds is None
    assert (end.usage, end.usage_complete) == (None, False)


async def test_an_unknown_usage_is_written_as_null(log: FileEventLog) -> None:
    written = json.loads(encode(await ended(log, await staged(log, State.STREAMING), "stopped")))
    assert (written["usage"], written["usage_complete"]) == (None, False)


@pytest.mark.parametrize("how", ["done", "stopped", "failed"])
async def test_what_a_dead_worker_asked_for_is_unknown(log: FileEventLog, how: str) -> None:
    stage = await staged(log, State.CLAIMED)
    await stage.come_to(State.WAITING) if how != "done" else None
    stage.upstream.usage, stage.upstream.has_all_usage = USAGE, True
    stage.upstream.tell([Delta(3, text="w1 ")])
    end = await ended(log, stage, how)
    assert end.usage_complete is False


async def test_a_whole_answer_with_its_usage_says_no_more(log: FileEventLog) -> None:
    stage = await staged(log, State.STREAMING)
    stage.upstream.usage, stage.upstream.has_all_usage = USAGE, True
    end = await ended(log, stage, "done")
    assert isinstance(end, Done)
    assert (end.usage, end.usage_complete) == (USAGE, UNSET)


def test_an_end_of_an_earlier_version_says_nothing_of_its_usage() -> None:
    start = Start(1, "0" * 32, "m")
    for end in (Stopped(2, "user"), Failed(2, "upstream_cut", "Cut.", retryable=True)):
        state = fold([start, end])
        assert (state.usage, state.usage_complete, state.timing) == (None, None, None)


# From the upstream


@pytest.mark.parametrize(
    ("script", "has_all"),
    [
        ({}, True),
        ({"no_done": True}, True),
        ({"finish_reason": None}, True),
        ({"usage": False}, False),
        ({"cut_after": 2}, False),
        ({"status": 503}, False),
    ],
)
async def test_the_usage_is_all_there_once_the_upstream_has_finished_and_told_it(
    upstream: UpstreamProcess,
    script: dict[str, Any],
    has_all: bool,  # noqa: FBT001
) -> None:
    answer = await ask(upstream, request(**script))
    assert answer.stream.has_all_usage is has_all


@pytest.mark.parametrize(
    ("first", "has_all"),
    [
        ({"status": 503}, True),
        ({"cut_after": 0}, False),
        ({"status_delay": 3600.0}, False),
    ],
    ids=["refused", "cut before the first chunk", "no status in time"],
)
async def test_a_try_that_may_have_cost_something_makes_the_usage_incomplete(
    upstream: UpstreamProcess,
    first: dict[str, Any],
    has_all: bool,  # noqa: FBT001
) -> None:
    time_outs = TimeOuts(connect=10, status=SOON_SECONDS * 5, first_chunk=10, silence=10)
    asked = request(key=uuid.uuid4().hex, first=[first])
    async with upstream_of(endpoint(upstream), endpoint(upstream), time_outs=time_outs, retries=0) as here:
        answer = await read_all(here.stream(asked, last_seq=1))
    assert (answer.error, answer.stream.usage is not None) == (None, True)
    assert answer.stream.has_all_usage is has_all


# In the metrics and the service's log


@pytest.mark.parametrize("how", ["stopped", "failed"])
async def test_the_tokens_of_an_answer_that_is_cut_short_are_counted(log: FileEventLog, how: str) -> None:
    def counted() -> tuple[float, float, float]:
        return (
            sample("folyam_tokens_total", model=MODEL, type="prompt"),
            sample("folyam_tokens_total", model=MODEL, type="completion"),
            sample("folyam_usage_incomplete_total", model=MODEL, outcome=how),
        )

    prompt, completion, incomplete = counted()
    stage = await staged(log, State.STREAMING)
    stage.upstream.usage = USAGE
    with capture_logs() as lines:
        await ended(log, stage, how)
    assert counted() == (prompt + 5, completion + 2, incomplete + 1)
    [line] = [line for line in lines if line["event"] == "answer"]
    assert (line["tokens"], line["usage_complete"]) == (2, False)


async def test_an_answer_whose_tokens_are_all_known_is_not_counted_as_incomplete(log: FileEventLog) -> None:
    before = sample("folyam_usage_incomplete_total", model=MODEL, outcome="done")
    for usage, more in ((USAGE, 0), (None, 1)):
        stage = await staged(log, State.STREAMING)
        stage.upstream.usage, stage.upstream.has_all_usage = usage, usage is not None
        await ended(log, stage, "done")
        assert sample("folyam_usage_incomplete_total", model=MODEL, outcome="done") == before + more


def test_an_answer_is_counted_as_complete_unless_it_is_said_not_to_be() -> None:
    counted = AnswerMetrics(uuid.uuid4().hex)
    counted.started()
    counted.finished("done", 1.0, USAGE)
    assert sample("folyam_usage_incomplete_total", model=counted._model, outcome="done") == 0
