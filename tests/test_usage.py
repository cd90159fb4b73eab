"""Usage and timing of an answer, however it ends: told as far as they are known, and counted."""

import asyncio
import json
import uuid
from typing import Any, get_args
from unittest.mock import Mock

import pytest
from msgspec import UNSET
from structlog.testing import capture_logs

from service.answer import fold
from service.app import endpoints
from service.config import Settings
from service.errors import UpstreamError
from service.eventlog.files.log import FileEventLog
from service.events import Delta, Done, Failed, Start, Stopped, StoppedBy, Terminal, Usage, encode
from service.lifecycle import State
from service.telemetry import series, tracing
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.endpoint import Role, TimeOuts
from service.usage import sum_usage
from tests.sampling import sample
from tests.stages import MODEL, Stage, staged
from tests.test_upstream import SOON_SECONDS, ask, endpoint, read_all, request, upstream_of
from tests.upstream.process import UpstreamProcess

USAGE = Usage(5, 2, 7)


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


async def test_the_details_of_the_tokens_are_counted_beside_them(log: FileEventLog) -> None:
    def counted() -> list[float]:
        return [sample("folyam_token_details_total", model=MODEL, type=kind) for kind in ("cached", "reasoning")]

    for details, more in (
        (({"cached_tokens": 3, "audio_tokens": 9}, {"reasoning_tokens": 2}), (3, 2)),
        (({"cached_tokens": None}, None), (0, 0)),
    ):
        cached, reasoning = counted()
        stage = await staged(log, State.STREAMING)
        stage.upstream.usage = Usage(5, 4, 9, *details)
        await ended(log, stage, "done")
        assert counted() == [cached + more[0], reasoning + more[1]]


@pytest.mark.parametrize("by", ["user", "unwatched", "shutdown"])
async def test_a_stop_is_counted_by_its_cause(log: FileEventLog, by: StoppedBy) -> None:
    before = sample("folyam_streams_stopped_total", model=MODEL, by=by)
    stage = await staged(log, State.STREAMING)
    stage.producer.stop(by)
    await stage.end()
    assert sample("folyam_streams_stopped_total", model=MODEL, by=by) == before + 1


@pytest.mark.parametrize(
    ("shown", "usage", "tokens"),
    [
        ("text", Usage(5, 11, 16), 10),
        ("text", Usage(5, 11, 16, None, {"reasoning_tokens": 6}), 4),
        ("reasoning", Usage(5, 11, 16, None, {"reasoning_tokens": 6}), 10),
        ("text", Usage(5, 1, 6), 0),
        ("text", Usage(5, 6, 11, None, {"reasoning_tokens": 6}), 0),
        ("text", None, 0),
    ],
    ids=["text", "hidden reasoning", "shown reasoning", "one token", "reasoning alone", "no usage"],
)
async def test_the_time_per_output_token_is_that_of_the_tokens_after_the_first_chunk(
    log: FileEventLog, shown: str, usage: Usage | None, tokens: int
) -> None:
    name = "folyam_time_per_output_token_seconds"
    labels = {"model": MODEL, "endpoint": "fallback"}
    count, total = sample(f"{name}_count", **labels), sample(f"{name}_sum", **labels)
    stage = await staged(log, State.WAITING)
    stage.upstream.endpoint = "fallback"
    stage.upstream.usage = usage
    now = stage.producer._loop.time()
    clock = Mock(spec=asyncio.AbstractEventLoop)
    clock.time.side_effect = [now + 1, now + 3]
    stage.producer._loop = clock
    stage.upstream.tell([Delta(2, reasoning="w1 ") if shown == "reasoning" else Delta(2, text="w1 ")])
    stage.upstream.tell([Delta(3, text="w2 ")])
    await ended(log, stage, "done")
    assert sample(f"{name}_count", **labels) == count + (tokens > 0)
    assert sample(f"{name}_sum", **labels) == pytest.approx(total + (2.0 / tokens if tokens else 0))


async def test_the_endpoint_that_answered_is_counted_and_logged(upstream: UpstreamProcess, log: FileEventLog) -> None:
    def counted() -> list[float]:
        return [sample("folyam_upstream_answers_total", model=MODEL, endpoint=each) for each in get_args(Role)]

    both = endpoint(upstream), endpoint(upstream, role="fallback")
    cases: tuple[tuple[dict[str, Any], Role], ...] = (({}, "primary"), ({"status": 503}, "fallback"))
    for first, expected in cases:
        before = counted()
        async with upstream_of(*both) as here:
            answer = await read_all(here.stream(request(key=uuid.uuid4().hex, first=[first]), last_seq=1))
        assert answer.stream.endpoint == expected
        stage = await staged(log, State.WAITING)
        stage.upstream.endpoint = expected
        stage.upstream.tell([Delta(2, text="w1 ")])
        with capture_logs() as lines:
            await ended(log, stage, "done")
        assert [after - old for after, old in zip(counted(), before, strict=True)] == [
            each == expected for each in get_args(Role)
        ]
        [line] = [line for line in lines if line["event"] == "answer"]
        assert line["endpoint"] == expected


def test_the_second_upstream_of_the_settings_is_the_fallback() -> None:
    address = "http://127.0.0.1:9/v1"
    settings = Settings(openai_base_url=address, model="m", fallback_base_url=address, fallback_model="m")
    assert [each.role for each in endpoints(settings)] == list(get_args(Role)) == list(series.ENDPOINTS)
    assert get_args(StoppedBy) == series.STOPPED_BY


@pytest.mark.parametrize("how", ["done", "stopped", "failed"])
async def test_the_span_of_an_answer_has_its_tokens_however_it_ends(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    spans: list[dict[str, Any]] = []
    monkeypatch.setattr(tracing, "end_generation", lambda _, outcome, **told: spans.append({"outcome": outcome} | told))
    stage = await staged(log, State.STREAMING)
    stage.upstream.usage = USAGE
    await ended(log, stage, how)
    [span] = spans
    assert (span["outcome"], span["usage"], span["endpoint"]) == (how, USAGE, "primary")


def test_usage_sums_over_all_requests_of_an_answer() -> None:
    first = Usage(5, 2, 7, {"cached_tokens": 1, "audio_tokens": None}, None)
    second = Usage(7, 3, 10, {"cached_tokens": 4}, {"reasoning_tokens": 2})
    assert sum_usage(None, second) == second
    assert sum_usage(first, None) == first
    assert sum_usage(first, second) == Usage(
        12, 5, 17, {"cached_tokens": 5, "audio_tokens": 0}, {"reasoning_tokens": 2}
    )
