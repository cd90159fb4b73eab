"""`/v1/responses` as OpenAI's client reads it, with the validation of each response that it has."""

import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import OpenAI

from deploy.local.ports import Address
from tests.e2e.client import script
from tests.e2e.conftest import Pair, Stack
from tests.e2e.stack import DEADLINE_SECONDS, Service, eventually
from tests.open_responses import check_event, check_response
from tests.upstream.process import UpstreamProcess

Json = dict[str, Any]

MODEL = "test-model"
RESUMED = 'folyam_resumes_total{rendering="responses"}'


def client_of(address: Address, **options: Any) -> OpenAI:  # noqa: ANN401 (the client's own)
    return OpenAI(
        base_url=f"http://{address}/v1",
        api_key="a key that is not asked for",
        max_retries=0,
        _strict_response_validation=True,
        **options,
    )


@pytest.fixture
def clients(pair: Pair) -> Iterator[tuple[OpenAI, OpenAI]]:
    with client_of(pair.services[0].address) as one, client_of(pair.services[1].address) as other:
        yield one, other


@pytest.fixture
def client(clients: tuple[OpenAI, OpenAI]) -> OpenAI:
    return clients[0]


def key_of(test: str) -> str:
    return f"responses {test} {time.monotonic_ns()}"


def read(stream: Iterable[Any]) -> list[Json]:
    """The events of a stream, each valid."""
    events: list[Json] = [event.to_dict() for event in stream]
    for event in events:
        check_event(event)
    return events


def test_a_whole_response_is_that_of_the_last_event(client: OpenAI) -> None:
    asked = script(chunks=3, reasoning=["Hm", "."])
    whole = client.responses.create(model=MODEL, input=asked)
    check_response(whole.to_dict())
    assert (whole.status, whole.output_text) == ("completed", "w1 w2 w3 ")
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert client.responses.retrieve(whole.id) == whole

    events = read(client.responses.create(model=MODEL, input=asked, stream=True))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]["response"]
    assert events[-1]["type"] == "response.completed"
    shown: Json = whole.to_dict()
    assert last["output"][1]["content"] == shown["output"][1]["content"]
    assert last["usage"] == shown["usage"]


def test_a_stream_ends_with_done_and_has_no_ids(pair: Pair) -> None:
    asked = json.dumps({"model": MODEL, "input": script(chunks=2), "stream": True}).encode()
    reply = pair.clients[0].request("POST", "/v1/responses", asked, {"Content-Type": "application/json"})
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.body.endswith(b"\n\ndata: [DONE]\n\n")
    fields = {line.partition(b":")[0] for line in reply.body.splitlines()}
    assert fields <= {b"event", b"data", b""}


def test_the_clients_own_reader_of_streams_gets_the_whole_response(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=script(chunks=3)) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text == "w1 w2 w3 "


def test_a_response_is_resumed_from_every_number_on_either_worker(clients: tuple[OpenAI, OpenAI], pair: Pair) -> None:
    counted = pair.clients[1].metrics().get(RESUMED, 0)
    events = read(clients[0].responses.create(model=MODEL, input=script(chunks=6, reasoning=["a"]), stream=True))
    response_id = events[0]["response"]["id"]
    for client in clients:
        assert read(client.responses.retrieve(response_id, stream=True)) == events
        for after in range(len(events)):
            rest = client.responses.retrieve(response_id, stream=True, starting_after=after)
            assert read(rest) == events[after + 1 :]
    assert pair.clients[1].metrics()[RESUMED] == counted + len(events)


def test_a_running_response_is_resumed_on_another_worker(
    clients: tuple[OpenAI, OpenAI], upstream: UpstreamProcess
) -> None:
    key = key_of("resumed")
    with clients[0].responses.create(
        model=MODEL, input=script(key=key, chunks=20, pace=0.02), stream=True, background=True
    ) as stream:
        begun = read(islice(stream, 7))
    rest = read(
        clients[1].responses.retrieve(
            begun[0]["response"]["id"], stream=True, starting_after=begun[-1]["sequence_number"]
        )
    )
    assert [event["sequence_number"] for event in (*begun, *rest)] == list(range(len(begun) + len(rest)))
    assert rest[-1]["response"]["output"][0]["content"][0]["text"] == "".join(f"w{n} " for n in range(1, 21))
    assert len(upstream.requests(key)) == 1


# In the background


def test_a_response_in_the_background_goes_on_alone(client: OpenAI, upstream: UpstreamProcess) -> None:
    """An answer without followers would be stopped at once here."""
    key = key_of("background")
    begun = client.responses.create(model=MODEL, input=script(key=key, chunks=4, on_demand=True), background=True)
    assert (begun.status, begun.background, begun.output) == ("in_progress", True, [])
    time.sleep(1.5)  # more than the second in which a worker would stop it
    for _ in range(5):
        upstream.step(key)
    eventually(lambda: client.responses.retrieve(begun.id).status == "completed")
    assert client.responses.retrieve(begun.id).output_text == "w1 w2 w3 w4 "


def test_a_response_is_cancelled_through_another_worker(
    clients: tuple[OpenAI, OpenAI], upstream: UpstreamProcess
) -> None:
    key = key_of("cancelled")
    stream = clients[0].responses.create(model=MODEL, input=script(key=key, endless=True, pace=0.01), stream=True)
    events = read(islice(stream, 6))
    response_id = events[0]["response"]["id"]
    cancelled = clients[1].responses.cancel(response_id)
    assert cancelled.status == "cancelled"
    events += read(stream)
    assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.incomplete", "cancelled")
    assert clients[1].responses.cancel(response_id) == cancelled == clients[0].responses.retrieve(response_id)
    upstream.wait_closed(key)


def test_a_deleted_response_is_unknown(clients: tuple[OpenAI, OpenAI]) -> None:
    response = clients[0].responses.create(model=MODEL, input=script(chunks=1))
    clients[1].responses.delete(response.id)
    for client in clients:
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.cancel(response.id)


# What is not kept


def test_a_response_that_is_not_to_be_stored_is_erased_once_it_is_delivered(stack: Stack) -> None:
    client = client_of(stack.nginx.address)
    events = read(client.responses.create(model=MODEL, input=script(chunks=2), stream=True, store=False))
    assert events[-1]["response"]["store"] is False
    assert_erased(client, events[0]["response"]["id"])


def test_a_response_that_is_not_to_be_stored_is_erased_also_if_nobody_gets_it(
    client: OpenAI, pair: Pair, upstream: UpstreamProcess
) -> None:
    key = key_of("unstored")
    asked = script(key=key, endless=True, pace=0.01)
    with client.responses.create(model=MODEL, input=asked, stream=True, store=False) as stream:
        [created] = read(islice(stream, 1))
    upstream.wait_closed(key)
    assert_erased(client, created["response"]["id"])
    assert not any(key in path.read_text() for path in pair.logs.glob("*.jsonl"))


def assert_erased(client: OpenAI, response_id: str) -> None:
    def is_unknown() -> bool:
        try:
            client.responses.retrieve(response_id)
        except openai.NotFoundError:
            return True
        return False

    eventually(is_unknown)


# The same request


def test_a_request_with_the_same_key_is_the_same_response(
    clients: tuple[OpenAI, OpenAI], upstream: UpstreamProcess
) -> None:
    key = key_of("same")
    headers = {"Idempotency-Key": key.replace(" ", "-")}
    asked = script(key=key, chunks=3)
    first = clients[0].responses.create(model=MODEL, input=asked, extra_headers=headers)
    assert clients[1].responses.create(model=MODEL, input=asked, extra_headers=headers) == first
    stream = clients[1].responses.create(model=MODEL, input=asked, stream=True, extra_headers=headers)
    assert read(stream)[-1]["response"] == first.to_dict()
    assert len(upstream.requests(key)) == 1
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        clients[1].responses.create(model=MODEL, input="another", extra_headers=headers)
    assert caught.value.code == "idempotency_key_reused"


# Tools


def test_parallel_calls_and_their_results_go_round(client: OpenAI, upstream: UpstreamProcess) -> None:
    key = key_of("tools")
    pieces = [
        {"name": "weather", "arguments": ['{"city":', ' "Győr', '"}'], "id": "call_a"},
        {"name": "time", "arguments": ['{"zone"', ':"CET"}'], "id": "call_b"},
    ]
    said = {"texts": ["It is {results}."]}
    asked = script(key=key, texts=["Hé"], tool_calls=pieces, tool_style=["interleaved"], after_tools=said)
    tools: Any = [
        {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
        for name in ("weather", "time")
    ]
    events = read(client.responses.create(model=MODEL, input=asked, tools=tools, stream=True))
    message, *calls = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == "Hé"
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("call_a", "weather", '{"city": "Győr"}'),
        ("call_b", "time", '{"zone":"CET"}'),
    ]
    for call in calls:
        deltas = [
            event["delta"]
            for event in events
            if event["type"] == "response.function_call_arguments.delta" and event["item_id"] == call["id"]
        ]
        assert "".join(deltas) == call["arguments"]
    results: Any = [
        {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
        {"type": "function_call_output", "call_id": "call_b", "output": "noon"},
    ]
    first: str = events[0]["response"]["id"]
    second = client.responses.create(model=MODEL, input=results, tools=tools, previous_response_id=first)
    assert second.output_text == "It is sunny, noon."
    [_, record] = upstream.requests(key)
    assert [message["role"] for message in record["messages"]] == ["user", "assistant", "tool", "tool"]
    assert record["messages"][1]["content"] == "Hé"
    assert record["messages"][1]["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Győr"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": '{"zone":"CET"}'}},
    ]


# The request


def test_what_is_asked_reaches_the_model_and_is_repeated(client: OpenAI, upstream: UpstreamProcess) -> None:
    key = key_of("asked")
    response = client.responses.create(
        model=MODEL,
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "In English."},
            {"role": "user", "content": [{"type": "input_text", "text": script(key=key, chunks=1)}]},
        ],
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "low"},
        max_output_tokens=50,
        temperature=0.5,
        metadata={"a": "b"},
        extra_body={"top_k": 5},
    )
    check_response(response.to_dict())
    [record] = upstream.requests(key)
    assert [message["role"] for message in record["messages"]] == ["system", "developer", "user"]
    body = record["body"]
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["response_format"]["json_schema"] == {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert (body["max_tokens"], body["temperature"], body["reasoning_effort"], body["top_k"]) == (50, 0.5, "low", 5)
    assert response.instructions == "Be brief."
    assert response.metadata == {"a": "b"}
    assert response.max_output_tokens == 50
    assert response.tools[0].to_dict()["name"] == "f"
    assert client.responses.retrieve(response.id) == response


def test_a_response_goes_on_from_another_one(clients: tuple[OpenAI, OpenAI], upstream: UpstreamProcess) -> None:
    """The instructions of the earlier one are not repeated, and its reasoning has no place."""
    first = clients[0].responses.create(
        model=MODEL, instructions="One.", input=script(chunks=2, reasoning=["hm"]), store=True
    )
    key = key_of("next")
    second = clients[1].responses.create(
        model=MODEL, instructions="Two.", input=script(key=key, chunks=1), previous_response_id=first.id
    )
    [record] = upstream.requests(key)
    assert [(message["role"], message["content"]) for message in record["messages"]][:3] == [
        ("system", "Two."),
        ("user", script(chunks=2, reasoning=["hm"])),
        ("assistant", "w1 w2 "),
    ]
    assert second.previous_response_id == first.id
    key = key_of("third")
    clients[0].responses.create(model=MODEL, input=script(key=key, chunks=1), previous_response_id=second.id)
    [record] = upstream.requests(key)
    roles = ["user", "assistant", "user", "assistant", "user"]
    assert [message["role"] for message in record["messages"]] == roles


def test_a_response_goes_on_from_an_answer_of_another_door(
    client: OpenAI, pair: Pair, upstream: UpstreamProcess
) -> None:
    answer = pair.clients[0].generate(script(chunks=2)).headers["X-Answer-Id"]
    key = key_of("mixed")
    client.responses.create(model=MODEL, input=script(key=key, chunks=1), previous_response_id=f"resp_{answer}")
    [record] = upstream.requests(key)
    assert [message["role"] for message in record["messages"]] == ["user", "assistant", "user"]
    check_response(client.responses.retrieve(f"resp_{answer}").to_dict())


# Errors


@pytest.mark.parametrize(
    ("asked", "error", "code", "param"),
    [
        ({"model": "gpt-unknown"}, openai.NotFoundError, "model_not_found", "model"),
        ({"input": []}, openai.BadRequestError, "invalid_input", "input"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "unsupported_value", "tools.0.type"),
        ({"conversation": "conv_1"}, openai.BadRequestError, "unsupported_parameter", "conversation"),
        ({"background": True, "store": False}, openai.BadRequestError, "unsupported_value", "store"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_input", "temperature"),
        (
            {"previous_response_id": f"resp_{'0' * 32}"},
            openai.BadRequestError,
            "previous_response_not_found",
            "previous_response_id",
        ),
        (
            {"previous_response_id": "resp_of_another"},
            openai.BadRequestError,
            "previous_response_not_found",
            "previous_response_id",
        ),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(
    client: OpenAI, asked: Json, error: type[openai.APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(error) as caught:
        client.responses.create(**{"model": MODEL, "input": "a", **asked})
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.InternalServerError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_a_refusal_of_the_upstream_is_a_status(
    client: OpenAI, status: int, error: type[openai.APIStatusError], *, stream: bool
) -> None:
    with pytest.raises(error):
        client.responses.create(model=MODEL, input=script(status=status), stream=stream)


def test_a_response_that_goes_on_from_one_in_progress_is_refused(client: OpenAI) -> None:
    begun = client.responses.create(model=MODEL, input=script(endless=True, pace=0.01), background=True)
    with pytest.raises(openai.BadRequestError, match="has ended"):
        client.responses.create(model=MODEL, input="a", previous_response_id=begun.id)
    client.responses.delete(begun.id)


@pytest.mark.parametrize("response_id", ["resp_x", "0" * 32, f"resp_{'0' * 32}"])
def test_an_unknown_response_is_not_found(client: OpenAI, response_id: str) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response_id)


def test_an_answer_that_fails_later_is_a_failed_response(client: OpenAI) -> None:
    asked = script(chunks=3, error_after=1)
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model=MODEL, input=asked)
    events = read(client.responses.create(model=MODEL, input=asked, stream=True))
    assert (events[-1]["type"], events[-1]["response"]["error"]["code"]) == ("response.failed", "server_error")
    assert client.responses.retrieve(events[0]["response"]["id"]).status == "failed"


def test_a_whole_response_that_is_stopped_is_gone_and_not_asked_for_again(
    clients: tuple[OpenAI, OpenAI], pair: Pair, upstream: UpstreamProcess
) -> None:
    key = key_of("stopped")
    with ThreadPoolExecutor(1) as pool:
        client = clients[0].with_options(max_retries=2)
        whole = pool.submit(client.responses.create, model=MODEL, input=script(key=key, endless=True, pace=0.01))
        upstream.wait_opened(key)
        [log] = [path for path in pair.logs.glob("*.jsonl") if key in path.read_text()]
        clients[1].responses.cancel(f"resp_{log.stem}")
        with pytest.raises(openai.APIStatusError) as caught:
            whole.result(DEADLINE_SECONDS)
    assert (caught.value.status_code, caught.value.code) == (410, "answer_stopped")
    assert len(upstream.requests(key)) == 1


# Take-overs and restarts


@pytest.fixture
def recovery(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def two(tmp_path: Path, upstream: UpstreamProcess, recovery: str) -> Iterator[tuple[Service, Service]]:
    settings = {"FOLYAM_RECOVERY": recovery, "FOLYAM_CONTINUE": "assistant"}
    with (
        Service(tmp_path / "one", tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as one,
        Service(tmp_path / "two", tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as other,
    ):
        yield one, other


@pytest.mark.parametrize("recovery", ["continue"], indirect=True)
def test_numbers_are_the_same_after_a_take_over(two: tuple[Service, Service]) -> None:
    dying, other = two
    stream = client_of(dying.address).responses.create(model=MODEL, input=script(chunks=60, pace=0.02), stream=True)
    begun = read(islice(stream, 20))
    response_id = begun[0]["response"]["id"]
    following = client_of(other.address).responses.retrieve(response_id, stream=True)
    seen = read(islice(following, 20))
    [worker] = dying.workers()
    psutil.Process(worker).kill()
    seen += read(following)
    stream.close()
    assert seen[:20] == begun
    assert seen[-1]["response"]["output"][0]["content"][0]["text"] == "".join(f"w{n} " for n in range(1, 61))
    eventually(lambda: len(dying.workers()) == 1)
    for service in two:
        client = client_of(service.address)
        assert read(client.responses.retrieve(response_id, stream=True)) == seen
        for after in range(0, len(seen), 3):
            assert read(client.responses.retrieve(response_id, stream=True, starting_after=after)) == seen[after + 1 :]


@pytest.mark.parametrize("recovery", ["restart"], indirect=True)
def test_a_restart_is_an_error_for_followers_and_later_readers_get_the_new_answer(
    two: tuple[Service, Service],
) -> None:
    dying, other = two
    stream = client_of(dying.address).responses.create(model=MODEL, input=script(chunks=60, pace=0.02), stream=True)
    response_id = read(islice(stream, 1))[0]["response"]["id"]
    following = client_of(other.address).responses.retrieve(response_id, stream=True)
    seen = read(islice(following, 20))
    [worker] = dying.workers()
    psutil.Process(worker).kill()
    with pytest.raises(openai.APIError, match="begun anew"):
        seen += read(following)
    stream.close()
    client = client_of(other.address)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.retrieve(response_id, stream=True, starting_after=10)
    assert caught.value.code == "answer_restarted"
    events = read(client.responses.retrieve(response_id, stream=True))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "".join(f"w{n} " for n in range(1, 61))
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    place = numbers[5]
    rest = read(client.responses.retrieve(response_id, stream=True, starting_after=place))
    assert rest == events[6:]
