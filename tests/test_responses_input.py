"""A request in the form of OpenAI's Responses API, checked against the types of the openai package."""

from typing import Any

import pydantic
import pytest
from msgspec import to_builtins
from openai.types.responses.response_create_params import ResponseCreateParamsBase, ResponseCreateParamsStreaming

from service.request import Request, Turn
from service.upstream.responses_input import body_of

BASE = ResponseCreateParamsBase.__annotations__.keys()
IN_BACKGROUND = {"background": True, "store": True, "stream": True}
_CHECK = pydantic.TypeAdapter(ResponseCreateParamsStreaming)


def asked(*messages: Any, system_prompt: str = "", **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON)
    """The body, without what is always the same."""
    body: dict[str, Any] = to_builtins(body_of(Request("m", messages, parameters), "m", system_prompt))
    assert body.pop("model") == "m"
    assert {name: body.pop(name) for name in IN_BACKGROUND} == IN_BACKGROUND
    _CHECK.validate_python({**body, "model": "m", **IN_BACKGROUND})
    assert body.keys() <= ResponseCreateParamsStreaming.__annotations__.keys() | BASE
    return body


def user(content: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON)
    return {"role": "user", "content": content}


def test_turns_are_messages_and_the_system_prompt_is_the_instructions() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello"), Turn("user", "So?"))
    assert asked(*turns, system_prompt="Be kind.") == {
        "instructions": "Be kind.",
        "input": [{"role": turn.role, "content": turn.content} for turn in turns],
    }


def test_parts_have_this_apis_types() -> None:
    parts = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x"}},
    ]
    said = {"role": "assistant", "content": [{"type": "text", "text": "This."}, {"type": "refusal", "refusal": "No."}]}
    first, second = asked(user(parts), said)["input"]
    assert first["content"] == [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": "data:image/png;base64,x", "detail": "auto"},
        {"type": "input_image", "image_url": "https://a/b.png", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:x"},
    ]
    assert second["content"] == "This.No."
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    assert asked(user("Hi"), refused)["input"][1] == {"role": "assistant", "content": "No."}


def test_tools_and_their_calls_and_results_are_items() -> None:
    function = {"name": "f", "parameters": {"type": "object"}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = asked(
        user("Hi"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    assert body["input"][1:] == [
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "7"},
    ]
    assert body["tools"] == [{"type": "function", "strict": False, **function}]
    assert body["tool_choice"] == {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"max_tokens": 7}, {"max_output_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_output_tokens": 9}),
        ({"max_tokens": None}, {}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        (
            {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
        ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        (
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
                "verbosity": "low",
            },
            {"text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}}}},
        ),
        ({"tool_choice": "auto", "n": 1, "stream_options": {"include_usage": True}}, {"tool_choice": "auto"}),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
                }
            },
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
        ),
        ({"store": False, "stream": False, "background": False}, {}),
    ],
)
def test_parameters_have_this_apis_names(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    body = asked(user("Hi"), **given)
    del body["input"]
    assert body == wanted


def test_what_this_api_does_not_know_is_left_to_the_server() -> None:
    odd = body_of(Request("m", ("odd", {"role": "user"}, user([7, {"type": "new"}])), {"seed": 7}), "m", "")
    assert odd["seed"] == 7
    assert odd["input"] == ["odd", {"role": "user", "content": None}, user([7, {"type": "new"}])]
