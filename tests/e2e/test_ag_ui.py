"""AG-UI's own client, unmodified, in Node.js: `HttpAgent`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.node import Node, running
from tests.e2e.client import script
from tests.e2e.conftest import Stack
from tests.e2e.cutter import Cutter, random_limits
from tests.renderings.event_stream import parse

JSON = dict[str, Any]
CHUNKS = 300
CUTS = 8


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running("live.mjs") as node:
        yield node


def run(node: Node, url: str, query: str, **more: object) -> JSON:
    messages = [{"id": "u1", "role": "user", "content": query}]
    seen: JSON = node.run(operation="run", url=f"{url}/ag-ui", threadId="thread", **{"messages": messages, **more})
    return seen


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(1, count + 1))


def test_a_run_has_the_answer_and_gives_the_model_all_that_the_client_sent(stack: Stack, node: Node) -> None:
    key = "ag-ui run"
    tool = {"name": "look_up", "description": "d", "parameters": {"type": "object"}}
    seen = run(
        node,
        stack.client.url,
        script(key=key, reasoning=["hm"], texts=["A ", "größe"]),
        tools=[tool],
        context=[{"description": "Page", "value": "rivers"}],
        state={"step": 2},
        forwardedProps={"model": "other-model", "seed": 7},
    )
    _, reasoning, answer = seen["messages"]
    assert (reasoning["role"], reasoning["content"]) == ("reasoning", "hm")
    assert answer["content"] == "A größe"
    assert seen["finished"]["outcome"] == {"type": "success"}
    assert seen["finished"]["usage"][0]["model"] == "other-model"
    [asked] = stack.upstream.requests(key)
    assert (asked["body"]["model"], asked["body"]["seed"]) == ("other-model", 7)
    assert asked["body"]["tools"] == [{"type": "function", "function": tool}]
    assert asked["messages"][0] == {"role": "system", "content": 'Page: rivers\nState of the application: {"step":2}'}


def test_a_tools_result_comes_with_the_next_run(stack: Stack, node: Node) -> None:
    key = "ag-ui tool"
    calls = [{"name": "look_up", "arguments": ['{"of":', '"rivers"}']}, {"name": "look_up", "arguments": ["{}"]}]
    query = script(
        key=key,
        texts=["Look"],
        tool_calls=calls,
        tool_style=["interleaved"],
        after_tools={"texts": ["{results}"]},
    )
    first = run(node, stack.client.url, query)
    answer = first["messages"][-1]
    assert [call["function"]["arguments"] for call in answer["toolCalls"]] == ['{"of":"rivers"}', "{}"]
    ids = [call["id"] for call in answer["toolCalls"]]
    assert first["finished"]["outcome"] == {"type": "success", "pendingToolCallIds": ids}
    results = [{"id": f"t{each}", "role": "tool", "toolCallId": each, "content": f"about {each}"} for each in ids]
    second = run(node, stack.client.url, query, messages=[*first["messages"], *results])
    assert second["messages"][-1]["content"] == ", ".join(f"about {each}" for each in ids)
    assert [message["role"] for message in stack.upstream.requests(key)[1]["messages"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]


def test_it_goes_on_behind_the_last_event_however_often_it_is_cut(stack: Stack, node: Node) -> None:
    key = "ag-ui cut"
    with Cutter(stack.nginx.address, random_limits(5, CUTS, 1500, 6000)) as cutter:
        seen = run(node, f"http://{cutter.address}", script(key=key, chunks=CHUNKS, pace=0.01), resumes=True)
    assert cutter.cuts == CUTS
    assert "error" not in seen
    assert seen["messages"][-1]["content"] == words(CHUNKS)
    assert seen["finished"]["outcome"] == {"type": "success"}
    assert len(stack.upstream.requests(key)) == 1


def test_a_cut_is_an_error_without_it(stack: Stack, node: Node) -> None:
    with Cutter(stack.nginx.address, iter([3000])) as cutter:
        seen = run(node, f"http://{cutter.address}", script(chunks=CHUNKS, pace=0.01))
    assert "error" in seen
    assert "finished" not in seen


def begun(stack: Stack, query: str) -> tuple[bytes, str]:
    """Return the body of a run, and its answer's id."""
    given = {"threadId": "t", "runId": "r", "messages": [{"id": "u", "role": "user", "content": query}]}
    reply = stack.client.request("POST", "/ag-ui", json.dumps(given).encode(), {"Content-Type": "application/json"})
    assert reply.status == 200
    return reply.body, reply.headers["X-Answer-Id"]


def test_a_request_with_the_last_id_begins_no_run(stack: Stack) -> None:
    key = "ag-ui again"
    body, answer = begun(stack, script(key=key, chunks=3))
    messages = parse(body).messages
    for number, message in enumerate(messages):
        assert message.last_event_id == f"{answer}:{number}"
        rest = stack.client.request("POST", "/ag-ui", headers={"Last-Event-ID": message.last_event_id})
        assert (rest.status, parse(rest.body).messages) == (200, messages[number + 1 :])
    assert len(stack.upstream.requests(key)) == 1


def test_a_stop_ends_the_run_as_an_error_that_says_so(stack: Stack) -> None:
    body, answer = begun(stack, script(chunks=3, error_after=2))
    assert json.loads(parse(body).messages[-1].data)["code"] == "upstream_error"
    assert stack.client.read(answer)["state"] == "failed"
    key = "ag-ui stop"
    given = {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "u", "role": "user", "content": script(key=key, endless=True, pace=0.02)}],
    }
    with stack.client.open(
        "POST", "/ag-ui", json.dumps(given).encode(), {"Content-Type": "application/json"}
    ) as stream:
        stack.upstream.wait_opened(key)
        stack.client.stop(stream.answer)
        heard = b"".join(iter(stream.read, b""))
    last = json.loads(parse(heard).messages[-1].data)
    assert (last["type"], last["code"]) == ("RUN_ERROR", "answer_stopped")


def test_the_agent_says_that_it_resumes(stack: Stack) -> None:
    reply = stack.client.request("GET", "/ag-ui/capabilities")
    assert reply.status == 200
    assert reply.json["transport"]["resumable"] is True
    assert reply.headers.get_all("Cache-Control") == ["no-store"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"runId": "r", "messages": []}, "threadId"),
        ({"threadId": "t", "messages": []}, "runId"),
        ({"threadId": "t", "runId": "r"}, "messages"),
        ({"threadId": "t", "runId": "r", "messages": []}, "messages"),
        (
            {"threadId": "t", "runId": "r", "messages": [], "resume": [{"interruptId": "i", "status": "resolved"}]},
            "resume",
        ),
        (
            {
                "threadId": "t",
                "runId": "r",
                "messages": [{"role": "user", "content": "a"}],
                "forwardedProps": {"model": "x"},
            },
            "model",
        ),
        (
            {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": "a"}], "forwardedProps": 5},
            "forwardedProps",
        ),
    ],
)
def test_what_is_wrong_is_said(stack: Stack, given: JSON, field: str) -> None:
    reply = stack.client.request("POST", "/ag-ui", json.dumps(given).encode(), {"Content-Type": "application/json"})
    assert reply.status in (400, 404)
    assert reply.json["error"]["param"] == field
