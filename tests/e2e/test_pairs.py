"""An answer that is begun in one protocol is the same in every other: followed from anywhere, and stopped."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.local.ports import Address
from tests.e2e.client import Client
from tests.e2e.conftest import Stack
from tests.e2e.stack import DEADLINE_SECONDS, eventually
from tests.renderings.event_stream import Message, parse
from tests.upstream.script import command

Json = dict[str, Any]

MODEL = "test-model"
CITY, OF = '{"város": "Győr 🌉"}', '{"of": ["folyó", "ä\\u2028"]}'
SAID: Json = {
    "reasoning": ["Hm, ", "egy ", "folyó… "],
    "texts": ["Szia, ", "vilá", "g! 🌊", "\u2028 ", 'ő"\\', "\r\nde ", "még ", "több."],
    "tool_calls": [
        {"name": "weather", "id": "call_a", "arguments": [CITY[:9], CITY[9:12], CITY[12:]]},
        {"name": "look_up", "id": "call_b", "arguments": [OF[:7], OF[7:20], OF[20:]]},
    ],
    "tool_style": ["interleaved"],
    "refusal": "Ezt nem mondom meg 🙁.",
}
"""The script's answer, in all four voices."""


@dataclass
class Content:
    """What of an answer every protocol shows."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: dict[str, list[str]] = field(default_factory=dict)
    """By a call's id, its name and its arguments."""
    end: str = ""

    def call(self, named: str, name: str = "", arguments: str = "") -> None:
        call = self.calls.setdefault(named, ["", ""])
        call[0] += name
        call[1] += arguments

    def without_refusal(self) -> "Content":
        """The content as protocols show it that have no refusals."""
        return Content(self.text + self.refusal, self.reasoning, "", self.calls, self.end)


WHOLE = Content(
    "".join(SAID["texts"]),
    "".join(SAID["reasoning"]),
    SAID["refusal"],
    {"call_a": ["weather", CITY], "call_b": ["look_up", OF]},
    "tool_calls",
)


# Readers: what a body says, by each protocol's own rules


def native(events: Sequence[Json]) -> Content:
    said = Content()
    ids: dict[int, str] = {}
    for event in events:
        if call := event.get("tool_call"):
            ids.setdefault(call["index"], call.get("id"))
            said.call(ids[call["index"]], call.get("name", ""), call["arguments"])
        for voice in ("text", "reasoning", "refusal"):
            if event["type"] == "delta":
                setattr(said, voice, getattr(said, voice) + (event.get(voice) or ""))
        if event["type"] in ("done", "stopped"):
            said.end = event.get("finish_reason", "stopped")
    return said


def completion(body: Json) -> Content:
    [choice] = body["choices"]
    message = choice["message"]
    said = Content(message["content"], message["reasoning_content"], message["refusal"], end=choice["finish_reason"])
    for call in message["tool_calls"]:
        said.call(call["id"], **call["function"])
    return said


def chunks(messages: Sequence[Message]) -> Content:
    said = Content()
    ids: dict[int, str] = {}
    assert messages[-1].data == "[DONE]" or "error" in messages[-1].data
    for chunk in [json.loads(message.data) for message in messages if message.data != "[DONE]"]:
        if "error" in chunk:
            said.end = {"answer_stopped": "stopped"}[chunk["error"]["code"]]
            continue
        [choice] = chunk["choices"]
        delta = choice["delta"]
        said.text += delta.get("content") or ""
        said.reasoning += delta.get("reasoning_content") or ""
        said.refusal += delta.get("refusal") or ""
        for call in delta.get("tool_calls", ()):
            ids.setdefault(call["index"], call.get("id"))
            said.call(ids[call["index"]], **call["function"])
        said.end = choice["finish_reason"] or said.end
    return said


def response_events(messages: Sequence[Message]) -> Content:
    """Read the deltas; the last event's output must say the same."""
    said = Content()
    ids: dict[int, str] = {}
    assert messages[-1].data == "[DONE]"
    events = [json.loads(message.data) for message in messages[:-1]]
    for event in events:
        match event["type"]:
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                ids[event["output_index"]] = event["item"]["call_id"]
                said.call(event["item"]["call_id"], event["item"]["name"])
            case "response.function_call_arguments.delta":
                said.call(ids[event["output_index"]], arguments=event["delta"])
            case "response.output_text.delta":
                said.text += event["delta"]
            case "response.reasoning_summary_text.delta":
                said.reasoning += event["delta"]
            case "response.refusal.delta":
                said.refusal += event["delta"]
    response = events[-1]["response"]
    said.end = {"completed": "tool_calls", "cancelled": "stopped"}[response["status"]]
    assert response_object(response) == said
    return said


def response_object(response: Json) -> Content:
    said = Content(end={"completed": "tool_calls", "cancelled": "stopped"}[response["status"]])
    for item in response["output"]:
        if item["type"] == "function_call":
            said.call(item["call_id"], item["name"], item["arguments"])
        said.reasoning += "".join(part["text"] for part in item.get("summary", ()))
        for part in item.get("content", ()):
            said.text += part.get("text", "")
            said.refusal += part.get("refusal", "")
    return said


def ui_chunks(messages: Sequence[Message]) -> Content:
    said = Content()
    assert messages[-1].data == "[DONE]"
    ready = {}
    for chunk in [json.loads(message.data) for message in messages[:-1]]:
        match chunk["type"]:
            case "text-delta":
                said.text += chunk["delta"]
            case "reasoning-delta":
                said.reasoning += chunk["delta"]
            case "tool-input-start":
                said.call(chunk["toolCallId"], chunk["toolName"])
            case "tool-input-delta":
                said.call(chunk["toolCallId"], arguments=chunk["inputTextDelta"])
            case "tool-input-available":
                ready[chunk["toolCallId"]] = chunk["input"]
            case "finish":
                said.end = {"tool-calls": "tool_calls"}[chunk["finishReason"]]
                assert ready == {named: json.loads(call[1]) for named, call in said.calls.items()}
            case "abort":
                said.end = "stopped"
    return said


def agent_events(messages: Sequence[Message]) -> Content:
    said = Content()
    for event in [json.loads(message.data) for message in messages]:
        match event["type"]:
            case "TEXT_MESSAGE_CONTENT":
                said.text += event["delta"]
            case "REASONING_MESSAGE_CONTENT":
                said.reasoning += event["delta"]
            case "TOOL_CALL_START":
                said.call(event["toolCallId"], event["toolCallName"])
            case "TOOL_CALL_ARGS":
                said.call(event["toolCallId"], arguments=event["delta"])
            case "RUN_FINISHED":
                assert event["outcome"]["pendingToolCallIds"] == [*said.calls]
                said.end = event["result"]["finishReason"]
            case "RUN_ERROR":
                said.end = {"answer_stopped": "stopped"}[event["code"]]
    return said


# Doors


@dataclass(frozen=True)
class Question:
    """A question as each door takes it, with the key under which every door may ask it."""

    query: str
    key: str

    def post(self, client: Client, path: str, body: Json, **headers: str) -> Any:  # noqa: ANN401 (Stream)
        # As JavaScript writes JSON. A door that passes messages on untouched compares them byte by byte.
        said = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        named = {"Content-Type": "application/json", "Idempotency-Key": self.key}
        stream = client.open("POST", path, said, {**named, **headers})
        assert stream.status == 200, stream.read()
        return stream


def lines(body: bytes) -> list[Json]:
    return [json.loads(line) for line in body.split(b"\n") if line]


@dataclass(frozen=True)
class Door:
    """How to ask through a door, and to read the body of its stream."""

    ask: Callable[[Client, Question], Any]
    read: Callable[[bytes], Content]
    has_refusals: bool = True


def messages_of(query: str) -> list[Json]:
    return [{"role": "user", "content": query}]


DOORS: dict[str, Door] = {
    "native": Door(
        lambda client, asked: asked.post(client, "/generate", {"query": asked.query}), lambda body: native(lines(body))
    ),
    "chat": Door(
        lambda client, asked: asked.post(
            client,
            "/v1/chat/completions",
            {"model": MODEL, "messages": messages_of(asked.query), "stream": True},
        ),
        lambda body: chunks(parse(body).messages),
    ),
    "responses": Door(
        lambda client, asked: asked.post(
            client, "/v1/responses", {"model": MODEL, "input": asked.query, "stream": True}
        ),
        lambda body: response_events(parse(body).messages),
    ),
    "ui": Door(
        lambda client, asked: asked.post(
            client,
            "/api/chat",
            {
                "id": f"chat of {asked.key}",
                "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": asked.query}]}],
            },
        ),
        lambda body: ui_chunks(parse(body).messages),
        has_refusals=False,
    ),
    "ag-ui": Door(
        lambda client, asked: asked.post(
            client,
            "/ag-ui",
            {"threadId": "t", "runId": "r", "messages": [{"id": "u", "role": "user", "content": asked.query}]},
        ),
        lambda body: agent_events(parse(body).messages),
        has_refusals=False,
    ),
}


def shown(name: str, content: Content) -> Content:
    """The content as the door shows it."""
    return content if name == "streams" or DOORS[name].has_refusals else content.without_refusal()


# Followers: parts of an answer that each protocol can read by the answer's id. A part is one message.


def of_native(client: Client, answer: str, after: int) -> list[Json]:
    reply = client.follow(answer, after)
    assert reply.status in (200, 204), reply.body
    return reply.events


def of_responses(client: Client, answer: str, after: int) -> list[Message]:
    place = f"&starting_after={after}" if after >= 0 else ""
    reply = client.request("GET", f"/v1/responses/resp_{answer}?stream=true{place}")
    assert reply.status == 200, reply.body
    return parse(reply.body).messages


def of_agent(client: Client, answer: str, after: int) -> list[Message]:
    reply = client.request("POST", "/ag-ui", headers={"Last-Event-ID": f"{answer}:{after}"})
    assert reply.status == 200, reply.body
    return parse(reply.body).messages


def of_streams(client: Client, answer: str, after: int) -> list[Json]:
    """Read to the end: what is there as one array, the rest with long polls."""
    events: list[Json] = []
    offset, live = f"{after:016d}", ""
    while True:
        reply = client.request("GET", f"/v1/stream/{answer}?offset={offset}{live}")
        assert reply.status in (200, 204), reply.body
        events += reply.json if reply.status == 200 else []
        if reply.headers["Stream-Closed"]:
            return events
        offset, live = reply.headers["Stream-Next-Offset"], "&live=long-poll"


def of_stream_events(client: Client, answer: str, after: int) -> list[Json]:
    reply = client.request("GET", f"/v1/stream/{answer}?offset={after:016d}&live=sse")
    messages = parse(reply.body).messages
    assert json.loads(messages[-1].data)["streamClosed"]
    return [event for message in messages if message.event == "data" for event in json.loads(message.data)]


class Begun:
    """An answer that is running: begun through a door, and read on in a thread of its own."""

    def __init__(self, stack: Stack, door: str, test: str, **script: object) -> None:
        self.key = f"{test}-{door}-{time.monotonic_ns()}"
        self.door = DOORS[door]
        self._client = stack.client
        self.question = Question(command(key=self.key, **script), self.key)
        self.stream = self.door.ask(stack.client, self.question)
        self.answer: str = self.stream.answer
        self._body = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := self.stream.read():
            self._body += data

    def content(self) -> Content:
        """Wait for the end; return what the door said."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()
        return self.door.read(self._body)

    def close(self) -> None:
        """End the answer, so that the thread comes to its end, too."""
        self._client.stop(self.answer)
        self._thread.join(DEADLINE_SECONDS)
        self.stream.close()


PLACES = 6
"""Places in a body from which it is followed, in one test."""


def places(count: int) -> Iterator[int]:
    """Yield places in a body of so many messages: the first and last ones, and some between."""
    yield from sorted({*range(1, count, max(1, count // PLACES)), count - 1})


Begin = Callable[..., Begun]


@pytest.fixture
def begin(stack: Stack) -> Iterator[Begin]:
    """Begin an answer through a door, and return it when some of it is there."""
    started: list[Begun] = []

    def begin(door: str, test: str, **script: object) -> Begun:
        begun = Begun(stack, door, test, **(script or {"pace": 0.02, **SAID}))
        started.append(begun)
        eventually(lambda: len(stack.client.request("GET", f"/v1/stream/{begun.answer}").json) > 2)
        return begun

    yield begin
    for begun in started:
        begun.close()


doors = pytest.mark.parametrize("door", DOORS)


@doors
def test_it_is_followed_natively(stack: Stack, begin: Begin, door: str) -> None:
    begun = begin(door, "native")
    assert native(of_native(stack.client, begun.answer, 0)) == WHOLE  # while it runs
    assert begun.content() == shown(door, WHOLE)
    events = of_native(stack.client, begun.answer, 0)
    for event in events[:-1]:
        rest = of_native(stack.client, begun.answer, event["seq"])
        assert native([*(each for each in events if each["seq"] <= event["seq"]), *rest]) == WHOLE


@doors
def test_it_is_a_whole_completion(stack: Stack, begin: Begin, door: str) -> None:
    begun = begin(door, "chat")
    # The request waits for the answer's end.
    reply = stack.client.request("GET", f"/v1/chat/completions/chatcmpl-{begun.answer}")
    assert completion(reply.json) == WHOLE
    assert begun.content() == shown(door, WHOLE)


@doors
def test_it_is_followed_as_a_response_from_the_middle(stack: Stack, begin: Begin, door: str) -> None:
    begun = begin(door, "responses")
    live = of_responses(stack.client, begun.answer, 3)
    assert begun.content() == shown(door, WHOLE)
    whole = of_responses(stack.client, begun.answer, -1)
    assert response_events(whole) == WHOLE
    assert response_object(stack.client.request("GET", f"/v1/responses/resp_{begun.answer}").json) == WHOLE
    assert live == whole[4:]
    for place in places(len(whole) - 1):
        assert of_responses(stack.client, begun.answer, place) == whole[place + 1 :]


@doors
def test_it_is_followed_by_an_agent_from_the_middle(stack: Stack, begin: Begin, door: str) -> None:
    begun = begin(door, "ag-ui")
    live = of_agent(stack.client, begun.answer, 2)
    assert begun.content() == shown(door, WHOLE)
    behind = of_agent(stack.client, begun.answer, 0)
    assert agent_events(behind) == WHOLE.without_refusal()
    assert live == behind[2:]
    for place in places(len(behind)):
        assert of_agent(stack.client, begun.answer, place) == behind[place:]


@doors
@pytest.mark.parametrize("follow", [of_streams, of_stream_events], ids=["long polls", "sse"])
def test_it_is_followed_as_a_durable_stream_from_the_middle(
    stack: Stack, begin: Begin, door: str, follow: Callable[[Client, str, int], list[Json]]
) -> None:
    begun = begin(door, "streams")
    start = stack.client.request("GET", f"/v1/stream/{begun.answer}")
    live = follow(stack.client, begun.answer, int(start.headers["Stream-Next-Offset"]))
    assert native([*start.json, *live]) == WHOLE
    assert begun.content() == shown(door, WHOLE)
    events = of_streams(stack.client, begun.answer, 0)
    assert native(events) == WHOLE
    for place in places(len(events)):
        seq = events[place - 1]["seq"]
        assert native([*events[:place], *follow(stack.client, begun.answer, seq)]) == WHOLE


@doors
@pytest.mark.parametrize("other", DOORS)
def test_the_same_question_with_its_key_is_the_same_answer_through_another_door(
    stack: Stack, begin: Begin, door: str, other: str
) -> None:
    begun = begin(door, f"key-{other}")
    for _ in range(2):  # while it runs, and when it has ended
        joined = DOORS[other].ask(stack.client, begun.question)
        assert joined.answer == begun.answer
        body = b"".join(iter(joined.read, b""))
        joined.close()
        assert DOORS[other].read(body) == shown(other, WHOLE)
        assert begun.content() == shown(door, WHOLE)
    assert len(stack.upstream.requests(begun.key)) == 1


# Stops


def stop_natively(client: Client, begun: Begun) -> None:
    reply = client.stop(begun.answer)
    assert (reply.status, reply.json["state"]) == (200, "stopped")


def cancel(client: Client, begun: Begun) -> None:
    reply = client.request("POST", f"/v1/responses/resp_{begun.answer}/cancel")
    assert (reply.status, reply.json["status"]) == (200, "cancelled")


def stop_chat(client: Client, begun: Begun) -> None:
    reply = client.request("POST", f"/api/chat/chat%20of%20{begun.key}/stop")
    assert (reply.status, reply.json) == (200, {"success": True})


STOPS = [(door, stop) for door in DOORS for stop in (stop_natively, cancel)] + [("ui", stop_chat)]


@pytest.mark.parametrize(("door", "stop"), STOPS)
def test_it_is_stopped_through_another_door(
    stack: Stack, begin: Begin, door: str, stop: Callable[[Client, Begun], None]
) -> None:
    begun = begin(door, stop.__name__, endless=True, pace=0.02, reasoning=["Hm."])
    stop(stack.client, begun)
    stack.upstream.wait_closed(begun.key)
    seen = begun.content()
    assert (seen.end, seen.reasoning) == ("stopped", "Hm.")
    read = {
        "native": native(of_native(stack.client, begun.answer, 0)),
        "responses": response_events(of_responses(stack.client, begun.answer, -1)),
        "ag-ui": agent_events(of_agent(stack.client, begun.answer, 0)),
        "streams": native(of_streams(stack.client, begun.answer, 0)),
    }
    assert {name: content == seen for name, content in read.items()} == dict.fromkeys(read, True)
    reply = stack.client.request("GET", f"/v1/chat/completions/chatcmpl-{begun.answer}")
    assert (reply.status, reply.json["error"]["code"]) == (410, "answer_stopped")


# What no client of these protocols sends


def test_a_number_ahead_of_the_answer_is_refused_at_each_door(stack: Stack, begin: Begin) -> None:
    begun = begin("native", "ahead")
    for _ in range(2):  # while it runs, and when it has ended
        replies = [
            stack.client.request("GET", f"/v1/responses/resp_{begun.answer}?stream=true&starting_after=9999"),
            stack.client.request("POST", "/ag-ui", headers={"Last-Event-ID": f"{begun.answer}:9999"}),
        ]
        assert [(reply.status, reply.json["error"]["code"]) for reply in replies] == 2 * [(400, "bad_last_event_id")]
        assert begun.content() == WHOLE


@pytest.mark.parametrize("count", ["9" * 5000, "0" * 5000, "-1", "1.0", "\xb2", ""])
@pytest.mark.parametrize("door", ["chat", "responses", "ui", "ag-ui"])
def test_any_count_of_retries_is_taken(stack: Stack, door: str, count: str) -> None:
    asked = Question(command(chunks=1), f"count-{door}-{time.monotonic_ns()}")
    stream = DOORS[door].ask(Counting(stack.nginx.address, count), asked)
    stream.close()


class Counting(Client):
    """A client that says how often it has repeated a request."""

    def __init__(self, address: Address, count: str) -> None:
        super().__init__(address)
        self._count = {"X-Stainless-Retry-Count": count}

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPConnection:
        return super().send(method, target, body, {**(headers or {}), **self._count})
