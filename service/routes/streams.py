"""`/v1/stream/<id>`: any answer for Durable Streams' readers. The protocol's side for writers is `/generate`'s.

A client reads what there is with a GET, from an offset. With `live=long-poll` the GET waits for more, and with
`live=sse` it follows the answer. HEAD tells how far the answer is.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import Request, Response, params

from service.answers import Answers
from service.context import RequestContext, context_of
from service.errors import BadInput, UnknownAnswer
from service.events import SEQ_DIGITS, is_answer_id
from service.follower import CutShortError, Follower, Portion
from service.renderings.durable_streams import CLOSED, NAME, DurableStream, json_array, next_cursor, offset_of
from service.routes.application import PlainRoute
from service.routes.openapi import STREAM_ID, STREAM_PARAMETERS, durable_stream, durable_stream_head, errors
from service.routes.presence import Presence
from service.routes.streaming import CLIENT_GONE, answer_response

START = "-1"
NOW = "now"
_OFFSET = re.compile(rf"-1|now|[0-9]{{{SEQ_DIGITS}}}", re.ASCII)
LIVE = ("long-poll", "sse")

MEDIA_TYPE = "application/json"
EXPOSED_HEADERS = ("ETag", "Stream-Closed", "Stream-Cursor", "Stream-Next-Offset", "Stream-Up-To-Date")
"""Those of its responses that a browser's client on another site must be able to read."""


async def read_stream(request: Request) -> Response:
    """Return the answer's events behind `offset`; with `live`, wait for them, or follow the answer."""
    context, answer_id = _context(request)
    answers: Answers = request.app.state.answers
    offset, live = _place(request)
    cursor = next_cursor(time.time(), _parameter(request, "cursor"))
    if offset == NOW:
        after, has_ended = await answers.tail(answer_id, context.caller)
        if live is None:
            return _portion(answer_id, after, Portion((), is_all=True, has_ended=has_ended), cursor, is_kept=False)
    else:
        after = 0 if offset == START else int(offset)
    stream = DurableStream(after, cursor)
    try:
        if live == "sse":
            return await _events(request, context, answer_id, stream)
        portion = await _read(context, answers, answer_id, stream, wait=live is not None)
    except BadInput:
        raise _wrong("offset", "is ahead of the answer") from None
    if portion is None:
        return Response(status_code=CLIENT_GONE)
    if live is not None and not portion.events:
        return _waited(answer_id, after, portion, cursor)
    response = _portion(answer_id, after, portion, cursor, is_kept=live is None)
    if live is None and _is_known(request, response.headers["etag"]):
        return Response(status_code=304, headers=_without_body(response))
    return response


async def head_stream(request: Request) -> Response:
    """Tell how far the answer is."""
    context, answer_id = _context(request)
    answers: Answers = request.app.state.answers
    seq, has_ended = await answers.tail(answer_id, context.caller)
    response = Response(media_type=MEDIA_TYPE, headers=_headers(answer_id, seq, Portion((), has_ended, has_ended)))
    del response.headers["content-length"]  # It would be that of the GET's body.
    return response


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    path = "/v1/stream/{answer_id}"
    return [
        PlainRoute(
            path,
            read_stream,
            methods=["GET"],
            operation_id="readStream",
            responses=durable_stream() | errors(401, 404),
            openapi_extra={"parameters": [STREAM_ID, *STREAM_PARAMETERS]},
            dependencies=dependencies,
        ),
        PlainRoute(
            path,
            head_stream,
            methods=["HEAD"],
            operation_id="headStream",
            responses=durable_stream_head() | errors(401, 404),
            openapi_extra={"parameters": [STREAM_ID]},
            dependencies=dependencies,
        ),
    ]


def _context(request: Request) -> tuple[RequestContext, str]:
    answer_id: str = request.path_params["answer_id"]
    if not is_answer_id(answer_id):
        raise UnknownAnswer
    context = context_of(request.scope)
    context.answer_id = answer_id
    context.rendering = NAME
    return context, answer_id


def _place(request: Request) -> tuple[str, str | None]:
    """Return `offset` and `live`.

    Raises:
        BadInput: one of them is malformed, or there is no offset to follow from.
    """
    offset, live = _parameter(request, "offset"), _parameter(request, "live")
    if live is not None and live not in LIVE:
        raise _wrong("live", "must be long-poll or sse")
    if live is not None and offset is None:
        raise BadInput("invalid_input", "required", field="offset")
    if offset is None:
        return START, None
    if _OFFSET.fullmatch(offset) is None:
        raise _wrong("offset", "must be -1, now, or one that the service gave")
    return offset, live


def _parameter(request: Request, name: str) -> str | None:
    """Return the parameter's value; None without one. Other parameters are for the caches on the way.

    Raises:
        BadInput: there are several.
    """
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise _wrong(name, "must be given once")
    return values[0] if values else None


def _wrong(parameter: str, wanted: str) -> BadInput:
    return BadInput("invalid_input", "value", field=parameter, wanted=wanted)


async def _read(
    context: RequestContext, answers: Answers, answer_id: str, stream: DurableStream, *, wait: bool
) -> Portion | None:
    """Return the answer's next events; None if the client disconnects while they are waited for."""
    presence = Presence(context.receive)
    try:
        return await answers.portion(answer_id, stream.after, stream, context.caller, wait=wait)
    except asyncio.CancelledError as error:
        if not presence.has_ended(error):
            raise
        return None
    finally:
        presence.close()


async def _events(request: Request, context: RequestContext, answer_id: str, stream: DurableStream) -> Response:
    answers: Answers = request.app.state.answers
    follower = await answers.follow(answer_id, stream.after, stream, context.caller)
    if follower is None:
        ended = Response(CLOSED % stream.after)
        ended.raw_headers = [*ended.raw_headers, (b"content-type", stream.media_type.encode()), *stream.headers]
    else:
        ended = await answer_response(_follow(follower, context), request, answer_id, stream)
    ended.headers["cache-control"] = "no-cache, no-store"
    return ended


async def _follow(follower: Follower, context: RequestContext) -> AsyncGenerator[bytes]:
    """Yield the response's body. Where the worker leaves, it ends as any response may: the client asks for the rest.

    The protocol tells the answer's end by `streamClosed`. A cut would be an error to its clients.
    """
    try:
        while (data := await follower.next(context.sink)) is not None:
            yield data
    except CutShortError as error:
        if error.damaged:
            raise
    finally:
        follower.close()


def _portion(answer_id: str, after: int, portion: Portion, cursor: str, *, is_kept: bool) -> Response:
    """Return a portion as the response. If `is_kept`, a client may keep it, and ask whether it still holds."""
    seq = portion.events[-1].seq if portion.events else after
    headers = _headers(answer_id, seq, portion)
    headers["Stream-Cursor"] = cursor
    if is_kept:
        headers["ETag"] = f'"{answer_id}:{after}:{seq}"'
        # An erased answer must not be shown from a cache.
        headers["Cache-Control"] = "private, no-cache"
    return Response(json_array(portion.events), media_type=MEDIA_TYPE, headers=headers)


def _waited(answer_id: str, after: int, portion: Portion, cursor: str) -> Response:
    """Return the response of a GET that has waited in vain, or for an answer that has ended."""
    return Response(status_code=204, headers={**_headers(answer_id, after, portion), "Stream-Cursor": cursor})


def _headers(answer_id: str, seq: int, portion: Portion) -> dict[str, str]:
    headers = {
        "X-Answer-Id": answer_id,
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Stream-Next-Offset": offset_of(seq),
    }
    if portion.is_all:
        headers["Stream-Up-To-Date"] = "true"
    if portion.has_ended:
        headers["Stream-Closed"] = "true"
    return headers


def _is_known(request: Request, tag: str) -> bool:
    """Return whether the request's If-None-Match has the tag (RFC 9110, section 13.1.2)."""
    known = context_of(request.scope).header(b"if-none-match")
    return known is not None and (known.strip() == "*" or tag in [each.strip() for each in known.split(",")])


def _without_body(response: Response) -> dict[str, Any]:
    left_out = ("content-length", "content-type")
    return {name: value for name, value in response.headers.items() if name not in left_out}
