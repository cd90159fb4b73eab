"""`/api/chat`: the backend of the AI SDK's `useChat`, which asks, resumes by the chat's id, and stops.

The service keeps no chats: each request brings all messages, and the chat's id leads to its newest answer alone.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Request, Response, params
from fastapi.responses import JSONResponse
from msgspec import Raw
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor

from service.answers import Answers
from service.config import Settings
from service.context import context_of
from service.errors import BadInput, UnknownAnswer
from service.renderings.ui_chunks import DOOR, MESSAGE, MESSAGE_ID, REPLAY, RESPONSE
from service.request import Request as Asked
from service.request import Via
from service.routes.application import PlainRoute
from service.routes.body import Bodies, read_fields, value_of
from service.routes.door import check_model, check_roles, check_temperature, gone, read_request, stream_answer
from service.routes.openapi import empty, errors, event_stream, whole
from service.routes.raw_json import raw
from service.routes.sameness import IDEMPOTENCY_KEY
from service.routes.streaming import answer_response, stream_of
from service.routes.ui_messages import Conversation, conversation

MOST_CHARACTERS = 512
"""Length of the longest chat id."""
FEWEST_CHARACTERS = 16
"""Length of the shortest chat id where there are no API keys. The id alone then gives access, and the AI SDK makes ids
of this length."""
MOST_ECHO_BYTES = 1 << 20
"""Length of the longest message that stays in the answer's log as it is, for clients that reconnect. Every follower
reads the log's first line."""
MOST_PART_BYTES = 1 << 16
"""Length of the longest part that stays of a longer message."""
_OWN = frozenset({"id", "message", "messageId", "messages", "model", "trigger"})
"""The fields that are no parameters of chat completions."""


class _Anything(Convertor[str]):
    """Any characters. Starlette's own `path` has no line ends."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """Return the value."""
        return value

    def to_string(self, value: str) -> str:
        """Return the value."""
        return value


register_url_convertor("anything", _Anything())


class _Parts(msgspec.Struct, gc=False):
    parts: list[Raw]


class Success(BaseModel):
    """The response to a stop."""

    success: bool


ChatId = Annotated[
    str,
    Path(
        description="The chat's id. Without API keys it has at least 16 characters.",
        min_length=1,
        max_length=MOST_CHARACTERS,
    ),
]
_decode_messages = msgspec.json.Decoder(list[Raw]).decode
_decode_parts = msgspec.json.Decoder(_Parts).decode

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": _TEXT},
    "required": ["type", "text"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "role": {"enum": ["user"]},
        "parts": {"type": "array", "items": _PART, "minItems": 1},
    },
    "required": ["role", "parts"],
}
_QUESTION = {
    "description": "What the AI SDK's default transport sends. The fields of its `body` are parameters of chat"
    " completions.",
    "type": "object",
    "properties": {
        "id": {**_TEXT, "minLength": 1, "maxLength": MOST_CHARACTERS},
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        "trigger": _TEXT_OR_NULL,
        "messageId": _TEXT_OR_NULL,
    },
    "required": ["id", "messages"],
}
_BODY = {"content": {"application/json": {"schema": _QUESTION}}, "required": True}


async def ask(request: Request) -> Response:
    """Begin the chat's next answer."""
    fields = await read_request(request)
    if fields is None:
        return gone()
    settings: Settings = request.app.state.settings
    chat = _checked(value_of(fields, "id", str, "Should be a string"), "id", settings)
    if "messages" not in fields:
        raise BadInput("invalid_input", "no_messages" if "message" in fields else "required", field="messages")
    trigger = value_of(fields, "trigger", str | None, "Should be a string")  # a union is no type
    named = value_of(fields, "messageId", str | None, "Should be a string")
    said = conversation(fields["messages"], trigger=trigger or "", message_id=named)
    check_roles(said.roles, settings)
    check_temperature(fields)
    asked = Asked(
        check_model(fields, settings, required=False),
        said.messages,
        {name: value for name, value in fields.items() if name not in _OWN},
        via=Via(DOOR, _echo(said, fields["messages"]), background=True),
    )
    return await stream_answer(request, asked, RESPONSE, chat=chat)


async def resume(request: Request) -> Response:
    """Follow the chat's newest answer from its start; 204 if there is none, or if it has ended and was delivered."""
    context = context_of(request.scope)
    context.rendering = REPLAY.name
    answers: Answers = request.app.state.answers
    try:
        follower = await answers.follow_chat(_chat_of(request), REPLAY, context.caller)
    except UnknownAnswer:  # useChat asks whenever a page is opened, also for a chat without a message.
        follower = None
    if follower is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    context.answer_id = follower.answer_id
    return await answer_response(stream_of(follower, context), request, follower.answer_id, REPLAY)


async def stop(request: Request) -> Response:
    """Stop the chat's newest answer. One that has ended stays as it is."""
    chat = _chat_of(request)
    meant = await _active_stream(request)
    context = context_of(request.scope)
    answers: Answers = request.app.state.answers
    try:
        answer_id = await answers.newest(chat, context.caller)
        if meant is None or meant == answer_id:
            context.answer_id = answer_id
            await answers.stop(answer_id, context.caller)
    except UnknownAnswer:
        pass
    return JSONResponse({"success": True}, headers={"Cache-Control": "no-store"})


def _echo(said: Conversation, messages: Raw) -> dict[str, Any]:
    """Return what the answer's chunks need of the message with which it goes on."""
    if said.continued is None:
        return {}
    message = _decode_messages(messages)[said.continued]
    if len(memoryview(message)) > MOST_ECHO_BYTES:
        message = _without_large_parts(message)
    return {MESSAGE_ID: said.continued_id, MESSAGE: message}


def _without_large_parts(message: Raw) -> Raw:
    parts = [part for part in _decode_parts(message).parts if len(memoryview(part)) <= MOST_PART_BYTES]
    while sum(len(memoryview(part)) for part in parts) > MOST_ECHO_BYTES:
        del parts[: len(parts) // 2]
    return raw({"parts": parts})


def _chat_of(request: Request) -> str:
    return _checked(request.path_params["chat"], "chat", request.app.state.settings)


def _checked(chat: str, field: str, settings: Settings) -> str:
    fewest = 1 if settings.keys else FEWEST_CHARACTERS
    if not fewest <= len(chat) <= MOST_CHARACTERS:
        wanted = f"Should have {fewest} to {MOST_CHARACTERS} characters"
        raise BadInput("invalid_input", "value", field=field, wanted=wanted)
    return chat


async def _active_stream(request: Request) -> str | None:
    """Return the field `activeStreamId` of the body: the id of the answer that is meant. A stop needs no body."""
    headers = context_of(request.scope).headers
    if b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0":
        return None
    bodies: Bodies = request.app.state.bodies
    fields = await read_fields(request, bodies)
    named: str | None = value_of(fields or {}, "activeStreamId", str | None, "Should be a string")
    return named


def _described_chat(chat: ChatId) -> None:
    """Describe the parameter."""


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. A chat's id may hold slashes, too. The dependencies are for their description."""
    with_chat = [*dependencies, Depends(_described_chat)]
    return [
        PlainRoute(
            "/api/chat",
            ask,
            methods=["POST"],
            operation_id="askInChat",
            responses=event_stream("The answer's chunks, as they come.") | errors(401, 402, 403, 404, 422),
            openapi_extra={"parameters": [IDEMPOTENCY_KEY], "requestBody": _BODY},
            dependencies=dependencies,
        ),
        PlainRoute(
            "/api/chat/{chat:anything}/stream",
            resume,
            methods=["GET"],
            operation_id="resumeChat",
            responses=event_stream("The chunks of the chat's newest answer, from its start.")
            | empty("There is nothing to resume.")
            | errors(401, 404, 422),
            dependencies=with_chat,
        ),
        PlainRoute(
            "/api/chat/{chat:anything}/stop",
            stop,
            methods=["POST"],
            operation_id="stopChat",
            responses=whole(Success, "The chat's newest answer has ended.") | errors(401, 404, 422),
            dependencies=with_chat,
        ),
    ]
