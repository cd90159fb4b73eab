"""Express a request in the form of OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses).

Parameters that the API has under the same name, and those that it does not know, are passed on: the server refuses what
it does not take.
"""

from collections.abc import Iterator
from typing import Any

from service.request import Request, Turn, decoded

_IN_BACKGROUND = {"background": True, "store": True, "stream": True}
"""The server goes on without its reader, and gives the stream out again. `background` needs `store`."""

_SAID = ("text", "refusal")

_Json = dict[str, Any]


def body_of(request: Request, model: str, system_prompt: str) -> _Json:
    """Return the body of `POST /responses`, as JSON values."""
    body: _Json = {name: decoded(value) for name, value in request.parameters.items()}
    body.pop("stream_options", None)
    body.pop("n", None)
    tokens = [body.pop(name, None) for name in ("max_completion_tokens", "max_tokens")]
    if (limit := next((each for each in tokens if each is not None), None)) is not None:
        body.setdefault("max_output_tokens", limit)
    _nest(body, "reasoning_effort", "reasoning", "effort")
    _nest(body, "verbosity", "text", "verbosity")
    if (wanted := body.pop("response_format", None)) is not None:
        body["text"] = {**_object(body.get("text")), "format": _flat(wanted, "json_schema")}
    if isinstance(tools := body.get("tools"), list):
        body["tools"] = [_tool(each) for each in tools]
    if "tool_choice" in body:
        body["tool_choice"] = _choice(body["tool_choice"])
    if system_prompt:
        body["instructions"] = system_prompt
    items = [item for message in request.messages for item in _items(decoded(message))]
    return {**body, "model": model, "input": items, **_IN_BACKGROUND}


def _nest(body: _Json, name: str, group: str, inner: str) -> None:
    """Move a parameter into the group that the API has for it."""
    if (value := body.pop(name, None)) is not None:
        body[group] = {inner: value, **_object(body.get(group))}


def _object(value: object) -> _Json:
    return value if isinstance(value, dict) else {}


def _flat(value: object, name: str) -> object:
    """Return an object without the inner object of this name, whose fields are the object's own in this API."""
    if not isinstance(value, dict) or not isinstance(inner := value.get(name), dict):
        return value
    return {"type": name, **inner}


def _tool(tool: object) -> object:
    flat = _flat(tool, "function")
    # Chat completions are not strict unless asked to be, and this API is.
    return {"strict": False, **flat} if isinstance(flat, dict) and flat is not tool else tool


def _choice(wanted: object) -> object:
    flat = _flat(_flat(wanted, "function"), "allowed_tools")
    if isinstance(flat, dict) and isinstance(tools := flat.get("tools"), list):
        return {**flat, "tools": [_flat(each, "function") for each in tools]}
    return flat


def _items(message: object) -> Iterator[object]:
    """Yield the input items of a message: itself, and a call or a result of a tool apart."""
    if isinstance(message, Turn) or not isinstance(message, dict):
        yield message
        return
    role, content = message.get("role"), message.get("content") or message.get("refusal")
    if role == "tool":
        output = content if isinstance(content, str) else _parts(content, "user")
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output}
        return
    calls = message.get("tool_calls")
    if content or not calls:
        yield {"role": role, "content": _parts(content, role)}
    for call in calls or ():
        function = _object(_object(call).get("function"))
        yield {
            "type": "function_call",
            "call_id": _object(call).get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments"),
        }


def _parts(content: object, role: object) -> object:
    """Return a message's content with its parts in this API's form. A text stays a text.

    An assistant's parts become a text: in the API's own form they need an id.
    """
    if not isinstance(content, list):
        return content
    if role == "assistant" and all(isinstance(part, dict) and part.get("type") in _SAID for part in content):
        return "".join(str(part.get(part["type"]) or "") for part in content)
    return [_part(part) for part in content]


def _part(part: object) -> object:
    match part:
        case {"type": "text", "text": text}:
            return {"type": "input_text", "text": text}
        case {"type": "image_url", "image_url": {"url": url, **more}}:
            return {"type": "input_image", "image_url": url, "detail": more.get("detail") or "auto"}
        case {"type": "file", "file": {**file}}:
            return {"type": "input_file", **file}
        case _:
            return part
