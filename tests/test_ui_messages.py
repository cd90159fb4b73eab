"""The messages of `useChat`, translated for the model."""

import json
from typing import Any

import pytest
from msgspec import Raw

from service.errors import BadInput
from service.routes.counted import MOST_OBJECTS
from service.routes.ui_messages import Conversation, conversation


def translated(messages: Any, trigger: str = "submit-message", message_id: str | None = None) -> Conversation:  # noqa: ANN401 (JSON)
    return conversation(Raw(json.dumps(messages).encode()), trigger=trigger, message_id=message_id)


def for_model(*messages: dict[str, Any]) -> list[Any]:
    return [json.loads(bytes(message)) for message in translated(messages).messages]


def message(role: str, *parts: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"id": "m", "role": role, "parts": list(parts), **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "state": "done", "providerMetadata": {"x": {}}}


def used(tool: str, call_id: str, given: Any, output: Any, state: str = "output-available") -> dict[str, Any]:  # noqa: ANN401 (JSON)
    return {"type": f"tool-{tool}", "toolCallId": call_id, "state": state, "input": given, "output": output}


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


STEP = {"type": "step-start"}
PICTURE = "data:image/png;base64,AA=="


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([text("Größe\n")], "Größe\n"),
        ([text("a"), text("b")], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        (
            [text("a"), {"type": "file", "mediaType": "image/png", "url": PICTURE}],
            [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        ),
        (
            [{"type": "file", "mediaType": "image", "url": "https://example.org/a"}],
            [{"type": "image_url", "image_url": {"url": "https://example.org/a"}}],
        ),
        (
            [
                {
                    "type": "file",
                    "mediaType": "application/pdf",
                    "filename": "a.pdf",
                    "url": "data:application/pdf;base64,AA",
                }
            ],
            [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}}],
        ),
        (
            [{"type": "file", "mediaType": "audio/mpeg", "url": "data:audio/mpeg;base64,AA/+"}],
            [{"type": "input_audio", "input_audio": {"data": "AA/+", "format": "mp3"}}],
        ),
        (
            [{"type": "file", "mediaType": "audio/wav", "url": "https://example.org/a.wav"}],
            [{"type": "file", "file": {"file_data": "https://example.org/a.wav"}}],
        ),
        ([{"type": "data-x", "data": {}}, text("a"), {"type": "source-url", "sourceId": "s", "url": "u"}], "a"),
    ],
)
def test_a_users_parts_are_content_parts(parts: list[dict[str, Any]], content: object) -> None:
    assert for_model(message("user", *parts)) == [{"role": "user", "content": content}]


def test_a_system_message_is_one_text() -> None:
    assert for_model(message("system", text("a"), text('"b"')), message("user", text("c"))) == [
        {"role": "system", "content": 'a"b"'},
        {"role": "user", "content": "c"},
    ]


def test_each_step_of_the_assistant_is_a_message_with_its_results_behind_it() -> None:
    steps = [
        STEP,
        {"type": "reasoning", "text": "hm"},
        text("A"),
        used("get", "c1", {"a": 1.5, "ö": "\n"}, "sun"),
        used("put", "c2", [], {"b": None}),
        text("B"),
        STEP,
        {
            "type": "dynamic-tool",
            "toolName": "x",
            "toolCallId": "c3",
            "state": "output-error",
            "input": {},
            "errorText": "no",
        },
        STEP,
        text("C"),
        {"type": "data-x", "data": 1},
    ]
    assert for_model(message("user", text("q")), message("assistant", *steps)) == [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": "AB",
            "tool_calls": [call("c1", "get", '{"a": 1.5, "\\u00f6": "\\n"}'), call("c2", "put", "[]")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": '{"b": null}'},
        {"role": "assistant", "content": None, "tool_calls": [call("c3", "x", "{}")]},
        {"role": "tool", "tool_call_id": "c3", "content": "no"},
        {"role": "assistant", "content": "C"},
    ]


@pytest.mark.parametrize("state", ["input-streaming", "input-available", "approval-requested", "approval-responded"])
def test_a_call_without_a_result_is_left_out(state: str) -> None:
    waiting = used("get", "c1", {}, None, state)
    assert for_model(message("assistant", STEP, text("A"), waiting), message("user", text("q"))) == [
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "q"},
    ]
    assert for_model(message("assistant", STEP, waiting), message("user", text("q"))) == [
        {"role": "user", "content": "q"}
    ]


@pytest.mark.parametrize(
    ("part", "arguments", "result"),
    [
        ({"state": "output-available"}, "{}", "null"),
        ({"state": "output-error", "input": "{", "errorText": "e"}, '"{"', "e"),
        ({"state": "output-error", "rawInput": "{", "errorText": "e"}, '"{"', "e"),
        ({"state": "output-denied", "input": {}, "approval": {"id": "1", "reason": "never"}}, "{}", "never"),
        ({"state": "output-denied", "input": {}, "approval": {"id": "1"}}, "{}", "The call was denied."),
    ],
)
def test_a_call_always_has_arguments_and_a_text_as_its_result(
    part: dict[str, Any], arguments: str, result: str
) -> None:
    said = for_model(message("assistant", {"type": "tool-get", "toolCallId": "c", **part}))
    assert said == [
        {"role": "assistant", "content": None, "tool_calls": [call("c", "get", arguments)]},
        {"role": "tool", "tool_call_id": "c", "content": result},
    ]


def test_what_a_user_said_between_two_steps_stands_between_them() -> None:
    steered = {"type": "steering-message", "id": "s", "parts": [text("louder")]}
    assert for_model(message("assistant", STEP, text("A"), steered, STEP, text("B"))) == [
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "louder"},
        {"role": "assistant", "content": "B"},
    ]


QUESTION, ANSWER = message("user", text("q"), id="u"), message("assistant", STEP, text("a"), id="a")


@pytest.mark.parametrize(
    ("messages", "trigger", "message_id", "continued"),
    [
        ([QUESTION], "submit-message", None, None),
        ([QUESTION, ANSWER], "submit-message", None, 1),
        ([QUESTION, ANSWER], "submit-message", "a", 1),
        ([QUESTION, ANSWER], "submit-message", "of another chat", 1),
        ([QUESTION, ANSWER], "regenerate-message", "a", None),
        ([QUESTION, ANSWER, QUESTION], "submit-message", None, None),
        ([QUESTION, ANSWER, {**QUESTION, "id": "v"}], "submit-message", "a", 1),
        ([QUESTION, {**ANSWER, "id": ""}], "submit-message", None, None),
    ],
)
def test_the_answer_goes_on_with_the_assistants_message(
    messages: list[dict[str, Any]], trigger: str, message_id: str | None, continued: int | None
) -> None:
    said = translated(messages, trigger, message_id)
    assert said.continued == continued
    assert said.continued_id == ("" if continued is None else "a")
    assert said.roles == tuple(each["role"] for each in messages)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ({}, "messages"),
        ("hi", "messages"),
        ([message("user")], "messages"),
        ([{"role": "user", "content": "hi"}], "messages.0"),
        ([message("robot", text("a"))], "messages.0.role"),
        ([message("user", text("a")), message("user", {"type": "text", "text": 1})], "messages.1.parts.0.text"),
        ([message("user", {"type": "file", "mediaType": "image/png"})], "messages.0.parts.0.url"),
        ([message("user", {"type": 5})], "messages.0.parts.0.type"),
        ([message("user", {"type": "text", "text": "a", "mediaType": {}})], "messages.0.parts.0.mediaType"),
        (
            [message("assistant", {"type": "tool-get", "state": "output-error", "errorText": "e"})],
            "messages.0.parts.0.toolCallId",
        ),
        (
            [message("assistant", {"type": "tool-get", "toolCallId": "c", "state": "output-error"})],
            "messages.0.parts.0.errorText",
        ),
        (
            [message("assistant", {"type": "dynamic-tool", "toolCallId": "c", "state": "output-available"})],
            "messages.0.parts.0.toolName",
        ),
    ],
)
def test_what_is_wrong_is_named(messages: object, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        translated(messages)
    assert (caught.value.code, caught.value.field) == ("invalid_input", field)


@pytest.mark.parametrize(
    "messages", [[{}] * (MOST_OBJECTS + 1), [message("user", *[text("")] * MOST_OBJECTS)], [message("user")] * 20_000]
)
def test_more_parts_than_one_turn_can_take_are_refused(messages: list[object]) -> None:
    with pytest.raises(BadInput):
        translated(messages)


def test_texts_stay_as_they_came() -> None:
    """Also where decoding and encoding would give another JSON for the same text."""
    words = r'"\u00e9 \u0041\/"'
    body = b'[{"role":"user","parts":[{"type":"text","text":%b}]}]' % words.encode()
    assert bytes(conversation(Raw(body), trigger="", message_id=None).messages[0]) == (
        b'{"role":"user","content":%b}' % words.encode()
    )
