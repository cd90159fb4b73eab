"""The input of AG-UI's runs: translate its messages, tools, context and state into those of chat completions.

Source: https://docs.ag-ui.com, version 1.0, and the npm package `@ag-ui/core`, 1.0.0, `schemas.mjs`. Texts and media
stay raw JSON.
"""

from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from service.errors import BadInput
from service.routes.counted import Counted
from service.routes.raw_json import as_text, bad, counting, given, is_given, is_text, joined, raw, text_of

Json = dict[str, Any]

_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_NOTHING = (b"", b"null", b"{}", b"[]", b'""')


class _Source(msgspec.Struct, gc=False, rename="camel"):
    type: str
    value: Raw
    mime_type: str = ""


class _Metadata(msgspec.Struct, gc=False):
    filename: Raw = Raw()


class _Part(Counted, rename="camel"):
    type: str
    text: Raw = Raw()
    source: _Source | None = None
    metadata: Raw = Raw()


class _Function(msgspec.Struct, gc=False):
    name: str
    arguments: Raw


class _Call(Counted, rename="camel"):
    id: str
    function: _Function


class _Message(Counted, rename="camel"):
    role: Literal["developer", "system", "assistant", "user", "tool", "activity", "reasoning"]
    content: Raw = Raw()
    name: Raw = Raw()
    tool_calls: tuple[_Call, ...] = ()
    tool_call_id: str = ""
    error: Raw = Raw()


class _Tool(Counted, rename="camel"):
    name: str
    description: Raw = Raw()
    parameters: Raw = Raw()


class _Context(Counted, rename="camel"):
    description: Raw
    value: Raw


class Conversation(NamedTuple):
    """The messages for the model, and the role of each of the client's messages."""

    messages: tuple[Raw, ...]
    roles: tuple[str, ...]


_decode_messages = msgspec.json.Decoder(list[_Message]).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_tools = msgspec.json.Decoder(list[_Tool]).decode
_decode_context = msgspec.json.Decoder(list[_Context]).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode


def conversation(value: Raw) -> Conversation:
    """Return the conversation in the field `messages`. Reasoning and activities are not for the model.

    Raises:
        BadInput: the messages are malformed or too many, or nothing of them is left for the model.
    """
    said = counting(_decode_messages, value, "messages")
    messages = [raw(message) for number, each in enumerate(said) if (message := _message(each, f"messages.{number}"))]
    if not messages:
        bad("messages", "Should have at least one message that a model can be given")
    return Conversation(tuple(messages), tuple(each.role for each in said))


def surroundings(context: Raw, state: Raw, *, allows_system: bool) -> Raw | None:
    """Return the message with the run's context and state, to stand before all others; None if there are none.

    It is the system's, or a user's where the service allows clients no such message.

    Raises:
        BadInput: the context is malformed.
    """
    said = counting(_decode_context, context, "context") if is_given(context) else []
    texts = [
        joined((text_of(each.description, f"context.{number}.description"), Raw(b'": "'), _value(each, number)))
        for number, each in enumerate(said)
    ]
    if bytes(memoryview(state)[:4]) not in _NOTHING:
        texts.append(joined((Raw(b'"State of the application: "'), Raw(msgspec.json.encode(bytes(state).decode())))))
    if not texts:
        return None
    lines = [text for each in texts for text in (each, Raw(b'"\\n"'))][:-1]
    return raw({"role": "system" if allows_system else "user", "content": joined(lines)})


def _value(each: _Context, number: int) -> Raw:
    return text_of(each.value, f"context.{number}.value")


def tools(value: Raw) -> Raw | None:
    """Return the tools; None if there are none.

    Raises:
        BadInput: they are malformed or too many.
    """
    said = counting(_decode_tools, value, "tools") if is_given(value) else []
    if not said:
        return None
    return raw(
        [
            {
                "type": "function",
                "function": {"name": tool.name, **given(description=tool.description, parameters=tool.parameters)},
            }
            for tool in said
        ]
    )


def _message(message: _Message, field: str) -> Json | None:
    name = given(name=message.name)
    match message.role:
        case "system" | "developer":
            return {"role": message.role, "content": text_of(message.content, f"{field}.content"), **name}
        case "user":
            return {"role": "user", "content": _content(message.content, f"{field}.content"), **name}
        case "assistant":
            content = text_of(message.content, f"{field}.content") if is_given(message.content) else None
            if content is None and not message.tool_calls:
                return None
            calls = [_call(each, f"{field}.toolCalls.{number}") for number, each in enumerate(message.tool_calls)]
            return {"role": "assistant", "content": content, **name, **({"tool_calls": calls} if calls else {})}
        case "tool":
            if not message.tool_call_id:
                raise BadInput("invalid_input", "required", field=f"{field}.toolCallId")
            content = message.error if is_given(message.error) and not is_given(message.content) else message.content
            if is_text(content):
                result: Any = as_text(content)
            else:
                result = _content(content, f"{field}.content")
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": result}
        case _:
            return None


def _call(call: _Call, field: str) -> Json:
    arguments = text_of(call.function.arguments, f"{field}.function.arguments")
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _content(value: Raw, field: str) -> Any:  # noqa: ANN401 (JSON)
    """Return a content that is a text or a list of parts."""
    if is_text(value):
        return value
    parts = [
        _part(part, f"{field}.{number}")
        for number, part in enumerate(counting(_decode_parts, value, field, begins=False))
    ]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _part(part: _Part, field: str) -> Json:
    if part.type == "text":
        return {"type": "text", "text": text_of(part.text, f"{field}.text")}
    source = part.source
    if source is None:
        bad(f"{field}.type", "Should be text, image, audio, video or document")
    value = text_of(source.value, f"{field}.source.value")
    if source.type == "file":
        return {"type": "file", "file": {"file_id": value}}
    if part.type == "audio" and source.type == "data" and source.mime_type in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": value, "format": _AUDIO[source.mime_type]}}
    url = value
    if source.type == "data":
        url = joined((Raw(msgspec.json.encode(f"data:{source.mime_type};base64,")), value))
    match part.type:
        case "image":
            return {"type": "image_url", "image_url": {"url": url}}
        case "video":
            return {"type": "video_url", "video_url": {"url": url}}
        case _:
            return {"type": "file", "file": {**_filename(part.metadata), "file_data": url}}


def _filename(metadata: Raw) -> Json:
    """Return the name of a file. `metadata` is open: anything may stand there."""
    try:
        name = _decode_metadata(metadata).filename
    except (ValueError, RecursionError):
        return {}
    return {"filename": name} if is_text(name) else {}
