"""`/v1/chat/completions`: OpenAI's API for chat, as its SDKs and what is built on them speak it."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Request, Response, params
from msgspec import Raw

from service.config import Settings
from service.errors import BadInput, UnknownAnswer
from service.events import is_answer_id
from service.renderings import chat
from service.request import Request as Asked
from service.request import Via
from service.routes import door
from service.routes.application import PlainRoute
from service.routes.body import value_of
from service.routes.openapi import ANSWER_ID, errors, streamed_or_whole, whole_object
from service.routes.raw_json import is_given
from service.routes.sameness import IDEMPOTENCY_KEY

PATH = "/v1/chat/completions"
_OURS = frozenset({"background", "messages", "model", "n", "stream", "stream_options"})
"""Fields that are not sent to the upstream as they are. It is asked for one choice, as a stream with its usage."""
_BOOLEAN = "Should be true, false or null"


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


async def create_completion(request: Request) -> Response:
    """Answer a conversation: with a stream of chunks, or as a whole."""
    fields = await door.read_request(request)
    if fields is None:
        return door.gone()
    settings: Settings = request.app.state.settings
    model = door.check_model(fields, settings)
    if "messages" not in fields:
        raise BadInput("invalid_input", "required", field="messages")
    messages = door.check_messages(fields["messages"], settings)
    door.check_temperature(fields)
    _refuse_what_is_lacking(fields)
    is_streamed = _flag(fields, "stream")
    options = value_of(fields, "stream_options", _StreamOptions | None, "Should be an object or null")
    in_background = _flag(fields, "background")
    parameters = {name: value for name, value in fields.items() if name not in _OURS}
    asked = Asked(model, messages, parameters, via=Via(chat.DOOR, background=in_background))
    if is_streamed:
        with_usage = options is not None and bool(options.include_usage)
        return await door.stream_answer(request, asked, chat.chunks(with_usage=with_usage))
    return await door.whole_answer(request, asked, chat.completion())


async def read_completion(request: Request) -> Response:
    """Return a completion by its id, once it has ended."""
    named: str = request.path_params["completion_id"]
    answer_id = named.removeprefix(chat.PREFIX)
    if answer_id == named or not is_answer_id(answer_id):
        raise UnknownAnswer
    return await door.whole_existing(request, answer_id, chat.completion())


def _refuse_what_is_lacking(fields: dict[str, Raw]) -> None:
    """Refuse what would change the response's form: several choices, and audio.

    Raises:
        BadInput: it is asked for.
    """
    if (value_of(fields, "n", int | None, "Should be 1 or null") or 1) != 1:
        raise BadInput("unsupported_value", field="n")
    if value_of(fields, "modalities", list[str] | None, "Should be a list or null") not in (None, [], ["text"]):
        raise BadInput("unsupported_value", field="modalities")
    if is_given(fields.get("audio", Raw())):
        raise BadInput("unsupported_parameter", field="audio")


def _flag(fields: dict[str, Raw], name: str) -> bool:
    return bool(value_of(fields, name, bool | None, _BOOLEAN))


# The description

_CHAT_REQUEST: dict[str, Any] = {
    "type": "object",
    "description": "A request of OpenAI's API for chat. Fields that are not described are passed on untouched.",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "description": "One of `/v1/models`."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "required": ["role"], "properties": {"role": {"enum": door.ROLES}}},
        },
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": ["boolean", "null"]}},
        },
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": door.MAX_TEMPERATURE},
        "n": {"enum": [1, None]},
        "background": {
            "type": ["boolean", "null"],
            "description": "Whether the answer goes on to its end although nobody follows it.",
        },
        "modalities": {"enum": [["text"], None]},
        "audio": {"type": "null"},
    },
}
_COMPLETION_ID = ANSWER_ID.replace("^", f"^{chat.PREFIX}")
_COMPLETION: dict[str, Any] = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices"],
    "properties": {
        "id": {"type": "string", "pattern": _COMPLETION_ID},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
        "usage": {"type": "object"},
    },
}

CompletionId = Annotated[
    str, Path(description="A completion's id: `chatcmpl-` and the answer's id.", pattern=_COMPLETION_ID)
]


def _described_id(completion_id: CompletionId) -> None:
    """Describe the parameter."""


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    return [
        PlainRoute(
            PATH,
            create_completion,
            methods=["POST"],
            operation_id="createChatCompletion",
            responses=streamed_or_whole(_COMPLETION, "Chunks, each as the data of an event, or one completion.")
            | errors(401, 402, 403, 404, 410, 422),
            openapi_extra={
                "parameters": [IDEMPOTENCY_KEY],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _CHAT_REQUEST}}},
            },
            dependencies=dependencies,
        ),
        PlainRoute(
            PATH + "/{completion_id}",
            read_completion,
            methods=["GET"],
            operation_id="readChatCompletion",
            responses=whole_object(_COMPLETION, "The completion, which has ended.") | errors(401, 402, 403, 404, 410),
            dependencies=[*dependencies, Depends(_described_id)],
        ),
    ]
