"""Chat completions: the chunks of a stream, and the response as a whole.

Source: https://platform.openai.com/docs/api-reference/chat. Reasoning is `reasoning_content`, as servers of open models
send it, and most clients read it.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

from msgspec import to_builtins

from service.answer import AnswerState
from service.errors import FolyamError
from service.events import Delta, Done, Failed, Start, Stopped, ToolCall, Usage
from service.finish_reasons import Meaning, meaning_of
from service.renderings.door import DATA, DoorRendering
from service.renderings.ending import error_data, error_of, restarted
from service.renderings.fold import Message

DOOR = "chat"
"""The rendering's name, and `Via.door` of answers that were asked for in this protocol."""
PREFIX = "chatcmpl-"
"""Before an answer's id, its id in this protocol."""

_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_REASON_FOR = {Meaning.LENGTH: "length", Meaning.FILTERED: "content_filter"}
_CHUNK = "chunk"
_OK = 200


def chunks(*, with_usage: bool) -> DoorRendering:
    """Return the rendering of a stream. `with_usage` adds the usage, as a last chunk."""
    return DoorRendering(
        DOOR, lambda answer_id: ChatChunks(answer_id, with_usage=with_usage), DATA, closing=b"data: [DONE]\n\n"
    )


def completion() -> DoorRendering:
    """Return the rendering of a response as a whole."""
    return DoorRendering(DOOR, ChatCompletion, DATA)


class ChatChunks:
    """The chunks of one follower's stream. `service.renderings.fold.Vocabulary`."""

    def __init__(self, answer_id: str, *, with_usage: bool) -> None:
        self.has_spoken = False
        self.finished = False
        self._with_usage = with_usage
        self._has_calls = False
        self._common: dict[str, Any] = {"id": PREFIX + answer_id, "object": "chat.completion.chunk"}
        self._last: dict[str, Any] = {"usage": None} if with_usage else {}

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        """See `service.renderings.fold.Vocabulary.feed`."""
        if type(event) is Delta:
            self.has_spoken = True
            return (self._chunk(self._delta(event)),)
        if type(event) is Start:
            self._common |= {"created": int(event.at), "model": event.model}
            return (self._chunk({"role": "assistant", "content": ""}),)
        if type(event) is Done:
            return self._done(event)
        return self._error(error_of(event))  # type: ignore[arg-type] # one of the two that are left

    def begin_anew(self) -> None:
        """See `service.renderings.fold.Vocabulary.begin_anew`."""
        self.has_spoken = False
        self._has_calls = False

    def restart(self) -> Iterable[Message]:
        """End the stream with an error: a client cannot take back what it has."""
        return self._error(restarted())

    def whole(self) -> NoReturn:
        """Not for this fold: it keeps nothing. See `ChatCompletion`."""
        raise NotImplementedError

    def _delta(self, delta: Delta) -> dict[str, Any]:
        if delta.text is not None:
            return {"content": delta.text}
        if delta.reasoning is not None:
            return {"reasoning_content": delta.reasoning}
        if delta.tool_call is not None:
            self._has_calls = True
            return {"tool_calls": [_call_piece(delta.tool_call)]}
        return {"refusal": delta.refusal}

    def _done(self, event: Done) -> Iterable[Message]:
        yield self._chunk({}, _finish_reason(event.finish_reason, has_calls=self._has_calls))
        if self._with_usage and event.usage is not None:
            yield Message(_CHUNK, {**self._common, "choices": [], "usage": _usage(event.usage)})

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> Message:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return Message(_CHUNK, {**self._common, "choices": [choice], **self._last})

    def _error(self, error: FolyamError) -> Iterable[Message]:
        self.finished = True
        return (Message("error", error_data(error)),)


class ChatCompletion:
    """The response as a whole. `service.renderings.fold.Vocabulary`, which has no messages."""

    finished = False
    has_spoken = False
    """Never: nothing is sent before the end, so a restart begins anew."""

    def __init__(self, answer_id: str) -> None:
        self._id = answer_id
        self._state = AnswerState()

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        """See `service.renderings.fold.Vocabulary.feed`."""
        self._state.advance((event,))
        return ()

    def begin_anew(self) -> None:
        """See `service.renderings.fold.Vocabulary.begin_anew`."""
        start, self._state = self._state.start, AnswerState()
        self._state.start = start

    def restart(self) -> Iterable[Message]:
        """Not called: see `has_spoken`."""
        return ()

    def whole(self) -> tuple[int, dict[str, Any]]:
        """Return the status and the completion.

        Raises:
            FolyamError: the answer failed or was stopped. Half a text would look like a whole one.
        """
        state, end = self._state, self._state.end
        if isinstance(end, Stopped | Failed):
            raise error_of(end)
        calls, refusal, reasoning = state.tool_calls, state.refusal, state.reasoning
        text = state.text
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not (calls or refusal) else None,
            "refusal": refusal or None,
        }
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        word = end.finish_reason if end is not None else ""
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish_reason(word, has_calls=bool(calls)),
        }
        start = state.start
        body: dict[str, Any] = {
            "id": PREFIX + self._id,
            "object": "chat.completion",
            "created": int(start.at) if start else 0,
            "model": start.model if start else "",
            "choices": [choice],
        }
        if state.usage is not None:
            body["usage"] = _usage(state.usage)
        return _OK, body


def _finish_reason(word: str, *, has_calls: bool) -> str:
    """Return the reason in this protocol's words. What the upstream says in these words stays as it is."""
    if word in _REASONS:
        return word
    return _REASON_FOR.get(meaning_of(word), "tool_calls" if has_calls else "stop")


def _call_piece(call: ToolCall) -> dict[str, Any]:
    function = {"arguments": call.arguments}
    if not (call.id or call.name):
        return {"index": call.index, "function": function}
    return {"index": call.index, "id": call.id, "type": "function", "function": {"name": call.name, **function}}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _usage(usage: Usage) -> Any:  # noqa: ANN401 (JSON)
    return to_builtins(usage)
