"""OpenAI's own SDK, unmodified, with chat completions: through nginx, two workers, and an upstream on command."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion

from deploy.local.ports import Address
from service.renderings.chat import PREFIX
from tests.e2e.conftest import Stack
from tests.e2e.stack import Nginx, Service
from tests.tables import Report
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command

MODEL = "test-model"
KEY = "a-client-of-the-sdk-0123456789"
WORDS = "".join(f"w{number} " for number in range(1, 9))


def sdk(address: Address, **options: Any) -> openai.OpenAI:  # noqa: ANN401 (the SDK's)
    options = {"api_key": KEY, "max_retries": 0, **options}
    http_client = httpx2.Client(trust_env=False, timeout=60)
    _opened.append(http_client)
    return openai.OpenAI(base_url=f"http://{address}/v1", http_client=http_client, **options)


_opened: list[httpx2.Client] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the clients of each test, however it ends."""
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture
def client(stack: Stack) -> openai.OpenAI:
    return sdk(stack.nginx.address)


def asks(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def scripted(**script: Any) -> list[Any]:  # noqa: ANN401 (the fields of Script)
    return asks(command(**script))


def test_a_stream_is_read_whole_with_its_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=scripted(reasoning=["Hm."]), stream=True, stream_options={"include_usage": True}
    ) as stream:
        read = list(stream)
    assert stream.response.headers["content-type"] == "text/event-stream"
    answer_id = stream.response.headers["x-answer-id"]
    assert {chunk.id for chunk in read} == {PREFIX + answer_id}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in read if chunk.choices)
    assert text == WORDS
    assert read[-2].choices[0].finish_reason == "stop"
    assert read[-1].usage is not None
    assert read[-1].usage.completion_tokens > 0
    assert abs(read[0].created - time.time()) < 60


def test_an_answer_comes_as_a_whole_and_can_be_read_again(client: openai.OpenAI, stack: Stack) -> None:
    asked = client.chat.completions.with_raw_response.create(model=MODEL, messages=scripted(reasoning=["Hm."]))
    answer = asked.parse()
    ChatCompletion.model_validate(answer.model_dump())
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].message.model_dump()["reasoning_content"] == "Hm."
    assert answer._request_id == asked.headers["x-request-id"]
    assert asked.headers["x-answer-id"] == answer.id.removeprefix(PREFIX)
    assert asked.headers["cache-control"] == "no-store"
    assert client.chat.completions.retrieve(answer.id).model_dump() == answer.model_dump()
    assert stack.client.read(answer.id.removeprefix(PREFIX))["text"] == WORDS


def test_an_answer_that_is_read_by_its_id_is_waited_for(client: openai.OpenAI, stack: Stack) -> None:
    messages = scripted(key="waited-for", on_demand=True, chunks=1)
    with client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        named = PREFIX + stream.response.headers["x-answer-id"]
        read: list[Any] = []
        reader = threading.Thread(target=lambda: read.append(client.chat.completions.retrieve(named)))
        reader.start()
        while reader.is_alive():
            stack.upstream.step("waited-for")
            reader.join(0.05)
        rest = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert read[0].choices[0].message.content == rest == "w1 "


def test_what_is_not_ours_reaches_the_upstream_untouched(client: openai.OpenAI, stack: Stack) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    call = {"name": "f", "arguments": "{}"}
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
        {"role": "user", "name": "ann", "content": [picture, {"type": "text", "text": "x\n\u2028y"}]},
    ]
    given: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 1,
        "seed": 2**60,
        "stop": ["\n"],
        "logit_bias": {"50256": -100},
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x-own": 1.50}}}],
        "tool_choice": "none",
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "max_completion_tokens": 7,
    }
    extra = {"top_k": 40, "chat_template_kwargs": {"enable_thinking": False}, "guided_json": {"a": [None]}}
    client.chat.completions.create(model=MODEL, messages=messages, **given, extra_body=extra, user="untouched")
    [seen] = [each for each in stack.upstream.requests("") if each["body"].get("user") == "untouched"]
    assert seen["messages"] == messages
    passed_on = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}, "user": "untouched"}
    assert seen["body"] == {**given, **extra, **passed_on}


WEATHER = {"name": "weather", "arguments": ['{"city":', '"Győr"}']}
TIME = {"name": "time", "arguments": ["{}"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": name}} for name in ("weather", "time")]


def test_calls_of_tools_and_their_results_go_both_ways(client: openai.OpenAI) -> None:
    asked = scripted(tool_calls=[WEATHER, TIME], chunks=0, after_tools={"texts": ["It is ", "{results}."]})
    whole = client.chat.completions.create(model=MODEL, messages=asked, tools=TOOLS).choices[0]
    assert whole.finish_reason == "tool_calls"
    calls = whole.message.tool_calls
    assert calls is not None
    functions = [call.function for call in calls if call.type == "function"]
    assert [(function.name, function.arguments) for function in functions] == [
        ("weather", '{"city":"Győr"}'),
        ("time", "{}"),
    ]
    with client.chat.completions.stream(model=MODEL, messages=asked, tools=TOOLS) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    streamed = final.message.tool_calls
    assert streamed is not None
    assert [(call.function.name, call.function.arguments) for call in streamed] == [
        (function.name, function.arguments) for function in functions
    ]
    results: list[Any] = [{"role": "tool", "tool_call_id": call.id, "content": f"r{n}"} for n, call in enumerate(calls)]
    message: Any = whole.message.model_dump(exclude_none=True)
    answer = client.chat.completions.create(model=MODEL, messages=[*asked, message, *results], tools=TOOLS)
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("It is r0")


def test_a_repeated_key_joins_the_answer_streamed_or_whole(client: openai.OpenAI, stack: Stack) -> None:
    headers = {"Idempotency-Key": "a-key-of-the-sdk"}
    asked = scripted(key="the same question")
    whole = client.chat.completions.create(model=MODEL, messages=asked, extra_headers=headers)
    with client.chat.completions.create(model=MODEL, messages=asked, stream=True, extra_headers=headers) as stream:
        assert {chunk.id for chunk in stream} == {whole.id}
    assert len(stack.upstream.requests("the same question")) == 1
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.chat.completions.create(model=MODEL, messages=asks("another"), extra_headers=headers)
    assert raised.value.code == "idempotency_key_reused"


def test_models_are_those_of_the_service(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "other-model"]
    assert client.models.retrieve("other-model").id == "other-model"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("a/model")
    assert raised.value.code == "model_not_found"


# What is refused


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_input", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_input", "messages.0.role"),
        ({"temperature": 3}, "invalid_input", "temperature"),
        ({"n": 2}, "unsupported_value", "n"),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "unsupported_parameter", "audio"),
        ({"stream": "yes"}, "invalid_input", "stream"),
        ({"stream_options": 1}, "invalid_input", "stream_options"),
        ({"background": 1}, "invalid_input", "background"),
    ],
)
def test_bad_input_is_a_bad_request(client: openai.OpenAI, fields: dict[str, Any], code: str, param: str) -> None:
    body = {"model": MODEL, "messages": asks("x"), **fields}
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/chat/completions", body=body, cast_to=object)
    error: Any = raised.value
    assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")


def test_messages_are_required(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/chat/completions", body={"model": MODEL}, cast_to=object)
    assert raised.value.param == "messages"


@pytest.mark.parametrize("path", ["/embeddings", "/chat", "/chat/completions/x/messages", "/files"])
def test_an_address_that_is_none_of_the_service_says_so(client: openai.OpenAI, path: str) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.post(path, body={}, cast_to=object)
    assert (raised.value.code, raised.value.type) == ("unknown_url", "not_found_error")


@pytest.mark.parametrize("named", ["chatcmpl-x", "x", PREFIX + "0" * 32, "0" * 32, PREFIX + "A" * 32])
def test_an_unknown_completion_is_not_found(client: openai.OpenAI, named: str) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.retrieve(named)
    assert raised.value.code == "unknown_answer"


def test_a_body_over_the_limit_names_it_from_nginx_and_from_the_service(stack: Stack) -> None:
    text = "x" * (32 << 20)
    for address in (stack.nginx.address, stack.service.address):
        with pytest.raises(openai.APIStatusError) as raised:
            sdk(address).chat.completions.create(model=MODEL, messages=asks(text))
        assert (raised.value.status_code, raised.value.code) == (413, "body_too_large")
        assert "33554432 bytes" in str(raised.value)


def test_a_long_conversation_with_a_picture_passes(client: openai.OpenAI, stack: Stack) -> None:
    url = "data:image/png;base64," + "A" * (16 << 20)
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
        *scripted(key="a-picture", chunks=1),
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content == "w1 "
    [seen] = stack.upstream.requests("a-picture")
    assert seen["messages"][0]["content"][0]["image_url"]["url"] == url


# Ends


def test_an_answer_that_breaks_off_raises_streamed_and_whole(client: openai.OpenAI) -> None:
    messages = scripted(cut_after=3)
    with client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        read: list[Any] = []
        with pytest.raises(openai.APIError) as raised:
            read.extend(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in read).startswith("w1 ")
    assert raised.value.code == "upstream_cut"
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model=MODEL, messages=messages)
    assert (failed.value.status_code, failed.value.code) == (502, "upstream_cut")


def test_an_answer_that_is_stopped_raises_streamed_and_whole_and_is_not_asked_for_again(stack: Stack) -> None:
    patient = sdk(stack.nginx.address, max_retries=2)
    messages = scripted(key="stopped", endless=True, pace=0.02)
    with patient.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        named = stream.response.headers["x-answer-id"]
        stopping = threading.Timer(0.3, stack.client.stop, [named])
        stopping.start()
        with pytest.raises(openai.APIError) as raised:
            list(stream)
    assert raised.value.code == "answer_stopped"
    with pytest.raises(openai.APIStatusError) as gone:
        patient.chat.completions.retrieve(PREFIX + named)
    assert (gone.value.status_code, gone.value.code) == (410, "answer_stopped")
    assert len(stack.upstream.requests("stopped")) == 1


def test_a_client_that_leaves_stops_nothing_at_once_and_everything_later(
    upstream: UpstreamProcess, tmp_path: Path
) -> None:
    settings = {"FOLYAM_UNWATCHED_SECONDS": "0.2"}
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service:
        for stream in (False, True):
            key = f"left-{stream}"
            body = json.dumps(
                {"model": MODEL, "stream": stream, "messages": scripted(key=key, endless=True, pace=0.02)}
            )
            connection = http.client.HTTPConnection(service.address.host, service.address.port, timeout=20)
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            upstream.wait_until(lambda seen: bool(seen) and seen[0]["chunks_sent"] > 2, key)
            connection.close()
            upstream.wait_until(lambda seen: seen[0]["closed_by"] == "client", key)


def test_a_dead_worker_cuts_the_body_and_the_sdk_raises(upstream: UpstreamProcess, tmp_path: Path) -> None:
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1) as service:
        messages = scripted(key="cut", endless=True, pace=0.02)
        with sdk(service.address).chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
            read = iter(stream)
            next(read)
            next(read)
            [worker] = service.workers()
            os.kill(worker, signal.SIGKILL)
            with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
                list(read)


# Errors: the SDK's class for each


@pytest.fixture(scope="module")
def refusing(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path
) -> Iterator[tuple[Service, Nginx]]:
    directory = tmp_path_factory.mktemp("refusing")
    settings = {
        "FOLYAM_API_KEYS": f"{KEY},another-key-0123456789",
        "FOLYAM_RETRIES": "0",
        "FOLYAM_MAX_ANSWERS_PER_CLIENT": "1",
        "FOLYAM_STATUS_SECONDS": "1",
        "FOLYAM_SYSTEM_PROMPT": "A prompt of the service.",
        "FOLYAM_MAX_BODIES_BYTES": "2000000",
    }
    with (
        Service(directory, directory / "answers", upstream.base_url, workers=1, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield service, nginx


LONG = "This model's maximum context length is 10 tokens."
BAD = openai.BadRequestError
FAULT = openai.InternalServerError


def says(message: str, code: str) -> dict[str, Any]:
    return {"status": 400, "error": {"message": message, "code": code}}


REFUSALS: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], int, str, bool]] = {
    "a wrong tool": (says("bad tool", "bad_tool"), BAD, 400, "bad_tool", False),
    "a long context": (says(LONG, "context_length_exceeded"), BAD, 400, "context_length_exceeded", False),
    "its key": ({"status": 401}, FAULT, 502, "upstream_credentials", False),
    "its credit": ({"status": 402}, openai.APIStatusError, 402, "upstream_no_credit", False),
    "its model": ({"status": 404}, FAULT, 502, "upstream_not_found", False),
    "moderation": (says("no", "content_policy_violation"), BAD, 400, "content_policy_violation", False),
    "its rate": ({"status": 429}, openai.RateLimitError, 429, "upstream_rate_limited", True),
    "its fault": ({"status": 500}, FAULT, 502, "upstream_unavailable", True),
    "its silence": ({"status_delay": 3600}, FAULT, 504, "upstream_timeout", True),
}
"""What the upstream does, and the SDK's exception, its status and code, and whether the SDK asks again."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_of_the_upstream_is_the_sdks_exception(
    refusing: tuple[Service, Nginx],
    upstream: UpstreamProcess,
    report: Report,
    case: str,
    stream: bool,  # noqa: FBT001 (pytest gives it)
) -> None:
    script, kind, status, code, is_retried = REFUSALS[case]
    key = f"refused: {case}, {stream}"
    client = sdk(refusing[1].address, max_retries=1)
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=MODEL, messages=scripted(key=key, **script), stream=stream)
    error = raised.value
    assert (type(error), error.status_code, error.code) == (kind, status, code)
    assert len(upstream.requests(key)) == 1 + is_retried
    report.add("SDK errors", f"the upstream: {case}", kind.__name__, status, code, "again" if is_retried else "")


def test_the_services_refusals_are_the_sdks_exceptions(refusing: tuple[Service, Nginx], report: Report) -> None:
    address = refusing[1].address
    seen = []

    def refused(case: str, client: openai.OpenAI, **fields: Any) -> None:  # noqa: ANN401 (a request's)
        asked: dict[str, Any] = {"model": MODEL, "messages": asks("x"), **fields}
        with pytest.raises(openai.APIStatusError) as raised:
            client.chat.completions.create(**asked)
        error = raised.value
        body: Any = error.body
        seen.append((type(error).__name__, error.status_code, error.code, body["type"]))
        report.add("SDK errors", case, *seen[-1][:3], "")

    refused("no key", sdk(address, api_key="wrong-0123456789abcdef"))
    refused("an unknown model", sdk(address), model="gpt-0")
    refused("a system prompt", sdk(address), messages=[{"role": "system", "content": "x"}])
    refused("too many bodies", sdk(address), messages=asks("x" * 2_000_000))
    running = scripted(key="one-too-many", endless=True, pace=0.02)
    with sdk(address).chat.completions.create(model=MODEL, messages=running, stream=True) as stream:
        refused("too many answers", sdk(address))
        sdk(address).post(f"/../answers/{stream.response.headers['x-answer-id']}/stop", cast_to=object)
    assert seen == [
        ("AuthenticationError", 401, "invalid_api_key", "authentication_error"),
        ("NotFoundError", 404, "model_not_found", "not_found_error"),
        ("BadRequestError", 400, "invalid_input", "invalid_request_error"),
        ("InternalServerError", 503, "too_many_bodies", "server_error"),
        ("RateLimitError", 429, "too_many_answers_of_yours", "rate_limit_error"),
    ]


def test_bodies_are_given_back_when_their_answers_have_ended(refusing: tuple[Service, Nginx]) -> None:
    client = sdk(refusing[1].address)
    for _ in range(4):
        client.chat.completions.create(model=MODEL, messages=[*asks("x" * 900_000), *scripted(chunks=1)])


def test_a_door_that_is_closed_is_not_there(upstream: UpstreamProcess, tmp_path: Path) -> None:
    settings = {"FOLYAM_APIS": "none"}
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as service:
        client = sdk(service.address)
        for ask in (client.models.list, lambda: client.chat.completions.create(model=MODEL, messages=[])):
            with pytest.raises(openai.NotFoundError) as raised:
                ask()
            assert raised.value.code == "unknown_url"
