"""An answer whose upstream breaks off in the middle, with a log on every backend and a real upstream."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from service import recovery as recovering
from service import supervisor
from service.errors import Unavailable
from service.eventlog import Reader
from service.events import Delta, Done, Event, Failed, Restart, Seam, Terminal, new_answer_id
from service.lifecycle import Cause, State
from service.producer import Limits
from service.question import to_request
from service.recovery import ATTEMPTS_WITHOUT_PROGRESS, RESTARTS, Recovery
from service.upstream import client
from service.upstream.client import BREAKER_QUESTIONS
from service.upstream.endpoint import Continuation, Endpoint, ThinkTags, TimeOuts
from tests.listening import listening
from tests.sampling import sample
from tests.upstream import bodies
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, until
from tests.walking import walks
from tests.working import PATIENT, Worker, seqs_without_gaps, text_of, worker

FOUR = "w1 w2 w3 w4 "
HASTY = TimeOuts(10, 10, first_chunk=5, silence=0.3)
BREAKS: dict[str, dict[str, Any]] = {
    "cut": {"cut_after": 2},
    "truncated": {"truncate_after": 2},
    "malformed": {"garbage_after": 2},
    "error": {"error_after": 2},
    "silence_timeout": {"stall_after": 2},
}


@pytest.fixture
def key() -> str:
    return new_answer_id()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))


def seams(events: list[Event]) -> list[Seam]:
    return [event.seam for event in events if isinstance(event, Delta) and event.seam is not None]


def reasoning_of(events: list[Event]) -> str:
    return "".join(event.reasoning or "" for event in events if isinstance(event, Delta))


def is_well_formed(events: list[Event]) -> bool:
    """Numbers without gaps, and one terminal event, the last."""
    return seqs_without_gaps(events) and [isinstance(event, Terminal) for event in events] == [False] * (
        len(events) - 1
    ) + [True]


# Going on


@pytest.mark.parametrize("chosen", [None, "continue"])
@pytest.mark.parametrize("why", BREAKS)
@walks((State.STREAMING, Cause.BREAK), (State.BROKEN, Cause.CONTINUE), (State.WAITING, Cause.CHUNK))
async def test_an_answer_goes_on_where_its_upstream_broke_off(
    url: str, upstream: UpstreamProcess, key: str, why: str, chosen: Recovery | None
) -> None:
    ended = sample("folyam_upstream_breaks_total", reason=why, outcome="continued")
    async with worker(url, upstream, recovery=chosen, time_outs=HASTY) as here:
        events = await here.follow((await here.start(key, chunks=4, first=[BREAKS[why]])).answer_id)
    assert text_of(events) == FOUR
    assert seams(events) == [Seam("continued", why)]
    assert is_well_formed(events)
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "stop"
    assert [record["messages"][-1]["role"] for record in upstream.requests(key)] == ["user", "assistant"]
    assert sample("folyam_upstream_breaks_total", reason=why, outcome="continued") == ended + 1


async def test_a_break_while_the_log_cannot_be_read_is_mended_when_it_can(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(url, upstream) as here:
        opened = here.log.open
        away = [Unavailable("log_unavailable"), Unavailable("log_unavailable")]

        async def open_later(answer: str, after: int = 0, *, watch: bool = True) -> Reader:
            if not watch and away:
                raise away.pop()
            return await opened(answer, after, watch=watch)

        monkeypatch.setattr(here.log, "open", open_later)
        events = await here.follow((await here.start(key, chunks=4, first=[BREAKS["cut"]])).answer_id)
    assert not away
    assert text_of(events) == FOUR
    assert isinstance(events[-1], Done)


async def test_a_log_that_stays_away_ends_an_answer_that_broke_off(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_AWAY_SECONDS", 0.5)
    async with worker(url, upstream) as here:
        opened = here.log.open

        async def open_none(answer: str, after: int = 0, *, watch: bool = True) -> Reader:
            if not watch:
                raise Unavailable("log_unavailable")
            return await opened(answer, after, watch=watch)

        monkeypatch.setattr(here.log, "open", open_none)
        events = await here.follow((await here.start(key, chunks=4, first=[BREAKS["cut"]])).answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "log_unavailable"


@pytest.mark.parametrize("echo", ["", "word", "all", "stripped"])
async def test_however_a_server_continues_no_character_is_lost_or_doubled(
    url: str, upstream: UpstreamProcess, key: str, echo: str
) -> None:
    texts = ["The", " quick", " brown ", "fox", " jumps", "\n\n", "over", " it."]
    async with worker(url, upstream) as here:
        first = [{"cut_after": 3}, {"cut_after": 3}, {"cut_after": 2}]
        producer = await here.start(key, texts=texts, echo=echo, first=first)
        events = await here.follow(producer.answer_id)
    assert text_of(events) == "".join(texts)
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize(
    "texts",
    [
        ["A wheel is a wheel,", " a wheel,", " a wheel..."],
        ["| north", " | north", " | south |"],
        ["It was really", " really good."],
    ],
)
async def test_what_the_model_says_twice_by_itself_stays(
    url: str, upstream: UpstreamProcess, key: str, texts: list[str]
) -> None:
    async with worker(url, upstream) as here:
        first = [{"cut_after": 1}]
        said = await here.follow((await here.start(key, texts=texts, first=first)).answer_id)
        script = {"reasoning": texts, "texts": ["Hm."], "first": [{"reasoning": texts[:1], "cut_after": 0}]}
        thought = await here.follow((await here.start(new_answer_id(), **script)).answer_id)
    assert text_of(said) == reasoning_of(thought) == "".join(texts)
    assert seams(said) == seams(thought) == [Seam("continued", "cut")]


async def test_a_character_that_was_cut_in_half_comes_whole(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream) as here:
        producer = await here.start(key, texts=["a", "😀", "b"], halves=True, first=[{"cut_after": 2}])
        events = await here.follow(producer.answer_id)
    assert text_of(events) == "a😀b"


@walks((State.WAITING, Cause.BREAK))
async def test_an_upstream_that_is_away_for_a_moment_is_asked_again(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    away = [{"status": 503}, {"cut_after": 0}, {"status": 429, "headers": {"Retry-After": "0"}}]
    async with worker(url, upstream, recovery="continue") as here:
        producer = await here.start(key, chunks=4, first=[{"cut_after": 2}, *away])
        events = await here.follow(producer.answer_id)
    assert text_of(events) == FOUR
    assert seams(events) == [Seam("continued", "cut")]
    assert len(upstream.requests(key)) == 5


async def test_an_answer_that_breaks_off_behind_its_last_word_is_whole(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream) as here:
        events = await here.follow((await here.start(key, chunks=4, first=[{"cut_after": 4}])).answer_id)
    assert (text_of(events), seams(events)) == (FOUR, [])
    assert isinstance(events[-1], Done)


async def test_an_unknown_reason_behind_a_break_is_counted_as_any_end(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    ended = sample("folyam_upstream_breaks_total", reason="cut", outcome="continued")
    async with worker(url, upstream) as here:
        script = {"finish_reason": "word_of_its_own", "first": [{"cut_after": 4}]}
        events = await here.follow((await here.start(key, chunks=4, **script)).answer_id)
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "word_of_its_own"
    assert sample("folyam_upstream_breaks_total", reason="cut", outcome="continued") == ended + 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "content_filter"}, "upstream_moderated"),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, "upstream_too_long"),
        ({"code": None, "type": "invalid_request_error"}, "upstream_bad_request"),
        ({"code": "insufficient_quota"}, "upstream_no_credit"),
        ({"code": 402}, "upstream_no_credit"),
        ({"code": "invalid_api_key"}, "upstream_credentials"),
        ({"code": "model_not_found"}, "upstream_not_found"),
    ],
)
async def test_a_refusal_in_the_middle_ends_the_answer_at_once_with_its_code(
    url: str, upstream: UpstreamProcess, key: str, error: dict[str, Any], code: str
) -> None:
    async with worker(url, upstream) as here:
        producer = await here.start(key, chunks=4, first=[{"error_after": 2, "error": {"message": "no", **error}}])
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, events[-1].retryable, text_of(events)) == (code, False, "w1 w2 ")
    assert len(upstream.requests(key)) == 1


@pytest.mark.parametrize(
    "error",
    [
        {"code": "overloaded", "type": "overloaded_error"},
        {"code": None, "type": "server_error"},
        {"code": "rate_limit_exceeded", "type": "invalid_request_error"},
        {"code": 429},
        {"code": 400, "type": "BadRequestError"},
    ],
)
async def test_a_failure_that_passes_is_continued(
    url: str, upstream: UpstreamProcess, key: str, error: dict[str, Any]
) -> None:
    async with worker(url, upstream) as here:
        producer = await here.start(key, chunks=4, first=[{"error_after": 2, "error": {"message": "no", **error}}])
        events = await here.follow(producer.answer_id)
    assert (text_of(events), seams(events)) == (FOUR, [Seam("continued", "error")])


async def test_a_refusal_of_a_continuation_that_was_accepted_ends_the_answer_with_what_broke_it(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    refused = {"error_after": 0, "error": {"message": "no", "code": "insufficient_quota"}}
    async with worker(url, upstream) as here:
        producer = await here.start(key, chunks=4, **refused, first=[{"error_after": None, "cut_after": 2}])
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, text_of(events)) == ("upstream_cut", "w1 w2 ")
    assert len(upstream.requests(key)) == 2


# Reasoning


@pytest.mark.parametrize("continuation", ["assistant", "vllm", "prefix"])
@pytest.mark.parametrize(
    ("said", "rest", "voices"),
    [
        (["<think>", "Hm. ", "Well"], [" so it is.", "</think>", "Hello"], ("Hm. Well so it is.", "Hello")),
        (["<think>", "Hm. ", "Well"], ["<think>Hm. ", "Well so it is.</think>Hello"], ("Hm. Well so it is.", "Hello")),
        (["<think>", "Well", "</think>"], ["</think>", "Hello"], ("Well", "Hello")),
    ],
)
async def test_reasoning_between_tags_goes_on_where_it_broke_off(
    url: str,
    upstream: UpstreamProcess,
    key: str,
    continuation: Continuation,
    said: list[str],
    rest: list[str],
    voices: tuple[str, str],
) -> None:
    first = Endpoint(upstream.base_url, "key", continuation=continuation, think_tags="on")
    async with worker(url, upstream, first=first) as here:
        producer = await here.start(key, texts=rest, first=[{"texts": said, "cut_after": len(said)}])
        events = await here.follow(producer.answer_id)
    assert (reasoning_of(events), text_of(events)) == voices
    assert seams(events) == [Seam("continued", "cut")]
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("continuation", ["assistant", "vllm", "prefix"])
@pytest.mark.parametrize("think_tags", ["on", "off"])
@pytest.mark.parametrize(
    ("rest", "voices"),
    [
        ([" so", " it is.</th", "ink>\n\n", "Hello"], ("Hm. Well so it is.", "Hello")),
        (["</think>", "Hello", " </think>"], ("Hm. Well", "Hello </think>")),
        (["Hello", " you"], ("Hm. Well", "Hello you")),
        (["<think>Hm. ", "Well so.</think>Hello"], ("Hm. Well so.", "Hello")),
    ],
)
async def test_reasoning_in_a_field_may_go_on_as_text_up_to_a_tag(
    url: str,
    upstream: UpstreamProcess,
    key: str,
    continuation: Continuation,
    think_tags: ThinkTags,
    rest: list[str],
    voices: tuple[str, str],
) -> None:
    endpoint = Endpoint(upstream.base_url, "key", continuation=continuation, think_tags=think_tags)
    async with worker(url, upstream, first=endpoint) as here:
        producer = await here.start(key, texts=rest, first=[{"reasoning": ["Hm. ", "Well"], "cut_after": 0}])
        events = await here.follow(producer.answer_id)
    assert (reasoning_of(events), text_of(events)) == voices
    assert is_well_formed(events)


async def test_blanks_behind_a_reasoning_hand_it_back_as_whole(url: str, upstream: UpstreamProcess, key: str) -> None:
    thoughts = ["Hm. ", "Well"]
    async with worker(url, upstream, continuation="vllm") as here:
        producer = await here.start(key, texts=["\n\n", "Hello"], reasoning=thoughts, first=[{"cut_after": 1}])
        events = await here.follow(producer.answer_id)
    assert (reasoning_of(events), text_of(events)) == ("Hm. Well", "\n\nHello")
    assert upstream.requests(key)[-1]["messages"][-1]["content"] == "<think>\nHm. Well\n</think>\n\n"


async def test_text_behind_reasoning_between_tags_goes_on_as_text(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    texts = ["Hello", " there", " again"]
    said = ["<think>Hm.</think>", "Hello", " there"]
    first = Endpoint(upstream.base_url, "key", continuation="assistant", think_tags="on")
    async with worker(url, upstream, first=first) as here:
        producer = await here.start(key, texts=texts, first=[{"texts": said, "cut_after": 3}])
        events = await here.follow(producer.answer_id)
    assert (reasoning_of(events), text_of(events)) == ("Hm.", "Hello there again")


@pytest.mark.parametrize("continuation", ["assistant", "vllm", "prefix"])
@pytest.mark.parametrize("place", [600, 900, 1500])
async def test_an_answer_goes_on_from_its_reasoning(
    url: str, upstream: UpstreamProcess, key: str, continuation: Continuation, place: int
) -> None:
    thoughts = ["hm ", "so ", "then "]
    async with worker(url, upstream, continuation=continuation) as here:
        producer = await here.start(key, chunks=4, reasoning=thoughts, pace=0.002, first=[{"break_at": place}])
        events = await here.follow(producer.answer_id)
    assert (reasoning_of(events), text_of(events)) == ("".join(thoughts), FOUR)
    assert isinstance(events[-1], Done)
    assert not any(isinstance(event, Restart) for event in events)


@pytest.mark.parametrize(
    ("cut_after", "given"),
    [
        (0, [{"type": "thinking", "thinking": [{"type": "text", "text": "hm so"}], "closed": False}]),
        (
            2,
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm so"}], "closed": True},
                {"type": "text", "text": "w1 w2"},
            ],
        ),
    ],
)
async def test_mistral_is_handed_reasoning_back_in_a_part_of_the_content(
    url: str,
    upstream: UpstreamProcess,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    cut_after: int,
    given: list[dict[str, Any]],
) -> None:
    monkeypatch.setenv("http_proxy", upstream.base_url.removesuffix("/v1"))
    mistral = Endpoint("http://api.mistral.ai/v1", "key", continuation="prefix")
    async with worker(url, mistral, first=mistral) as here:
        producer = await here.start(key, chunks=4, reasoning=["hm ", "so "], first=[{"cut_after": cut_after}])
        events = await here.follow(producer.answer_id)
    assert (reasoning_of(events), text_of(events)) == ("hm so ", FOUR)
    assert isinstance(events[-1], Done)
    message = upstream.requests(key)[-1]["messages"][-1]
    assert message == {"role": "assistant", "content": given, "prefix": True}


async def test_a_server_that_takes_no_reasoning_ends_the_answer_with_what_broke_it(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    failed = sample("folyam_upstream_breaks_total", reason="cut", outcome="failed")
    with capture_logs() as lines:
        async with worker(url, upstream) as here:
            first = [{"cut_after": 2}]
            producer = await here.start(key, chunks=4, reasoning=["hm "], accept_reasoning=False, first=first)
            events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_cut"
    assert [line["reason"] for line in lines if line["event"] == "upstream_broke"] == ["cut"]
    assert sample("folyam_upstream_breaks_total", reason="cut", outcome="failed") == failed + 1


# Bounds


async def test_an_upstream_that_does_not_come_back_is_not_asked_for_ever(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    async with worker(url, upstream) as here:
        producer = await here.start(key, chunks=4, status=503, first=[{"status": 200, "cut_after": 2}])
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, text_of(events)) == ("upstream_cut", "w1 w2 ")
    assert len(upstream.requests(key)) == 1 + ATTEMPTS_WITHOUT_PROGRESS


async def test_an_answer_that_broke_off_goes_on_where_new_questions_are_refused_for_a_while(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BREAKER_SECONDS", DEADLINE_SECONDS)
    async with worker(url, upstream) as here:
        producer = await here.start(key, chunks=4, pace=0.05, first=[{"cut_after": 3, "pace": 0.3}])
        for number in range(BREAKER_QUESTIONS):
            refused = await here.start(f"{key}/{number}", status=503)
            assert isinstance((await here.follow(refused.answer_id))[-1], Failed)
        events = await here.follow(producer.answer_id)
    assert text_of(events) == FOUR
    assert isinstance(events[-1], Done)


async def test_progress_gives_an_answer_new_attempts_but_not_for_ever(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "ATTEMPTS", 10)
    async with worker(url, upstream) as here:
        events = await here.follow((await here.start(key, endless=True, cut_after=2)).answer_id)
    assert isinstance(events[-1], Failed)
    assert text_of(events) == "".join(f"w{n} " for n in range(1, 13))


async def test_the_answers_time_ends_an_answer_that_waits_for_its_upstream(
    url: str, upstream: UpstreamProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (10, 20))
    monkeypatch.setattr(recovering, "MAX_PAUSE_SECONDS", 20)
    async with worker(url, upstream, limits=replace(PATIENT, answer_seconds=0.5)) as here:
        events = await here.follow((await here.start(key, chunks=4, first=[{"cut_after": 2}])).answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "answer_timeout"


async def test_the_answers_bytes_bound_it_over_its_breaks(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, limits=replace(PATIENT, answer_bytes=2000)) as here:
        producer = await here.start(key, endless=True, first=[{"cut_after": 20}])
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "answer_too_long"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (replace(PATIENT, answer_bytes=20_000), "answer_too_long"),
        (replace(PATIENT, answer_seconds=1.0), "answer_timeout"),
    ],
)
async def test_the_answers_limits_bound_a_model_that_thinks_again_behind_its_text(
    url: str, limits: Limits, code: str
) -> None:
    thought = bodies.data(bodies.chunk({"reasoning_content": "Hm. "}))
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bodies.response(bodies.HELLO if asked == 1 else b"", *["Content-Length: 999"] * (asked == 1)))
        while asked > 1:
            writer.write(thought * 10)
            await writer.drain()
            await asyncio.sleep(0.001)

    async with listening(serve) as address:
        first = Endpoint(f"http://{address}/v1", "key", continuation="assistant")
        async with worker(url, first, first=first, limits=limits) as here:
            events = await here.follow((await here.ask(to_request("hello", model="test-model"))).answer_id)
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, text_of(events), reasoning_of(events)) == (code, "Hello", "")
    assert asked == 2


# Restarts


@walks((State.BROKEN, Cause.RESTART))
async def test_a_break_restarts_only_where_the_setting_says_so(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, recovery="restart", continuation="none") as here:
        producer = await here.start(key, chunks=4, first=[{"cut_after": 2}, {"status": 503}])
        events = await here.follow(producer.answer_id)
    assert [event.seq for event in events if isinstance(event, Restart)] == [4]
    assert text_of(events[4:]) == FOUR
    assert is_well_formed(events)
    assert [record["messages"][-1]["role"] for record in upstream.requests(key)] == ["user"] * 3


@pytest.mark.parametrize(("chosen", "continuation"), [(None, "none"), ("continue", "none"), ("fail", "assistant")])
async def test_a_break_that_may_not_be_mended_fails_at_once(
    url: str, upstream: UpstreamProcess, key: str, chosen: Recovery | None, continuation: Continuation
) -> None:
    async with worker(url, upstream, recovery=chosen, continuation=continuation) as here:
        events = await here.follow((await here.start(key, chunks=4, first=[{"cut_after": 2}])).answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_cut"
    assert len(upstream.requests(key)) == 1


async def test_restarts_are_few(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, recovery="restart", continuation="none") as here:
        events = await here.follow((await here.start(key, chunks=4, cut_after=2)).answer_id)
    assert isinstance(events[-1], Failed)
    assert len(upstream.requests(key)) == 1 + RESTARTS


async def test_where_a_text_can_be_continued_nothing_restarts(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, recovery="restart") as here:
        producer = await here.start(key, chunks=4, first=[{"cut_after": 2}, {"status": 503}, {"cut_after": 1}])
        events = await here.follow(producer.answer_id)
    assert text_of(events) == FOUR
    assert set(seams(events)) == {Seam("continued", "cut")}
    assert not any(isinstance(event, Restart) for event in events)


@pytest.mark.parametrize("refusal", [{"accept_reasoning": False, "reasoning": ["hm "]}, {"status": 404}])
async def test_a_continuation_that_is_refused_becomes_a_restart_where_the_setting_says_so(
    url: str, upstream: UpstreamProcess, key: str, refusal: dict[str, Any]
) -> None:
    # 404 is one server's way to say that it knows no such thing. The reasoning is refused before it is recorded.
    first = [{"cut_after": 2, **refusal, "status": 200}, *[refusal] * ("status" in refusal)]
    script = {name: value for name, value in refusal.items() if name != "status"}
    async with worker(url, upstream, recovery="restart") as here:
        producer = await here.start(key, chunks=4, first=first, **script)
        events = await here.follow(producer.answer_id)
    [place] = [number for number, event in enumerate(events) if isinstance(event, Restart)]
    assert text_of(events[place:]) == FOUR
    assert is_well_formed(events)
    assert isinstance(events[-1], Done)


async def test_a_continuation_that_is_never_answered_becomes_a_restart_where_the_setting_says_so(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    fallback = Endpoint("http://127.0.0.1:1/v1", "key", model="spare", continuation="assistant")
    async with worker(url, upstream, recovery="restart", continuation="none", fallback=fallback) as here:
        producer = await here.start(key, chunks=4, first=[{"cut_after": 2}])
        events = await here.follow(producer.answer_id)
    [place] = [number for number, event in enumerate(events) if isinstance(event, Restart)]
    assert text_of(events[place:]) == FOUR
    assert [record["model"] for record in upstream.requests(key)] == ["test-model"] * 2


@walks((State.WAITING, Cause.RESTART))
async def test_a_server_that_begins_another_answer_is_seen_and_costs_no_further_request(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    start = "The river rises in the Black Forest, and it flows through "
    async with worker(url, upstream) as here:
        producer = await here.start(
            key,
            texts=[start, "nine ", "countries."],
            continues=False,
            first=[{"texts": [start, "ten ", "countries."], "cut_after": 2}],
        )
        events = await here.follow(producer.answer_id)
    [place] = [number for number, event in enumerate(events) if isinstance(event, Restart)]
    assert text_of(events[place:]) == start + "nine countries."
    assert is_well_formed(events)
    assert len(upstream.requests(key)) == 2


# The fallback


@pytest.mark.parametrize("continuation", ["none", "assistant"])
async def test_the_fallback_goes_on_where_it_can(
    url: str, upstream: UpstreamProcess, key: str, continuation: Continuation
) -> None:
    fallback = Endpoint(upstream.base_url, "key", model="spare", continuation="vllm")
    async with worker(url, upstream, continuation=continuation, fallback=fallback) as here:
        producer = await here.start(
            key, chunks=4, first=[{"cut_after": 2}, *[{"status": 503}] * (continuation != "none")]
        )
        events = await here.follow(producer.answer_id)
    assert text_of(events) == FOUR
    assert isinstance(events[-1], Done)
    assert [record["model"] for record in upstream.requests(key)][-1] == "spare"


async def test_a_server_that_accepts_each_time_and_falls_silent_does_not_keep_the_fallback_from_being_asked(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    fallback = Endpoint(upstream.base_url, "key", model="spare", continuation="assistant")
    async with worker(url, upstream, time_outs=replace(HASTY, first_chunk=0.3), fallback=fallback) as here:
        producer = await here.start(key, chunks=4, first=[{"stall_after": 2}, {"stall_after": 0}])
        events = await here.follow(producer.answer_id)
    assert text_of(events) == FOUR
    assert [record["model"] for record in upstream.requests(key)] == ["test-model", "test-model", "spare"]


async def test_where_both_are_down_the_break_is_the_end_and_where_one_is_back_the_answer_goes_on(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    fallback = Endpoint(upstream.base_url, "key", model="spare", continuation="assistant")
    async with worker(url, upstream, fallback=fallback) as here:
        down = await here.start(key, chunks=4, status=503, first=[{"status": 200, "cut_after": 2}])
        back = await here.start(f"{key} back", chunks=4, first=[{"cut_after": 2}, *[{"status": 503}] * 5])
        failed, done = await here.follow(down.answer_id), await here.follow(back.answer_id)
    assert isinstance(failed[-1], Failed)
    assert (failed[-1].code, text_of(failed)) == ("upstream_cut", "w1 w2 ")
    assert isinstance(done[-1], Done)
    assert text_of(done) == FOUR


# Take-overs


@pytest.mark.parametrize("echo", ["", "word", "all"])
async def test_a_take_over_is_a_seam_like_any_other(url: str, upstream: UpstreamProcess, key: str, echo: str) -> None:
    async with worker(url, upstream) as here:
        first = [{"stall_after": 2}, {"cut_after": 2}]
        producer = await here.start(key, texts=["A river ", "flows ", "to the ", "sea."], echo=echo, first=first)
        await here.read_to(producer.answer_id, seq=3)
        producer.hand_over()
        await asyncio.wait_for(producer.task, 10)
        here.supervisor.adopt(producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert text_of(events) == "A river flows to the sea."
    assert seams(events)[0] == Seam("continued", "takeover")
    assert is_well_formed(events)


async def passed_on(here: Worker, answer: str) -> None:
    """Leave the answer to another worker, as one that drains."""
    here.supervisor._running[answer].hand_over()
    await until(lambda: answer not in here.supervisor._running)
    here.supervisor.adopt(answer)


@pytest.mark.parametrize(("each", "code"), [(1, "interrupted"), (4, "upstream_timeout")])
async def test_an_upstream_that_falls_silent_again_and_again_is_not_asked_anew_by_each_worker(
    url: str, upstream: UpstreamProcess, key: str, each: int, code: str
) -> None:
    async with worker(url, upstream, time_outs=HASTY) as here:
        producer = await here.start(key, chunks=4, stall_after=1)
        answer = producer.answer_id
        for asked in range(1 + each, 2 + ATTEMPTS_WITHOUT_PROGRESS, each):
            await until(lambda: len(upstream.requests(key)) >= asked)  # noqa: B023 (asked before it changes)
            await passed_on(here, answer)
        events = await here.follow(answer)
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, text_of(events)) == (code, "w1 ")
    assert len(upstream.requests(key)) == 1 + ATTEMPTS_WITHOUT_PROGRESS


async def test_progress_gives_an_answer_new_attempts_in_whichever_worker(
    url: str, upstream: UpstreamProcess, key: str
) -> None:
    away = [{"status": 503}] * (ATTEMPTS_WITHOUT_PROGRESS - 2)
    first = [{"cut_after": 2}, *away, {"cut_after": 2}, *away]
    async with worker(url, upstream) as here:
        producer = await here.start(key, chunks=8, first=[*first, {"stall_after": 1}])
        await until(lambda: len(upstream.requests(key)) == len(first) + 1)
        await passed_on(here, producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Done)
    assert text_of(events) == "".join(f"w{n} " for n in range(1, 9))
    made = [event.attempt for event in events if isinstance(event, Delta) and event.attempt is not None]
    assert [each.number for each in made] == list(range(1, len(upstream.requests(key))))
    assert len(made) > ATTEMPTS_WITHOUT_PROGRESS


async def test_restarts_are_few_in_however_many_workers(url: str, upstream: UpstreamProcess, key: str) -> None:
    async with worker(url, upstream, recovery="restart", continuation="none") as here:
        stalls = {"cut_after": None, "stall_after": 1}
        producer = await here.start(key, chunks=4, cut_after=2, first=[{}, {}, stalls])
        await until(lambda: len(upstream.requests(key)) == 3)
        await passed_on(here, producer.answer_id)
        events = await here.follow(producer.answer_id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_cut"
    assert len(upstream.requests(key)) == 1 + RESTARTS + 1, "the take-over's own restart is none after a break"
