"""The Responses API (https://www.openresponses.org/specification): its events, and its response object.

`sequence_number` is the message's number (see `service.renderings.fold`), so a response can be followed from any of its
events on, on each worker. The events have neither ids nor a reconnection time: OpenAI's Python client fails on a
`retry`, and on a comment behind an `id`.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Literal

import msgspec

from service.answer import AnswerState
from service.errors import FolyamError, error_object
from service.events import Delta, Done, Failed, Start, Stopped, Terminal, ToolCall
from service.renderings.door import DoorRendering
from service.renderings.ending import error_of, restarted
from service.renderings.fold import NOTHING, Message
from service.renderings.output_items import Call, Item, Json, Reasoning, Spoken, Status
from service.renderings.response_object import DOOR, response_object, status_of

_encode = msgspec.json.Encoder().encode

_LAST_EVENTS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",  # as OpenAI's stream of a cancelled response ends
    "failed": "response.failed",
}
"""The last event for each status of a response that has ended."""


class ResponseEvents:
    """One follower's fold of an answer into the events of a response. `service.renderings.fold.Vocabulary`.

    A message and a reasoning are done where another voice begins. Calls stay open until the answer's end, because
    models write several at once.
    """

    finished = False

    def __init__(self, answer_id: str) -> None:
        self._answer = answer_id
        self._start: Start | None = None
        self._end: Terminal | None = None
        self._items: list[Item] = []
        self._said: Reasoning | Spoken | None = None
        """The item that grows, if it is no call."""
        self._calls: dict[int, Call] = {}
        self._last: Item | None = None
        """The item that grew last."""

    @property
    def has_spoken(self) -> bool:
        """See `Vocabulary.has_spoken`."""
        return bool(self._items)

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        """See `Vocabulary.feed`."""
        if isinstance(event, Delta):
            return self._delta(event)
        if isinstance(event, Start):
            self._start = event
            return [_with_response(kind, self.response()) for kind in ("response.created", "response.in_progress")]
        return self._finish(event)

    def begin_anew(self) -> None:
        """See `Vocabulary.begin_anew`."""
        self._items.clear()
        self._calls.clear()
        self._said = self._last = None

    def restart(self) -> Iterable[Message]:
        """See `Vocabulary.restart`."""
        self.finished = True
        return [_error(restarted())]

    def whole(self) -> tuple[int, Json]:
        """See `Vocabulary.whole`."""
        if isinstance(self._end, Stopped | Failed):
            raise error_of(self._end)
        return 200, self.response()

    def response(self) -> Json:
        """Return the response object for what was fed, of which the first is the log's first event."""
        assert self._start is not None  # noqa: S101 (for mypy)
        output = [item.data(self._status(item)) for item in self._items]
        return response_object(self._start, output, self._end)

    def _delta(self, delta: Delta) -> Iterable[Message]:
        if delta.text is not None:
            return self._speak("text", delta.text)
        if delta.refusal is not None:
            return self._speak("refusal", delta.refusal)
        if delta.reasoning is not None:
            return self._reason(delta.reasoning)
        return self._call(delta.tool_call) if delta.tool_call is not None else ()

    def _speak(self, kind: Literal["text", "refusal"], piece: str) -> Iterable[Message]:
        spoken = self._said
        if type(spoken) is Spoken:
            self._last = spoken
            return spoken.say(kind, piece)
        spoken = Spoken(self._answer, len(self._items))
        begun = list(self._begin(spoken))
        self._said = self._last = spoken
        return [*begun, *spoken.say(kind, piece)]

    def _reason(self, piece: str) -> Iterable[Message]:
        reasoning = self._said
        if isinstance(reasoning, Reasoning):
            self._last = reasoning
            return (reasoning.say(piece),)
        reasoning = Reasoning(self._answer, len(self._items))
        begun = list(self._begin(reasoning))
        self._said = self._last = reasoning
        return [*begun, reasoning.say(piece)]

    def _call(self, piece: ToolCall) -> Iterator[Message]:
        call = self._calls.get(piece.index)
        if call is None:
            call = Call(self._answer, len(self._items), piece.id, piece.name)
            yield from self._begin(call)
            self._calls[piece.index] = call
        self._last = call
        if piece.arguments:
            yield call.say(piece.arguments)

    def _begin(self, item: Item) -> Iterator[Message]:
        """End the message or the reasoning before the item, and add the item."""
        if self._said is not None:
            yield from self._said.end("completed")
            self._said = None
        self._items.append(item)
        yield from item.begin()

    def _finish(self, end: Terminal) -> Iterator[Message]:
        """Yield the last messages.

        Items are done only if the model finished the answer: clients run a call that is done.
        """
        self._end = end
        if isinstance(end, Done):
            for item in self._items:
                if self._is_open(item):
                    yield from item.end(self._status(item))
        yield _with_response(_LAST_EVENTS[status_of(end)], self.response())

    def _is_open(self, item: Item) -> bool:
        return item is self._said or isinstance(item, Call)

    def _status(self, item: Item) -> Status:
        if self._end is None:
            return "in_progress" if self._is_open(item) else "completed"
        return "incomplete" if item is self._last and status_of(self._end) != "completed" else "completed"


class ResponseEventFraming:
    """Server-Sent Events: `event` is the message's type, `data` its JSON with its number. `fold.Framing`."""

    def frame(self, number: int, message: Message) -> bytes:
        """See `Framing.frame`."""
        message.data["sequence_number"] = number
        return _start(message.kind) + _encode(message.data) + b"\n\n"


@cache
def _start(kind: str) -> bytes:
    return b"event: %b\ndata: " % kind.encode("ascii")


_FRAMING = ResponseEventFraming()


def responses(after: int = NOTHING) -> DoorRendering:
    """Return the rendering of a response's events behind the one with the number `after`."""
    closing = b"data: [DONE]\n\n"
    return DoorRendering(DOOR, ResponseEvents, _FRAMING, closing=closing, after=after, merges=False)


def response_so_far(state: AnswerState) -> Json:
    """Return the response object of an answer that may still be running."""
    events = ResponseEvents(state.start.answer if state.start else "")
    for event in (state.start, *state.deltas, state.end):
        if event is not None:
            for _ in events.feed(event):
                pass
    return events.response()


def _with_response(kind: str, response: Json) -> Message:
    return Message(kind, {"type": kind, "response": response})


def _error(error: FolyamError) -> Message:
    """Return the error event. Open Responses has its fields in an object, OpenAI's SDKs read them beside the type."""
    fields = error_object(error.status, error.code, error.message)
    return Message("error", {**fields, "type": "error", "error": fields})
