"""The items of the Responses API as messages of chat completions."""

import time
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from service.errors import BadInput
from service.routes.body import Bodies, keep
from service.routes.counted import MOST_OBJECTS
from service.routes.response_input import conversation

Json = dict[str, Any]


def raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def messages(value: object) -> list[Json]:
    return [msgspec.json.decode(message) for message in conversation(raw(value)).messages]


def call(number: int) -> Json:
    return {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": f'{{"n": {number}}}'}


def called(*numbers: int) -> list[Json]:
    return [
        {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": f'{{"n": {number}}}'}}
        for number in numbers
    ]


def output(number: int, said: object = "done") -> Json:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": said}


def parts(role: str, *content: Json) -> Json:
    return {"type": "message", "role": role, "content": list(content)}


TEXT = {"type": "input_text", "text": "Look:"}
SAID = {"type": "output_text", "text": "Hé", "annotations": []}


def test_a_text_is_a_message_of_the_user() -> None:
    assert messages('Hé "you"\n') == [{"role": "user", "content": 'Hé "you"\n'}]


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
def test_a_message_with_a_text_stays_as_it_is(role: str) -> None:
    assert messages([{"role": role, "content": "a"}]) == [{"role": role, "content": "a"}]


def test_the_roles_are_those_of_the_items() -> None:
    items = [{"role": "system", "content": "a"}, call(1), output(1), {"role": "user", "content": "b"}]
    assert conversation(raw(items)).roles == ("system", "", "", "user")


@pytest.mark.parametrize(
    ("content", "translated"),
    [
        ([TEXT], "Look:"),
        ([TEXT, TEXT], [{"type": "text", "text": "Look:"}] * 2),
        (
            [TEXT, {"type": "input_image", "image_url": "data:image/png;base64,aa", "detail": "low", "file_id": None}],
            [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa", "detail": "low"}},
            ],
        ),
        (
            [{"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aa"}],
            [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aa"}}],
        ),
        ([{"type": "input_file", "file_id": "x"}], [{"type": "file", "file": {"file_id": "x"}}]),
        (
            [{"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}}],
            [{"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}}],
        ),
    ],
)
def test_parts_of_the_user_have_the_forms_of_chat_completions(content: list[Json], translated: object) -> None:
    assert messages([parts("user", *content)]) == [{"role": "user", "content": translated}]


def test_texts_of_others_are_one_text() -> None:
    refusal = {"type": "refusal", "refusal": ' "no"'}
    assert messages([parts("assistant", SAID, refusal), parts("system", TEXT, TEXT)]) == [
        {"role": "assistant", "content": 'Hé "no"'},
        {"role": "system", "content": "Look:Look:"},
    ]


def test_calls_in_a_row_are_one_message_with_the_text_before_them() -> None:
    items = [{"role": "user", "content": "?"}, parts("assistant", SAID), call(1), call(2), output(1), output(2)]
    assert messages(items)[1:] == [
        {"role": "assistant", "content": "Hé", "tool_calls": called(1, 2)},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
    ]


def test_calls_behind_results_are_a_message_of_their_own() -> None:
    assert [message.get("tool_calls") for message in messages([call(1), output(1), call(2), output(2)])] == [
        called(1),
        None,
        called(2),
        None,
    ]


def test_a_text_between_calls_and_their_results_joins_the_calls() -> None:
    assert messages([call(1), parts("assistant", SAID), output(1)])[0] == {
        "role": "assistant",
        "content": "Hé",
        "tool_calls": called(1),
    }


def test_reasoning_is_left_out_and_parts_no_calls() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    assert messages([thought, call(1), thought, call(2)]) == [
        {"role": "assistant", "content": None, "tool_calls": called(1, 2)}
    ]


def test_a_result_may_have_parts() -> None:
    picture = {"type": "input_image", "image_url": "http://x/y.png"}
    assert [message["content"] for message in messages([output(1, [TEXT]), output(2, [TEXT, picture])])] == [
        "Look:",
        [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}],
    ]


def test_a_text_is_not_decoded() -> None:
    (message,) = conversation(Raw(rb'[{"role":"user","content":"\u0041"}]')).messages
    assert bytes(message) == rb'{"role":"user","content":"\u0041"}'


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        (1, "invalid_input", "input"),
        ([1], "invalid_input", "input.0"),
        ([{}], "invalid_input", "input.0.role"),
        ([{"role": "tool", "content": "a"}], "invalid_input", "input.0.role"),
        ([{"role": "user"}], "invalid_input", "input.0.content"),
        ([{"role": "user", "content": 1}], "invalid_input", "input.0.content"),
        ([{"role": "user", "content": [{}]}], "invalid_input", "input.0.content.0"),
        ([parts("user", {"type": "input_text"})], "invalid_input", "input.0.content.0.text"),
        ([parts("user", TEXT, {"type": "input_video"})], "unsupported_value", "input.0.content.1.type"),
        ([parts("user", {"type": "input_image", "file_id": "x"})], "unsupported_value", "input.0.content.0.file_id"),
        ([parts("user", {"type": "input_image"})], "unsupported_value", "input.0.content.0.type"),
        ([parts("user", {"type": "input_file", "file_url": "x"})], "unsupported_value", "input.0.content.0.file_url"),
        ([parts("assistant", {"type": "input_image"})], "unsupported_value", "input.0.content.0.type"),
        ([call(1), {"type": "item_reference", "id": "msg_1"}], "unsupported_value", "input.1.type"),
        ([{"type": "web_search_call"}], "unsupported_value", "input.0.type"),
        ([{**call(1), "call_id": None}], "invalid_input", "input.0.call_id"),
        ([{**call(1), "name": ""}], "invalid_input", "input.0.name"),
        ([{**call(1), "arguments": {}}], "invalid_input", "input.0.arguments"),
        ([{"type": "function_call_output", "output": "a"}], "invalid_input", "input.0.call_id"),
        ([output(1, None)], "invalid_input", "input.0.output"),
        ([{"role": "user", "content": ""}] * (MOST_OBJECTS + 1), "too_many_messages", "input"),
        ([parts("user", *[TEXT] * MOST_OBJECTS)], "too_many_messages", "input.0.content"),
    ],
)
def test_what_cannot_be_translated_is_refused(value: object, code: str, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        conversation(raw(value))
    assert (caught.value.code, caught.value.field) == (code, field)


LONGEST = 32 << 20
MAX_SECONDS = 0.1


def many(item: bytes, around: bytes = b"[%b]") -> bytes:
    """As many of the item as fit into the longest body, and as there may be."""
    return around % b",".join([item] * min(LONGEST // (len(item) + 1), 20 * MOST_OBJECTS if len(item) < 1000 else 9999))


@pytest.mark.parametrize(
    "value",
    [
        many(b"{}"),
        many(b"1"),
        many(b"1", b'[{"role":"user","content":[%b]}]'),
        many(b'{"type":"input_text","text":"x"}', b'[{"role":"user","content":[%b]}]'),
        many(b'{"role":"user","content":[{"type":"input_text","text":"' + b"x" * 3000 + b'"}]}'),
        many(b'{"type":"function_call","call_id":"c","name":"n","arguments":"' + b"x" * 3000 + b'"}'),
        b'[{"role":"user","content":[{"type":"input_image","image_url":"' + b"A" * LONGEST + b'"}]}]',
        b'"' + b"x, y " * (LONGEST // 5) + b'"',
    ],
    ids=["objects", "numbers", "numbers as parts", "parts", "texts", "calls", "a picture", "a text"],
)
def test_no_step_with_the_longest_input_holds_the_loop_for_longer_than_that(value: bytes) -> None:
    fastest = [MAX_SECONDS, MAX_SECONDS]
    for _ in range(3):  # Another process may have the caches in between.
        begun_at = time.thread_time()
        try:
            translated = conversation(Raw(value)).messages
        except BadInput:
            translated = ()
        fastest[0] = min(fastest[0], time.thread_time() - begun_at)
        begun_at = time.thread_time()
        keep(translated, Bodies(1 << 40))
        fastest[1] = min(fastest[1], time.thread_time() - begun_at)
    assert max(fastest) < MAX_SECONDS, fastest
