"""The AI SDK's own code, unmodified, in Node.js: `Chat`, which `useChat` is in React, with its default transport."""

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.node import Node, running
from tests.e2e.client import Client, script
from tests.e2e.conftest import Pair, Stack
from tests.e2e.cutter import Cutter
from tests.e2e.stack import Service, eventually
from tests.upstream.process import UpstreamProcess

JSON = dict[str, Any]

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
PARAMETERS = {"tools": [TOOL], "temperature": 0.5, "seed": 7}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running("live.mjs") as node:
        yield node


class Chat:
    """A chat at an address. Its id is also the key of its scripts."""

    def __init__(self, node: Node, url: str, chat_id: str, name: str = "", **more: object) -> None:
        self._node, self._name = node, name or chat_id
        node.run(operation="open", name=self._name, api=f"{url}/api/chat", id=chat_id, **more)

    def send(self, text: str) -> None:
        self._node.run(operation="send", name=self._name, text=text)

    def resume(self) -> None:
        self._node.run(operation="resume", name=self._name)

    def leave(self) -> None:
        self._node.run(operation="leave", name=self._name)

    def wait(self) -> JSON:
        state: JSON = self._node.run(operation="wait", name=self._name)
        return state

    @property
    def state(self) -> JSON:
        state: JSON = self._node.run(operation="state", name=self._name)
        return state

    @property
    def text(self) -> str:
        return text_of(self.state)


def text_of(state: JSON) -> str:
    parts = [part for message in state["messages"][-1:] if message["role"] == "assistant" for part in message["parts"]]
    return "".join(part["text"] for part in parts if part["type"] == "text")


def kinds(state: JSON) -> list[str]:
    return [part["type"] for part in state["messages"][-1]["parts"]]


def stop(stack: Stack, chat_id: str, **body: object) -> JSON:
    target = f"/api/chat/{urllib.parse.quote(chat_id, safe='')}/stop"
    given = {"body": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}} if body else {}
    reply = stack.client.request("POST", target, **given)  # type: ignore[arg-type]
    assert reply.status == 200
    answered: JSON = reply.json
    return answered


def test_an_answer_has_its_reasoning_its_text_and_its_parameters(stack: Stack, node: Node) -> None:
    key = "use-chat-answer-0001"
    chat = Chat(node, stack.client.url, key, body=PARAMETERS)
    chat.send(script(key=key, reasoning=["hm"], texts=["A ", "größe"]))
    state = chat.wait()
    assert (state["status"], kinds(state), text_of(state)) == ("ready", ["step-start", "reasoning", "text"], "A größe")
    [asked] = stack.upstream.requests(key)
    assert {name: asked["body"][name] for name in PARAMETERS} == PARAMETERS
    assert not {"id", "trigger", "messageId", "messages "} & asked["body"].keys()


@pytest.mark.parametrize(
    "chat_id", ["a/b//c%2Fd 0123456", "stream/stop/stream", "?a=b&c#d+%25=0123456", "größe-😀-\n-0123456789ab"]
)
def test_any_chat_id_resumes_and_stops(stack: Stack, node: Node, chat_id: str) -> None:
    key = f"use-chat id {chat_id}"
    chat = Chat(node, stack.client.url, chat_id)
    chat.send(script(key=key, endless=True, pace=0.02))
    eventually(lambda: chat.text)
    other = Chat(node, stack.client.url, chat_id, name=f"other {chat_id}")
    other.resume()
    eventually(lambda: "w3" in other.text)
    assert stop(stack, chat_id) == {"success": True}
    assert text_of(chat.wait()) == text_of(other.wait())
    [record] = stack.upstream.requests(key)
    assert record["closed_by"] == "client"


def test_a_cut_is_an_error_and_a_resume_has_the_whole_answer_once(stack: Stack, node: Node) -> None:
    key = "use-chat-cut-0000001"
    with Cutter(stack.nginx.address) as cutter:
        chat = Chat(node, f"http://{cutter.address}", key)
        chat.send(script(key=key, chunks=30, pace=0.05))
        eventually(lambda: "w3" in chat.text)
        cutter.cut()
        assert chat.wait()["status"] == "error"
        assert "w30" not in chat.text
        chat.resume()
        state = chat.wait()
    assert (state["status"], text_of(state)) == ("ready", "".join(f"w{n} " for n in range(1, 31)))
    assert len(state["messages"]) == 2, "the partial message is replaced"
    assert len(stack.upstream.requests(key)) == 1


def test_an_answer_that_ended_is_replayed_until_it_was_delivered(stack: Stack, node: Node) -> None:
    key = "use-chat-delivered-1"
    with Cutter(stack.nginx.address) as cutter:
        chat = Chat(node, f"http://{cutter.address}", key)
        chat.send(script(key=key, chunks=3, on_demand=True))
        stack.upstream.wait_opened(key)
        stack.upstream.step(key)
        eventually(lambda: "w1" in chat.text)
        cutter.cut()
        chat.wait()
    for _ in range(3):
        stack.upstream.step(key)
    stack.upstream.wait_closed(key)
    page = Chat(node, stack.client.url, key, name="a page that is loaded")
    page.resume()
    assert text_of(page.wait()) == "w1 w2 w3 "
    again = Chat(node, stack.client.url, key, name="the page, loaded again")
    again.resume()
    assert (again.wait()["http"], again.state["messages"]) == (204, [])


def test_a_chat_without_an_answer_has_nothing_to_resume_or_stop(stack: Stack, node: Node) -> None:
    chat = Chat(node, stack.client.url, "use-chat-never-asked")
    chat.resume()
    assert (chat.wait()["http"], chat.state["status"]) == (204, "ready")
    assert stop(stack, "use-chat-never-asked") == {"success": True}


def test_an_answer_goes_on_without_its_page_and_a_stop_ends_it(stack: Stack, node: Node) -> None:
    key = "use-chat-background-1"
    chat = Chat(node, stack.client.url, key)
    chat.send(script(key=key, endless=True, pace=0.02))
    eventually(lambda: chat.text)
    chat.leave()
    assert chat.state["status"] == "ready"
    page = Chat(node, stack.client.url, key, name="later")
    page.resume()
    eventually(lambda: page.text)
    assert stop(stack, key, activeStreamId="of an earlier answer") == {"success": True}
    [record] = stack.upstream.requests(key)
    assert not record["closed_at"], "another one was meant"
    stop(stack, key, activeStreamId=None, assistantMessage={"id": "m", "role": "assistant", "parts": []})
    assert page.wait()["status"] == "ready"
    [record] = stack.upstream.wait_closed(key)
    assert record["closed_by"] == "client"


def test_an_answer_without_a_reader_goes_on_and_is_resumed_on_another_worker(pair: Pair, node: Node) -> None:
    """These workers stop an answer at once that nobody reads, unless it is in the background."""
    key = "use-chat-workers-001"
    chat = Chat(node, pair.clients[0].url, key)
    chat.send(script(key=key, chunks=3, on_demand=True))
    pair.upstream.wait_opened(key)
    pair.upstream.step(key)
    eventually(lambda: chat.text == "w1 ")
    chat.leave()
    pair.upstream.step(key)
    page = Chat(node, pair.clients[1].url, key, name="on another worker")
    page.resume()
    eventually(lambda: page.text == "w1 w2 ")
    for _ in range(2):
        pair.upstream.step(key)
    assert (page.wait()["status"], page.text) == ("ready", "w1 w2 w3 ")
    [record] = pair.upstream.wait_closed(key)
    assert record["chunks_sent"] == 3


def test_a_chat_is_its_keys_alone(tmp_path: Path, upstream: UpstreamProcess, node: Node) -> None:
    keys = ["first-key-0123456789", "second-key-0123456789"]
    settings = {"FOLYAM_API_KEYS": ",".join(keys)}
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as service:
        url = f"http://{service.address}"
        mine, others = [{"Authorization": f"Bearer {each}"} for each in keys]
        chat = Chat(node, url, "short", headers=mine)
        chat.send(script(endless=True, pace=0.02))
        eventually(lambda: chat.text)
        other = Chat(node, url, "short", name="of another key", headers=others)
        other.resume()
        assert other.wait()["http"] == 204
        client = Client(service.address)
        assert client.request("POST", "/api/chat/short/stop", headers=others).json == {"success": True}
        shown = chat.text
        eventually(lambda: chat.text != shown)
        assert client.request("POST", "/api/chat/short/stop", headers=mine).json == {"success": True}
        assert chat.wait()["status"] == "ready"


CALL = {"name": "look_up", "arguments": ['{"of":', '"rivers"}']}


def with_tools(key: str, **more: object) -> str:
    return script(key=key, texts=["Look: "], tool_calls=[CALL], after_tools={"texts": ["So ", "{results}."]}, **more)


def test_a_tools_result_goes_back_and_the_message_goes_on(stack: Stack, node: Node) -> None:
    key = "use-chat-tool-000001"
    chat = Chat(node, stack.client.url, key, body={"tools": [TOOL]}, output={"km": 2888})
    chat.send(with_tools(key))
    chat.wait()
    eventually(lambda: chat.state["status"] == "ready" and "So" in chat.text)
    state = chat.state
    assert kinds(state) == ["step-start", "text", "tool-look_up", "step-start", "text"]
    assert (len(state["messages"]), state["ran"]) == (2, [{"of": "rivers"}])
    first, second = stack.upstream.requests(key)
    assert first["body"]["tools"] == [TOOL]
    called, result = second["messages"][-2:]
    assert called["content"] == "Look: "
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"of": "rivers"}
    assert result == {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": '{"km":2888}'}


def test_a_resume_in_the_second_step_keeps_the_first_and_runs_no_tool(stack: Stack, node: Node) -> None:
    key = "use-chat-tool-000002"
    chat = Chat(node, stack.client.url, key, body={"tools": [TOOL]}, output="much")
    chat.send(with_tools(key, first=[{}, {"on_demand": True}]))
    stack.upstream.wait_opened(key, requests=2)
    page = Chat(node, stack.client.url, key, name="reloaded", messages=chat.state["messages"][:1], output="anew")
    page.resume()
    eventually(lambda: page.state["messages"][1:])
    for _ in range(3):
        stack.upstream.step(key)
    state = page.wait()
    assert kinds(state) == ["step-start", "text", "tool-look_up", "step-start", "text"]
    assert state["messages"][-1]["parts"][2]["output"] == "much"
    assert (text_of(state), state["ran"]) == ("Look: So much.", [])
    assert text_of(chat.wait()) == text_of(state)
    assert len(stack.upstream.requests(key)) == 2


def test_of_a_very_long_message_a_resume_has_all_but_its_long_parts(stack: Stack, node: Node) -> None:
    key = "use-chat-large-00001"
    picture = {
        "type": "tool-look_up",
        "toolCallId": "c1",
        "state": "output-available",
        "input": {},
        "output": "A" * (2 << 20),
    }
    steps = [
        {"type": "step-start"},
        {"type": "text", "text": "Look."},
        picture,
        {"type": "data-note", "data": {"a": 1}},
    ]
    query = script(key=key, texts=["So."], on_demand=True)
    messages = [
        {"id": "u", "role": "user", "parts": [{"type": "text", "text": query}]},
        {"id": "a", "role": "assistant", "parts": steps},
    ]
    body = json.dumps({"id": key, "messages": messages}).encode()
    with stack.client.open("POST", "/api/chat", body, {"Content-Type": "application/json"}):
        page = Chat(node, stack.client.url, key, messages=messages[:1])
        page.resume()
        eventually(lambda: page.state["messages"][1:])
        for _ in range(2):
            stack.upstream.step(key)
        state = page.wait()
    assert (kinds(state), text_of(state)) == (["step-start", "text", "data-note", "step-start", "text"], "Look.So.")
    assert stack.upstream.requests(key)[0]["messages"][-1]["content"] == "A" * (2 << 20)


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        ({"status": 400, "error": {"message": "No such voice.", "code": "bad_voice"}}, "bad_voice"),
        ({"status": 401}, "upstream_credentials"),
    ],
)
def test_a_refusal_is_an_error_with_the_services_words(
    stack: Stack, node: Node, commands: dict[str, object], code: str
) -> None:
    chat = Chat(node, stack.client.url, f"use-chat-refused {code}")
    chat.send(script(**commands))
    state = chat.wait()
    assert (state["status"], json.loads(state["error"])["error"]["code"]) == ("error", code)


def test_a_failure_in_the_middle_is_an_error(stack: Stack, node: Node) -> None:
    chat = Chat(node, stack.client.url, "use-chat-failed-0001")
    chat.send(script(chunks=5, error_after=2))
    state = chat.wait()
    assert (state["status"], text_of(state)) == ("error", "w1 w2 ")
    assert state["error"] == "The model's server reported an error instead of going on."


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "0123456789abcdef", "message": {"id": "m", "role": "user", "parts": []}}, "messages"),
        ({"id": "0123456789abcdef"}, "messages"),
        ({"id": "too short", "messages": [{"role": "user", "parts": [{"type": "text", "text": "a"}]}]}, "id"),
        ({"id": "0123456789abcdef", "messages": [{"role": "robot", "parts": []}]}, "messages.0.role"),
    ],
)
def test_what_is_wrong_is_said(stack: Stack, body: JSON, field: str) -> None:
    headers = {"Content-Type": "application/json"}
    reply = stack.client.request("POST", "/api/chat", json.dumps(body).encode(), headers)
    assert (reply.status, reply.json["error"]["param"]) == (400, field)
    if "message" in body:
        assert "all messages" in reply.json["error"]["message"]
