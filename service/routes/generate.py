"""`/generate`: take a question and stream its answer."""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from fastapi import Depends, Query, Request, Response, params
from pydantic import BaseModel, ConfigDict, Field

from service import events
from service.answers import Answers
from service.config import Settings
from service.context import RequestContext, context_of
from service.errors import BadInput, UpstreamError
from service.http_errors import UpstreamHTTPException
from service.question import MAX_TEMPERATURE, MAX_TOKENS, Question, decode, to_request
from service.renderings import Rendering
from service.request import Turn
from service.routes.application import PlainRoute
from service.routes.openapi import LAST_EVENT_ID, errors, streamed
from service.routes.parameters import read_parameters
from service.routes.sameness import IDEMPOTENCY_KEY, idempotency_key, same_request
from service.routes.site import check_site, is_json
from service.routes.streaming import CLIENT_GONE, answer_response, follow, last_event_id, rendering_for
from service.telemetry import tracing

PARAMETERS = {"parameters": [*LAST_EVENT_ID["parameters"], IDEMPOTENCY_KEY]}
RESPONSES = streamed() | errors(401, 402, 403, 404, 406, 422)


class QuestionInUrl(BaseModel):
    """The query string of `GET /generate`."""

    model_config = ConfigDict(extra="forbid")

    query: str | None = None
    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    last_event_id: str | None = None


async def generate(request: Request) -> Response:
    """Answer a question with a stream, by default of JSON lines; or go on with one, by its Last-Event-ID."""
    body = await _body(request)
    if body is None:
        return Response(status_code=CLIENT_GONE)
    if resume := last_event_id(request):
        return await _resume(request, *resume)
    if body and not is_json(context_of(request.scope).header(b"content-type") or ""):
        raise BadInput("invalid_input", "body")
    question = decode(body) if body else None
    if question is None:
        raise BadInput("invalid_input", "no_body", field="query")
    return await _answer(request, question)


async def generate_from_url(request: Request) -> Response:
    """Answer a question in the address. A browser's EventSource can only send GET."""
    question = read_parameters(request, QuestionInUrl)
    if resume := last_event_id(request):
        return await _resume(request, *resume)
    if question.query is None:
        raise BadInput("invalid_input", "no_query", field="query")
    return await _answer(
        request,
        Question(
            query=question.query,
            model=question.model,
            temperature=question.temperature,
            max_tokens=question.max_tokens,
        ),
    )


def _described_question(question: Annotated[QuestionInUrl, Query()]) -> None:
    """Describe the parameters."""


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    return [
        PlainRoute(
            "/generate",
            generate,
            methods=["POST"],
            operation_id="generate",
            responses=RESPONSES,
            openapi_extra=PARAMETERS,
            dependencies=dependencies,
        ),
        PlainRoute(
            "/generate",
            generate_from_url,
            methods=["GET"],
            operation_id="generateFromUrl",
            responses=RESPONSES,
            openapi_extra=PARAMETERS,
            dependencies=[*dependencies, Depends(_described_question)],
        ),
    ]


async def generate_response_stream(  # noqa: PLR0913 (every field of a question, and the context of its answer)
    query: str,
    *,
    answers: Answers,
    answer_id: str,
    rendering: Rendering,
    context: RequestContext,
    address: str,
    model: str,
    history: Sequence[Turn] = (),
    temperature: float | None = None,
    max_tokens: float | None = None,
    key: str | None = None,
) -> AsyncGenerator[bytes]:
    """Ask the upstream the query; yield the response's body in the rendering, each chunk as it arrives.

    With a key that was sent before, the stream is that request's answer from its start. The context then has its id.

    The stream is a follower of the answer's log, like any other. Closing it does not end the answer at once. If the
    context has a sink, chunks that come while the stream waits are written to the sink and not yielded.

    Raises:
        HTTPException: the upstream refused, or could not be asked, within `status_wait_seconds`. Later failures are
            events.
        BadInput: the key was sent with another request.
        TooMany: the client has too many answers under way.
        Unavailable: the worker has too many answers or followers, or the log cannot be written.
    """
    request = to_request(
        query,
        model=model,
        history=history,
        temperature=temperature,
        max_tokens=max_tokens,
        traceparent=tracing.traceparent(context.span),
    )
    try:
        follower = await answers.ask(
            request,
            answer_id,
            rendering,
            caller=context.caller,
            address=address,
            arrived_at=context.arrived_at,
            same=None if key is None else await same_request(context, request),
        )
    except UpstreamError as error:
        raise UpstreamHTTPException(error) from None
    context.answer_id = follower.answer_id
    try:
        while (data := await follower.next(context.sink)) is not None:
            yield data
    finally:
        follower.close()


async def _body(request: Request) -> bytes | None:
    """Return the request's body; None if the client disconnects before its end."""
    # Not by Starlette's `body`, whose generator takes as long as all else here.
    pieces: list[bytes] = []
    while (message := await request.receive())["type"] != "http.disconnect":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
    return None


async def _resume(request: Request, answer_id: str, after: int) -> Response:
    return await follow(request, answer_id, after, rendering_for(request))


async def _answer(request: Request, question: Question) -> Response:
    settings: Settings = request.app.state.settings
    rendering = rendering_for(request)
    context = context_of(request.scope)
    check_site(context, settings)
    model = _check(question, settings)
    answer_id = context.answer_id = events.new_answer_id()
    stream = generate_response_stream(
        question.query,
        answers=request.app.state.answers,
        answer_id=answer_id,
        rendering=rendering,
        context=context,
        address=client[0] if (client := request.scope.get("client")) else "",
        model=model,
        history=question.history,
        temperature=question.temperature,
        max_tokens=question.max_tokens,
        key=idempotency_key(context) if b"idempotency-key" in context.headers else None,
    )
    return await answer_response(stream, request, answer_id, rendering)


def _check(question: Question, settings: Settings) -> str:
    """Check the question against the settings' limits; return the model to ask.

    Raises:
        BadInput: the question is over a limit or empty, or names a model that is not allowed.
    """
    if not question.query.strip():
        raise BadInput("empty_query", field="query")
    if len(question.query) > settings.max_query_characters:
        raise BadInput("query_too_long", field="query", most=settings.max_query_characters)
    if len(question.history) > settings.max_history_turns:
        raise BadInput("history_too_long", field="history", most=settings.max_history_turns)
    for number, turn in enumerate(question.history):
        if turn.role == "system" and (number or not settings.allows_system):
            field = f"history.{number}.role"
            wanted = "Only the first turn may be system's" if settings.allows_system else "Should be user or assistant"
            raise BadInput("invalid_input", "value", field=field, wanted=wanted)
    model = settings.model if question.model is None else question.model
    if model not in settings.allowed_models:
        raise BadInput("unknown_model", field="model")
    return model
