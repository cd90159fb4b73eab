"""The parameters of the Responses API as those of chat completions, and as the response repeats them."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from service.errors import BadInput
from service.routes.response_parameters import MOST_ECHO_BYTES, MOST_METADATA_BYTES, Parameters, parameters

Json = dict[str, Any]


def raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def read(**fields: object) -> Parameters:
    return parameters({name: raw(value) for name, value in fields.items()})


def chat(**fields: object) -> Json:
    return {name: msgspec.json.decode(value) for name, value in read(**fields).chat.items()}


def echo(**fields: object) -> Json:
    return {name: msgspec.json.decode(value) for name, value in read(**fields).echo.items()}


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"type": "function", "name": "f", "description": "Does.", "parameters": SCHEMA, "strict": True}
NESTED = {"type": "function", "function": {"name": "f", "description": "Does.", "parameters": SCHEMA, "strict": True}}


ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}


def test_a_request_with_an_input_alone_has_no_parameters() -> None:
    assert read(model="m", input="a") == Parameters({}, {})


def test_null_is_as_if_left_out() -> None:
    fields = ("tools", "text", "temperature", "conversation", "store", "instructions", "top_k")
    assert read(**dict.fromkeys(fields)) == Parameters({}, {})


SAME = {
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 1,
    "frequency_penalty": -1,
    "service_tier": "flex",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
}


def test_parameters_with_the_same_name_in_both_are_passed_and_repeated() -> None:
    assert chat(**SAME) == SAME
    assert echo(**SAME) == SAME


def test_the_order_is_that_of_the_body() -> None:
    assert list(chat(**SAME)) == list(SAME)
    assert list(echo(**SAME)) == list(SAME)


def test_unknown_parameters_are_passed_untouched() -> None:
    unknown = {"top_k": 5, "chat_template_kwargs": {"thinking": False}, "user": "u"}
    assert chat(**unknown) == unknown
    assert echo(**unknown) == {}


def test_what_only_responses_have_is_repeated_and_not_passed() -> None:
    own = {"metadata": {"a": "b"}, "store": False, "truncation": "auto", "max_tool_calls": 3, "instructions": "Be."}
    assert chat(**own, include=["reasoning.encrypted_content"], stream_options={"include_obfuscation": True}) == {}
    assert echo(**own) == own


def test_how_it_is_asked_is_neither() -> None:
    asked = read(stream=True, background=True, previous_response_id="resp_1", instructions="Be.")
    assert (asked.stream, asked.background, asked.store, asked.previous) == (True, True, True, "resp_1")
    assert asked.instructions == raw("Be.")
    assert asked.chat == {}
    assert asked.echo.keys() == {"previous_response_id", "instructions"}


def test_the_limit_on_tokens_has_the_name_of_chat_completions() -> None:
    assert chat(max_output_tokens=50) == {"max_tokens": 50}
    assert echo(max_output_tokens=50) == {"max_output_tokens": 50}


@pytest.mark.parametrize("asked", [{"top_logprobs": 2}, {"include": ["message.output_text.logprobs"]}])
def test_logprobs_are_asked_for(asked: Json) -> None:
    assert chat(**asked)["logprobs"] is True


def test_no_logprobs_are_none() -> None:
    assert chat(top_logprobs=0) == {"top_logprobs": 0}


def test_reasoning_is_an_effort() -> None:
    assert chat(reasoning={"effort": "low", "summary": "auto"}) == {"reasoning_effort": "low"}
    assert echo(reasoning={"summary": "auto"}) == {"reasoning": {"effort": None, "summary": "auto"}}


# Formats of the text


def test_a_schema_of_the_text_is_nested() -> None:
    text = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"}
    assert chat(text=text) == {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "verbosity": "low",
    }
    shown = {"type": "json_schema", "name": "n", "schema": SCHEMA, "description": None, "strict": False}
    assert echo(text=text) == {"text": {"format": shown, "verbosity": "low"}}


def test_json_without_a_schema() -> None:
    text = {"format": {"type": "json_object"}}
    assert chat(text=text) == {"response_format": {"type": "json_object"}}
    assert echo(text=text) == {"text": text}


@pytest.mark.parametrize("text", [{}, {"format": {"type": "text"}}, {"format": None}])
def test_a_plain_text_is_the_default(text: Json) -> None:
    assert chat(text=text) == {}
    assert echo(text=text) == {"text": {"format": {"type": "text"}}}


# Tools


def test_tools_are_nested_and_repeated_flat() -> None:
    assert chat(tools=[TOOL], tool_choice="required") == {"tools": [NESTED], "tool_choice": "required"}
    assert echo(tools=[TOOL]) == {"tools": [TOOL]}


def test_a_tool_has_what_it_was_given() -> None:
    bare = {"type": "function", "name": "f"}
    assert chat(tools=[bare]) == {"tools": [{"type": "function", "function": {"name": "f"}}]}
    assert echo(tools=[bare]) == {"tools": [{**bare, "description": None, "parameters": None, "strict": None}]}


def test_what_is_of_tools_alone_is_left_out_without_them() -> None:
    assert chat(tools=[], tool_choice="auto", parallel_tool_calls=True) == {}
    assert echo(tool_choice="auto", parallel_tool_calls=True) == {"tool_choice": "auto", "parallel_tool_calls": True}
    assert chat(tools=[TOOL], parallel_tool_calls=False)["parallel_tool_calls"] is False


def test_one_function_may_be_demanded() -> None:
    choice = {"type": "function", "name": "f"}
    assert chat(tools=[TOOL], tool_choice=choice)["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert echo(tools=[TOOL], tool_choice=choice)["tool_choice"] == choice


def test_of_tools_only_the_allowed_ones_are_passed() -> None:
    tools = [{**TOOL, "name": "g"}, TOOL]
    assert chat(tools=tools, tool_choice=ALLOWED) == {"tools": [NESTED], "tool_choice": "required"}
    assert echo(tools=tools, tool_choice=ALLOWED)["tool_choice"] == ALLOWED
    assert [tool["name"] for tool in echo(tools=tools, tool_choice=ALLOWED)["tools"]] == ["g", "f"]


def test_what_is_too_long_to_be_repeated_is_left_out_and_passed() -> None:
    long = {**TOOL, "description": "x" * MOST_ECHO_BYTES}
    asked = read(tools=[long], temperature=1, instructions="y" * (MOST_ECHO_BYTES - 100))
    assert asked.echo.keys() == {"temperature", "instructions"}
    assert asked.chat.keys() == {"temperature", "tools"}


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"conversation": "c"}, "unsupported_parameter", "conversation"),
        ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
        ({"messages": []}, "unsupported_parameter", "messages"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"background": True, "store": False}, "unsupported_value", "store"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_value", "tools.0.type"),
        ({"tools": [TOOL, {"type": "function"}]}, "invalid_input", "tools.1.name"),
        ({"tools": TOOL}, "invalid_input", "tools"),
        ({"tool_choice": "any"}, "invalid_input", "tool_choice"),
        ({"tool_choice": {"type": "file_search"}}, "unsupported_value", "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "invalid_input", "tool_choice.name"),
        (
            {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}},
            "unsupported_value",
            "tool_choice.tools",
        ),
        ({"text": {"format": {"type": "grammar"}}}, "unsupported_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "invalid_input", "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "invalid_input", "text.format.schema"),
        ({"temperature": 3}, "invalid_input", "temperature"),
        ({"top_p": "1"}, "invalid_input", "top_p"),
        ({"top_logprobs": 21}, "invalid_input", "top_logprobs"),
        ({"max_output_tokens": 0}, "invalid_input", "max_output_tokens"),
        ({"truncation": "some"}, "invalid_input", "truncation"),
        ({"instructions": ["a"]}, "invalid_input", "instructions"),
        ({"metadata": {"a": 1}}, "invalid_input", "metadata"),
        ({"metadata": {"a": "b" * MOST_METADATA_BYTES}}, "invalid_input", "metadata"),
        ({"stream": "yes"}, "invalid_input", "stream"),
        ({"reasoning": "low"}, "invalid_input", "reasoning"),
    ],
)
def test_what_cannot_be_translated_is_refused(fields: Json, code: str, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(**fields)
    assert (caught.value.code, caught.value.field) == (code, field)
