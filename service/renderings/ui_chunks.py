"""The AI SDK's UI message stream, which `useChat` reads: chunks that build up one message of the assistant.

Source: the npm package `ai`, version 7, `src/ui-message-stream/ui-message-chunks.ts` and
`src/ui/process-ui-message-stream.ts`. A chunk of an unknown type, or a finish reason outside its enum, throws there.

A message has steps: one an answer, since the answer to a tool's result goes on with the message that has the call. Such
an answer's start has that message in `via.echo`, so that a replay can say its earlier steps again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from service.events import Delta, Done, Failed, Start, Stopped
from service.finish_reasons import Meaning, meaning_of
from service.renderings.door import DATA, DoorRendering
from service.renderings.fold import Message
from service.renderings.tool_calls import Calls
from service.request import decoded

DOOR = "ui"
"""`Via.door` of answers that were asked for in this protocol."""
MESSAGE_ID, MESSAGE = "messageId", "message"
"""Keys in `Via.echo`: the id of the message that the answer continues, and perhaps that message as it was sent."""

_FINISH_REASONS = {
    Meaning.FINISHED: "stop",
    Meaning.LENGTH: "length",
    Meaning.FILTERED: "content-filter",
    Meaning.FAILED: "error",
    Meaning.UNKNOWN: "other",
}
_TOOL_PREFIX = "tool-"
_SAID_AS_THEY_ARE = ("file", "reasoning-file", "source-url", "source-document", "custom", "steering-message")
"""Parts whose chunks have the same form. `data-…` are further ones."""


def _chunk(kind: str, **fields: Any) -> Message:  # noqa: ANN401 (a chunk's fields hold any JSON)
    return Message(kind, {"type": kind, **fields})


class UiChunks:
    """The fold of one follower. `service.renderings.fold.Vocabulary`.

    Args:
        answer_id: The answer's id.
        replays: Whether the client drops the message that the answer continues, and needs its earlier steps again. The
            client does so when it reconnects, but not with the response to its question.
    """

    def __init__(self, answer_id: str, *, replays: bool) -> None:
        self.has_spoken = False
        self.finished = False
        self._answer_id = answer_id
        self._replays = replays
        self._calls = Calls(answer_id)
        self._part = ""  # the open part's type, `text` or `reasoning`
        self._part_id = ""
        self._parts = 0

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        """See `service.renderings.fold.Vocabulary.feed`."""
        match event:
            case Delta():
                if event.text and self._part == "text":  # Most deltas: `_delta`, without a generator.
                    return (_chunk("text-delta", id=self._part_id, delta=event.text),)
                return self._delta(event)
            case Start():
                return self._start(event)
            case Done():
                return self._done(event)
            case Stopped(by=by):
                return (_chunk("abort", reason=by),)
            case Failed(message=message):
                return (_chunk("error", errorText=message),)

    def begin_anew(self) -> None:
        """See `service.renderings.fold.Vocabulary.begin_anew`."""
        self.has_spoken = False
        self._calls = Calls(self._answer_id)
        self._part = ""

    def restart(self) -> Iterable[Message]:
        """Take back the step's parts. The step stays open."""
        self.begin_anew()
        return (_chunk("reset-step"),)

    def whole(self) -> tuple[int, dict[str, Any]]:
        """Raise: the protocol has no response without a stream."""
        raise NotImplementedError

    def _start(self, event: Start) -> Iterator[Message]:
        echo = event.via.echo if event.via is not None and event.via.door == DOOR else {}
        message = decoded(echo.get(MESSAGE)) if self._replays else None
        start = {"messageId": echo.get(MESSAGE_ID, f"msg_{self._answer_id}")}
        if message and "metadata" in message:
            start["messageMetadata"] = message["metadata"]
        yield _chunk("start", **start)
        if message:
            yield from _earlier_steps(message["parts"])
        yield _chunk("start-step")

    def _delta(self, event: Delta) -> Iterator[Message]:
        if event.tool_call is not None:
            yield from self._close_part()
            call, is_new = self._calls.add(event.tool_call)
            self.has_spoken = True
            if is_new:
                yield _chunk("tool-input-start", toolCallId=call.id, toolName=call.name)
            if event.tool_call.arguments:
                yield _chunk("tool-input-delta", toolCallId=call.id, inputTextDelta=event.tool_call.arguments)
            return
        kind, words = ("reasoning", event.reasoning) if event.reasoning is not None else ("text", _words(event))
        if not words:
            return
        if kind != self._part:
            yield from self._close_part()
            self._parts += 1
            self._part, self._part_id = kind, f"{self._answer_id[:8]}-{self._parts}"
            self.has_spoken = True
            yield _chunk(f"{kind}-start", id=self._part_id)
        yield _chunk(f"{kind}-delta", id=self._part_id, delta=words)

    def _done(self, event: Done) -> Iterator[Message]:
        """End the message. Only now a client is given its tools' input, and runs them.

        Earlier, a restart could take back a call whose tool has run.
        """
        yield from self._close_part()
        reason = _FINISH_REASONS[meaning_of(event.finish_reason)]
        for call in self._calls:
            named = {"toolCallId": call.id, "toolName": call.name}
            given = input_of(call.arguments)
            if given is None:
                wrong = "The model wrote arguments that are not JSON."
                yield _chunk("tool-input-error", **named, input=call.arguments, errorText=wrong)
            else:
                yield _chunk("tool-input-available", **named, input=given)
            if reason == "stop":
                reason = "tool-calls"
        yield _chunk("finish-step")
        yield _chunk("finish", finishReason=reason)

    def _close_part(self) -> Iterator[Message]:
        if self._part:
            yield _chunk(f"{self._part}-end", id=self._part_id)
            self._part = ""


def _words(event: Delta) -> str:
    return event.refusal or "" if event.text is None else event.text


def input_of(arguments: str) -> msgspec.Raw | None:
    """Return the arguments as JSON on one line; None if they are not JSON. A call without arguments has an object.

    The digits of a number stay as they are: decoding would round them.
    """
    # Between the values of a JSON text, line ends are blanks. Within a string, they are escaped.
    text = arguments.replace("\r", " ").replace("\n", " ").strip() or "{}"
    try:
        _check_json(text)
    except (ValueError, RecursionError):
        return None
    return msgspec.Raw(text.encode())


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity, which are not JSON


# msgspec refuses half of a surrogate pair, which models write and JSON allows.
_check_json = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant).decode


def _earlier_steps(parts: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    """Return the chunks that make the parts again. No tool runs again.

    The chunk `tool-input-available` would make the client run the tool. `tool-input-delta` with the whole input leads
    to the same part once the output is there, and `tool-input-error` to that of a tool that failed.
    """
    for number, part in enumerate(parts):
        kind = part["type"]
        if kind == "step-start":
            yield _chunk("start-step")
        elif kind in ("text", "reasoning"):
            part_id = f"earlier-{number}"
            yield _chunk(f"{kind}-start", id=part_id)
            yield _chunk(f"{kind}-delta", id=part_id, delta=part.get("text", ""))
            yield _chunk(f"{kind}-end", id=part_id)
        elif kind == "dynamic-tool":
            yield from _earlier_call(part, part.get("toolName", ""), {"dynamic": True})
        elif kind.startswith(_TOOL_PREFIX):
            yield from _earlier_call(part, kind.removeprefix(_TOOL_PREFIX), {})
        elif kind in _SAID_AS_THEY_ARE or kind.startswith("data-"):
            yield Message(kind, dict(part))


def _earlier_call(part: Mapping[str, Any], name: str, more: dict[str, Any]) -> Iterator[Message]:
    state, call_id = part.get("state"), part["toolCallId"]
    more |= {key: part[key] for key in ("providerExecuted", "title", "toolMetadata") if key in part}
    if state == "output-error":
        error = {"input": part.get("input"), "errorText": part.get("errorText", "")}
        yield _chunk("tool-input-error", toolCallId=call_id, toolName=name, **more, **error)
        return
    yield _chunk("tool-input-start", toolCallId=call_id, toolName=name, **more)
    if state == "input-streaming" and isinstance(part.get("rawInput"), str):
        yield _chunk("tool-input-delta", toolCallId=call_id, inputTextDelta=part["rawInput"])
    elif "input" in part:
        yield _chunk("tool-input-delta", toolCallId=call_id, inputTextDelta=json.dumps(part["input"]))
    if state == "output-available":
        yield _chunk("tool-output-available", toolCallId=call_id, output=part.get("output"))
    elif state == "output-denied":
        yield _chunk("tool-output-denied", toolCallId=call_id)


def _stream(*, replays: bool) -> DoorRendering:
    return DoorRendering(
        DOOR,
        partial(UiChunks, replays=replays),
        DATA,
        closing=b"data: [DONE]\n\n",
        headers=((b"x-vercel-ai-ui-message-stream", b"v1"),),
        self_delimiting=False,  # The client takes an early end of the body for the message's end.
    )


RESPONSE = _stream(replays=False)
"""The rendering of the response to a question."""
REPLAY = _stream(replays=True)
"""The rendering for a client that reconnects."""
