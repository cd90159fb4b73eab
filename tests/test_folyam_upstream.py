"""Another Folyam as the upstream that fails before its first word. tests/e2e/test_reattach.py has a real one."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import UNSET
from structlog.testing import capture_logs

from service import recovery as recovering
from service.answer import Attached, fold
from service.errors import Unavailable, UpstreamError
from service.eventlog import Lease, LeaseLostError
from service.events import (
    NO_RUN,
    Delta,
    Done,
    Event,
    Failed,
    Restart,
    Run,
    Start,
    Timing,
    Usage,
    encode_lines,
    new_answer_id,
)
from service.question import to_request
from service.recovery import ATTEMPTS_WITHOUT_PROGRESS, FOLLOWING_ATTEMPTS, Policy, Recovery
from service.request import Request
from service.upstream import connector
from service.upstream.client import BREAKER_QUESTIONS
from service.upstream.endpoint import Endpoint, Role
from service.upstream.stream import Upstream
from tests.listening import listening
from tests.upstream import bodies
from tests.upstream.piecewise import serving
from tests.upstream.raw import GOOD_STREAM, RawRequest, RawUpstream
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import TIME_OUTS, text_of, worker

ID = "0123456789abcdef0123456789abcdef"
WHOLE: list[Event] = [Start(1, ID, "m"), Delta(2, text="A river flows"), Done(3, "stop", None, Timing(0.1, 0.2))]


def events(*sent: Event, length: str = "") -> bytes:
    """A response with these events; with a length above theirs it is cut behind them."""
    head = f"HTTP/1.1 200 OK\r\nX-Answer-Id: {ID}\r\nConnection: close\r\n{length}\r\n".encode()
    return head + encode_lines(sent)


CUT = events(WHOLE[0], length="Content-Length: 9999\r\n")


def question() -> Request:
    return to_request("hello", model="test-model")


def folyam(raw: RawUpstream, path: str = "") -> Endpoint:
    return Endpoint(f"{raw.address}{path}", "key", kind="folyam")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PAUSE_SECONDS", (0.001, 0.002))


async def read_all(upstream: Upstream, on_run: Callable[[Run], Awaitable[Run]] | None = None) -> list[Event]:
    stream = upstream.stream(question(), last_seq=1, on_run=on_run)
    read: list[Event] = []
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while came := await stream.read():
                read += came
    finally:
        stream.close()
    return read


async def test_a_run_that_is_cut_before_its_first_word_is_followed_again_and_not_asked_for_twice() -> None:
    runs: list[Run] = []

    async def log(run: Run) -> Run:
        runs.append(run)
        return run

    async with RawUpstream(lambda asked: CUT if asked.method == "POST" else events(*WHOLE)) as raw:
        upstream = Upstream([folyam(raw)], TIME_OUTS, retries=2)
        assert await read_all(upstream, log) == [Delta(3, text="A river flows")]
        await upstream.aclose()
    assert [(asked.method, asked.path) for asked in raw.requests] == [("POST", "/generate"), ("GET", f"/answers/{ID}")]
    assert runs == [Run(ID, raw.address, tells_all=True)]


async def test_the_fallbacks_answer_is_not_taken_for_the_run_that_it_replaced(tmp_path: Path) -> None:
    # The fallback, which keeps no run, breaks off in its first words.
    broken = bodies.response(bodies.HELLO, "Content-Length: 9999")
    async with (
        RawUpstream(lambda asked: events(*WHOLE) if asked.method == "GET" else CUT) as raw,
        serving(broken) as second,
        worker(tmp_path.as_uri(), second, first=folyam(raw), fallback=Endpoint(second.base_url, "key")) as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
    assert text_of(got) == "Hello"
    assert isinstance(got[-1], Failed)
    assert got[-1].code == "upstream_cut"
    assert [(asked.method, asked.path) for asked in raw.requests] == [
        ("POST", "/generate"),
        ("POST", f"/answers/{ID}/stop"),
    ]


async def test_a_run_that_the_log_does_not_take_is_not_read() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CUT)
        try:
            while await reader.read(1 << 16):
                pass
        finally:
            ended.set()

    async def refuse(_: Run) -> Run:
        raise Unavailable("log_full")

    async with listening(serve) as address:
        upstream = Upstream([Endpoint(f"http://{address}", "key", kind="folyam")], TIME_OUTS, retries=0)
        with pytest.raises(Unavailable):
            await read_all(upstream, refuse)
        await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
        await upstream.aclose()


def test_a_restart_takes_back_a_run_without_a_word() -> None:
    # Else the next endpoint's text would be taken for that run's.
    state = fold([Start(1, ID, "m"), Delta(2, run=Run(ID, "http://inner"))])
    mending = Policy("restart", continues=False).after_break(state, "cut", attaches=False)
    assert (mending.how, mending.discards) == ("restart", True)


async def test_a_run_behind_a_redirect_is_followed_again_and_stopped_there() -> None:
    def respond(asked: RawRequest) -> bytes:
        if not asked.path.startswith("/inner"):
            location = f"Location: /inner{asked.path}\r\n".encode()
            return b"HTTP/1.1 308 There\r\n%bConnection: close\r\nContent-Length: 0\r\n\r\n" % location
        return CUT if asked.path.endswith("/generate") else events(*WHOLE)

    async with RawUpstream(respond) as raw:
        upstream = Upstream([folyam(raw)], TIME_OUTS, retries=1)
        assert text_of(await read_all(upstream)) == "A river flows"
        upstream.stop(Run(ID, raw.address))
        await upstream.aclose()
    assert [(asked.method, asked.path) for asked in raw.requests] == [
        ("POST", "/generate"),
        ("POST", "/inner/generate"),
        ("GET", f"/answers/{ID}"),
        ("GET", f"/inner/answers/{ID}"),
        ("POST", f"/answers/{ID}/stop"),
        ("POST", f"/inner/answers/{ID}/stop"),
    ]


async def test_following_and_stopping_a_run_load_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading the authorities takes 20 ms, in which no other answer goes on.
    upstream = Upstream([Endpoint("https://127.0.0.1:1", "key", kind="folyam")], TIME_OUTS, retries=0)
    monkeypatch.setattr(connector, "client_tls", lambda *_: pytest.fail("the authorities are loaded again"))
    attached = Attached(Run(ID, "https://127.0.0.1:1"), 0, 0, 0)
    with pytest.raises(UpstreamError) as failed:
        await upstream.stream(question(), last_seq=1, attached=attached).read()
    assert failed.value.reason == "unreachable"
    upstream.stop(attached.run)
    await upstream.aclose()


@pytest.mark.parametrize(("refusal", "stops"), [(None, 1), (LeaseLostError(), 0), (Unavailable("log_full"), 0)])
async def test_a_run_is_stopped_only_if_the_answer_ends_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception | None, stops: int
) -> None:
    # Else another worker has the answer, or will have it, and follows the run.
    failed = Failed(3, "upstream_error", "It broke.", retryable=True)
    async with (
        RawUpstream(lambda asked: events(*(WHOLE if asked.method == "GET" else (*WHOLE[:2], failed)))) as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw)) as here,
    ):
        producer = await here.ask(question())
        append = type(producer._lease).append

        async def append_or_refuse(lease: Lease, sent: Sequence[Event]) -> None:
            if refusal is not None and isinstance(sent[0], Failed):
                raise refusal
            await append(lease, sent)

        with monkeypatch.context() as patched:
            patched.setattr(type(producer._lease), "append", append_or_refuse)
            await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        assert not here.supervisor._running
    assert [asked.path for asked in raw.requests].count(f"/answers/{ID}/stop") == stops


async def test_a_run_that_the_fallback_was_to_replace_is_stopped_with_the_answer_if_the_log_did_not_take_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        RawUpstream(lambda asked: CUT if asked.path == "/generate" else b"") as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw), fallback=Endpoint(unasked.base_url, "key")) as here,
    ):
        producer = await here.ask(question())
        append = type(producer._lease).append

        async def append_or_refuse(lease: Lease, sent: Sequence[Event]) -> None:
            if isinstance(sent[0], Delta) and sent[0].run == NO_RUN:
                raise Unavailable("log_full")
            await append(lease, sent)

        with monkeypatch.context() as patched:
            patched.setattr(type(producer._lease), "append", append_or_refuse)
            assert isinstance((await here.follow(producer.answer_id))[-1], Failed)
    assert [asked.path for asked in raw.requests] == ["/generate", f"/answers/{ID}/stop"]


@pytest.mark.parametrize(("how", "attempts"), [("gone", 1), ("ended", 0), ("away", FOLLOWING_ATTEMPTS)])
async def test_a_run_that_is_not_given_out_is_never_followed_again_and_its_text_continued(
    tmp_path: Path, how: str, attempts: int
) -> None:
    # The fallback goes on, after some failures.
    ended = events(*WHOLE[:2], Failed(3, "upstream_cut", "It was cut.", retryable=True))
    cut = events(*WHOLE[:2], length="Content-Length: 9999\r\n")
    gone = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    away = b"HTTP/1.1 503 Not Now\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answers = [away, away, away, GOOD_STREAM]

    def respond(asked: RawRequest) -> bytes:
        if asked.path == "/generate":
            return ended if how == "ended" else cut
        return away if how == "away" else gone

    async with (
        RawUpstream(respond) as raw,
        RawUpstream(lambda _: answers.pop(0)) as second,
        worker(
            tmp_path.as_uri(),
            second,
            first=folyam(raw),
            fallback=Endpoint(second.base_url, "key", continuation="assistant"),
        ) as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
    assert isinstance(got[-1], Done)
    assert text_of(got) == "A river flowsHello world"
    assert len(second.requests) == 4
    asked_for = [asked.path for asked in raw.requests if not asked.path.endswith("/stop")]
    assert asked_for == ["/generate", *[f"/answers/{ID}"] * attempts]


def broken_off(said: Event, follows: list[bytes]) -> Callable[[RawRequest], bytes]:
    """An upstream whose run breaks off behind what it said, and that answers each further request with the next."""
    cut = events(WHOLE[0], said, length="Content-Length: 9999\r\n")
    return lambda asked: follows.pop(0) if asked.method == "GET" else cut


GONE = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
AWAY = b"HTTP/1.1 503 Not Now\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


async def test_a_run_that_is_followed_again_shows_that_the_upstream_is_back() -> None:
    # Else the breaker lets one answer in two seconds follow its run, and the others give up.
    posts = iter([AWAY] * BREAKER_QUESTIONS)
    async with RawUpstream(
        lambda asked: events(*WHOLE) if asked.method == "GET" else next(posts, events(*WHOLE))
    ) as raw:
        upstream = Upstream([folyam(raw)], TIME_OUTS, retries=0)
        for number in range(BREAKER_QUESTIONS):
            with pytest.raises(UpstreamError):
                await upstream.stream(to_request(str(number), model="test-model"), last_seq=1).read()
        attached = Attached(Run(ID, raw.address), 0, 0, 0)
        again = upstream.stream(question(), last_seq=1, attached=attached, passes_breaker=True)
        assert text_of([*await again.read()]) == "A river flows"
        again.close()
        assert text_of(await read_all(upstream)) == "A river flows"
        await upstream.aclose()


async def test_a_take_over_tries_to_reach_a_run_as_often_as_a_worker_that_lost_it(tmp_path: Path) -> None:
    async with (
        RawUpstream(lambda _: AWAY) as raw,
        serving(GOOD_STREAM) as second,
        worker(
            tmp_path.as_uri(),
            second,
            first=folyam(raw),
            fallback=Endpoint(second.base_url, "key", continuation="assistant"),
        ) as here,
    ):
        answer = new_answer_id()
        lease = await here.log.create(Start.asking(answer, question(), at=time.time()))
        await lease.append([Delta(2, run=Run(ID, raw.address)), Delta(3, text="A river flows")])
        lease.release()
        here.supervisor.adopt(answer)
        got = await here.follow(answer)
    assert text_of(got) == "A river flowsHello world"
    assert sum(asked.method == "GET" for asked in raw.requests) == FOLLOWING_ATTEMPTS


@pytest.mark.parametrize("lost", [GONE, AWAY], ids=["gone", "away"])
async def test_a_take_over_whose_run_is_gone_fails_with_what_the_question_then_gets(
    tmp_path: Path, lost: bytes
) -> None:
    refused = b"HTTP/1.1 402 Payment Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with (
        RawUpstream(lambda asked: lost if asked.method == "GET" else refused) as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw), recovery="restart") as here,
    ):
        answer = new_answer_id()
        lease = await here.log.create(Start.asking(answer, question(), at=time.time()))
        await lease.append([Delta(2, run=Run(ID, raw.address))])
        lease.release()
        here.supervisor.adopt(answer)
        last = (await here.follow(answer))[-1]
    assert isinstance(last, Failed)
    assert (last.code, last.retryable) == ("upstream_no_credit", False)


@pytest.mark.parametrize("away", range(FOLLOWING_ATTEMPTS))
async def test_a_run_that_is_gone_when_its_upstream_is_back_is_continued(tmp_path: Path, away: int) -> None:
    async with (
        RawUpstream(broken_off(WHOLE[1], [AWAY] * away + [GONE])) as raw,
        RawUpstream(lambda _: GOOD_STREAM) as second,
        worker(
            tmp_path.as_uri(),
            second,
            first=folyam(raw),
            fallback=Endpoint(second.base_url, "key", continuation="assistant"),
        ) as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
    assert isinstance(got[-1], Done)
    assert text_of(got) == "A river flowsHello world"


async def test_a_run_whose_words_cannot_be_handed_back_is_followed_as_often_as_where_nothing_continues(
    tmp_path: Path,
) -> None:
    rest = Delta(3, refusal=" say."), Done(4, "stop", None, Timing(0.1, 0.2))
    begun = Delta(2, refusal="I won't")
    follows = [*[AWAY] * (ATTEMPTS_WITHOUT_PROGRESS - 1), events(WHOLE[0], begun, *rest)]
    async with (
        RawUpstream(broken_off(begun, follows)) as raw,
        serving(b"") as unasked,
        worker(
            tmp_path.as_uri(),
            unasked,
            first=folyam(raw),
            fallback=Endpoint(unasked.base_url, "key", continuation="assistant"),
        ) as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
        assert unasked.asked == 0
    assert isinstance(got[-1], Done)
    assert "".join(event.refusal or "" for event in got if isinstance(event, Delta)) == "I won't say."


@pytest.mark.parametrize("in_the_middle", [False, True])
@pytest.mark.parametrize(("code", "status"), [("upstream_moderated", 403), ("upstream_credentials", 502)])
async def test_a_refusal_that_a_folyam_passes_on_is_the_same_one_here(
    tmp_path: Path, code: str, status: int, *, in_the_middle: bool
) -> None:
    failed = events(*WHOLE[:2], Failed(3, code, "It was refused.", retryable=False))
    body = json.dumps({"error": {"code": code, "message": "It was refused.", "request_id": "r"}}).encode()
    refused = b"HTTP/1.1 %d No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    async with (
        RawUpstream(lambda _: failed if in_the_middle else refused) as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw), recovery="restart") as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
    assert isinstance(got[-1], Failed)
    assert (got[-1].code, got[-1].retryable) == (code, False)
    assert [asked.path for asked in raw.requests if not asked.path.endswith("/stop")] == ["/generate"]


@pytest.mark.parametrize("code", ["upstream_moderated", "upstream_no_credit"])
async def test_a_refusal_in_a_run_that_is_followed_again_ends_the_answer_as_one_that_was_not_cut(
    tmp_path: Path, code: str
) -> None:
    # Nobody is asked to go on behind a refusal in the middle, whichever connection it comes by.
    failed = events(*WHOLE[:2], Failed(3, code, "It was refused.", retryable=False))
    async with (
        RawUpstream(broken_off(WHOLE[1], [AWAY, failed])) as raw,
        serving(GOOD_STREAM) as second,
        worker(
            tmp_path.as_uri(),
            second,
            first=folyam(raw),
            fallback=Endpoint(second.base_url, "key", continuation="assistant"),
        ) as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
        assert second.asked == 0
    assert isinstance(got[-1], Failed)
    assert (got[-1].code, got[-1].retryable, text_of(got)) == (code, False, "A river flows")


async def test_an_answer_that_breaks_off_behind_its_last_word_is_not_counted_as_empty(tmp_path: Path) -> None:
    cut = events(*WHOLE[:2], length="Content-Length: 9999\r\n")
    with capture_logs() as lines:
        async with (
            RawUpstream(lambda asked: events(*WHOLE) if asked.method == "GET" else cut) as raw,
            serving(b"") as unasked,
            worker(tmp_path.as_uri(), unasked, first=folyam(raw)) as here,
        ):
            got = await here.follow((await here.ask(question())).answer_id)
    assert text_of(got) == "A river flows"
    assert [line["outcome"] for line in lines if line["event"] == "answer"] == ["done"]


USAGE = Usage(1, 2, 3)
BROKEN = events(*WHOLE[:2], length="Content-Length: 9999\r\n")


@pytest.mark.parametrize(
    ("end", "usage_complete"),
    [
        (Done(3, "stop", USAGE, Timing(0.1, 0.2)), UNSET),
        (Done(3, "stop", USAGE, Timing(0.1, 0.2), usage_complete=False), False),
        (Done(3, "stop", None, Timing(0.1, 0.2)), UNSET),
    ],
)
async def test_a_run_that_broke_off_and_is_followed_again_is_counted_once_and_tells_all(
    tmp_path: Path, end: Done, usage_complete: object
) -> None:
    async with (
        RawUpstream(lambda asked: BROKEN if asked.method == "POST" else events(*WHOLE[:2], end)) as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw)) as here,
    ):
        done = (await here.follow((await here.ask(question())).answer_id))[-1]
    assert isinstance(done, Done)
    assert (done.usage, done.usage_complete) == (end.usage, usage_complete)


async def test_what_a_run_cost_is_unknown_once_it_is_gone(tmp_path: Path) -> None:
    whole = bodies.response(bodies.HELLO + bodies.end(usage=bodies.USAGE) + bodies.DONE)
    gone = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with (
        RawUpstream(lambda asked: BROKEN if asked.method == "POST" else gone) as raw,
        serving(whole) as second,
        worker(
            tmp_path.as_uri(),
            second,
            first=folyam(raw),
            fallback=Endpoint(second.base_url, "key", continuation="assistant"),
        ) as here,
    ):
        done = (await here.follow((await here.ask(question())).answer_id))[-1]
    assert isinstance(done, Done)
    assert done.usage is not None
    assert done.usage_complete is False


async def test_a_run_tells_not_all_where_another_request_may_have_cost_something_before(tmp_path: Path) -> None:
    cut = bodies.response(b"", "Content-Length: 9999")
    async with (
        RawUpstream(lambda _: events(*WHOLE)) as raw,
        serving(cut) as first,
        worker(
            tmp_path.as_uri(),
            first,
            first=Endpoint(first.base_url, "key"),
            fallback=Endpoint(raw.address, "key", kind="folyam", role="fallback"),
        ) as here,
    ):
        got = await here.follow((await here.ask(question())).answer_id)
    runs = [event.run for event in got if isinstance(event, Delta) and event.run]
    assert runs == [Run(ID, raw.address, by="fallback")]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_take_over_that_follows_the_run_knows_what_it_cost_if_the_run_is_all(
    tmp_path: Path,
    whole: bool,  # noqa: FBT001
) -> None:
    counted = Done(3, "stop", USAGE, Timing(0.1, 0.2))
    async with (
        RawUpstream(lambda _: events(*WHOLE[:2], counted)) as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw)) as here,
    ):
        answer = new_answer_id()
        lease = await here.log.create(Start.asking(answer, question(), at=time.time()))
        await lease.append([Delta(2, run=Run(ID, raw.address, tells_all=whole))])
        lease.release()
        here.supervisor.adopt(answer)
        done = (await here.follow(answer))[-1]
    assert isinstance(done, Done)
    assert (done.usage, done.usage_complete) == (USAGE, UNSET if whole else False)


@pytest.mark.parametrize("said", [[], [Delta(3, text="A river")]], ids=len)
async def test_a_run_that_a_restart_replaces_is_stopped_before_the_next_word(tmp_path: Path, said: list[Event]) -> None:
    # The next worker cannot tell: the restart takes the run back.
    paths: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        if paths[-1] == f"/answers/{ID}":
            writer.write(GONE)
        elif paths[-1] == "/generate":
            await reader.read()  # It is not answered.

    async with (
        listening(serve) as address,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=Endpoint(f"http://{address}", "key", kind="folyam")) as here,
    ):
        answer = new_answer_id()
        lease = await here.log.create(Start.asking(answer, question(), at=time.time()))
        await lease.append([Delta(2, run=Run(ID, f"http://{address}")), *said])
        lease.release()
        here.supervisor.adopt(answer)
        await until(lambda: f"/answers/{ID}/stop" in paths)
        events = await here.read(answer)
        assert [type(event) for event in events[2 + len(said) :]] == [Delta, Restart, Delta, Delta]
        assert fold(events).run == NO_RUN


@pytest.mark.parametrize(("recovery", "end"), [(None, Done), ("continue", Done), ("fail", Failed)])
@pytest.mark.parametrize("said", [[], [Delta(3, text="A river")]])
async def test_a_take_over_whose_run_is_gone_begins_anew_as_one_without_a_run(
    tmp_path: Path, recovery: Recovery | None, end: type[Event], said: list[Event]
) -> None:
    async with (
        RawUpstream(lambda asked: GONE if asked.method == "GET" else events(*WHOLE)) as raw,
        serving(b"") as unasked,
        worker(tmp_path.as_uri(), unasked, first=folyam(raw), recovery=recovery) as here,
    ):
        answer = new_answer_id()
        lease = await here.log.create(Start.asking(answer, question(), at=time.time()))
        await lease.append([Delta(2, run=Run(ID, raw.address)), *said])
        lease.release()
        here.supervisor.adopt(answer)
        got = await here.follow(answer)
    assert isinstance(got[-1], end)
    if end is Done:
        [place] = [number for number, event in enumerate(got) if isinstance(event, Restart)]
        assert text_of(got[place:]) == "A river flows"


async def test_a_run_that_is_followed_again_tells_all_that_it_cost() -> None:
    counted = Done(3, "stop", Usage(1, 2, 3), Timing(0.1, 0.2))
    async with RawUpstream(lambda asked: CUT if asked.method == "POST" else events(*WHOLE[:2], counted)) as raw:
        upstream = Upstream([folyam(raw)], TIME_OUTS, retries=1)
        stream = upstream.stream(question(), last_seq=1)
        while await stream.read():
            pass
        assert (stream.usage, stream.has_all_usage) == (counted.usage, True)
        await upstream.aclose()


async def test_a_run_that_the_fallback_replaced_is_a_cost_that_is_not_known() -> None:
    whole = bodies.response(bodies.HELLO + bodies.end(usage=bodies.USAGE) + bodies.DONE)
    async with RawUpstream(lambda _: CUT) as raw, serving(whole) as second:
        upstream = Upstream([folyam(raw), Endpoint(second.base_url, "key")], TIME_OUTS, retries=0)
        stream = upstream.stream(question(), last_seq=1)
        while await stream.read():
            pass
        assert (stream.usage is not None, stream.has_all_usage) == (True, False)
        await upstream.aclose()


@pytest.mark.parametrize("role", ["primary", "fallback"])
async def test_a_run_that_its_upstream_begins_anew_is_the_same_run(tmp_path: Path, role: Role) -> None:
    # It is the same endpoint's, and what it costs in the end is all that the answer costs.
    whole = events(*WHOLE[:2], Restart(3), Delta(4, text="A lake"), Done(5, "stop", None, Timing(0.1, 0.2)))
    refused = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    responses = iter([*[refused] * (role == "fallback"), whole])
    async with RawUpstream(lambda _: next(responses)) as raw:
        fallback = replace(folyam(raw), role="fallback")
        async with worker(tmp_path.as_uri(), raw, first=folyam(raw), fallback=fallback) as here:
            got = await here.follow((await here.ask(question())).answer_id)
    runs = [event.run for event in got if isinstance(event, Delta) and event.run is not None]
    begun = Run(ID, raw.address, tells_all=True, by=role)
    assert runs == [begun, Run(ID, raw.address, 1, tells_all=True, by=role)]
