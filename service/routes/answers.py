"""`/answers/<id>`: follow, read, stop or erase an answer of any worker."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Response, params
from msgspec import to_builtins
from pydantic import BaseModel, Field

from service.answers import Answers
from service.context import RequestContext, context_of
from service.errors import BadInput, UnknownAnswer
from service.events import SEQ_DIGITS, is_answer_id
from service.routes.application import PlainRoute
from service.routes.openapi import LAST_EVENT_ID, empty, errors, streamed, whole
from service.routes.parameters import read_parameters
from service.routes.streaming import follow, last_event_id, rendering_for

AnswerId = Annotated[str, Path(description="An answer's id, as in X-Answer-Id.")]


class ToolCall(BaseModel):
    """A call of a tool, as far as it goes."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str


class Answer(BaseModel):
    """An answer as a whole."""

    id: str
    state: Literal["running", "done", "stopped", "failed"]
    text: str
    tool_calls: list[ToolCall] | None = None
    last_seq: int
    usage: dict[str, Any] | None = None
    usage_complete: bool | None = None
    timing: dict[str, float | None] | None = None


class Place(BaseModel):
    """The query string of `GET /answers/<id>`."""

    after: Annotated[int, Field(ge=0, le=10**SEQ_DIGITS - 1)] = 0
    stream: bool = True


async def read_answer(request: Request) -> Response:
    """Follow the answer from Last-Event-ID or `after`; or read it as a whole, with `stream=false`."""
    place = read_parameters(request, Place)
    context, answer_id = _context(request)
    resume = last_event_id(request)
    if resume and resume[0] != answer_id:
        raise BadInput("bad_last_event_id", "answer", field="Last-Event-ID")
    if not place.stream:
        return await _answer(request, context, answer_id)
    rendering = rendering_for(request)
    # An EventSource repeats its first `after` with each reconnect.
    return await follow(request, answer_id, resume[1] if resume else place.after, rendering)


async def stop_answer(request: Request) -> Response:
    """Stop the answer; respond once its terminal event is in the log."""
    context, answer_id = _context(request)
    answers: Answers = request.app.state.answers
    await answers.stop(answer_id, context.caller)
    return await _answer(request, context, answer_id)


async def erase_answer(request: Request) -> Response:
    """Stop the answer if it is running, and erase it."""
    context, answer_id = _context(request)
    answers: Answers = request.app.state.answers
    await answers.erase(answer_id, context.caller)
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


def _described_id(answer_id: AnswerId) -> None:
    """Describe the parameter."""


def _described_place(answer_id: AnswerId, place: Annotated[Place, Query()]) -> None:
    """Describe the parameters."""


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    with_id = [*dependencies, Depends(_described_id)]
    return [
        PlainRoute(
            "/answers/{answer_id}",
            read_answer,
            methods=["GET"],
            operation_id="readAnswer",
            responses=streamed(Answer) | errors(401, 404, 406, 422),
            openapi_extra=LAST_EVENT_ID,
            dependencies=[*dependencies, Depends(_described_place)],
        ),
        PlainRoute(
            "/answers/{answer_id}/stop",
            stop_answer,
            methods=["POST"],
            operation_id="stopAnswer",
            responses=whole(Answer, "The answer, which has ended.") | errors(401, 404, 422),
            dependencies=with_id,
        ),
        PlainRoute(
            "/answers/{answer_id}",
            erase_answer,
            methods=["DELETE"],
            operation_id="eraseAnswer",
            status_code=204,
            responses=empty("The answer is erased.") | errors(401, 404, 422),
            dependencies=with_id,
        ),
    ]


def _context(request: Request) -> tuple[RequestContext, str]:
    answer_id: str = request.path_params["answer_id"]
    if not is_answer_id(answer_id):
        raise UnknownAnswer
    context = context_of(request.scope)
    context.answer_id = answer_id
    return context, answer_id


async def _answer(request: Request, context: RequestContext, answer_id: str) -> Response:
    answers: Answers = request.app.state.answers
    state = await answers.read(answer_id, context.caller)
    answer = Answer(
        id=answer_id,
        state=state.state,
        text=state.reply,
        last_seq=state.last_seq,
        usage=to_builtins(state.usage),
        timing=to_builtins(state.timing),
    )
    if calls := state.tool_calls:
        answer.tool_calls = [ToolCall(**to_builtins(call)) for call in calls]
    if state.usage_complete is not None:
        answer.usage_complete = state.usage_complete
    return Response(
        answer.model_dump_json(exclude_unset=True), media_type="application/json", headers={"Cache-Control": "no-store"}
    )
