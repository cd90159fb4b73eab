"""What `/generate` and `/answers/<id>` share: choosing a rendering, reading an offset, and the streamed response."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.answers import Answers
from service.context import context_of
from service.errors import BadInput, FolyamError, Unavailable, UnknownAnswer
from service.events import parse_event_id
from service.follower import CutShortError, Follower
from service.renderings import MEDIA_TYPES, SELF_DELIMITING, Rendering, choose_rendering


class ClientGoneError(Exception):
    """The client has left."""


class Presence:
    """Whether the client is still there. Starlette looks only once a response has begun, and in a task group."""

    def __init__(self, request: Request) -> None:
        self._waiting = asyncio.create_task(_gone(request))

    @contextlib.contextmanager
    def required(self) -> Iterator[None]:
        """Interrupt what runs within as soon as the client leaves.

        Raises:
            ClientGoneError: it has left.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (this runs in one)
        within = True

        def interrupt(_: object) -> None:
            if within:
                task.cancel()

        self._waiting.add_done_callback(interrupt)
        try:
            yield
        except asyncio.CancelledError:
            if self._waiting.done() and task.uncancel() == 0:
                raise ClientGoneError from None
            raise
        finally:
            within = False
            self._waiting.remove_done_callback(interrupt)

    def close(self) -> None:
        """Look no more."""
        self._waiting.cancel()


class AnswerResponse(StreamingResponse):
    """A `StreamingResponse` that closes its stream as soon as the client is gone, and not when it is collected."""

    def __init__(
        self,
        stream: AsyncGenerator[bytes],
        first: bytes | None,
        presence: Presence,
        *,
        answer_id: str,
        rendering: Rendering,
    ) -> None:
        super().__init__(stream, media_type=rendering.media_type, headers=_headers(answer_id))
        self._stream = stream
        self._first = first
        self._presence = presence

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave the media type as the contract has it: Starlette would add a charset to `text/event-stream`."""
        super().init_headers({**(headers or {}), "Content-Type": self.media_type or ""})

    async def stream_response(self, send: Send) -> None:
        """Send everything as it comes."""
        if self._first:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for data in self._stream:
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (`presence` receives)
        """Serve until the stream ends or the client leaves; then close the stream.

        A stream that is cut short leaves the response unfinished: the server closes the connection without the end that
        HTTP has for a body, so that a cut never looks like a whole answer, not even in plain text.
        """
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            # In a task of its own, for a wake-up passes through every coroutine that waits for it: above this one there
            # are two dozen of uvicorn's, Starlette's and FastAPI's.
            await asyncio.create_task(self._serve(context_of(scope).send))
        finally:
            self._presence.close()
            await self._stream.aclose()

    async def _serve(self, send: Send) -> None:
        # Unavailable: the log can no longer be read, and it is too late for a status.
        with contextlib.suppress(ClientGoneError, CutShortError, Unavailable), self._presence.required():
            await self.stream_response(send)


def rendering_for(request: Request) -> Rendering:
    """Return the rendering that the request's Accept header asks for.

    Raises:
        FolyamError: 406, it asks for none that there is.
    """
    accepted = request.headers.getlist("accept")  # Several are one list (RFC 9110, section 5.2).
    cuts_show = _cuts_show(request)
    offered = MEDIA_TYPES if cuts_show else SELF_DELIMITING
    rendering = choose_rendering(", ".join(accepted) if accepted else None, offered)
    if rendering is None:
        raise FolyamError(
            "not_acceptable", "any" if cuts_show else "http_1_0", field="Accept", offered=", ".join(offered)
        )
    context_of(request.scope).rendering = rendering.name
    return rendering


def _cuts_show(request: Request) -> bool:
    """Return whether the reader's protocol tells the end of a body from a cut. HTTP/1.0 closes the connection for both.

    nginx speaks HTTP/1.1 to the service, and names the reader's protocol in a header, which it always sets.
    """
    return "HTTP/1.0" not in (f"HTTP/{request.scope['http_version']}", request.headers.get("x-client-protocol"))


def last_event_id(request: Request) -> tuple[str, int] | None:
    """Return the answer id and seq of the request's Last-Event-ID, from its header or its query; None without one.

    Raises:
        BadInput: it is not an event id.
    """
    text = request.headers.get("last-event-id")
    if text is None:
        text = request.query_params.get("last_event_id")
    if text is None:
        return None
    parsed = parse_event_id(text)
    if parsed is None:
        raise BadInput("bad_last_event_id", "form", field="Last-Event-ID")
    return parsed


async def follow(request: Request, answer_id: str, after: int, rendering: Rendering) -> Response:
    """Return the response that follows the answer behind the event `after`; 204 where nothing comes after it.

    Raises:
        UnknownAnswer: there is no such answer, or the caller may not have it.
        BadInput: the answer has no such event.
        Unavailable: it cannot be followed now.
    """
    context = context_of(request.scope)
    context.answer_id = answer_id
    answers: Answers = request.app.state.answers
    follower = await answers.follow(answer_id, after, rendering, context.caller)
    if follower is None:
        return Response(status_code=204, headers=_headers(answer_id))
    return await answer_response(_follow(follower), request, answer_id, rendering)


async def answer_response(
    stream: AsyncGenerator[bytes], request: Request, answer_id: str, rendering: Rendering
) -> Response:
    """Wait for the stream's first bytes, so that its errors become the response's status; then return the response.

    If the client leaves meanwhile, the stream is closed at once: nobody else would notice before the response begins.
    """
    presence = Presence(request)
    try:
        with presence.required():
            first = await anext(stream, None)
    except BaseException as error:
        presence.close()
        await stream.aclose()
        if isinstance(error, ClientGoneError):
            return Response(status_code=CLIENT_GONE)
        if isinstance(error, CutShortError) and error.damaged:
            raise UnknownAnswer from None  # What is left of the log is not the answer that the client knows.
        if isinstance(error, CutShortError):
            raise Unavailable("draining") from None
        raise
    return AnswerResponse(stream, first, presence, answer_id=answer_id, rendering=rendering)


CLIENT_GONE = 499
"""nginx's own status for it; nobody receives it, it is for the log."""


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _follow(follower: Follower) -> AsyncGenerator[bytes]:
    try:
        while (data := await follower.next()) is not None:
            yield data
    finally:
        follower.close()


def _headers(answer_id: str) -> dict[str, str]:
    return {
        "X-Answer-Id": answer_id,
        "Location": f"/answers/{answer_id}",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
