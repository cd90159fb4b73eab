"""The shared part of `/generate` and `/answers/<id>`: the rendering, the offset and the streamed response."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Generator, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.answers import Answers
from service.context import RequestContext, context_of
from service.errors import BadInput, FolyamError, Unavailable, UnknownAnswer
from service.events import parse_event_id
from service.follower import CutShortError, Follower
from service.renderings import MEDIA_TYPES, SELF_DELIMITING, Rendering, choose_rendering
from service.routes.presence import Presence
from service.routes.sameness import repeats

_SENT = object()


class BodySink:
    """Sends pieces of a response's body in any turn of the event loop. See `service.follower.Sink`.

    ASGI's `send` returns at once unless the client is slow. So `write` runs it without a task until it waits, and
    `drain` finishes it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._rest: _Rest | None = None

    def write(self, data: bytes) -> bool:
        """See `service.follower.Sink.write`."""
        sending = self._send({"type": "http.response.body", "body": data, "more_body": True}).__await__()
        waits_for = next(sending, _SENT)
        if waits_for is _SENT:
            return True
        self._rest = _Rest(waits_for, sending)
        return False

    async def drain(self) -> None:
        """See `service.follower.Sink.drain`."""
        if (rest := self._rest) is not None:
            self._rest = None
            await rest


class _Rest(Awaitable[None]):
    """The rest of an awaitable that was run until it waited for `waits_for`."""

    def __init__(self, waits_for: object, rest: Generator[Any, Any, None]) -> None:
        self._waits_for = waits_for
        self._rest = rest

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._waits_for
            yield from self._rest
        finally:
            self._rest.close()


class AnswerResponse(StreamingResponse):
    """A `StreamingResponse` that closes its stream as soon as the client disconnects, not at garbage collection."""

    def __init__(
        self,
        stream: AsyncGenerator[bytes],
        first: bytes | None,
        presence: Presence,
        *,
        answer_id: str,
        rendering: Rendering,
    ) -> None:
        super().__init__(stream)
        self.raw_headers = [
            *answer_headers(answer_id),
            (b"content-type", rendering.media_type.encode("latin-1")),
            *rendering.headers,
        ]
        self._stream = stream
        self._first = first
        self._presence = presence

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave the headers to `__init__`: Starlette would add a charset to `text/event-stream`."""

    async def stream_response(self, send: Send) -> None:
        """Send each piece as it comes."""
        if self._first:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for data in self._stream:
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (`presence` receives)
        """Serve until the stream ends or the client disconnects; then close the stream.

        A stream that is cut short leaves the response unfinished. The server then closes the connection without HTTP's
        end of a body, so a cut never looks like a whole answer, not even in plain text.
        """
        context = context_of(scope)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            context.sink = BodySink(context.send)
            await self.stream_response(context.send)
        except (CutShortError, Unavailable):
            pass  # Unavailable: the log can no longer be read. The status is already sent, so the body is cut.
        except asyncio.CancelledError as error:
            if not self._presence.has_ended(error):
                raise
        finally:
            context.sink = None  # It refers to the context by its `send`: a cycle for the garbage collector.
            self._presence.close()
            await self._stream.aclose()


def rendering_for(request: Request) -> Rendering:
    """Return the rendering that the request's Accept header asks for.

    Raises:
        FolyamError: 406, the header accepts none of the renderings.
    """
    context = context_of(request.scope)
    # Several headers are one list (RFC 9110, section 5.2).
    accepted = [value for name, value in request.scope["headers"] if name == b"accept"]
    cuts_show = _cuts_show(request.scope["http_version"], context)
    offered = MEDIA_TYPES if cuts_show else SELF_DELIMITING
    rendering = choose_rendering(b", ".join(accepted).decode("latin-1") if accepted else None, offered)
    if rendering is None:
        raise FolyamError(
            "not_acceptable", "any" if cuts_show else "http_1_0", field="Accept", offered=", ".join(offered)
        )
    context.rendering = rendering.name
    return rendering


def _cuts_show(http_version: str, context: RequestContext) -> bool:
    """Return whether the client's version of HTTP tells the end of a body from a cut. HTTP/1.0 closes for both.

    nginx speaks HTTP/1.1 to the service. It always sets the header with the client's version.
    """
    return http_version != "1.0" and context.headers.get(b"x-client-protocol") != b"HTTP/1.0"


def last_event_id(request: Request) -> tuple[str, int] | None:
    """Return the answer id and seq of the request's Last-Event-ID, from its header or its query; None without one.

    Raises:
        BadInput: the value is not an event id.
    """
    text = context_of(request.scope).header(b"last-event-id")
    if text is None and request.scope["query_string"]:
        text = request.query_params.get("last_event_id")
    if text is None:
        return None
    parsed = parse_event_id(text)
    if parsed is None:
        raise BadInput("bad_last_event_id", "form", field="Last-Event-ID")
    return parsed


async def follow(request: Request, answer_id: str, after: int, rendering: Rendering) -> Response:
    """Return the response that follows the answer from behind the event `after`; 204 if it has ended there.

    Raises:
        UnknownAnswer: the answer is unknown, expired or not the caller's.
        BadInput: the answer has no event `after` yet.
        Unavailable: the worker has too many followers, or the log cannot be read.
    """
    context = context_of(request.scope)
    context.answer_id = answer_id
    answers: Answers = request.app.state.answers
    follower = await answers.follow(answer_id, after, rendering, context.caller)
    if follower is None:
        ended = Response(status_code=204)
        ended.raw_headers = answer_headers(answer_id)
        return ended
    return await answer_response(stream_of(follower, context), request, answer_id, rendering)


async def answer_response(
    stream: AsyncGenerator[bytes], request: Request, answer_id: str, rendering: Rendering
) -> Response:
    """Wait for the stream's first bytes, so that its errors become the response's status; then return the response.

    The stream is closed at once if the client disconnects meanwhile. uvicorn and Starlette would not notice before the
    response begins.
    """
    presence = Presence(context_of(request.scope).receive)
    try:
        first = await anext(stream, None)
    except BaseException as error:
        presence.close()
        await stream.aclose()
        if presence.has_ended(error):
            return Response(status_code=CLIENT_GONE)
        if isinstance(error, CutShortError) and error.damaged:
            raise UnknownAnswer from None  # The rest of a damaged log is not the answer that the client knows.
        if isinstance(error, CutShortError):
            raise Unavailable("draining") from None
        raise
    joined = context_of(request.scope).answer_id  # The answer of an earlier request that was the same.
    return AnswerResponse(stream, first, presence, answer_id=joined or answer_id, rendering=rendering)


CLIENT_GONE = 499
"""nginx's status for a client that disconnected. It is never sent and appears only in the log."""


async def stream_of(follower: Follower, context: RequestContext) -> AsyncGenerator[bytes]:
    """Yield the follower's bytes, except those that go to the context's sink; then close the follower.

    A short response is written before the network can show a cut in its head. OpenAI's SDKs then repeat the request.
    """
    try:
        while (data := await follower.next(context.sink)) is not None:
            yield data
        if repeats(context):
            follower.delivered_soon()
        else:
            follower.delivered()
    finally:
        follower.close()


def answer_headers(answer_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response that follows the answer."""
    encoded = answer_id.encode("ascii")
    return [
        (b"x-answer-id", encoded),
        (b"location", b"/answers/" + encoded),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ]
