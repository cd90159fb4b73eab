"""The OpenAI-compatible client, against a real upstream on a real socket."""

import asyncio
import base64
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from service.answer import AnswerState, Said
from service.errors import UpstreamError
from service.events import Delta, ToolCall, Usage, new_answer_id
from service.question import to_request
from service.request import Request, Turn
from service.upstream.body import USAGE_SECONDS
from service.upstream.client import BREAKER_QUESTIONS, BREAKER_SECONDS
from service.upstream.compression import PIECE_BYTES
from service.upstream.endpoint import Continuation, Endpoint, TimeOuts
from service.upstream.stream import Upstream, UpstreamStream
from tests.listening import listening
from tests.upstream import bodies
from tests.upstream.piecewise import RawServer, serving
from tests.upstream.process import UpstreamProcess
from tests.upstream.raw import GOOD_STREAM, RawRequest, RawUpstream
from tests.upstream.script import command
from tests.waiting import DEADLINE_SECONDS

FOREVER = 3600.0
PATIENT = TimeOuts(connect=10, status=10, first_chunk=10, silence=10)
SOON_SECONDS = 0.1


class Answer:
    """All that one stream gave."""

    def __init__(self, stream: UpstreamStream, deltas: list[Delta], error: UpstreamError | None) -> None:
        self.stream = stream
        self.deltas = deltas
        self.error = error

    @property
    def text(self) -> str:
        return "".join(delta.text or "" for delta in self.deltas)


@asynccontextmanager
async def upstream_of(*endpoints: Endpoint, time_outs: TimeOuts = PATIENT, retries: int = 0) -> AsyncIterator[Upstream]:
    upstream = Upstream(endpoints, time_outs, retries=retries)
    try:
        yield upstream
    finally:
        await upstream.aclose()


def endpoint(process: UpstreamProcess, **given: Any) -> Endpoint:  # noqa: ANN401 (the fields of Endpoint)
    return Endpoint(process.base_url, "sk-secret", **given)


def request(key: str = "", **script: Any) -> Request:  # noqa: ANN401 (the fields of Script)
    return to_request(command(key=key, **script), model="test-model")


async def read_all(stream: UpstreamStream) -> Answer:
    deltas: list[Delta] = []
    error = None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while came := await stream.read():
                deltas += [delta for delta in came if isinstance(delta, Delta)]
    except UpstreamError as caught:
        error = caught
    finally:
        stream.close()
    return Answer(stream, deltas, error)


async def ask(
    process: UpstreamProcess,
    asked: Request,
    *,
    time_outs: TimeOuts = PATIENT,
    retries: int = 0,
    last_seq: int = 1,
    **given: Any,  # noqa: ANN401 (the fields of Endpoint)
) -> Answer:
    async with upstream_of(endpoint(process, **given), time_outs=time_outs, retries=retries) as upstream:
        return await read_all(upstream.stream(asked, last_seq=last_seq))


def records(process: UpstreamProcess, key: str) -> list[dict[str, Any]]:
    return process.requests(key)


@pytest.fixture
def key() -> str:
    """A name for this test's requests."""
    return new_answer_id()


# A whole answer


async def test_an_answer_is_its_deltas_numbered_on_with_its_finish_and_usage(upstream: UpstreamProcess) -> None:
    answer = await ask(upstream, request(chunks=4, reasoning=["hm ", "so"], refusal="but"), last_seq=7)
    assert answer.error is None
    assert answer.deltas == [
        Delta(8, reasoning="hm "),
        Delta(9, reasoning="so"),
        *(Delta(9 + n, text=f"w{n} ") for n in range(1, 5)),
        Delta(14, refusal="but"),
    ]
    assert answer.stream.ended
    assert answer.stream.finish_reason == "stop"
    words = len(request(chunks=4, reasoning=["hm ", "so"], refusal="but").messages[-1].content.split())
    assert answer.stream.usage == Usage(words, 6, words + 6)


@pytest.mark.parametrize(
    "how",
    [
        {"newline": "\r\n"},
        {"newline": "\r"},
        {"comments": True},
        {"role": False},
        {"choices": 3},
        {"batch": 4},
        {"split": "bytes"},
        {"split": [1, 300, 301, 302]},
        {"no_done": True},
        {"usage": False},
        {"first_chunk_delay": 0.05, "ping_every": 0.01},
    ],
)
async def test_however_a_server_writes_the_answer_is_the_same(upstream: UpstreamProcess, how: dict[str, Any]) -> None:
    answer = await ask(upstream, request(texts=["é", "😀 ", "end"], **how))
    assert (answer.text, answer.error, answer.stream.finish_reason) == ("é😀 end", None, "stop")


async def test_the_finish_reason_is_passed_on(upstream: UpstreamProcess) -> None:
    answer = await ask(upstream, request(finish_reason="length"))
    assert answer.stream.finish_reason == "length"


async def test_an_answer_without_a_word_is_whole(upstream: UpstreamProcess) -> None:
    answer = await ask(upstream, request(chunks=0))
    assert (answer.deltas, answer.error, answer.stream.finish_reason) == ([], None, "stop")


async def test_connections_are_used_again(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        for asked_times in range(1, 51):
            assert (await read_all(asked.stream(request(key), last_seq=1))).error is None
            # One is free again when the end of its last body has come, which may be just after the next request.
            if len({record["connection"] for record in records(upstream, key)}) < asked_times:
                return
    pytest.fail("fifty answers took fifty connections")


@pytest.mark.parametrize(
    ("setting", "model", "looks"),
    [
        ("on", None, True),
        ("auto", "Qwen/Qwen3-8B", True),
        ("auto", None, False),
        ("off", "Qwen/Qwen3-8B", False),
    ],
)
async def test_think_tags_are_looked_for_as_the_setting_says(
    upstream: UpstreamProcess, setting: str, model: str | None, *, looks: bool
) -> None:
    answer = await ask(upstream, request(texts=["<thi", "nk>Hm.</", "think>Hello"]), think_tags=setting, model=model)
    reasoning = "".join(delta.reasoning or "" for delta in answer.deltas)
    assert (reasoning, answer.text) == (("Hm.", "Hello") if looks else ("", "<think>Hm.</think>Hello"))


@pytest.mark.parametrize("may_break", [False, True])
async def test_a_cut_behind_the_finish_loses_nothing_that_was_held_back(*, may_break: bool) -> None:
    body = bodies.HELLO + bodies.say("<think>no</thi") + bodies.end()
    said = bodies.say("<think>Hm.</thi") + bodies.end()
    for sent, text, reasoning in ((body, "Hello<think>no</thi", ""), (said, "", "Hm.</thi")):
        async with (
            serving(bodies.response(sent, "Content-Length: 99999")) as raw,
            upstream_of(Endpoint(raw.base_url, "key", think_tags="on")) as asked,
        ):
            answer = await read_all(asked.stream(request(), last_seq=1, may_break=may_break))
        assert (answer.error, answer.text) == (None, text)
        assert "".join(delta.reasoning or "" for delta in answer.deltas) == reasoning
        assert answer.stream.ended


async def test_a_compressed_body_that_is_damaged_behind_the_finish_is_whole() -> None:
    body = gzip.compress(bodies.HELLO + bodies.end() + b":" + b" " * 4 * PIECE_BYTES)
    async with (
        serving(bodies.response(body[:-8] + b"\0" * 8, "Content-Encoding: gzip")) as raw,
        upstream_of(Endpoint(raw.base_url, "key")) as asked,
    ):
        answer = await read_all(asked.stream(request(), last_seq=1))
    assert (answer.error, answer.text, answer.stream.finish_reason) == (None, "Hello", "stop")


async def test_the_status_is_told_before_the_first_chunk(upstream: UpstreamProcess, key: str) -> None:
    came = asyncio.Event()
    async with upstream_of(endpoint(upstream)) as asked:
        stream = asked.stream(request(key, first_chunk_delay=FOREVER), last_seq=1, on_status=came.set)
        reading = asyncio.create_task(stream.read())
        await asyncio.wait_for(came.wait(), DEADLINE_SECONDS)
        assert not reading.done()
        reading.cancel()
        stream.close()


# What is asked for


async def test_the_conversation_and_the_parameters_are_passed_on(upstream: UpstreamProcess, key: str) -> None:
    query = command(key=key)
    asked = to_request(
        query,
        model="asked-for",
        history=[Turn("user", "hello"), Turn("assistant", "yes?")],
        temperature=0.25,
        max_tokens=99,
    )
    await ask(upstream, asked, system_prompt="Be brief.")
    [record] = records(upstream, key)
    assert record["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": query},
    ]
    assert record["body"] == {
        "model": "asked-for",
        "temperature": 0.25,
        "max_tokens": 99,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert record["headers"]["accept-encoding"] == "identity"


async def test_parts_and_tools_pass_through_unread(upstream: UpstreamProcess, key: str) -> None:
    parts = [{"type": "text", "text": command(key=key)}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    messages: tuple[dict[str, Any], ...] = (
        {"role": "developer", "content": "Be brief.", "name": "somebody"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "user", "content": parts},
    )
    parameters = {"tools": tools, "seed": 7, "max_tokens": 9, "stream": False, "model": "another", "messages": []}
    await ask(upstream, Request("asked-for", messages, parameters))
    [record] = records(upstream, key)
    assert record["messages"] == list(messages)
    assert record["body"] == {
        "model": "asked-for",
        "tools": tools,
        "seed": 7,
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("style", [(), ("zero", "repeated"), ("whole",), ("interleaved", "nulls")], ids=" ".join)
async def test_calls_of_tools_are_read(upstream: UpstreamProcess, key: str, style: tuple[str, ...]) -> None:
    calls = [{"name": "weather", "arguments": ['{"city":', '"Győr"}']}, {"name": "time", "arguments": ["{", "}"]}]
    script: dict[str, Any] = {"key": key, "chunks": 2, "tool_calls": calls, "tool_style": style}
    answer = await ask(upstream, request(**script))
    assert (answer.text, answer.stream.finish_reason, answer.stream.has_tool_calls) == ("w1 w2 ", "tool_calls", True)
    state = AnswerState()
    state.advance(answer.deltas)
    assert state.tool_calls == [
        ToolCall(index=0, id="call_1", name="weather", arguments='{"city":"Győr"}'),
        ToolCall(index=1, id="call_2", name="time", arguments="{}"),
    ]


async def test_the_openai_package_makes_the_request(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        for _ in range(2):
            await read_all(asked.stream(request(key), last_seq=1))
    first, second = (record["headers"] for record in records(upstream, key))
    assert first.items() >= {"authorization": "(hidden)", "content-type": "application/json"}.items()
    assert first["user-agent"].startswith("OpenAI/Python")
    assert first == second


async def test_what_was_not_asked_for_is_not_sent(upstream: UpstreamProcess, key: str) -> None:
    await ask(upstream, request(key))
    [record] = records(upstream, key)
    assert record["body"].keys() == {"model", "stream", "stream_options"}
    assert [message["role"] for message in record["messages"]] == ["user"]


async def test_an_endpoint_can_have_a_model_of_its_own(upstream: UpstreamProcess, key: str) -> None:
    await ask(upstream, request(key), model="local")
    assert [record["model"] for record in records(upstream, key)] == ["local"]


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://API.OpenAI.com./v1", "max_completion_tokens"),
        ("https://notapi.openai.com/v1", "max_tokens"),
        ("https://api.openai.com.example/v1", "max_tokens"),
        ("http://127.0.0.1:8080/v1", "max_tokens"),
    ],
)
def test_openai_alone_is_given_the_newer_name_of_max_tokens(base_url: str, name: str) -> None:
    assert Endpoint(base_url, "key").max_tokens_name == name


def test_an_endpoint_does_not_show_its_key_or_prompt() -> None:
    shown = repr(Endpoint("http://upstream", "sk-secret", system_prompt="private"))
    assert "sk-secret" not in shown
    assert "private" not in shown


CONTINUATIONS: dict[Continuation, tuple[dict[str, Any], dict[str, Any]]] = {
    "assistant": ({}, {}),
    "vllm": ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    "prefix": ({"prefix": True}, {}),
}


@pytest.mark.parametrize("continuation", CONTINUATIONS)
async def test_an_answer_goes_on_from_a_given_text(
    upstream: UpstreamProcess, key: str, continuation: Continuation
) -> None:
    on_message, on_body = CONTINUATIONS[continuation]
    async with upstream_of(endpoint(upstream, continuation=continuation)) as asked:
        assert asked.continues
        answer = await read_all(asked.stream(request(key, chunks=4), last_seq=3, said=Said("w1 w2 ")))
    assert answer.deltas == [Delta(4, text="w3 "), Delta(5, text="w4 ")]
    [record] = records(upstream, key)
    assert record["messages"][-1] == {"role": "assistant", "content": "w1 w2", **on_message}
    added = {name: value for name, value in record["body"].items() if name not in {"model", "stream", "stream_options"}}
    assert added == on_body


async def test_only_the_first_endpoint_goes_on_from_a_given_text(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream, continuation="assistant"), endpoint(upstream, model="second")) as asked:
        answer = await read_all(asked.stream(request(key, status=500), last_seq=1, said=Said("w1 ")))
    assert answer.error is not None
    assert [record["model"] for record in records(upstream, key)] == ["test-model"]


async def test_an_endpoint_that_cannot_continue_says_so(upstream: UpstreamProcess) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        assert not asked.continues


# What a server takes is learnt from what it refuses (the words are read in tests/test_dialect.py)


MAX_TOKENS_REFUSED = {
    "message": "Unsupported parameter: 'max_tokens' is not supported with this model."
    " Use 'max_completion_tokens' instead.",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": "unsupported_parameter",
}
SUCCESSOR_REFUSED = {"message": "max_completion_tokens: Extra inputs are not permitted"}
OPTIONS_REFUSED = {"message": "Unknown parameter: stream_options", "type": "invalid_request_error"}
SYSTEM_REFUSED = {
    "message": "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    "param": "messages[0].role",
    "code": "unsupported_value",
}


def limited(key: str, model: str = "test-model", **script: Any) -> Request:  # noqa: ANN401 (the fields of Script)
    return to_request(command(key=key, **script), model=model, max_tokens=50)


def limits(process: UpstreamProcess, key: str) -> list[list[str]]:
    """The names of the limit on tokens in each request."""
    return [[name for name in record["body"] if name.startswith("max_")] for record in records(process, key)]


async def test_the_case_max_tokens(upstream: UpstreamProcess, key: str) -> None:
    refusing = limited(key, refuses={"max_tokens": MAX_TOKENS_REFUSED})
    async with upstream_of(endpoint(upstream)) as asked:
        for _ in range(2):
            answer = await read_all(asked.stream(refusing, last_seq=1))
            assert (answer.error, answer.stream.finish_reason) == (None, "stop")
    assert limits(upstream, key) == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"]]
    assert [record["body"].get("max_completion_tokens") for record in records(upstream, key)] == [None, 50, 50]
    assert Endpoint("https://eu.api.openai.com/v1", "key").max_tokens_name == "max_completion_tokens"


async def test_what_was_learnt_is_unlearnt_from_the_opposite_refusal(upstream: UpstreamProcess, key: str) -> None:
    newer = {"refuses": {"max_tokens": MAX_TOKENS_REFUSED}}
    asked_for = limited(key, first=[newer, newer], refuses={"max_completion_tokens": SUCCESSOR_REFUSED})
    async with upstream_of(endpoint(upstream)) as asked:
        for _ in range(3):
            assert (await read_all(asked.stream(asked_for, last_seq=1))).error is None
    names = ["max_tokens", "max_completion_tokens", "max_completion_tokens", "max_tokens", "max_tokens"]
    assert limits(upstream, key) == [[name] for name in names]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_refuses_stream_options_is_asked_without_them_from_then_on(
    upstream: UpstreamProcess, key: str, status: int
) -> None:
    asked_for = request(key, refuses={"stream_options": OPTIONS_REFUSED}, refuses_with=status)
    async with upstream_of(endpoint(upstream)) as asked:
        for _ in range(2):
            answer = await read_all(asked.stream(asked_for, last_seq=1))
            assert (answer.error, answer.stream.finish_reason, answer.stream.usage) == (None, "stop", None)
    assert ["stream_options" in record["body"] for record in records(upstream, key)] == [True, False, False]


@pytest.mark.parametrize("may_be_whole", [True, False])
async def test_a_refusal_that_comes_compressed_is_read(*, may_be_whole: bool) -> None:
    refusal = gzip.compress(json.dumps({"error": MAX_TOKENS_REFUSED}).encode())
    refusal = refusal if may_be_whole else refusal[:-8] + b"\0" * 8

    def respond(asked: RawRequest) -> bytes:
        if b'"max_tokens"' not in asked.body:
            return GOOD_STREAM
        head = b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(refusal)
        return head + refusal

    async with RawUpstream(respond) as raw, upstream_of(Endpoint(raw.base_url, "key")) as asked:
        answer = await read_all(asked.stream(limited(""), last_seq=1))
    if may_be_whole:
        assert (answer.error, answer.text, len(raw.requests)) == (None, "Hello world", 2)
    else:
        assert answer.error is not None
        assert (answer.error.code, len(raw.requests)) == ("upstream_bad_request", 1)


async def test_a_model_that_refuses_the_role_system_is_given_its_instructions_as_a_developers(
    upstream: UpstreamProcess, key: str
) -> None:
    asked_for = to_request(
        command(key=key, refuses={"system": SYSTEM_REFUSED}), model="m", history=[Turn("system", "In Hungarian.")]
    )
    async with upstream_of(endpoint(upstream, system_prompt="Be brief.")) as asked:
        for _ in range(2):
            assert (await read_all(asked.stream(asked_for, last_seq=1))).error is None
    roles = [[message["role"] for message in record["messages"]] for record in records(upstream, key)]
    assert roles == [["system", "system", "user"], *[["developer", "developer", "user"]] * 2]
    assert [message["content"] for message in records(upstream, key)[2]["messages"][:2]] == [
        "Be brief.",
        "In Hungarian.",
    ]


async def test_all_that_a_model_refuses_is_learnt_in_one_question(upstream: UpstreamProcess, key: str) -> None:
    refuses = {
        "system": SYSTEM_REFUSED,
        "max_tokens": MAX_TOKENS_REFUSED,
        "stream_options": OPTIONS_REFUSED,
    }
    async with upstream_of(endpoint(upstream, system_prompt="Be brief.")) as asked:
        for _ in range(2):
            assert (await read_all(asked.stream(limited(key, refuses=refuses), last_seq=1))).error is None
    assert len(records(upstream, key)) == 4 + 1


async def test_what_one_model_refuses_another_is_still_asked(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        await read_all(asked.stream(limited(key, refuses={"max_tokens": MAX_TOKENS_REFUSED}), last_seq=1))
        await read_all(asked.stream(limited(key, model="other"), last_seq=1))
    assert limits(upstream, key) == [["max_tokens"], ["max_completion_tokens"], ["max_tokens"]]


async def test_what_one_endpoint_refuses_another_is_still_asked(upstream: UpstreamProcess, key: str) -> None:
    refusing = {"refuses": {"max_tokens": MAX_TOKENS_REFUSED}}
    asked_for = limited(key, first=[refusing, refusing, {"status": 500}])
    async with upstream_of(endpoint(upstream), endpoint(upstream)) as asked:
        await read_all(asked.stream(asked_for, last_seq=1))
        assert (await read_all(asked.stream(asked_for, last_seq=1))).error is None
    assert limits(upstream, key) == [["max_tokens"], *[["max_completion_tokens"]] * 2, ["max_tokens"]]


async def test_each_worker_learns_by_itself(upstream: UpstreamProcess, key: str) -> None:
    refusing = limited(key, refuses={"max_tokens": MAX_TOKENS_REFUSED})
    async with upstream_of(endpoint(upstream)) as one, upstream_of(endpoint(upstream)) as another:
        for worker in (one, another, one, another):
            assert (await read_all(worker.stream(refusing, last_seq=1))).error is None
    names = ["max_tokens", "max_completion_tokens"] * 2 + ["max_completion_tokens"] * 2
    assert limits(upstream, key) == [[name] for name in names]


@pytest.mark.parametrize("second", [{"status": 500}, {"status": 429}, {"status": 400}])
async def test_only_an_accepted_request_teaches(upstream: UpstreamProcess, key: str, second: dict[str, Any]) -> None:
    refusing = {"refuses": {"max_tokens": MAX_TOKENS_REFUSED}}
    asked_for = limited(key, first=[refusing, second])
    async with upstream_of(endpoint(upstream)) as asked:
        assert (await read_all(asked.stream(asked_for, last_seq=1))).error is not None
        assert (await read_all(asked.stream(asked_for, last_seq=1))).error is None
    assert limits(upstream, key) == [["max_tokens"], ["max_completion_tokens"], ["max_tokens"]]


async def test_a_question_whose_parameter_is_refused_under_both_names_is_asked_twice(
    upstream: UpstreamProcess, key: str
) -> None:
    refuses = {"max_tokens": MAX_TOKENS_REFUSED, "max_completion_tokens": SUCCESSOR_REFUSED}
    answer = await ask(upstream, limited(key, refuses=refuses), retries=3)
    assert answer.error is not None
    assert answer.error.code == "upstream_bad_request"
    assert limits(upstream, key) == [["max_tokens"], ["max_completion_tokens"]]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "scripted error"},
        {"message": "max_tokens is too large: 50. This model supports at most 9.", "param": "max_tokens"},
        {"message": "Unsupported parameter: 'tools'", "param": "tools", "code": "unsupported_parameter"},
    ],
)
async def test_nothing_else_of_a_bad_request_is_asked_again(
    upstream: UpstreamProcess, key: str, error: dict[str, Any]
) -> None:
    answer = await ask(upstream, limited(key, status=400, error=error), retries=3, system_prompt="Be brief.")
    assert answer.error is not None
    assert answer.error.code == "upstream_bad_request"
    assert len(records(upstream, key)) == 1


async def test_a_refusal_is_no_retry_and_not_counted_by_the_breaker(upstream: UpstreamProcess, key: str) -> None:
    refuses = {"max_tokens": MAX_TOKENS_REFUSED, "max_completion_tokens": SUCCESSOR_REFUSED}
    async with upstream_of(endpoint(upstream), retries=0) as asked:
        for number in range(BREAKER_QUESTIONS + 1):
            refusing = to_request(command(key=key, refuses=refuses, text=f"{number}"), model="m", max_tokens=1)
            answer = await read_all(asked.stream(refusing, last_seq=1))
            assert answer.error is not None
            assert answer.error.reason == "bad_request"
        good = to_request(command(key=key, refuses={"max_tokens": MAX_TOKENS_REFUSED}), model="m", max_tokens=1)
        assert (await read_all(asked.stream(good, last_seq=1))).error is None
    assert len(records(upstream, key)) == 2 * (BREAKER_QUESTIONS + 2)


# Statuses


@pytest.mark.parametrize(
    ("upstreams", "code", "ours", "retryable"),
    [
        (400, "upstream_bad_request", 400, False),
        (406, "upstream_bad_request", 400, False),
        (418, "upstream_bad_request", 400, False),
        (422, "upstream_bad_request", 400, False),
        (451, "upstream_bad_request", 400, False),
        (413, "upstream_too_long", 413, False),
        (401, "upstream_credentials", 502, False),
        (402, "upstream_no_credit", 402, False),
        (403, "upstream_credentials", 502, False),
        (404, "upstream_not_found", 502, False),
        (405, "upstream_not_found", 502, False),
        (410, "upstream_not_found", 502, False),
        (501, "upstream_not_found", 502, False),
        (505, "upstream_not_found", 502, False),
        (408, "upstream_timeout", 504, True),
        (409, "upstream_unavailable", 502, True),
        (424, "upstream_unavailable", 502, True),
        (425, "upstream_unavailable", 502, True),
        (429, "upstream_rate_limited", 429, True),
        (499, "upstream_unavailable", 502, True),
        (500, "upstream_unavailable", 502, True),
        (502, "upstream_unavailable", 502, True),
        (503, "upstream_unavailable", 502, True),
        (504, "upstream_timeout", 504, True),
        (529, "upstream_unavailable", 502, True),
        (999, "upstream_unavailable", 502, True),
        (300, "upstream_redirected", 502, False),
        (301, "upstream_redirected", 502, False),
        (308, "upstream_redirected", 502, False),
    ],
)
async def test_a_status_that_is_no_success_becomes_an_error_of_ours(
    upstream: UpstreamProcess, upstreams: int, code: str, ours: int, *, retryable: bool
) -> None:
    answer = await ask(upstream, request(status=upstreams, error={"message": "sk-secret"}))
    assert answer.deltas == []
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.retryable) == (code, ours, retryable)
    assert "secret" not in answer.error.message


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206])
async def test_any_success_is_read_as_an_answer(upstream: UpstreamProcess, key: str, status: int) -> None:
    raw = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    answer = await ask(upstream, request(key, status=status, raw=base64.b64encode(raw).decode()), retries=1)
    assert (answer.text, answer.error, answer.stream.finish_reason) == ("a", None, "stop")
    assert len(records(upstream, key)) == 1


@pytest.mark.parametrize("status", [408, 429, 498, 500, 502, 503, 504, 529])
async def test_a_failure_that_may_pass_keeps_its_retry_after_in_whole_seconds(
    upstream: UpstreamProcess, status: int
) -> None:
    answer = await ask(upstream, request(status=status, headers={"Retry-After": "1.5"}))
    assert answer.error is not None
    assert answer.error.headers()["Retry-After"] == "2"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
async def test_a_refusal_has_no_retry_after(upstream: UpstreamProcess, status: int) -> None:
    answer = await ask(upstream, request(status=status, headers={"Retry-After": "7"}))
    assert answer.error is not None
    assert "Retry-After" not in answer.error.headers()


@pytest.mark.parametrize(
    ("said", "told"),
    [("unsupported_parameter", True), ("sk-secret key!", False), ("X" * 10, False), (7, False), (None, False)],
)
async def test_a_bad_requests_code_is_told_only_if_it_is_one(
    upstream: UpstreamProcess, said: object, *, told: bool
) -> None:
    answer = await ask(upstream, request(status=400, error={"message": "sk-secret", "code": said}))
    assert answer.error is not None
    assert answer.error.message.endswith(f" ({said})." if told else "request.")


@pytest.mark.parametrize(
    "said",
    [
        {"code": "context_length_exceeded", "type": "invalid_request_error"},
        {"code": "string_above_max_length"},
        {"code": 400, "type": "exceed_context_size_error", "n_ctx": 4096},
    ],
)
async def test_a_question_that_is_too_long_is_told_so_whichever_status_says_it(
    upstream: UpstreamProcess, said: dict[str, Any]
) -> None:
    answer = await ask(upstream, request(status=400, error={"message": "sk-secret", **said}))
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.retryable) == ("upstream_too_long", 413, False)


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (400, "This model's maximum context length is 8192 tokens. Your request has 9000.", "upstream_too_long"),
        (422, "Input is too long", "upstream_too_long"),
        (429, "Request too large for the organization on tokens per min", "upstream_too_long"),
        (400, "max_tokens is too large: the maximum context length is 8192", "upstream_bad_request"),
        (400, "The role must be user", "upstream_bad_request"),
        (429, "Too many requests", "upstream_rate_limited"),
        (403, "Your chosen model requires moderation and your input was flagged", "upstream_moderated"),
        (403, "Country not supported", "upstream_credentials"),
        (400, "flagged", "upstream_bad_request"),
    ],
)
async def test_an_upstreams_message_tells_what_kind_of_refusal_it_is(
    upstream: UpstreamProcess, status: int, said: str, code: str
) -> None:
    answer = await ask(upstream, request(status=status, error={"message": said}))
    assert answer.error is not None
    assert answer.error.code == code
    assert said not in answer.error.message


@pytest.mark.parametrize(
    ("status", "said", "code", "ours"),
    [
        (400, {"code": "content_filter"}, "upstream_moderated", 403),
        (400, {"code": "DataInspectionFailed"}, "upstream_moderated", 403),
        (403, {"code": 403, "metadata": {"reasons": ["x"], "flagged_input": "sk-secret"}}, "upstream_moderated", 403),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, "upstream_no_credit", 402),
        (400, {"code": "Arrearage"}, "upstream_no_credit", 402),
        (400, {"code": "model_not_found"}, "upstream_not_found", 502),
        (403, {"code": "model_not_found"}, "upstream_not_found", 502),
        (500, {"code": "content_filter"}, "upstream_unavailable", 502),
    ],
)
async def test_an_upstreams_code_tells_what_kind_of_refusal_it_is(
    upstream: UpstreamProcess, status: int, said: dict[str, Any], code: str, ours: int
) -> None:
    answer = await ask(upstream, request(status=status, error={"message": "sk-secret", **said}))
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.retryable) == (code, ours, status == 500)
    assert "secret" not in answer.error.message


async def test_a_gateways_error_page_is_an_error_of_ours(upstream: UpstreamProcess) -> None:
    raw = base64.b64encode(b"<html>Bad \xff gateway" + 200_000 * b".").decode()
    answer = await ask(upstream, request(status=502, raw=raw, content_type="text/html"))
    assert answer.error is not None
    assert answer.error.code == "upstream_unavailable"


async def test_an_upstream_that_is_not_there_is_unreachable() -> None:
    with UpstreamProcess.start() as gone:
        pass
    answer = await ask(gone, request())
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.reason) == ("upstream_unreachable", 502, "unreachable")


@asynccontextmanager
async def raw_answers(*responses: bytes) -> AsyncIterator[tuple[Endpoint, list[bytes]]]:
    """A server that answers its first request so, its second so …, and closes each connection; and the requests."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(responses[min(len(seen), len(responses)) - 1])
        await writer.drain()

    async with listening(serve) as address:
        yield Endpoint(f"http://{address}/v1", "sk-secret"), seen


@pytest.mark.parametrize(
    ("response", "code", "asked"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "upstream_malformed", 1),
        (b"HTTP/1.1 fine\r\n\r\n", "upstream_malformed", 1),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", "upstream_malformed", 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n", "upstream_malformed", 1),
        (b"HTTP/1.1 200 OK\r\nContent-", "upstream_unreachable", 3),
        (b"", "upstream_unreachable", 3),
    ],
    ids=["another protocol", "no status", "too many headers", "no chunk", "half a head", "nothing"],
)
async def test_a_response_that_is_no_http_is_malformed_and_not_asked_for_again(
    response: bytes, code: str, asked: int
) -> None:
    async with raw_answers(response) as (there, seen), upstream_of(there, retries=2) as upstream:
        answer = await read_all(upstream.stream(request(), last_seq=1))
    assert answer.error is not None
    assert (answer.error.code, answer.error.status) == (code, 502)
    assert len(seen) == asked


async def test_the_second_endpoint_is_asked_where_the_firsts_response_is_no_http(
    upstream: UpstreamProcess, key: str
) -> None:
    async with raw_answers(b"SSH-2.0-OpenSSH\r\n") as (first, _), upstream_of(first, endpoint(upstream)) as asked:
        answer = await read_all(asked.stream(request(key, chunks=1), last_seq=1))
    assert (answer.text, answer.error) == ("w1 ", None)


# Time-outs


@pytest.mark.parametrize(
    ("phase", "script", "reason"),
    [
        ("status", {"status_delay": FOREVER}, "status_timeout"),
        ("first_chunk", {"first_chunk_delay": FOREVER}, "first_chunk_timeout"),
        ("first_chunk", {"first_chunk_delay": FOREVER, "ping_every": 0.02}, "first_chunk_timeout"),
        ("first_chunk", {"stall_after": 0}, "first_chunk_timeout"),
        ("silence", {"stall_after": 2}, "silence_timeout"),
    ],
)
async def test_each_wait_has_an_end_of_its_own_and_closes_the_connection(
    upstream: UpstreamProcess, key: str, phase: str, script: dict[str, Any], reason: str
) -> None:
    for seconds in (SOON_SECONDS, 5 * SOON_SECONDS, 25 * SOON_SECONDS):
        began = time.monotonic()
        answer = await ask(upstream, request(key, **script), time_outs=replace(PATIENT, **{phase: seconds}))
        assert seconds * 0.9 <= time.monotonic() - began < seconds + DEADLINE_SECONDS / 2
        if await asyncio.to_thread(upstream.requests, key):
            break  # On a busy machine, a short wait may be over before the server has seen the request.
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.reason) == ("upstream_timeout", 504, reason)
    assert answer.text == ("w1 w2 " if phase == "silence" else "")
    *_, record = await asyncio.to_thread(upstream.wait_closed, key)
    assert record["closed_by"] == "client"


def dropping_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Listen with a queue that is full: the kernel drops further connections, as a firewall does."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(3):
        client = socket.socket()
        client.setblocking(False)  # noqa: FBT003
        client.connect_ex(listener.getsockname())
        waiting.append(client)
    return listener, waiting


async def test_an_address_that_never_answers_is_a_connect_timeout() -> None:
    listener, waiting = dropping_listener()
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    async with upstream_of(Endpoint(base_url, "key"), time_outs=replace(PATIENT, connect=SOON_SECONDS)) as asked:
        answer = await read_all(asked.stream(request(), last_seq=1))
    for each in (listener, *waiting):
        each.close()
    assert answer.error is not None
    assert (answer.error.code, answer.error.status, answer.error.reason) == ("upstream_timeout", 504, "connect_timeout")


async def test_silence_counts_from_the_last_chunk_and_not_from_the_first_ones_time_out(
    upstream: UpstreamProcess,
) -> None:
    began = time.monotonic()
    answer = await ask(upstream, request(stall_after=1), time_outs=TimeOuts(10, 10, first_chunk=10, silence=0.1))
    assert answer.error is not None
    assert answer.error.reason == "silence_timeout"
    assert time.monotonic() - began < DEADLINE_SECONDS / 2


async def test_slow_chunks_that_keep_coming_are_no_silence(upstream: UpstreamProcess) -> None:
    answer = await ask(
        upstream,
        request(chunks=8, pace=0.3),
        time_outs=replace(PATIENT, silence=2),
    )
    assert answer.error is None
    assert len(answer.text.split()) == 8


async def test_whatever_comes_between_two_chunks_is_no_silence(upstream: UpstreamProcess) -> None:
    answer = await ask(
        upstream,
        request(chunks=2, pace=3.5, ping_every=0.05),
        time_outs=replace(PATIENT, silence=2),
    )
    assert (answer.text, answer.error) == ("w1 w2 ", None)


# A server that goes on after the finish reason

FINISH = bodies.end()
COUNTED = bodies.data(json.dumps({"choices": [], "usage": bodies.USAGE}))


async def read_from(raw: RawServer, **time_outs: float) -> tuple[Answer, float]:
    """The answer of a raw server, and the seconds until its end."""
    async with upstream_of(Endpoint(raw.base_url, "key"), time_outs=replace(PATIENT, **time_outs)) as asked:
        began = time.monotonic()
        return await read_all(asked.stream(request(), last_seq=1)), time.monotonic() - began


async def test_comments_after_the_finish_reason_are_not_waited_for() -> None:
    pings = [each for _ in range(200) for each in (b": alive\n\n", 0.05)]
    async with serving(bodies.stream(bodies.HELLO, FINISH, COUNTED), *pings) as raw:
        answer, seconds = await read_from(raw)
    assert (answer.text, answer.error) == ("Hello", None)
    assert seconds < PATIENT.silence / 2


async def test_a_finish_reason_in_every_chunk_cuts_nothing() -> None:
    words = [each for word in "abc" for each in (bodies.say(word, "stop"), USAGE_SECONDS * 0.6)]
    async with serving(bodies.stream(), *words, COUNTED + bodies.DONE) as raw:
        answer, _ = await read_from(raw)
    assert (answer.text, answer.error, answer.stream.usage) == ("abc", None, Usage(3, 5, 8))


async def test_a_usage_that_comes_late_is_read_also_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.upstream.body.FINISHED_SECONDS", PATIENT.silence)
    monkeypatch.setattr("service.upstream.body.USAGE_SECONDS", PATIENT.silence)
    for early in (FINISH, FINISH + COUNTED.replace(b"5", b"1")):
        async with serving(bodies.stream(bodies.HELLO, early), 0.2, COUNTED, bodies.DONE) as raw:
            answer, _ = await read_from(raw)
        assert (answer.text, answer.error, answer.stream.usage) == ("Hello", None, Usage(3, 5, 8))


# Broken streams


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ({"cut_after": 2}, "upstream_cut", "w1 w2 "),
        ({"cut_after": 2, "cut": "fin"}, "upstream_cut", "w1 w2 "),
        ({"cut_after": 0}, "upstream_cut", ""),
        ({"truncate_after": 2}, "upstream_truncated", "w1 w2 "),
        ({"truncate_after": 0}, "upstream_truncated", ""),
        ({"finish_reason": None, "chunks": 0, "no_done": True}, "upstream_truncated", ""),
        ({"finish_reason": "network_error"}, "upstream_error", "w1 w2 w3 "),
        ({"finish_reason": None, "no_done": True}, "upstream_truncated", "w1 w2 w3 "),
        ({"garbage_after": 2}, "upstream_malformed", "w1 w2 "),
        ({"garbage_after": 0}, "upstream_malformed", ""),
        ({"huge_after": 2, "huge": 2 << 20}, "upstream_malformed", "w1 w2 "),
        ({"error_after": 2}, "upstream_error", "w1 w2 "),
        ({"raw": base64.b64encode(b"<html>200 but no stream").decode()}, "upstream_malformed", ""),
        ({"raw": base64.b64encode(b'{"choices":[{"message":{"content":"a"').decode()}, "upstream_malformed", ""),
        ({"raw": ""}, "upstream_truncated", ""),
    ],
)
async def test_a_broken_stream_is_never_a_whole_answer_and_what_came_is_kept(
    upstream: UpstreamProcess, script: dict[str, Any], code: str, text: str
) -> None:
    answer = await ask(upstream, request(**({"chunks": 3} | script)))
    assert answer.error is not None
    assert (answer.error.code, answer.text) == (code, text)
    assert not answer.stream.ended


async def test_a_text_without_a_finish_reason_is_whole_if_the_server_says_that_it_is_done(
    upstream: UpstreamProcess,
) -> None:
    answer = await ask(upstream, request(finish_reason=None, chunks=3))
    assert (answer.text, answer.error, answer.stream.finish_reason) == ("w1 w2 w3 ", None, None)
    assert answer.stream.ended


async def test_half_a_character_alone_is_an_answer_and_asked_for_once(upstream: UpstreamProcess, key: str) -> None:
    raw = b'data: {"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    answer = await ask(upstream, request(key, raw=base64.b64encode(raw).decode()))
    assert (answer.text, answer.error, answer.stream.ended) == ("\ufffd", None, True)
    assert len(records(upstream, key)) == 1


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("body", [b'{"error":"Unexpected endpoint or method."}', b"Not Found", b"\n\n<html>"])
async def test_an_error_with_a_status_of_success_is_not_asked_again(
    upstream: UpstreamProcess, key: str, content_type: str, body: bytes
) -> None:
    raw = base64.b64encode(body).decode()
    answer = await ask(upstream, request(key, raw=raw, content_type=content_type), retries=1)
    assert answer.error is not None
    assert answer.error.code == "upstream_malformed"
    assert len(records(upstream, key)) == 1


async def test_half_a_character_at_a_cut_is_kept_as_a_replacement_character(upstream: UpstreamProcess) -> None:
    raw = b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'
    answer = await ask(upstream, request(raw=base64.b64encode(raw).decode()))
    assert answer.text == "a\ufffd"
    assert answer.error is not None
    assert answer.error.code == "upstream_truncated"


@pytest.mark.parametrize("end", [b'"stop"}]}', b"null}]}\n\ndata: [DONE]"])
async def test_the_end_of_the_body_ends_the_last_event(upstream: UpstreamProcess, end: bytes) -> None:
    raw = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":' + end
    answer = await ask(upstream, request(raw=base64.b64encode(raw).decode()))
    assert (answer.text, answer.error, answer.stream.ended) == ("a", None, True)


async def test_a_cut_behind_the_finish_is_a_whole_answer(upstream: UpstreamProcess) -> None:
    raw = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: {"choi'
    answer = await ask(upstream, request(raw=base64.b64encode(raw).decode()))
    assert (answer.text, answer.error, answer.stream.finish_reason) == ("a", None, "stop")


async def test_an_endless_answer_is_read_as_fast_as_it_is_taken(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        stream = asked.stream(request(key, endless=True), last_seq=0)
        seqs: list[int] = []
        while len(seqs) < 10_000:
            seqs += [delta.seq for delta in await stream.read()]
        stream.close()
    assert seqs == list(range(1, len(seqs) + 1))
    await asyncio.to_thread(upstream.wait_closed, key)


# Retries and the second endpoint


async def test_a_failure_before_the_first_chunk_is_retried(upstream: UpstreamProcess, key: str) -> None:
    for failing in ({"status": 503}, {"cut_after": 0}, {"truncate_after": 0}):
        upstream.forget(key)
        answer = await ask(upstream, request(key, first=[failing], chunks=1), retries=1)
        assert (answer.text, answer.error) == ("w1 ", None)
        assert answer.deltas[0].seq == 2
        assert len(records(upstream, key)) == 2


async def test_there_are_as_many_tries_as_configured(upstream: UpstreamProcess, key: str) -> None:
    answer = await ask(upstream, request(key, status=503), retries=2)
    assert answer.error is not None
    assert len(records(upstream, key)) == 3


async def test_a_retry_is_not_sooner_than_the_server_asked_for(upstream: UpstreamProcess, key: str) -> None:
    busy = {"status": 503, "headers": {"Retry-After": "0.5"}}
    began = time.monotonic()
    answer = await ask(upstream, request(key, first=[busy], chunks=1), retries=1)
    assert (answer.text, answer.error) == ("w1 ", None)
    assert time.monotonic() - began >= 1


async def test_a_server_that_asks_for_a_long_pause_is_not_asked_again(upstream: UpstreamProcess, key: str) -> None:
    busy = {"status": 503, "headers": {"Retry-After": "2"}}
    answer = await ask(upstream, request(key, first=[busy], chunks=1), retries=2)
    assert answer.error is not None
    assert (answer.error.code, answer.error.retry_after) == ("upstream_unavailable", "2")
    assert len(records(upstream, key)) == 1


@pytest.mark.parametrize("script", [{"cut_after": 1}, {"stall_after": 1}, {"error_after": 1}, {"garbage_after": 1}])
async def test_nothing_is_retried_after_the_first_chunk(
    upstream: UpstreamProcess, key: str, script: dict[str, Any]
) -> None:
    async with upstream_of(
        endpoint(upstream), endpoint(upstream), time_outs=replace(PATIENT, silence=SOON_SECONDS), retries=2
    ) as asked:
        answer = await read_all(asked.stream(request(key, **script), last_seq=1))
    assert answer.error is not None
    assert answer.text == "w1 "
    assert len(records(upstream, key)) == 1


@pytest.mark.parametrize("status", [308, 401, 402, 403, 404, 413, 418, 429, 501])
async def test_what_would_only_fail_again_is_not_asked_again(upstream: UpstreamProcess, key: str, status: int) -> None:
    answer = await ask(upstream, request(key, status=status), retries=3)
    assert answer.error is not None
    assert len(records(upstream, key)) == 1


@pytest.mark.parametrize(
    "failing",
    [
        {"status": 401},
        {"status": 402},
        {"status": 404},
        {"status": 413},
        {"status": 503, "headers": {"Retry-After": "60"}},
        {"status": 429},
        {"status": 500},
        {"cut_after": 0},
        {"garbage_after": 0},
        {"error_after": 0},
        {"status_delay": FOREVER},
        {"first_chunk_delay": FOREVER},
    ],
)
async def test_the_second_endpoint_is_asked_where_the_first_fails(
    upstream: UpstreamProcess, key: str, failing: dict[str, Any]
) -> None:
    async with upstream_of(
        endpoint(upstream, model="first"),
        endpoint(upstream, model="second"),
        # A client's first request sets up its library, which takes a tenth of a second on a busy machine.
        time_outs=replace(PATIENT, status=1, first_chunk=1),
    ) as asked:
        answer = await read_all(asked.stream(request(key, first=[failing], chunks=1), last_seq=1))
    assert (answer.text, answer.error) == ("w1 ", None)
    assert [record["model"] for record in records(upstream, key)] == ["first", "second"]


async def test_the_second_endpoint_is_asked_where_the_first_is_not_there(upstream: UpstreamProcess, key: str) -> None:
    with UpstreamProcess.start() as gone:
        pass
    async with upstream_of(endpoint(gone), endpoint(upstream), retries=1) as asked:
        answer = await read_all(asked.stream(request(key), last_seq=1))
    assert answer.error is None


@pytest.mark.parametrize(("code", "error"), [("upstream_bad_request", None), ("upstream_moderated", "content_filter")])
async def test_a_bad_request_is_asked_of_no_other_endpoint(
    upstream: UpstreamProcess, key: str, code: str, error: str | None
) -> None:
    async with upstream_of(endpoint(upstream), endpoint(upstream, model="second"), retries=1) as asked:
        answer = await read_all(asked.stream(request(key, status=400, error={"code": error}), last_seq=1))
    assert answer.error is not None
    assert answer.error.code == code
    assert {record["model"] for record in records(upstream, key)} == {"test-model"}


async def test_the_last_failure_is_the_one_told(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream), endpoint(upstream)) as asked:
        answer = await read_all(asked.stream(request(key, first=[{"status": 500}, {"status": 429}]), last_seq=1))
    assert answer.error is not None
    assert answer.error.code == "upstream_rate_limited"


# Closing


@pytest.mark.parametrize(
    "script",
    [{"status_delay": FOREVER}, {"first_chunk_delay": FOREVER}, {"stall_after": 2}, {"endless": True, "pace": 0.01}],
)
async def test_closing_closes_the_connection_at_once_in_every_phase(
    upstream: UpstreamProcess, key: str, script: dict[str, Any]
) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        stream = asked.stream(request(key, **script), last_seq=1)

        async def read() -> None:
            while await stream.read():
                pass

        reading = asyncio.create_task(read())
        wanted = 2 if "stall_after" in script or "endless" in script else 0
        await asyncio.to_thread(upstream.wait_until, lambda seen: bool(seen) and seen[0]["chunks_sent"] >= wanted, key)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        stream.close()
        stream.close()
        [record] = await asyncio.to_thread(upstream.wait_closed, key)
    assert record["closed_by"] == "client"


async def test_closing_an_answer_that_was_never_begun_is_nothing(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as asked:
        asked.stream(request(key), last_seq=1).close()
    assert records(upstream, key) == []


# The breaker


def failing(key: str, number: int, **script: Any) -> Request:  # noqa: ANN401 (the fields of Script)
    """One of several different questions of this test."""
    return request(f"{key}/{number}", **({"status": 503} | script))


async def fail(client: Upstream, *asked: Request) -> list[str]:
    """Ask all at once; return the reasons for which there is no answer."""
    answers = await asyncio.gather(*(read_all(client.stream(each, last_seq=1)) for each in asked))
    return [answer.error.reason for answer in answers if answer.error is not None]


async def trip(client: Upstream, key: str) -> None:
    failed = await fail(client, *(failing(key, number) for number in range(BREAKER_QUESTIONS)))
    assert failed == ["unavailable"] * BREAKER_QUESTIONS


async def test_an_upstream_that_is_down_is_not_asked_by_everybody(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as client:
        await trip(client, key)
        refused = await read_all(client.stream(request(key), last_seq=1))
    assert refused.error is not None
    assert (refused.error.reason, refused.error.retry_after) == ("breaker", f"{BREAKER_SECONDS:.0f}")
    assert records(upstream, key) == []


async def test_one_question_that_fails_each_time_keeps_no_other_from_being_asked(
    upstream: UpstreamProcess, key: str
) -> None:
    async with upstream_of(endpoint(upstream)) as client:
        assert await fail(client, *[failing(key, 1)] * 2 * BREAKER_QUESTIONS) == ["unavailable"] * 2 * BREAKER_QUESTIONS
        assert (await read_all(client.stream(request(key), last_seq=1))).text


async def test_what_one_model_cannot_answer_another_is_still_asked(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream)) as client:
        await trip(client, key)
        assert (await read_all(client.stream(to_request(command(key=key), model="other"), last_seq=1))).text


async def test_an_endpoint_with_a_model_of_its_own_has_one_breaker(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream, model="its-own")) as client:
        await trip(client, key)
        other = to_request(command(key=key), model="other")
        assert await fail(client, other) == ["breaker"]
    assert records(upstream, key) == []


async def test_a_question_with_tries_left_is_not_yet_a_failed_one(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream), retries=1) as client:
        await fail(client, *(failing(key, number) for number in range(BREAKER_QUESTIONS - 1)))
        unsure = client.stream(failing(key, 99, first=[{"status_delay": 0}], status_delay=FOREVER), last_seq=1)
        reading = asyncio.create_task(unsure.read())
        await asyncio.to_thread(upstream.wait_until, lambda seen: len(seen) > 1, f"{key}/99")
        assert (await read_all(client.stream(request(key), last_seq=1))).text
        reading.cancel()
        unsure.close()


async def test_a_question_that_has_been_asked_has_all_its_tries(upstream: UpstreamProcess, key: str) -> None:
    async with upstream_of(endpoint(upstream), retries=1) as client:
        begun = request(f"{key}/begun", first=[{"status": 503, "status_delay": 1}])
        answering = asyncio.create_task(read_all(client.stream(begun, last_seq=1)))
        await asyncio.to_thread(upstream.wait_until, bool, f"{key}/begun")
        await trip(client, key)
        assert (await answering).text


async def test_an_answer_that_is_taken_over_is_asked_for_even_of_an_upstream_that_was_down(
    upstream: UpstreamProcess, key: str
) -> None:
    async with upstream_of(endpoint(upstream)) as client:
        await trip(client, key)
        asked = request(f"{key}/after")
        continued = await read_all(client.stream(asked, last_seq=3, passes_breaker=True))
        assert continued.deltas[0].seq == 4
        assert (await read_all(client.stream(asked, last_seq=1))).text  # it has answered, so it is there again


@pytest.mark.parametrize("status", [308, 400, 401, 402, 403, 404, 409, 413, 418, 422, 424, 429, 498, 501, 505])
async def test_a_question_that_is_refused_does_not_open_it(upstream: UpstreamProcess, key: str, status: int) -> None:
    async with upstream_of(endpoint(upstream), retries=1) as client:
        await fail(client, *(failing(key, number, status=status) for number in range(2 * BREAKER_QUESTIONS)))
        assert (await read_all(client.stream(request(key), last_seq=1))).text
