"""OpenAI's Responses API in background mode as the upstream: a run that was cut is followed again."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from msgspec import UNSET

from service import recovery as recovering
from service.answer import Attached
from service.errors import Unavailable, UpstreamError
from service.eventlog import Retention, open_event_log
from service.events import Delta, Done, Event, Failed, Restart, Run, Seam, Stopped, StoppedBy, Usage
from service.question import to_request
from service.recovery import Recovery
from service.request import Request
from service.upstream.endpoint import Endpoint, TimeOuts
from service.upstream.responses import ResponsesClient
from service.upstream.stream import Upstream
from tests.upstream import bodies
from tests.upstream.piecewise import Piece, serving
from tests.upstream.raw import RawRequest, RawUpstream
from tests.upstream.responses_api import Break, How, Numbers, Plan, ResponsesApi, serving_responses
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import TIME_OUTS, Addressed, Worker, text_of, worker

WORDS = tuple(f"w{n} " for n in range(1, 41))
SUMMARIES = (("First ", "a thought."), ("Then ", "another 🌊."))
THOUGHT = "First a thought.\n\nThen another 🌊."
WAYS: tuple[How, ...] = ("reset", "close", "stall", "truncate", "garbage")
STALL = TimeOuts(10, 10, first_chunk=1.0, silence=0.3)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))


def responses(api: Addressed, **options: Any) -> Endpoint:  # noqa: ANN401 (an endpoint's fields)
    return Endpoint(api.base_url, "key", kind="responses", **options)


@asynccontextmanager
async def asking(
    directory: Path,
    api: Addressed,
    recovery: Recovery | None = None,
    **options: Any,  # noqa: ANN401
) -> AsyncIterator[Worker]:
    """A worker whose upstream is the server."""
    log = open_event_log(directory.as_uri(), Retention())
    async with worker(log, api, recovery=recovery, first=responses(api), **options) as here:
        yield here


def question(plan: Plan) -> Request:
    return to_request(plan.command(), model="test-model")


async def answered(here: Worker, plan: Plan) -> list[Event]:
    return await here.follow((await here.ask(question(plan))).answer_id)


def reasoning_of(events: list[Event]) -> str:
    return "".join(event.reasoning or "" for event in events if isinstance(event, Delta))


def refusal_of(events: list[Event]) -> str:
    return "".join(event.refusal or "" for event in events if isinstance(event, Delta))


def seams(events: list[Event]) -> list[Seam]:
    return [event.seam for event in events if isinstance(event, Delta) and event.seam is not None]


def run_in(events: list[Event]) -> Run:
    [run] = [event.run for event in events if isinstance(event, Delta) and event.run is not None]
    return run


def follows(api: ResponsesApi) -> list[str]:
    """The addresses at which runs were followed again."""
    return [path for method, path in api.requests if method == "GET"]


# The stock client reads the same server.


async def test_the_openai_package_reads_the_server_and_follows_a_run_again() -> None:
    plan = Plan(texts=WORDS, summaries=SUMMARIES)
    async with (
        serving_responses() as api,
        openai.AsyncOpenAI(
            api_key="key", base_url=api.base_url, max_retries=0, _strict_response_validation=True
        ) as client,
    ):
        text, run_id, number = "", "", -1
        created = await client.responses.create(
            model="test-model",
            input=[{"role": "user", "content": plan.command()}],
            background=True,
            stream=True,
            store=True,
        )
        async for event in created:
            number = event.sequence_number
            if event.type == "response.created":
                run_id = event.response.id
            if event.type == "response.output_text.delta":
                text += event.delta
                if len(text) > 20:
                    break
        usage = None
        again = await client.responses.retrieve(run_id, stream=True, starting_after=number)
        async for event in again:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.completed":
                usage = event.response.usage
        assert text == "".join(WORDS)
        assert usage is not None
        assert usage.output_tokens == api.runs[run_id].tokens == len(WORDS) + 4
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_unknown", stream=True)


# An answer, whole.


async def test_an_answer_has_the_runs_voices_its_end_and_its_usage(tmp_path: Path) -> None:
    plan = Plan(texts=WORDS, summaries=SUMMARIES)
    async with serving_responses() as api, asking(tmp_path, api) as here:
        events = await answered(here, plan)
        run = api.run_of(plan.command())
    assert (text_of(events), reasoning_of(events)) == ("".join(WORDS), THOUGHT)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "completed"
    assert done.usage == Usage(
        7, run.tokens, 7 + run.tokens, {"cached_tokens": 3, "cache_write_tokens": 0}, {"reasoning_tokens": 1}
    )
    assert isinstance(events[1], Delta)
    assert events[1].run == Run(run.id, api.base_url, tells_all=True), "it is logged before the first piece"
    assert api.requests == [("POST", "/responses")]
    asked = {"model": "test-model", "background": True, "store": True, "stream": True}
    assert run.asked == {**asked, "input": [{"role": "user", "content": plan.command()}]}


async def test_open_models_reasoning_and_a_refusal_are_voices(tmp_path: Path) -> None:
    async with serving_responses() as api, asking(tmp_path, api) as here:
        events = await answered(here, Plan(thoughts=("hm ", "so"), refusal=("I ", "won't.")))
    assert (text_of(events), reasoning_of(events), refusal_of(events)) == ("", "hm so", "I won't.")
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter", "steered"])
async def test_why_an_answer_is_incomplete_is_passed_on(tmp_path: Path, reason: str) -> None:
    async with serving_responses() as api, asking(tmp_path, api) as here:
        events = await answered(here, Plan(end="incomplete", reason=reason))
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == reason
    assert events[-1].usage is not None


async def test_a_failed_run_fails_the_answer_and_is_not_followed_again(tmp_path: Path) -> None:
    async with serving_responses() as api, asking(tmp_path, api) as here:
        events = await answered(here, Plan(end="failed", error={"code": "server_error"}))
    assert text_of(events) == "A river flows"
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_error"
    assert events[-1].usage is not None, "what a failed run cost is told, too"
    assert follows(api) == []


# An answer that breaks off.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("numbers", ["all", "none", "zero", "below"])
async def test_an_answer_that_breaks_off_anywhere_is_followed_again_and_asked_for_once(
    tmp_path: Path,
    way: How,
    numbers: Numbers,
) -> None:
    random_ = random.Random(f"{way} {numbers}")  # noqa: S311 (places, not secrets)
    first = Break(random_.randint(3000, 9000), way)  # behind the first piece
    later = [Break(random_.randint(1, 9000), random_.choice(WAYS)) for _ in range(4)]
    texts = tuple(f"{word}🌊 " for word in WORDS)
    plan = Plan(texts=texts, summaries=SUMMARIES, pace=0.002, breaks=(first, *later), numbers=numbers, halves=True)
    async with serving_responses() as api, asking(tmp_path, api, time_outs=STALL) as here:
        events = await answered(here, plan)
        run = api.run_of(plan.command())
    assert isinstance(events[-1], Done), events[-1]
    assert (text_of(events), reasoning_of(events)) == ("".join(texts), THOUGHT)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {seam.how for seam in seams(events)} == {"reattached"}
    assert not any(isinstance(event, Restart) for event in events)
    assert [method for method, _ in api.requests].count("POST") == 1
    assert run.tokens == len(texts) + 4, "no token is generated twice"
    assert events[-1].usage is not None
    assert (events[-1].usage.completion_tokens, events[-1].usage_complete) == (run.tokens, UNSET)
    assert any("starting_after=" in path for path in follows(api)) == (numbers == "all")


async def test_a_run_that_is_cut_before_its_first_word_is_followed_again_and_not_asked_for_twice(
    tmp_path: Path,
) -> None:
    plan = Plan(texts=WORDS, breaks=(Break(700), Break(1)), pace=0.01)
    async with serving_responses() as api, asking(tmp_path, api, retries=2) as here:
        events = await answered(here, plan)
    assert text_of(events) == "".join(WORDS)
    assert isinstance(events[-1], Done)
    assert [method for method, _ in api.requests] == ["POST", "GET", "GET"]


async def test_a_cut_before_the_runs_id_is_a_cost_that_is_not_known(tmp_path: Path) -> None:
    cut = bodies.response(b": hello\n\n", "Content-Length: 9999")
    whole = bodies.stream(
        bodies.data('{"type":"response.created","response":{"id":"resp_1"}}'),
        bodies.data('{"type":"response.output_text.delta","delta":"Hello"}'),
        bodies.data('{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}'),
    )
    sent = iter([cut, whole])
    async with RawUpstream(lambda _: next(sent)) as raw, asking(tmp_path, raw, retries=1) as here:
        events = await here.follow((await here.ask(to_request("hi", model="test-model"))).answer_id)
    assert isinstance(events[-1], Done)
    assert (events[-1].usage, events[-1].usage_complete) == (Usage(1, 2, 3), False)
    assert [asked.method for asked in raw.requests] == ["POST", "POST"]


async def test_what_is_no_text_ends_the_silence(tmp_path: Path) -> None:
    hello = bodies.data('{"type":"response.output_text.delta","delta":"Hello"}')
    end = bodies.data('{"type":"response.completed","response":{}}')
    signs: list[Piece] = [0.4, b": ping\n\n", 0.4, bodies.data('{"type":"keepalive"}'), 0.4, b": ping\n\n", 0.4]
    time_outs = TimeOuts(10, 10, 10, silence=1.2)
    async with (
        serving(bodies.response(hello), *signs, end) as raw,
        worker(tmp_path.as_uri(), raw, first=responses(raw), time_outs=time_outs) as here,
    ):
        events = await here.follow((await here.ask(to_request("hi", model="test-model"))).answer_id)
    assert text_of(events) == "Hello"
    assert isinstance(events[-1], Done)


async def test_the_first_word_may_take_longer_than_a_silence(tmp_path: Path) -> None:
    # The response has begun by then, and a model that thinks says nothing.
    begun = bodies.data('{"type":"response.created","response":{"id":"resp_1"}}')
    said = bodies.data('{"type":"response.output_text.delta","delta":"Hello"}')
    end = bodies.data('{"type":"response.completed","response":{}}')
    time_outs = TimeOuts(10, 10, first_chunk=DEADLINE_SECONDS, silence=0.2)
    async with (
        serving(bodies.response(begun), 0.6, said + end) as raw,
        worker(tmp_path.as_uri(), raw, first=responses(raw), time_outs=time_outs) as here,
    ):
        events = await here.follow((await here.ask(to_request("hi", model="test-model"))).answer_id)
        assert raw.asked == 1
    assert text_of(events) == "Hello"
    assert isinstance(events[-1], Done)


async def test_a_take_over_by_a_worker_that_has_not_read_the_run_follows_it_from_its_start(tmp_path: Path) -> None:
    plan = Plan(texts=WORDS, summaries=SUMMARIES, pace=0.02)
    async with serving_responses() as api:
        async with asking(tmp_path, api) as here:
            producer = await here.ask(question(plan))
            await here.read_to(producer.answer_id, seq=14)
            producer.hand_over()
            await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        async with asking(tmp_path, api) as here:
            here.supervisor.adopt(producer.answer_id)
            events = await here.follow(producer.answer_id)
        run = api.run_of(plan.command())
    assert isinstance(events[-1], Done)
    assert (text_of(events), reasoning_of(events)) == ("".join(WORDS), THOUGHT)
    assert seams(events) == [Seam("reattached", "takeover")]
    assert follows(api) == [f"/responses/{run.id}?stream=true"]
    assert run.tokens == len(WORDS) + 4
    assert events[-1].usage is not None
    assert (events[-1].usage.completion_tokens, events[-1].usage_complete) == (run.tokens, UNSET)


@pytest.mark.parametrize("recovery", [None, "restart"])
async def test_a_run_that_is_gone_begins_anew_only_where_the_setting_says_so(
    tmp_path: Path, recovery: Recovery | None
) -> None:
    plan = Plan(texts=WORDS, breaks=(Break(6000),), forgotten=True)
    async with serving_responses() as api, asking(tmp_path, api, recovery) as here:
        events = await answered(here, plan)
    if recovery == "restart":
        assert isinstance(events[-1], Done)
        assert text_of(events).endswith("".join(WORDS))
        assert len(api.runs) == 2
    else:
        assert isinstance(events[-1], Failed)
        assert events[-1].code == "upstream_cut"
        assert len(api.runs) == 1


async def test_both_servers_down_end_the_answer_with_what_broke_it(tmp_path: Path) -> None:
    plan = Plan(texts=WORDS, breaks=(Break(6000), *[Break(1, "close")] * 20))
    async with (
        serving_responses() as api,
        serving(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as second,
        asking(tmp_path, api, fallback=Endpoint(second.base_url, "key", continuation="assistant")) as here,
    ):
        events = await answered(here, plan)
        await until(lambda: api.requests[-1][1].endswith("/cancel"))
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_cut"
    assert "".join(WORDS).startswith(text_of(events))


async def test_the_fallback_goes_on_where_a_run_is_gone(tmp_path: Path) -> None:
    plan = Plan(texts=WORDS, breaks=(Break(6000),), forgotten=True)
    rest = bodies.stream(bodies.say(" and on"), bodies.end(), bodies.DONE)
    async with (
        serving_responses() as api,
        serving(rest) as second,
        asking(tmp_path, api, fallback=Endpoint(second.base_url, "key", continuation="assistant")) as here,
    ):
        events = await answered(here, plan)
    assert isinstance(events[-1], Done)
    assert text_of(events).endswith(" and on")
    assert [seam.how for seam in seams(events)] == ["continued"]


async def test_this_api_as_the_fallback_is_followed_again_too(tmp_path: Path) -> None:
    plan = Plan(texts=WORDS, breaks=(Break(6000), Break(2000, "truncate")))
    async with (
        serving_responses() as api,
        serving(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as first,
        worker(tmp_path.as_uri(), first, fallback=responses(api)) as here,
    ):
        events = await answered(here, plan)
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(WORDS)
    assert len(api.runs) == 1


# A run that no answer needs any more is not paid for.


@pytest.mark.parametrize("by", ["user", "unwatched"])
async def test_a_stop_cancels_the_run(tmp_path: Path, by: StoppedBy) -> None:
    plan = Plan(endless=True, pace=0.01)
    async with serving_responses() as api, asking(tmp_path, api) as here:
        producer = await here.ask(question(plan))
        await here.read_to(producer.answer_id, seq=5)
        producer.stop(by)
        events = await here.follow(producer.answer_id)
        await until(lambda: api.run_of(plan.command()).status == "cancelled")
    assert isinstance(events[-1], Stopped)


async def test_a_stop_before_the_runs_id_is_known_cancels_it_as_soon_as_it_is(tmp_path: Path) -> None:
    plan = Plan(endless=True, pace=0.01, created_delay=0.3)
    async with serving_responses() as api, asking(tmp_path, api) as here:
        producer = await here.ask(question(plan))
        await until(lambda: api.requests)
        producer.stop("user")
        events = await here.follow(producer.answer_id)
        assert [type(event) for event in events[1:]] == [Stopped]
        await until(lambda: api.run_of(plan.command()).status == "cancelled")


@pytest.mark.parametrize(
    ("statuses", "cancels"), [([503, 429, 200], 3), ([503, 503, 503, 200], 3), ([404, 200], 1), ([409, 200], 1)]
)
async def test_a_cancel_that_fails_is_repeated_and_one_that_is_refused_is_not(
    monkeypatch: pytest.MonkeyPatch, statuses: list[int], cancels: int
) -> None:
    monkeypatch.setattr(ResponsesClient, "stop_pauses", (0.001, 0.001))
    sent = iter(statuses)
    async with RawUpstream(lambda _: refusal(next(sent), {})) as raw:
        upstream = Upstream([responses(raw)], TIME_OUTS, retries=0)
        upstream.stop(Run("resp_1", raw.base_url))
        await until(lambda: len(raw.requests) >= cancels)
        await upstream.aclose()
    assert [(asked.method, asked.path) for asked in raw.requests] == [("POST", "/v1/responses/resp_1/cancel")] * cancels


async def test_a_cancel_that_does_not_reach_the_server_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResponsesClient, "stop_pauses", (0.001, 0.001))
    async with RawUpstream(lambda _: b"", reset=True) as raw:
        upstream = Upstream([responses(raw)], TIME_OUTS, retries=0)
        upstream.stop(Run("resp_1", raw.base_url))
        await until(lambda: len(raw.requests) == 3)
        await upstream.aclose()
    assert len(raw.requests) == 3


@pytest.mark.parametrize("recovery", ["fail", "restart"])
async def test_a_take_over_that_does_not_follow_the_run_cancels_it(tmp_path: Path, recovery: Recovery) -> None:
    # `restart` follows a run where it can: the second worker's upstream is another server.
    plan = Plan(endless=True, pace=0.01)
    async with serving_responses() as api:
        async with asking(tmp_path, api) as here:
            producer = await here.ask(question(plan))
            await here.read_to(producer.answer_id, seq=5)
            producer.hand_over()
            await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        assert not api.run_of(plan.command()).is_over
        async with asking(tmp_path, api, recovery) as here:
            if recovery == "restart":
                forget_how_to_follow(here)
            here.supervisor.adopt(producer.answer_id)
            first = next(iter(api.runs.values()))
            await until(lambda: first.status == "cancelled")


def forget_how_to_follow(here: Worker) -> None:
    policy = here.supervisor._recovery
    here.supervisor._recovery = replace(policy, keeps=lambda _: False)


async def test_a_run_that_the_log_does_not_take_is_cancelled() -> None:
    async def refuse(_: Run) -> Run:
        raise Unavailable("log_full")

    plan = Plan(endless=True, pace=0.01)
    async with serving_responses() as api:
        upstream = Upstream([responses(api)], TIME_OUTS, retries=0)
        stream = upstream.stream(question(plan), last_seq=1, on_run=refuse)
        with pytest.raises(Unavailable):
            await stream.read()
        stream.close()
        await until(lambda: api.run_of(plan.command()).status == "cancelled")
        await upstream.aclose()


# Refusals.


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        # vLLM without its store, and a server that does not know the parameter.
        (400, {"message": "This engine does not support `store=True`", "code": 400}, "upstream_bad_request"),
        (400, {"message": "Unknown parameter", "code": "unknown_parameter"}, "upstream_bad_request"),
        (404, {"message": "No such address"}, "upstream_not_found"),
        (409, {"message": "busy"}, "upstream_unavailable"),
        (429, {"message": "slow down"}, "upstream_rate_limited"),
    ],
)
async def test_a_refusal_is_said_as_it_is(tmp_path: Path, status: int, error: dict[str, Any], code: str) -> None:
    async with RawUpstream(lambda _: refusal(status, error)) as raw, asking(tmp_path, raw) as here:
        events = await here.follow((await here.ask(to_request("hi", model="test-model"))).answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == code
    assert [asked.path for asked in raw.requests] == ["/v1/responses"]


def refusal(status: int, error: dict[str, Any]) -> bytes:
    whole = bodies.json_response({"error": error})
    return whole.replace(b"200 OK", f"{status} No".encode(), 1)


async def test_a_server_without_background_mode_has_no_run_to_follow(tmp_path: Path) -> None:
    begun = bodies.data('{"type":"response.created","response":{"id":"resp_1","background":false}}')
    said = bodies.data('{"type":"response.output_text.delta","delta":"Hello"}')
    cut = bodies.response(begun + said, "Content-Length: 9999")
    async with RawUpstream(lambda _: cut) as raw, asking(tmp_path, raw) as here:
        events = await here.follow((await here.ask(to_request("hi", model="test-model"))).answer_id)
    assert text_of(events) == "Hello"
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_cut"
    assert [asked.path for asked in raw.requests] == ["/v1/responses"]


async def test_a_server_that_does_not_stream_is_asked_again_until_the_answer_is_there(tmp_path: Path) -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "A river flows"}]}]
    states = iter(["queued", "in_progress", "completed"])

    def respond(_: RawRequest) -> bytes:
        status = next(states)
        whole = {"id": "resp_1", "object": "response", "status": status}
        return bodies.json_response({**whole, "output": output if status == "completed" else []})

    async with RawUpstream(respond) as raw, asking(tmp_path, raw, retries=2) as here:
        events = await here.follow((await here.ask(to_request("hi", model="test-model"))).answer_id)
    assert text_of(events) == "A river flows"
    assert isinstance(events[-1], Done)
    assert [asked.method for asked in raw.requests] == ["POST", "GET", "GET"]


async def test_a_run_behind_a_gap_is_followed_from_its_start() -> None:
    # Something between the numbers is lost. A stream from the start has it.
    def event(number: int, **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
        return bodies.data(json.dumps({"sequence_number": number, **fields}))

    created = event(0, type="response.created", response={"id": "resp_1"})
    pieces = [event(n, type="response.output_text.delta", delta=f"{n} ") for n in (1, 2, 3)]
    end = event(4, type="response.completed", response={})

    def respond(asked: RawRequest) -> bytes:
        if asked.method == "POST":
            return bodies.response(created + pieces[0], "Content-Length: 9999")
        return bodies.stream(*(pieces[2:] if "starting_after" in asked.path else [created, *pieces]), end)

    async with RawUpstream(respond) as raw:
        upstream = Upstream([responses(raw)], TIME_OUTS, retries=0)
        stream = upstream.stream(to_request("hi", model="m"), last_seq=1)
        assert await stream.read() == [Delta(3, text="1 ")]
        with pytest.raises(UpstreamError):
            await stream.read()
        known = Attached(Run("resp_1", raw.base_url), 2, 0, 0)
        for wanted in ("starting_after=1", "stream=true"):
            again = upstream.stream(to_request("hi", model="m"), last_seq=3, attached=known)
            with_gap = wanted != "stream=true"
            if with_gap:
                with pytest.raises(UpstreamError):
                    await again.read()
            else:
                assert text_of([*await again.read()]) == "2 3 "
            again.close()
            assert raw.requests[-1].path.endswith(wanted)
        await upstream.aclose()
