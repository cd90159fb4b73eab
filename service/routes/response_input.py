"""The input of `POST /v1/responses`: translate its items into the messages of chat completions.

Texts, pictures and arguments stay raw JSON, however long they are.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from service.errors import BadInput
from service.routes.counted import Counted
from service.routes.raw_json import bad, counting, given, is_given, is_text, joined, raw, text_of

_DROPPED = frozenset({"reasoning"})
"""Items that have no place in chat completions, and without which the conversation is whole."""
_ROLES = frozenset({"system", "developer", "user", "assistant"})

Json = dict[str, Any]


class Conversation(NamedTuple):
    """The messages of an input, and the role of each item; empty for an item that is no message."""

    messages: tuple[Raw, ...]
    roles: tuple[str, ...]


class _Item(Counted):
    type: str | None = None
    role: str | None = None
    content: Raw = Raw()
    call_id: str | None = None
    name: str | None = None
    arguments: Raw = Raw()
    output: Raw = Raw()


class _Part(Counted):
    type: str
    text: Raw = Raw()
    refusal: Raw = Raw()
    image_url: Raw = Raw()
    detail: Raw = Raw()
    file_id: Raw = Raw()
    file_data: Raw = Raw()
    file_url: Raw = Raw()
    filename: Raw = Raw()
    input_audio: Raw = Raw()


_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode


def conversation(value: Raw, field: str = "input") -> Conversation:
    """Return the input, a text or a list of items, as messages.

    Raises:
        BadInput: it is neither, or an item is malformed or not supported.
    """
    if is_text(value):
        return Conversation((raw({"role": "user", "content": value}),), ("user",))
    items = counting(_decode_items, value, field, "Should be a text or a list of items")
    messages: list[Json] = []
    for number, item in enumerate(items):
        _add(messages, item, f"{field}.{number}")
    return Conversation(tuple(map(raw, messages)), tuple([_role(item) for item in items]))


def _role(item: _Item) -> str:
    return item.role or "" if item.type in (None, "message") else ""


def _add(messages: list[Json], item: _Item, field: str) -> None:
    match item.type:
        case None | "message":
            if item.role not in _ROLES:
                bad(f"{field}.role", "Should be user, assistant, system or developer")
            content = _content(item.content, item.role, f"{field}.content")
            last = messages[-1] if messages else {}
            if item.role == "assistant" and "tool_calls" in last and last["content"] is None:
                last["content"] = content  # The results of calls must follow the message with the calls.
            else:
                messages.append({"role": item.role, "content": content})
        case "function_call":
            _add_call(messages, item, field)
        case "function_call_output":
            if not item.call_id:
                raise BadInput("invalid_input", "required", field=f"{field}.call_id")
            output = _content(item.output, "tool", f"{field}.output")
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
        case kind if kind in _DROPPED:
            pass
        case _:
            raise BadInput("unsupported_value", field=f"{field}.type")


def _add_call(messages: list[Json], item: _Item, field: str) -> None:
    """Add a call to the assistant's message before it. Each call is an item, and a message has several."""
    for name, value in (("call_id", item.call_id), ("name", item.name)):
        if not value:
            raise BadInput("invalid_input", "required", field=f"{field}.{name}")
    function = {"name": item.name, "arguments": text_of(item.arguments, f"{field}.arguments")}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})


def _content(value: Raw, role: str, field: str) -> Any:  # noqa: ANN401 (JSON)
    """Return the content of a message. Many servers take a list of parts from users alone, so texts become one."""
    if is_text(value):
        return value
    parts = counting(_decode_parts, value, field, "Should be a string or a list of parts", begins=False)
    if role == "assistant":
        return joined(_text(part, f"{field}.{number}") for number, part in enumerate(parts))
    if all(part.type in _TEXTS for part in parts) and (role != "user" or len(parts) == 1):
        return joined(_text(part, f"{field}.{number}") for number, part in enumerate(parts))
    return [_part(part, f"{field}.{number}") for number, part in enumerate(parts)]


_TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Parts with a text, and the name of its field."""


def _text(part: _Part, field: str) -> Raw:
    name = _TEXTS.get(part.type)
    if name is None:
        raise BadInput("unsupported_value", field=f"{field}.type")
    return text_of(getattr(part, name), f"{field}.{name}")


def _part(part: _Part, field: str) -> Json:
    match part.type:
        case "input_text" | "output_text" | "refusal":
            return {"type": "text", "text": _text(part, field)}
        case "input_image":
            # By id, a picture is in a store of the server, which chat completions do not know.
            if not is_text(part.image_url):
                raise BadInput("unsupported_value", field=f"{field}.{'file_id' if is_given(part.file_id) else 'type'}")
            return {"type": "image_url", "image_url": given(url=part.image_url, detail=part.detail)}
        case "input_file":
            if is_given(part.file_url):
                raise BadInput("unsupported_value", field=f"{field}.file_url")
            return {
                "type": "file",
                "file": given(filename=part.filename, file_data=part.file_data, file_id=part.file_id),
            }
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.input_audio}
        case _:
            raise BadInput("unsupported_value", field=f"{field}.type")
