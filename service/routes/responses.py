"""`/v1/responses`: the Responses API of OpenAI and Open Responses.

A response is an answer, `resp_<id>` the answer with that id. So each response can be followed again from any event on,
whether it was asked for in the background or not.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Query, Request, Response, params
from msgspec import Raw
from pydantic import BaseModel, Field

from service.answer import AnswerState
from service.answers import Answers
from service.config import Settings
from service.context import RequestContext, context_of
from service.errors import BadInput, UnknownAnswer
from service.events import is_answer_id
from service.renderings.response_object import DOOR, INSTRUCTED, PREFIX
from service.renderings.responses import response_so_far, responses
from service.request import Request as Asked
from service.request import Via
from service.routes import door
from service.routes.application import PlainRoute
from service.routes.body import Bodies, keep
from service.routes.counted import MOST_OBJECTS
from service.routes.openapi import errors
from service.routes.parameters import read_parameters
from service.routes.raw_json import is_given, raw
from service.routes.response_description import BODY, DELETED, RESPONSE_ID, described
from service.routes.response_input import conversation
from service.routes.response_parameters import Parameters, parameters
from service.telemetry import metrics

PATH = "/v1/responses"
MOST_NUMBER = 10**16 - 1
"""The greatest `starting_after`. Numbers stay below those of events, which have at most 16 digits."""

ResponseId = Annotated[str, Path(description="A response's id.", pattern=RESPONSE_ID)]


class Place(BaseModel):
    """The query string of `GET /v1/responses/<id>`. Other parameters, such as `include`, have no effect."""

    stream: bool = False
    starting_after: Annotated[int, Field(ge=0, le=MOST_NUMBER)] | None = None


async def create_response(request: Request) -> Response:
    """Begin a response: as a stream of events, whole at its end, or in the background."""
    fields = await door.read_request(request)
    if fields is None:
        return door.gone()
    settings: Settings = request.app.state.settings
    model = door.check_model(fields, settings, required=False)
    said = parameters(fields)
    await asyncio.sleep(0)  # Each step takes up to 60 ms for a body of 32 MiB.
    messages = await _messages(request, fields, said)
    await asyncio.sleep(0)
    asked = _asked(model, messages, said, request.app.state.bodies)
    if said.stream:
        return await door.stream_answer(request, asked, responses())
    if said.background:
        return await _begin_in_background(request, asked)
    return await door.whole_answer(request, asked, responses())


async def read_response(request: Request) -> Response:
    """Return the response as it is now; or follow its events behind `starting_after`, with `stream=true`."""
    place = read_parameters(request, Place)
    context, answer_id = _context(request)
    if not place.stream:
        return await _response_now(request, context, answer_id)
    if place.starting_after is None:
        return await door.stream_existing(request, answer_id, responses())
    response = await door.stream_existing(request, answer_id, responses(place.starting_after))
    metrics.resumed(DOOR)
    return response


async def cancel_response(request: Request) -> Response:
    """Stop the response unless it has ended; return it."""
    context, answer_id = _context(request)
    answers: Answers = request.app.state.answers
    await answers.stop(answer_id, context.caller)
    return await _response_now(request, context, answer_id)


async def delete_response(request: Request) -> Response:
    """Stop the response if it is in progress, and erase it."""
    context, answer_id = _context(request)
    answers: Answers = request.app.state.answers
    await answers.erase(answer_id, context.caller)
    return _json({"id": PREFIX + answer_id, "object": "response", "deleted": True})


def _described_id(response_id: ResponseId) -> None:
    """Describe the parameter."""


def _described_place(response_id: ResponseId, place: Annotated[Place, Query()]) -> None:
    """Describe the parameters."""


def _asked(model: str, messages: Sequence[Raw], said: Parameters, bodies: Bodies) -> Asked:
    """Return the request. Nothing of it refers to the body any more.

    Raises:
        Unavailable: too many bodies are under way.
    """
    kept = iter(keep([*messages, *said.chat.values(), *said.echo.values()], bodies))
    asked = tuple([next(kept) for _ in messages])
    chat = dict(zip(said.chat, kept, strict=False))
    echo: dict[str, Any] = dict(zip(said.echo, kept, strict=False))
    if said.instructions is not None:
        echo[INSTRUCTED] = True
    return Asked(model, asked, chat, via=Via(DOOR, echo, said.background, said.store))


async def _messages(request: Request, fields: dict[str, Raw], said: Parameters) -> Sequence[Raw]:
    """Return the conversation: the instructions, that of the previous response, and the input.

    Raises:
        BadInput: the input is missing or malformed, the previous response is unknown, or instructions are not allowed.
        Unavailable: the log cannot be read.
    """
    settings: Settings = request.app.state.settings
    messages: list[Raw] = []
    if said.instructions is not None:
        if not settings.allows_system:
            raise BadInput("invalid_input", "value", field="instructions", wanted="Should be null")
        messages.append(raw({"role": "system", "content": said.instructions}))
    if said.previous is not None:
        messages += await _conversation_of(request, said.previous)
    given = fields.get("input", Raw())
    if is_given(given):
        new = conversation(given)
        door.check_roles(new.roles, settings, "input")
        messages += new.messages
    elif said.previous is None:
        raise BadInput("invalid_input", "required", field="input")
    if not messages:
        raise BadInput("invalid_input", "value", field="input", wanted="Should have at least one item")
    if len(messages) > MOST_OBJECTS:
        raise BadInput("too_many_messages", field="input", most=MOST_OBJECTS)
    return messages


async def _conversation_of(request: Request, response_id: str) -> Sequence[Raw]:
    """Return the messages of an earlier response, of which the last is its output.

    Its instructions are not among them: each request brings its own.

    Raises:
        BadInput: there is no such response, or it is in progress.
        Unavailable: the log cannot be read.
    """
    answers: Answers = request.app.state.answers
    unknown = BadInput("previous_response_not_found", field="previous_response_id")
    answer_id = response_id.removeprefix(PREFIX)
    if not is_answer_id(answer_id):
        raise unknown
    try:
        state = await answers.read(answer_id, context_of(request.scope).caller, with_request=True)
    except UnknownAnswer:
        raise unknown from None
    asked = state.start.asked() if state.start else None
    if asked is None:
        raise unknown
    if state.end is None:
        wanted = "Should be a response that has ended"
        raise BadInput("invalid_input", "value", field="previous_response_id", wanted=wanted)
    is_instructed = asked.via is not None and asked.via.door == DOOR and INSTRUCTED in asked.via.echo
    earlier = [each if isinstance(each, Raw) else raw(each) for each in asked.messages[is_instructed:]]
    return [*earlier, *_reply(state)]


def _reply(state: AnswerState) -> list[Raw]:
    """Return the answer as a message of the assistant; none if it said nothing."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in state.tool_calls
    ]
    if not state.reply and not calls:
        return []
    message = {"role": "assistant", "content": state.reply or None}
    return [raw({**message, "tool_calls": calls} if calls else message)]


async def _begin_in_background(request: Request, asked: Asked) -> Response:
    """Begin a response and leave it; return it as it is then."""
    answer_id = await door.answer_in_background(request, asked, responses())
    if answer_id is None:
        return door.gone()
    return await _response_now(request, context_of(request.scope), answer_id)


async def _response_now(request: Request, context: RequestContext, answer_id: str) -> Response:
    answers: Answers = request.app.state.answers
    return _json(response_so_far(await answers.read(answer_id, context.caller)), answer_id)


def _json(body: object, answer_id: str = "") -> Response:
    headers = {"Cache-Control": "no-store"}
    if answer_id:
        headers["X-Answer-Id"] = answer_id
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)


def _context(request: Request) -> tuple[RequestContext, str]:
    """Return the request's context, and the id of the answer that its address names.

    Raises:
        UnknownAnswer: it is no response's id.
    """
    response_id: str = request.path_params["response_id"]
    answer_id = response_id.removeprefix(PREFIX)
    if answer_id == response_id or not is_answer_id(answer_id):
        raise UnknownAnswer
    context = context_of(request.scope)
    context.answer_id = answer_id
    return context, answer_id


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    with_id = [*dependencies, Depends(_described_id)]
    return [
        PlainRoute(
            PATH,
            create_response,
            methods=["POST"],
            operation_id="createResponse",
            responses=described("The response, whole or as its events.", streams=True) | errors(402, 410),
            openapi_extra=BODY,
            dependencies=dependencies,
        ),
        PlainRoute(
            PATH + "/{response_id}",
            read_response,
            methods=["GET"],
            operation_id="readResponse",
            responses=described("The response as it is now, or its events.", streams=True),
            dependencies=[*dependencies, Depends(_described_place)],
        ),
        PlainRoute(
            PATH + "/{response_id}/cancel",
            cancel_response,
            methods=["POST"],
            operation_id="cancelResponse",
            responses=described("The response, which has ended."),
            dependencies=with_id,
        ),
        PlainRoute(
            PATH + "/{response_id}",
            delete_response,
            methods=["DELETE"],
            operation_id="deleteResponse",
            responses=DELETED,
            dependencies=with_id,
        ),
    ]
