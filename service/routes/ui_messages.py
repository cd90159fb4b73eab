"""The messages of the AI SDK's `useChat`: translate them into those of chat completions.

Source: the npm package `ai`, version 7, `src/ui/ui-messages.ts` and `src/ui/convert-to-model-messages.ts`. Texts,
pictures and the tools' input and output stay raw JSON.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from service.errors import BadInput
from service.routes.counted import Counted
from service.routes.raw_json import as_text, bad, counting, given, is_given, is_text, joined, raw, text_of

Json = dict[str, Any]

_TOOL_PREFIX = "tool-"
_DENIED = Raw(b'"The call was denied."')
_NO_INPUT = Raw(b"{}")
_NO_OUTPUT = Raw(b"null")
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


class _Approval(msgspec.Struct, gc=False):
    reason: Raw = Raw()


class _Part(Counted, rename="camel"):
    type: str
    text: Raw = Raw()
    media_type: str = ""
    url: Raw = Raw()
    filename: Raw = Raw()
    tool_call_id: str = ""
    tool_name: str = ""
    state: str = ""
    input: Raw = Raw()
    raw_input: Raw = Raw()
    output: Raw = Raw()
    error_text: Raw = Raw()
    approval: _Approval | None = None
    parts: tuple["_Part", ...] = ()


class _Message(Counted, rename="camel"):
    role: Literal["system", "user", "assistant"]
    parts: list[_Part]
    id: str = ""


class Conversation(NamedTuple):
    """The messages for the model, and what of the client's own messages matters beside them."""

    messages: tuple[Raw, ...]
    roles: tuple[str, ...]
    """The role of each of the client's messages."""
    continued: int | None
    """The place of the message of the assistant with which the answer goes on; None if it is a new one."""
    continued_id: str


_decode = msgspec.json.Decoder(list[_Message]).decode


def conversation(value: Raw, *, trigger: str, message_id: str | None) -> Conversation:
    """Return the conversation in the field `messages`.

    An answer goes on with the message of the assistant that the client names, or else with the last message. It does
    not if the client wants the message anew (`regenerate-message`).

    Raises:
        BadInput: the messages are malformed, too many or none, or nothing of them is left for the model.
    """
    said = counting(_decode, value, "messages")
    if not said:
        bad("messages", "Should have at least one message")
    messages = tuple(
        raw(message) for number, each in enumerate(said) for message in _messages(each, f"messages.{number}.parts")
    )
    if not messages:
        bad("messages", "Should have at least one part that a model can be given")
    at = len(said) - 1
    if message_id is not None:
        at = next((number for number, each in enumerate(said) if each.id == message_id), at)
    continues = trigger != "regenerate-message" and said[at].role == "assistant" and said[at].id != ""
    return Conversation(
        messages, tuple(each.role for each in said), at if continues else None, said[at].id if continues else ""
    )


def _messages(message: _Message, field: str) -> Iterator[Json]:
    if message.role == "assistant":
        yield from _assistant(message.parts, field)
        return
    parts = _contents(message.parts, field)
    if not parts:
        return
    if message.role == "system":
        yield {"role": "system", "content": joined(part["text"] for part in parts if part["type"] == "text")}
    else:
        yield _from_user(parts)


def _from_user(parts: list[Json]) -> Json:
    only_text = len(parts) == 1 and parts[0]["type"] == "text"
    return {"role": "user", "content": parts[0]["text"] if only_text else parts}


def _contents(parts: Sequence[_Part], field: str) -> list[Json]:
    return [content for number, part in enumerate(parts) if (content := _content(part, f"{field}.{number}"))]


def _content(part: _Part, field: str) -> Json | None:
    """Return a user's part for the model; None for a part that only the page shows."""
    if part.type == "text":
        return {"type": "text", "text": text_of(part.text, f"{field}.text")}
    if part.type != "file":
        return None
    url = text_of(part.url, f"{field}.url")
    kind = part.media_type.partition("/")[0]
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if part.media_type in _AUDIO and (data := _data_of(url)) is not None:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[part.media_type]}}
    return {"type": "file", "file": given(filename=part.filename, file_data=url)}


def _data_of(url: Raw) -> Raw | None:
    """Return the base64 text of a data URL."""
    head, comma, data = bytes(url).partition(b";base64,")
    return Raw(b'"' + data) if comma and head.startswith(b'"data:') else None


class _Step:
    """A step of the assistant: its texts, its calls, and the calls' results."""

    def __init__(self) -> None:
        self._texts: list[Raw] = []
        self._calls: list[Json] = []
        self._results: list[Json] = []

    def add(self, part: _Part, field: str) -> None:
        """Add what of the part is for the model."""
        if part.type == "text":
            self._texts.append(text_of(part.text, f"{field}.text"))
        elif part.type == "dynamic-tool" or part.type.startswith(_TOOL_PREFIX):
            result = _result(part, field)
            if result is not None:  # Upstreams refuse a call without a result.
                self._calls.append(_call(part, field))
                self._results.append({"role": "tool", "tool_call_id": part.tool_call_id, "content": result})

    def messages(self) -> Iterator[Json]:
        """Return the step's messages."""
        if self._texts or self._calls:
            calls = {"tool_calls": self._calls} if self._calls else {}
            yield {"role": "assistant", "content": joined(self._texts) if self._texts else None, **calls}
        yield from self._results


def _assistant(parts: Sequence[_Part], field: str) -> Iterator[Json]:
    step = _Step()
    for number, part in enumerate(parts):
        at = f"{field}.{number}"
        if part.type not in ("step-start", "steering-message"):
            step.add(part, at)
            continue
        yield from step.messages()
        step = _Step()
        if said := _contents(part.parts, f"{at}.parts"):
            yield _from_user(said)
    yield from step.messages()


def _call(part: _Part, field: str) -> Json:
    name = part.tool_name if part.type == "dynamic-tool" else part.type.removeprefix(_TOOL_PREFIX)
    for key, value in (("toolCallId", part.tool_call_id), ("toolName", name)):
        if not value:
            raise BadInput("invalid_input", "required", field=f"{field}.{key}")
    written = next((each for each in (part.input, part.raw_input) if is_given(each)), _NO_INPUT)
    # The arguments are a JSON text in a string, of whatever kind the input is.
    arguments = msgspec.json.encode(bytes(written).decode())
    return {"id": part.tool_call_id, "type": "function", "function": {"name": name, "arguments": Raw(arguments)}}


def _result(part: _Part, field: str) -> Raw | None:
    """Return the result of a call as a text; None without one."""
    match part.state:
        case "output-available":
            return as_text(part.output if is_given(part.output) else _NO_OUTPUT)
        case "output-error":
            return text_of(part.error_text, f"{field}.errorText")
        case "output-denied":
            reason = part.approval.reason if part.approval else Raw()
            return reason if is_text(reason) else _DENIED
        case _:
            return None
