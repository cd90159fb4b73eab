"""`/answers/<id>`: follow, read, stop or erase an answer of any worker."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from msgspec import to_builtins
from pydantic import BaseModel

from service.answers import Answers
from service.context import RequestContext, context_of
from service.errors import BadInput, UnknownAnswer
from service.events import SEQ_DIGITS, is_answer_id
from service.routes.openapi import LAST_EVENT_ID, empty, errors, streamed, whole
from service.routes.streaming import follow, last_event_id, rendering_for

router = APIRouter(prefix="/answers")

AnswerId = Annotated[str, Path(description="An answer's id, as in X-Answer-Id.")]


class Answer(BaseModel):
    """An answer as a whole."""

    id: str
    state: Literal["running", "done", "stopped", "failed"]
    text: str
    last_seq: int
    usage: dict[str, Any] | None = None
    usage_complete: bool | None = None
    timing: dict[str, float | None] | None = None


@router.get(
    "/{answer_id}",
    operation_id="readAnswer",
    response_class=Response,
    responses=streamed(Answer) | errors(401, 404, 406, 422),
    openapi_extra=LAST_EVENT_ID,
)
async def read_answer(
    request: Request,
    answer_id: AnswerId,
    after: Annotated[int, Query(ge=0, le=10**SEQ_DIGITS - 1)] = 0,
    stream: bool = True,  # noqa: FBT001, FBT002 (the contract's parameter)
) -> Response:
    """Follow the answer from Last-Event-ID or `after`; or read it as a whole, with `stream=false`."""
    context = _context(request, answer_id)
    resume = last_event_id(request)
    if resume and resume[0] != answer_id:
        raise BadInput("bad_last_event_id", "answer", field="Last-Event-ID")
    if not stream:
        return await _answer(request, context, answer_id)
    rendering = rendering_for(request)
    if resume:
        after = resume[1]  # An EventSource repeats its first `after` with each reconnect.
    return await follow(request, answer_id, after, rendering)


@router.post(
    "/{answer_id}/stop",
    operation_id="stopAnswer",
    response_class=Response,
    responses=whole(Answer, "The answer, which has ended.") | errors(401, 404, 422),
)
async def stop_answer(request: Request, answer_id: AnswerId) -> Response:
    """Stop the answer; respond once its terminal event is in the log."""
    context = _context(request, answer_id)
    answers: Answers = request.app.state.answers
    await answers.stop(answer_id, context.caller)
    return await _answer(request, context, answer_id)


@router.delete(
    "/{answer_id}",
    operation_id="eraseAnswer",
    status_code=204,
    responses=empty("The answer is erased.") | errors(401, 404, 422),
)
async def erase_answer(request: Request, answer_id: AnswerId) -> Response:
    """Stop the answer if it is running, and erase it."""
    context = _context(request, answer_id)
    answers: Answers = request.app.state.answers
    await answers.erase(answer_id, context.caller)
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


def _context(request: Request, answer_id: str) -> RequestContext:
    if not is_answer_id(answer_id):
        raise UnknownAnswer
    context = context_of(request.scope)
    context.answer_id = answer_id
    return context


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
    if state.usage_complete is not None:
        answer.usage_complete = state.usage_complete
    return Response(
        answer.model_dump_json(exclude_unset=True), media_type="application/json", headers={"Cache-Control": "no-store"}
    )
