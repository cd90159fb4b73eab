"""The templates of Open Responses' compliance suite by their names, with scripts in place of what a model would say.

The suite's own program needs schemas that its repository generates. These are the same requests and checks, against the
schemas of `openresponses-types`. Its optional templates ask for tools of the server (`file-search`,
`offline-web-search`) and are not of this service.
"""

import json
from typing import Any

import pytest

from tests.e2e.client import Client, script
from tests.e2e.conftest import Stack
from tests.open_responses import check_event, check_response
from tests.renderings.event_stream import parse

Json = dict[str, Any]

MODEL = "test-model"
PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
FILE = "data:application/pdf;base64,JVBERi0xLjEKJSVFT0Y="
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "The city and state"}},
        "required": ["location"],
    },
}
CALL = {"name": "get_weather", "arguments": ['{"location"', ':"San Francisco, CA"}']}


@pytest.fixture
def client(stack: Stack) -> Client:
    return stack.client


def created(client: Client, **fields: object) -> Json:
    """The response to a request without a stream."""
    body = json.dumps({"model": MODEL, **fields, "stream": False}).encode()
    reply = client.request("POST", "/v1/responses", body, {"Content-Type": "application/json"})
    assert reply.status == 200, reply.body
    response: Json = reply.json
    check_response(response)
    assert response["output"]
    return response


def streamed(client: Client, **fields: object) -> list[Json]:
    """The events of a request with a stream, up to the last."""
    body = json.dumps({"model": MODEL, **fields, "stream": True}).encode()
    reply = client.request("POST", "/v1/responses", body, {"Content-Type": "application/json"})
    assert reply.status == 200, reply.body
    *messages, last = parse(reply.body).messages
    assert last.data == "[DONE]"
    events = [json.loads(message.data) for message in messages]
    for message, event in zip(messages, events, strict=True):
        assert message.event == event["type"]
        check_event(event)
    return events


def message(role: str, content: object) -> Json:
    return {"type": "message", "role": role, "content": content}


def parts(*further: Json) -> list[Json]:
    return [{"type": "input_text", "text": script(chunks=2)}, *further]


def test_basic_response(client: Client) -> None:
    assert created(client, input=[message("user", script(chunks=3))])["status"] == "completed"


def test_streaming_response(client: Client) -> None:
    events = streamed(client, input=[message("user", script(chunks=5))])
    assert events[-1]["response"]["status"] == "completed"


def test_system_prompt(client: Client) -> None:
    asked = [message("system", "You are a pirate."), message("user", script(chunks=2))]
    assert created(client, input=asked)["status"] == "completed"


def test_tool_calling(client: Client) -> None:
    response = created(client, input=[message("user", script(chunks=0, tool_calls=[CALL]))], tools=[WEATHER])
    assert [item["type"] for item in response["output"]] == ["function_call"]


def test_tool_calling_streaming(client: Client) -> None:
    events = streamed(client, input=[message("user", script(chunks=0, tool_calls=[CALL]))], tools=[WEATHER])
    assert [event["type"].removeprefix("response.") for event in events][2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_function_call_roundtrip(client: Client) -> None:
    asked = message("user", script(chunks=0, tool_calls=[CALL], after_tools={"texts": ["It is {results}."]}))
    choice = {"type": "function", "name": "get_weather"}
    first = created(client, input=[asked], tools=[WEATHER], tool_choice=choice)
    [call] = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    second = created(client, input=[asked, call, result], tools=[WEATHER])
    assert second["status"] == "completed"
    assert second["output"][0]["content"][0]["text"] == "It is sunny."


def test_image_input(client: Client) -> None:
    picture = {"type": "input_image", "image_url": PICTURE}
    assert created(client, input=[message("user", parts(picture))])["status"] == "completed"


def test_file_input(client: Client) -> None:
    file = {"type": "input_file", "filename": "fixture.pdf", "file_data": FILE}
    assert created(client, input=[message("user", parts(file))])["status"] == "completed"


def test_multi_turn(client: Client) -> None:
    asked = [
        message("user", "My name is Alice."),
        message("assistant", "Hello Alice! Nice to meet you."),
        message("user", script(chunks=2)),
    ]
    assert created(client, input=asked)["status"] == "completed"


def test_previous_response_id(client: Client) -> None:
    first = created(client, input=script(chunks=2))
    second = created(client, input=script(chunks=2), previous_response_id=first["id"])
    assert second["status"] == "completed"
    assert second["previous_response_id"] == first["id"]
