"""The input of AG-UI's runs, translated for the model."""

import json
from typing import Any

import pytest
from msgspec import Raw

from service.errors import BadInput
from service.routes import ag_ui_messages
from service.routes.counted import MOST_OBJECTS


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def for_model(*messages: dict[str, Any]) -> list[Any]:
    said = ag_ui_messages.conversation(raw([{"id": "m", **message} for message in messages]))
    assert said.roles == tuple(message["role"] for message in messages)
    return [json.loads(bytes(message)) for message in said.messages]


def test_roles_names_calls_and_results_are_those_of_chat_completions() -> None:
    called = {"id": "c", "type": "function", "function": {"name": "get", "arguments": '{"a":1}'}}
    assert for_model(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d", "name": "n"},
        {"role": "user", "content": "ü", "name": "me"},
        {"role": "reasoning", "content": "hm"},
        {"role": "assistant", "content": "A", "toolCalls": [{**called, "encryptedValue": "x", "metadata": {}}]},
        {"role": "tool", "content": "sun", "toolCallId": "c"},
        {"role": "activity", "activityType": "PLAN", "content": {"a": 1}},
        {"role": "assistant", "toolCalls": [called]},
        {"role": "tool", "content": [{"type": "text", "text": "rain"}], "toolCallId": "c"},
        {"role": "assistant"},
    ) == [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d", "name": "n"},
        {"role": "user", "content": "ü", "name": "me"},
        {"role": "assistant", "content": "A", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c", "content": "sun"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]


DATA = {"type": "data", "value": "AA/+", "mimeType": "x/y"}


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            {"type": "image", "source": {**DATA, "mimeType": "image/png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA/+"}},
        ),
        (
            {"type": "image", "source": {"type": "url", "value": "https://example.org/"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/"}},
        ),
        (
            {"type": "audio", "source": {**DATA, "mimeType": "audio/wav"}},
            {"type": "input_audio", "input_audio": {"data": "AA/+", "format": "wav"}},
        ),
        ({"type": "audio", "source": DATA}, {"type": "file", "file": {"file_data": "data:x/y;base64,AA/+"}}),
        ({"type": "video", "source": DATA}, {"type": "video_url", "video_url": {"url": "data:x/y;base64,AA/+"}}),
        (
            {"type": "document", "source": DATA, "metadata": {"filename": "a.pdf"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x/y;base64,AA/+"}},
        ),
        (
            {"type": "document", "source": DATA, "metadata": [1]},
            {"type": "file", "file": {"file_data": "data:x/y;base64,AA/+"}},
        ),
        (
            {"type": "document", "source": {"type": "file", "value": "file-1", "provider": "p"}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ),
    ],
)
def test_a_users_parts_are_content_parts(part: dict[str, Any], content: dict[str, Any]) -> None:
    said = for_model({"role": "user", "content": [{"type": "text", "text": "a", "metadata": {}}, part]})
    assert said == [{"role": "user", "content": [{"type": "text", "text": "a"}, content]}]


def test_tools_are_functions() -> None:
    given = [
        {"name": "get", "description": "d", "parameters": {"type": "object"}, "metadata": {}},
        {"name": "put", "description": ""},
    ]
    named = ag_ui_messages.tools(raw(given))
    assert named is not None
    assert json.loads(bytes(named)) == [
        {"type": "function", "function": {"name": "get", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "put", "description": ""}},
    ]
    for none in (raw([]), raw(None), Raw()):
        assert ag_ui_messages.tools(none) is None


@pytest.mark.parametrize(("allows_system", "role"), [(True, "system"), (False, "user")])
def test_context_and_state_are_a_message_before_all_others(*, allows_system: bool, role: str) -> None:
    context = [{"description": "Page", "value": 'a "b"'}, {"description": "Time", "value": "12\n"}]
    said = ag_ui_messages.surroundings(raw(context), raw({"ö": 1}), allows_system=allows_system)
    assert said is not None
    assert json.loads(bytes(said)) == {
        "role": role,
        "content": 'Page: a "b"\nTime: 12\n\nState of the application: {"\\u00f6": 1}',
    }


@pytest.mark.parametrize("state", [Raw(), raw({}), raw(None), raw([]), raw("")])
@pytest.mark.parametrize("context", [Raw(), raw([]), raw(None)])
def test_nothing_is_said_of_no_context_and_no_state(context: Raw, state: Raw) -> None:
    assert ag_ui_messages.surroundings(context, state, allows_system=True) is None


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ({}, "messages"),
        ([{"role": "activity", "content": {}}], "messages"),
        ([{"role": "robot"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"role": "system", "content": ["a"]}], "messages.0.content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "messages.0.content.0.type"),
        ([{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}], "messages.0.content.0.source"),
        ([{"role": "tool", "content": "a"}], "messages.0.toolCallId"),
        (
            [{"role": "assistant", "toolCalls": [{"id": "c", "function": {"name": "n", "arguments": {}}}]}],
            "messages.0.toolCalls.0.function.arguments",
        ),
    ],
)
def test_what_is_wrong_is_named(messages: object, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        ag_ui_messages.conversation(raw(messages))
    assert (caught.value.code, caught.value.field) == ("invalid_input", field)


def test_the_parts_of_all_messages_count_together() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": ""}] * 100}
    assert ag_ui_messages.conversation(raw([message] * (MOST_OBJECTS // 101)))
    with pytest.raises(BadInput):
        ag_ui_messages.conversation(raw([message] * (MOST_OBJECTS // 100)))
