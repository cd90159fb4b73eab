"""What the doors share: the endpoint families whose protocol is another's.

A door translates its request into `service.request.Request` and chooses a rendering. The rest is here: the checks that
hold for every door, the beginning of the answer, its stream, and its response without a stream.

The response begins when the upstream's status is known. A refusal is then a status, by which the clients of these
protocols choose their exception, and whether they ask again.
"""

from collections.abc import Awaitable, Iterable
from typing import Annotated, TypeVar

import msgspec
from fastapi import Request, Response
from msgspec import Raw

from service import events
from service.answers import Answers
from service.config import Settings
from service.context import context_of
from service.errors import BadInput, Unavailable, UnknownAnswer, UpstreamError
from service.follower import CutShortError, Follower
from service.http_errors import UpstreamHTTPException
from service.renderings import Rendering
from service.request import Request as Asked
from service.routes.body import Bodies, read_fields, value_of
from service.routes.counted import Counted
from service.routes.presence import Presence
from service.routes.raw_json import bad, counting
from service.routes.sameness import same_request
from service.routes.site import check_site, is_json
from service.routes.streaming import CLIENT_GONE, answer_headers, answer_response, follow, stream_of
from service.telemetry import tracing

T = TypeVar("T")

MAX_TEMPERATURE = 2
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MIXED_IN = ("system", "developer")


class _Message(Counted):
    role: str


_decode_roles = msgspec.json.Decoder(list[_Message]).decode
_decode_messages = msgspec.json.Decoder(tuple[Raw, ...]).decode
_Temperature = Annotated[float, msgspec.Meta(ge=0, le=MAX_TEMPERATURE)]


async def read_request(request: Request) -> dict[str, Raw] | None:
    """Return the fields of the body, as raw JSON; None if the client has disconnected: respond with `gone`.

    Raises:
        BadInput: the body is no JSON object, or is not sent as one.
        FolyamError: 413, the body is too large; 403, another site's page asks.
        Unavailable: too many bodies are under way.
    """
    context = context_of(request.scope)
    check_site(context, request.app.state.settings)
    bodies: Bodies = request.app.state.bodies
    fields = await read_fields(request, bodies)
    if fields is not None and not is_json(context.header(b"content-type") or ""):
        raise BadInput("invalid_input", "body")
    return fields


def gone() -> Response:
    """Return the response to a client that has disconnected."""
    return Response(status_code=CLIENT_GONE)


def check_model(fields: dict[str, Raw], settings: Settings, *, required: bool = True) -> str:
    """Return the model that the field `model` names; the first one of the service if it may be missing, and is.

    Raises:
        BadInput: 404, the service does not offer the model.
    """
    if not required and bytes(fields.get("model", b"null")) == b"null":
        return settings.model
    model: str = value_of(fields, "model", str, "Should be a string")
    if model not in settings.allowed_models:
        raise BadInput("model_not_found", field="model")
    return model


def check_temperature(fields: dict[str, Raw]) -> None:
    """Check the range of the field `temperature`.

    Raises:
        BadInput: it is out of its range, or no number.
    """
    if "temperature" in fields:
        wanted = f"Should be a number from 0 to {MAX_TEMPERATURE}, or null"
        value_of(fields, "temperature", _Temperature | None, wanted)


def check_messages(messages: Raw, settings: Settings, field: str = "messages") -> tuple[Raw, ...]:
    """Return the messages in the form of chat completions, each as raw JSON, after the check of their roles.

    Raises:
        BadInput: they are no list, none, too many, or have a role that is unknown or not allowed.
    """
    roles = counting(_decode_roles, messages, field, "Should be a list of messages")
    if not roles:
        bad(field, "Should have at least one message")
    for number, message in enumerate(roles):
        if message.role not in ROLES:
            bad(f"{field}.{number}.role", f"Should be one of {', '.join(ROLES)}")
    check_roles((message.role for message in roles), settings, field)
    return _decode_messages(messages)


def check_roles(roles: Iterable[str], settings: Settings, field: str = "messages") -> None:
    """Refuse a role that gives instructions, where the service allows none.

    Raises:
        BadInput: there is one.
    """
    if settings.allows_system:
        return
    for number, role in enumerate(roles):
        if role in _MIXED_IN:
            bad(f"{field}.{number}.role", "Should not be system or developer")


# Begin an answer


async def stream_answer(request: Request, asked: Asked, rendering: Rendering, *, chat: str | None = None) -> Response:
    """Begin an answer; return the response that streams it.

    A request that is the same as an earlier one joins that one's answer: see `sameness.same_request`. `chat` is the
    client's id of the chat, whose name moves to the new answer.

    Raises:
        BadInput: its Idempotency-Key was sent with another request, or is malformed.
        HTTPException: the upstream refused, or could not be asked, in time.
        TooMany: the client has too many answers under way.
        Unavailable: the worker has too many answers or followers, or the log cannot be written.
    """
    context = context_of(request.scope)
    begun = await _while_present(request, _begin(request, asked, rendering, chat))
    if begun is None:
        return gone()
    answer_id, follower = begun
    return await answer_response(stream_of(follower, context), request, answer_id, rendering)


async def whole_answer(request: Request, asked: Asked, rendering: Rendering) -> Response:
    """Begin an answer; return it as a whole once it has ended.

    Raises:
        FolyamError: the answer failed or was stopped; or as `stream_answer`.
    """
    return await _whole(request, _begin(request, asked, rendering))


async def answer_in_background(request: Request, asked: Asked, rendering: Rendering) -> str | None:
    """Begin an answer that goes on without a follower; return its id, or None if the client has disconnected.

    Raises:
        HTTPException, FolyamError: as `stream_answer`.
    """
    begun = await _while_present(request, _begin(request, asked, rendering))
    if begun is None:
        return None
    answer_id, follower = begun
    follower.close()
    return answer_id


async def _begin(request: Request, asked: Asked, rendering: Rendering, chat: str | None = None) -> tuple[str, Follower]:
    """Begin an answer, or join that of a request that was the same. Return its id and a follower from its start."""
    context = context_of(request.scope)
    context.rendering = rendering.name
    settings: Settings = request.app.state.settings
    answers: Answers = request.app.state.answers
    answer_id = context.answer_id = events.new_answer_id()
    try:
        follower = await answers.ask(
            msgspec.structs.replace(asked, traceparent=tracing.traceparent(context.span)),
            answer_id,
            rendering,
            caller=context.caller,
            address=client[0] if (client := request.scope.get("client")) else "",
            arrived_at=context.arrived_at,
            status_wait_seconds=settings.door_status_wait_seconds,
            same=await same_request(context, asked, chat=chat),
        )
    except UpstreamError as error:
        raise UpstreamHTTPException(error) from None
    context.answer_id = follower.answer_id
    return follower.answer_id, follower


# Follow an answer


async def stream_existing(request: Request, answer_id: str, rendering: Rendering) -> Response:
    """Return the response that streams an answer from its start; an encoder may leave out what the client has.

    Raises:
        UnknownAnswer: the answer is unknown, expired or not the caller's.
        Unavailable: the worker has too many followers, or the log cannot be read.
        BadInput: the encoder does not find the client's place.
    """
    context_of(request.scope).rendering = rendering.name
    return await follow(request, answer_id, 0, rendering)


async def whole_existing(request: Request, answer_id: str, rendering: Rendering) -> Response:
    """Return an answer as a whole once it has ended.

    Raises:
        FolyamError: the answer failed or was stopped.
        UnknownAnswer: the answer is unknown, expired or not the caller's.
        Unavailable: the worker has too many followers, or the log cannot be read.
    """
    return await _whole(request, _existing(request, answer_id, rendering))


async def _existing(request: Request, answer_id: str, rendering: Rendering) -> tuple[str, Follower]:
    context = context_of(request.scope)
    context.answer_id, context.rendering = answer_id, rendering.name
    answers: Answers = request.app.state.answers
    follower = await answers.follow(answer_id, 0, rendering, context.caller)
    if follower is None:  # There is an event behind 0 as long as there is a log.
        raise UnknownAnswer
    return answer_id, follower


async def _whole(request: Request, beginning: Awaitable[tuple[str, Follower]]) -> Response:
    async def read() -> tuple[str, int, bytes]:
        answer_id, follower = await beginning
        try:
            status, body = await follower.whole()
            follower.delivered_soon()
            return answer_id, status, body
        finally:
            follower.close()

    try:
        read_whole = await _while_present(request, read())
    except CutShortError as error:
        # The answer goes on: the client that asks again, with the same name, gets it from another worker.
        raise (UnknownAnswer() if error.damaged else Unavailable("draining")) from None
    if read_whole is None:
        return gone()
    answer_id, status, body = read_whole
    response = Response(body, status, media_type="application/json")
    response.raw_headers += answer_headers(answer_id)
    return response


async def _while_present(request: Request, work: Awaitable[T]) -> T | None:
    """Return the work's result; None if the client disconnects meanwhile, which cancels it."""
    presence = Presence(context_of(request.scope).receive)
    try:
        return await work
    except BaseException as error:
        presence.close()
        if presence.has_ended(error):
            return None
        raise
    finally:
        presence.close()
