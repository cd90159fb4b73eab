"""The parameters of `POST /v1/responses`: translate them into those of chat completions, and repeat them.

A response repeats what its request said, in the form of the Responses API. Parameters that have the same name in both
pass on untouched, and so does every unknown one: servers have some of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from service.errors import BadInput
from service.routes import counted
from service.routes.body import value_of
from service.routes.counted import MOST_OBJECTS, Counted
from service.routes.raw_json import bad, given, is_given, is_text, raw

MOST_METADATA_BYTES = 1 << 16
"""Length of the longest metadata. The API allows 16 pairs of at most 64 and 512 characters."""

MOST_ECHO_BYTES = 1 << 18
"""Limit on what a response repeats. It is in the log's first event, which every follower reads, and in three events
of the response."""

Json = dict[str, Any]

_Number = float
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Switch = bool
_Text = str

_KINDS: Mapping[str, tuple[Any, str]] = {
    "background": (_Switch, "true or false"),
    "frequency_penalty": (_Number, "a number"),
    "max_output_tokens": (_Count, "a whole number above 0"),
    "max_tool_calls": (_Count, "a whole number above 0"),
    "metadata": (dict[str, str], f"an object of strings, of at most {MOST_METADATA_BYTES:,} bytes"),
    "parallel_tool_calls": (_Switch, "true or false"),
    "presence_penalty": (_Number, "a number"),
    "previous_response_id": (_Text, "a string"),
    "prompt_cache_key": (_Text, "a string"),
    "safety_identifier": (_Text, "a string"),
    "service_tier": (_Text, "a string"),
    "store": (_Switch, "true or false"),
    "stream": (_Switch, "true or false"),
    "temperature": (Annotated[float, msgspec.Meta(ge=0, le=2)], "a number from 0 to 2"),
    "top_logprobs": (Annotated[int, msgspec.Meta(ge=0, le=20)], "a whole number from 0 to 20"),
    "top_p": (_Number, "a number"),
    "truncation": (Literal["auto", "disabled"], "auto or disabled"),
}
"""The type of each field that is read, besides null."""
_NOT_ECHOED = frozenset({"background", "stream"})
_PASSED = frozenset(
    {
        "frequency_penalty",
        "presence_penalty",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "temperature",
        "top_logprobs",
        "top_p",
    }
)
"""Fields that are read, and that chat completions have under the same name."""
_TRANSLATED = frozenset(
    {"include", "input", "instructions", "model", "reasoning", "stream_options", "text", "tool_choice", "tools"},
)
_UNSUPPORTED = ("context_management", "conversation", "messages", "n", "prompt", "response_format")
"""Fields that cannot be kept without the server's own store, or that are of another API."""
_LOGPROBS = "message.output_text.logprobs"
"""The value of `include` that has a parameter in chat completions. The others are ignored."""


class Parameters(NamedTuple):
    """What a request says beside its input."""

    chat: dict[str, Raw]
    """The parameters of chat completions."""
    echo: dict[str, Raw]
    """What the response repeats, as `service.renderings.response_object` has it."""
    stream: bool = False
    background: bool = False
    store: bool = True
    instructions: Raw | None = None
    previous: str | None = None
    """The id of the response that this one goes on from."""


class _Tool(Counted):
    type: str
    name: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    description: Raw = Raw()
    parameters: Raw = Raw()
    strict: bool | None = None


class _Format(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    description: Raw = Raw()
    schema: Raw = Raw()
    strict: bool | None = None


class _TextOptions(msgspec.Struct, gc=False):
    format: _Format | None = None
    verbosity: str | None = None


class _ReasoningOptions(msgspec.Struct, gc=False):
    effort: str | None = None
    summary: str | None = None


class _Choice(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list["_Choice"] = []


def parameters(fields: Mapping[str, Raw]) -> Parameters:
    """Return the parameters in both forms.

    Raises:
        BadInput: one of them is malformed, or not supported.
    """
    fields = {name: value for name, value in fields.items() if is_given(value)}
    for name in _UNSUPPORTED:
        if name in fields:
            raise BadInput("unsupported_parameter", field=name)
    # In the order of the body, so that the same body is the same request on each worker.
    said = {name: _checked(fields, name) for name in fields if name in _KINDS}
    chat = {name: value for name, value in fields.items() if name not in _TRANSLATED and _is_passed(name)}
    echo = {name: fields[name] for name in said if name not in _NOT_ECHOED}
    store, background = said.get("store", True), said.get("background", False)
    if background and not store:
        raise BadInput("unsupported_value", field="store")
    if "max_output_tokens" in fields:
        chat["max_tokens"] = fields["max_output_tokens"]
    included = _read(fields, "include", list[str], "a list of strings") or ()
    if said.get("top_logprobs") or _LOGPROBS in included:
        chat["logprobs"] = raw(True)  # noqa: FBT003 (JSON)
    if (instructions := fields.get("instructions")) is not None:
        if not is_text(instructions):
            bad("instructions", "Should be a string, or null")
        echo["instructions"] = instructions
    _text(fields, chat, echo)
    _reasoning(fields, chat, echo)
    _tools(fields, chat, echo)
    _bound(echo)
    stream, previous = said.get("stream", False), said.get("previous_response_id")
    return Parameters(chat, echo, stream, background, store, instructions, previous)


def _bound(echo: dict[str, Raw]) -> None:
    """Leave out the largest fields, if all together are too long to be repeated."""
    by_size = sorted(echo, key=lambda name: len(memoryview(echo[name])))
    left = MOST_ECHO_BYTES
    for name in by_size:
        left -= len(memoryview(echo[name]))
        if left < 0:
            del echo[name]


def _checked(fields: dict[str, Raw], name: str) -> Any:  # noqa: ANN401 (JSON)
    kind, wanted = _KINDS[name]
    if name == "metadata" and len(memoryview(fields[name])) > MOST_METADATA_BYTES:
        bad(name, f"Should be {wanted}, or null")
    return _read(fields, name, kind, wanted)


def _read(fields: dict[str, Raw], name: str, kind: Any, wanted: str) -> Any:  # noqa: ANN401 (JSON)
    """Return the field as a value of this type, or None."""
    return value_of(fields, name, kind | None, f"Should be {wanted}, or null")


def _is_passed(name: str) -> bool:
    return name not in _KINDS or name in _PASSED


def _text(fields: dict[str, Raw], chat: dict[str, Raw], echo: dict[str, Raw]) -> None:
    options: _TextOptions | None = _read(fields, "text", _TextOptions, "an object with a format and a verbosity")
    if options is None:
        return
    shown: Json = {"format": {"type": "text"}}
    if options.verbosity is not None:
        chat["verbosity"] = shown["verbosity"] = raw(options.verbosity)
    if (form := options.format) is not None:
        shown["format"] = _format(form, chat)
    echo["text"] = raw(shown)


def _format(form: _Format, chat: dict[str, Raw]) -> Json:
    """Return the format as the response repeats it."""
    match form.type:
        case "text":
            return {"type": "text"}
        case "json_object":
            chat["response_format"] = raw({"type": "json_object"})
            return {"type": "json_object"}
        case "json_schema":
            if not form.name:
                raise BadInput("invalid_input", "required", field="text.format.name")
            if not form.schema:
                raise BadInput("invalid_input", "required", field="text.format.schema")
            inner = given(name=form.name, description=form.description, schema=form.schema, strict=form.strict)
            chat["response_format"] = raw({"type": "json_schema", "json_schema": inner})
            return {"type": "json_schema", "description": None, **inner, "strict": bool(form.strict)}
        case _:
            raise BadInput("unsupported_value", field="text.format.type")


def _reasoning(fields: dict[str, Raw], chat: dict[str, Raw], echo: dict[str, Raw]) -> None:
    wanted = "an object with an effort and a summary"
    options: _ReasoningOptions | None = _read(fields, "reasoning", _ReasoningOptions, wanted)
    if options is None:
        return
    if options.effort is not None:
        chat["reasoning_effort"] = raw(options.effort)
    echo["reasoning"] = raw({"effort": options.effort, "summary": options.summary})


def _tools(fields: dict[str, Raw], chat: dict[str, Raw], echo: dict[str, Raw]) -> None:
    counted.begin()
    tools: Sequence[_Tool] = _read(fields, "tools", list[_Tool], f"a list of at most {MOST_OBJECTS:,} tools") or ()
    for number, tool in enumerate(tools):
        if tool.type != "function":
            raise BadInput("unsupported_value", field=f"tools.{number}.type")
        if tool.name is None:
            raise BadInput("invalid_input", "required", field=f"tools.{number}.name")
    choice = _choice(fields)
    if tools:
        echo["tools"] = raw([_shown(tool) for tool in tools])
        if "parallel_tool_calls" in fields:  # Without tools, servers refuse it.
            chat["parallel_tool_calls"] = fields["parallel_tool_calls"]
    if choice is not None:
        echo["tool_choice"] = raw(_shown_choice(choice))
        tools = _choose(choice, tools, chat)
    if tools:
        chat["tools"] = raw([_nested(tool) for tool in tools])


def _choice(fields: dict[str, Raw]) -> str | _Choice | None:
    wanted = "none, auto, required, a function, or allowed_tools"
    kind = Literal["none", "auto", "required"] | _Choice
    choice: str | _Choice | None = _read(fields, "tool_choice", kind, wanted)
    if isinstance(choice, _Choice):
        if choice.type not in ("function", "allowed_tools"):
            raise BadInput("unsupported_value", field="tool_choice.type")
        if any(each.type != "function" for each in choice.tools):
            raise BadInput("unsupported_value", field="tool_choice.tools")
        if choice.type == "function" and not choice.name:
            raise BadInput("invalid_input", "required", field="tool_choice.name")
    return choice


def _choose(choice: str | _Choice, tools: Sequence[_Tool], chat: dict[str, Raw]) -> Sequence[_Tool]:
    """Set the choice in the form of chat completions; return the tools that the model may call.

    Few servers know `allowed_tools`. All know fewer tools.
    """
    if isinstance(choice, str):
        if tools:
            chat["tool_choice"] = raw(choice)
        return tools
    if choice.type == "function":
        chat["tool_choice"] = raw({"type": "function", "function": {"name": choice.name}})
        return tools
    allowed = {each.name for each in choice.tools}
    chat["tool_choice"] = raw(choice.mode)
    return [tool for tool in tools if tool.name in allowed]


def _shown_choice(choice: str | _Choice) -> str | Json:
    if isinstance(choice, str):
        return choice
    if choice.type == "function":
        return {"type": "function", "name": choice.name}
    tools = [{"type": "function", "name": each.name} for each in choice.tools]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": tools}


def _shown(tool: _Tool) -> Json:
    fields = given(description=tool.description, parameters=tool.parameters)
    empty = {"description": None, "parameters": None}
    return {"type": "function", "name": tool.name, **empty, **fields, "strict": tool.strict}


def _nested(tool: _Tool) -> Json:
    fields = given(description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return {"type": "function", "function": {"name": tool.name, **fields}}
