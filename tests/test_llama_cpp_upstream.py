"""llama.cpp as the upstream, by what is sent to it. tests/e2e/test_llama_cpp.py has answers that break off."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from msgspec import UNSET

from service import recovery as recovering
from service.answer import Said
from service.errors import Unavailable, UpstreamError
from service.eventlog import LeaseLostError
from service.events import (
    NO_RUN,
    Delta,
    Done,
    Event,
    Restart,
    Run,
    Seam,
    Start,
    Stopped,
    Usage,
    is_answer_id,
    new_answer_id,
)
from service.producer import Limits
from service.question import to_request
from service.upstream.endpoint import Continuation, Endpoint, Role, ThinkTags
from service.upstream.llama_cpp import LlamaCppClient
from service.upstream.stream import Upstream
from tests.listening import listening
from tests.upstream import bodies
from tests.upstream.piecewise import serving
from tests.upstream.raw import GOOD_STREAM, RawRequest, RawUpstream, chunk
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import PATIENT, TIME_OUTS, text_of, worker

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n" + chunk({"role": "assistant"})
NOTHING = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def respond(posted: bytes, followed: bytes = GOOD_STREAM) -> Callable[[RawRequest], bytes]:
    return lambda asked: {"POST": posted, "GET": followed, "DELETE": NOTHING}[asked.method]


def llama(raw: RawUpstream, continuation: Continuation = "none") -> Endpoint:
    return Endpoint(raw.base_url, "secret", kind="llama.cpp", continuation=continuation)


def run_of(asked: RawRequest) -> str:
    """The run that a request is about."""
    return asked.headers.get("x-conversation-id") or parse_qs(urlsplit(asked.path).query)["conv_id"][0]


async def read_all(
    upstream: Upstream, on_run: Callable[[Run], Awaitable[Run]] | None = None, said: Said | None = None
) -> list[Event]:
    stream = upstream.stream(to_request("hello", model="test-model"), last_seq=1, said=said, on_run=on_run)
    read: list[Event] = []
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while came := await stream.read():
                read += came
    finally:
        stream.close()
    return read


async def test_each_question_has_a_run_of_its_own_that_is_logged_before_the_first_delta() -> None:
    # The server ends the run that has the id already.
    runs: list[Run] = []

    async def log(run: Run) -> Run:
        runs.append(run)
        return run

    async with RawUpstream(respond(GOOD_STREAM)) as raw:
        upstream = Upstream([llama(raw)], TIME_OUTS, retries=0)
        for _ in range(2):
            events = await read_all(upstream, log)
            assert text_of(events) == "Hello world"
            assert events[0].seq == 3
        await upstream.aclose()
    ids = [asked.headers["x-conversation-id"] for asked in raw.requests]
    assert [(run.id, run.at) for run in runs] == [(id_, raw.base_url) for id_ in ids]
    assert len(set(ids)) == 2
    assert all(map(is_answer_id, ids)), "it cannot be guessed: the id alone gives access"


async def test_a_run_that_is_cut_before_its_first_word_is_followed_again_and_not_asked_for_twice() -> None:
    async with RawUpstream(respond(CUT)) as raw:
        upstream = Upstream([llama(raw)], TIME_OUTS, retries=1)
        assert text_of(await read_all(upstream)) == "Hello world"
        await upstream.aclose()
    asked, followed = raw.requests
    assert followed.method == "GET"
    assert followed.path == f"/v1/stream?conv_id={run_of(asked)}&from=0"
    assert followed.headers["authorization"] == "Bearer secret"
    assert "x-conversation-id" not in followed.headers


async def test_a_question_whose_response_did_not_begin_is_stopped_and_asked_again_under_another_id() -> None:
    responses = iter([b"", GOOD_STREAM])
    async with RawUpstream(lambda asked: NOTHING if asked.method == "DELETE" else next(responses)) as raw:
        upstream = Upstream([llama(raw)], TIME_OUTS, retries=1)
        assert text_of(await read_all(upstream)) == "Hello world"
        await until(lambda: len(raw.requests) == 3)
        await upstream.aclose()
    posts = [run_of(asked) for asked in raw.requests if asked.method == "POST"]
    stops = [run_of(asked) for asked in raw.requests if asked.method == "DELETE"]
    assert posts[0] != posts[1]
    assert {asked.headers["authorization"] for asked in raw.requests} == {"Bearer secret"}
    assert stops == [posts[0]]


async def test_a_run_that_the_log_does_not_take_is_not_asked_for() -> None:
    async def refuse(_: Run) -> Run:
        raise Unavailable("log_full")

    async with RawUpstream(respond(GOOD_STREAM)) as raw:
        upstream = Upstream([llama(raw)], TIME_OUTS, retries=0)
        with pytest.raises(Unavailable):
            await read_all(upstream, refuse)
        await upstream.aclose()
    assert raw.requests == []


async def test_a_stop_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LlamaCppClient, "stop_pauses", (0.001, 0.001))
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    responses = iter([busy, b"", NOTHING])
    async with RawUpstream(lambda _: next(responses)) as raw:
        upstream = Upstream([llama(raw)], TIME_OUTS, retries=0)
        upstream.stop(Run("a-run", raw.base_url))
        await until(lambda: len(raw.requests) == 3)
        await upstream.aclose()
    assert {(asked.method, run_of(asked)) for asked in raw.requests} == {("DELETE", "a-run")}


async def test_a_run_that_the_fallback_replaces_is_stopped() -> None:
    async with RawUpstream(respond(CUT)) as raw, serving(GOOD_STREAM) as second:
        upstream = Upstream([llama(raw), Endpoint(second.base_url, "key")], TIME_OUTS, retries=0)
        assert text_of(await read_all(upstream)) == "Hello world"
        await upstream.aclose()
    asked, stopped = raw.requests
    assert (stopped.method, run_of(stopped)) == ("DELETE", run_of(asked))


async def test_a_run_is_not_stopped_for_the_fallback_if_another_worker_has_the_answer() -> None:
    # That worker follows the run.
    async def log(run: Run) -> Run:
        if run == NO_RUN:
            raise LeaseLostError
        return run

    async with RawUpstream(respond(CUT)) as raw, serving(GOOD_STREAM) as second:
        upstream = Upstream([llama(raw), Endpoint(second.base_url, "key")], TIME_OUTS, retries=0)
        with pytest.raises(LeaseLostError):
            await read_all(upstream, log)
        await upstream.aclose()
    assert [asked.method for asked in raw.requests] == ["POST"]


async def test_a_question_that_was_never_sent_has_no_run_to_stop() -> None:
    connections = 0

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with pytest.MonkeyPatch.context() as patched:
        async with listening(proxy) as address:
            patched.setenv("HTTPS_PROXY", f"http://{address}")
            upstream = Upstream([Endpoint("https://llama.invalid/v1", "k", kind="llama.cpp")], TIME_OUTS, retries=0)
            with pytest.raises(UpstreamError) as failed:
                await read_all(upstream)
            await upstream.aclose()
    assert failed.value.reason == "proxy_refused"
    assert connections == 1


@pytest.mark.parametrize("continuation", ["none", "vllm", "prefix"])
async def test_a_text_is_handed_back_in_the_one_way_that_the_server_has(continuation: Continuation) -> None:
    async with RawUpstream(respond(GOOD_STREAM)) as raw:
        upstream = Upstream([llama(raw, continuation)], TIME_OUTS, retries=0)
        assert upstream.continues
        await read_all(upstream, said=Said("So they said:", "Hm."))
        await upstream.aclose()
    body = msgspec.json.decode(raw.requests[0].body)
    assert body["messages"][-1] == {"role": "assistant", "content": "So they said:", "reasoning_content": "Hm."}
    assert "continue_final_message" not in body


async def test_a_run_behind_a_redirect_keeps_its_id() -> None:
    def behind(asked: RawRequest) -> bytes:
        if not asked.path.startswith("/inner"):
            location = f"Location: /inner{asked.path}\r\n".encode()
            return b"HTTP/1.1 308 There\r\n%bConnection: close\r\nContent-Length: 0\r\n\r\n" % location
        return respond(CUT)(asked)

    async with RawUpstream(behind) as raw:
        upstream = Upstream([llama(raw)], TIME_OUTS, retries=1)
        assert text_of(await read_all(upstream)) == "Hello world"
        upstream.stop(Run(run_of(raw.requests[0]), raw.base_url))
        await upstream.aclose()
    assert len({run_of(asked) for asked in raw.requests}) == 1
    assert [asked.method for asked in raw.requests] == ["POST", "POST", "GET", "GET", "DELETE", "DELETE"]


# A run that is followed again is read in the same way.

LOST = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def stream_of(*deltas: dict[str, str], cut: bool = False) -> bytes:
    """A response with a delta of each; it is cut, or else has an end."""
    said = b"".join(bodies.data(bodies.chunk(delta)) for delta in deltas)
    return bodies.response(said, "Content-Length: 999999") if cut else bodies.stream(said, bodies.end(), bodies.DONE)


def in_turn(posts: list[bytes], follows: list[bytes]) -> Callable[[RawRequest], bytes]:
    """Respond to each question, and each request to follow a run, with the next of these."""
    given = {"POST": iter(posts), "GET": iter(follows)}
    return lambda asked: NOTHING if asked.method == "DELETE" else next(given[asked.method])


async def answered(
    directory: Path,
    respond: Callable[[RawRequest], bytes],
    limits: Limits = PATIENT,
    think_tags: ThinkTags = "auto",
) -> list[Event]:
    async with RawUpstream(respond) as raw:
        first = replace(llama(raw), think_tags=think_tags)
        async with worker(directory.as_uri(), raw, first=first, limits=limits) as here:
            return await here.follow((await here.ask(to_request("hello", model="test-model"))).answer_id)


def voices(events: list[Event]) -> tuple[str, str]:
    return "".join(event.reasoning or "" for event in events if isinstance(event, Delta)), text_of(events)


async def test_what_a_followed_run_repeats_is_not_counted_against_the_answers_limit(tmp_path: Path) -> None:
    # A model that thinks again before it goes on: all of that is held back, each time that it is read.
    thoughts = [{"reasoning_content": f"thought {n} "} for n in range(100)]
    rest = [*thoughts, {"content": " world"}]
    respond = in_turn([stream_of({"content": "Hello"}, cut=True), stream_of(*rest, cut=True)], [LOST, stream_of(*rest)])
    events = await answered(tmp_path, respond, replace(PATIENT, answer_bytes=8000))
    assert isinstance(events[-1], Done)
    assert text_of(events) == "Hello world"


@pytest.mark.parametrize("said", ["text", "reasoning"])
async def test_a_take_over_reads_a_continued_run_as_the_dead_worker_did(tmp_path: Path, said: str) -> None:
    # That one had learnt whether the server sends reasoning in a field.
    known, rest = "word " * 900, "and so on."
    async with RawUpstream(in_turn([], [stream_of({"content": known}, {"content": rest})])) as raw:
        first = replace(llama(raw), think_tags="on")
        async with worker(tmp_path.as_uri(), raw, first=first) as here:
            answer = new_answer_id()
            asked = to_request("hello", model="test-model")
            lease = await here.log.create(Start.asking(answer, asked, at=time.time()))
            await lease.append(
                [
                    Delta(2, reasoning="Hm, "),
                    Delta(3, run=Run("a" * 32, raw.base_url)),
                    Delta(4, seam=Seam("continued", "cut")),
                    Delta(5, **{said: known}),  # type: ignore[arg-type]
                ]
            )
            lease.release()
            here.supervisor.adopt(answer)
            events = await here.follow(answer)
    whole = known + rest
    assert voices(events) == (("Hm, ", whole) if said == "text" else (f"Hm, {whole}", ""))


@pytest.mark.parametrize("ends", ["done", "stopped"])
async def test_usage_that_a_run_tells_as_it_goes_is_summed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    if ends == "stopped":  # before it is followed again
        monkeypatch.setattr(recovering, "PAUSE_SECONDS", (DEADLINE_SECONDS, DEADLINE_SECONDS))
        monkeypatch.setattr(recovering, "MAX_PAUSE_SECONDS", DEADLINE_SECONDS)
    told = bodies.data(json.dumps({"choices": [], "usage": bodies.USAGE}))
    begun = bodies.say("Hello") + told
    cut = bodies.response(begun, "Content-Length: 999999")
    whole = bodies.stream(begun, bodies.say(" world"), bodies.end(), told, bodies.DONE)
    async with (
        RawUpstream(in_turn([cut], [whole])) as raw,
        worker(tmp_path.as_uri(), raw, first=llama(raw)) as here,
    ):
        producer = await here.ask(to_request("hello", model="test-model"))
        if ends == "stopped":
            await here.read_to(producer.answer_id, seq=3)
            producer.stop("user")
        last = (await here.follow(producer.answer_id))[-1]
    assert isinstance(last, Done if ends == "done" else Stopped)
    assert last.usage == Usage(3, 5, 8)
    assert last.usage_complete is (UNSET if ends == "done" else False)


@pytest.mark.parametrize("role", ["primary", "fallback"])
async def test_a_run_is_followed_by_the_endpoint_that_began_it_where_two_have_one_address(
    tmp_path: Path, role: Role
) -> None:
    # One server with two models, of which one writes its reasoning into its text.
    texts = [{"content": "<think>Hm.</think>"}, {"content": "Hello"}, {"content": " world"}]
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    posts = [*[busy] * (role == "fallback"), stream_of(*texts[:2], cut=True)]
    async with RawUpstream(in_turn(posts, [*[busy] * (role == "primary"), stream_of(*texts)])) as raw:
        first, second = llama(raw), replace(llama(raw), role="fallback", model="another")
        if role == "primary":
            first = replace(first, think_tags="on")
        else:
            second = replace(second, think_tags="on")
        async with worker(tmp_path.as_uri(), raw, first=first, fallback=second) as here:
            events = await here.follow((await here.ask(to_request("hello", model="test-model"))).answer_id)
    assert voices(events) == ("Hm.", "Hello world")
    assert isinstance(events[-1], Done)


START = "The river rises in the Black Forest, and it flows through "


def began_anew(cut_behind: int) -> tuple[list[bytes], list[bytes]]:
    """Return the responses to two questions, of which the second begins another answer, and to following that run."""
    other = [{"content": START}, {"content": "nine "}, {"content": "countries."}]
    posts = [
        stream_of({"content": START}, {"content": "ten "}, cut=True),
        stream_of(*other[:cut_behind], cut=True),
    ]
    return posts, [LOST, stream_of(*other)]


async def test_a_run_that_began_another_answer_is_followed_again(tmp_path: Path) -> None:
    async with (
        RawUpstream(in_turn(*began_anew(cut_behind=2))) as raw,
        worker(tmp_path.as_uri(), raw, first=llama(raw)) as here,
    ):
        events = await here.follow((await here.ask(to_request("hello", model="test-model"))).answer_id)
    [place] = [number for number, event in enumerate(events) if isinstance(event, Restart)]
    assert text_of(events[place:]) == f"{START}nine countries."
    assert [event.seam for event in events[place:] if isinstance(event, Delta) and event.seam] == [
        Seam("reattached", "cut")
    ]
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("said", [[], [START], [START, "nine "]], ids=len)
async def test_a_take_over_follows_a_run_that_began_another_answer(tmp_path: Path, said: list[str]) -> None:
    async with (
        RawUpstream(in_turn([], began_anew(cut_behind=2)[1][1:])) as raw,
        worker(tmp_path.as_uri(), raw, first=llama(raw)) as here,
    ):
        answer = new_answer_id()
        asked = to_request("hello", model="test-model")
        lease = await here.log.create(Start.asking(answer, asked, at=time.time()))
        await lease.append([Delta(2, text=f"{START}ten "), Delta(3, run=Run("a" * 32, raw.base_url))])
        if said:
            await lease.append([Restart(4), *(Delta(5 + number, text=text) for number, text in enumerate(said))])
        lease.release()
        here.supervisor.adopt(answer)
        events = await here.follow(answer)
    [place] = [number for number, event in enumerate(events) if isinstance(event, Restart)]
    assert text_of(events[place:]) == f"{START}nine countries."
    assert isinstance(events[-1], Done)
