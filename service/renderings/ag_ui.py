"""The events of AG-UI (https://docs.ag-ui.com), version 1.0: a run, its messages, its reasoning and its calls of tools.

The answer is one message of the assistant, whatever the order of its voices: a call's result has to come right behind
the message with the call when the client sends the conversation again.

The protocol has no way to resume. Here each event has an id, which its clients pass over, and a request with that id
gets what is behind it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from service.errors import FolyamError
from service.events import Delta, Done, Failed, Start, Stopped, Usage
from service.renderings.door import DATA, DoorRendering
from service.renderings.ending import error_of, restarted
from service.renderings.fold import FoldEncoder, Framing, Message, Vocabulary
from service.renderings.tool_calls import Calls

DOOR = "ag-ui"
"""`Via.door` of answers that were asked for in this protocol. Its echo has `threadId` and `runId`, and perhaps
`protocolVersion` and `parentRunId`."""

_encode = msgspec.json.Encoder().encode


def _event(kind: str, **fields: Any) -> Message:  # noqa: ANN401 (an event's fields hold any JSON)
    return Message(kind, {"type": kind, **fields})


class AgUiEvents:
    """The fold of one follower. `service.renderings.fold.Vocabulary`."""

    def __init__(self, answer_id: str) -> None:
        self.has_spoken = False
        self.finished = False
        self._answer_id = answer_id
        self._message = {"messageId": f"msg_{answer_id}"}
        self._model = ""
        self._run: Mapping[str, Any] = {"threadId": answer_id, "runId": answer_id}
        self._calls = Calls(answer_id)
        self._open = ""  # the voice that is open, `text` or `reasoning`
        self._reasoning: dict[str, str] = {}
        self._reasonings = 0

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        """See `service.renderings.fold.Vocabulary.feed`."""
        match event:
            case Delta():
                if event.text and self._open == "text":  # Most deltas: `_delta`, without a generator.
                    return (_event("TEXT_MESSAGE_CONTENT", **self._message, delta=event.text),)
                return self._delta(event)
            case Start():
                return self._start(event)
            case Done():
                return self._done(event)
            case Stopped() | Failed():
                return (_failure(error_of(event), self._usage(event)),)

    def begin_anew(self) -> None:
        """See `service.renderings.fold.Vocabulary.begin_anew`."""
        self.has_spoken = False
        self._calls = Calls(self._answer_id)
        self._open = ""
        self._reasonings = 0

    def restart(self) -> Iterable[Message]:
        """End the run: the protocol cannot take back what was said."""
        self.finished = True
        return (_failure(restarted(), {}),)

    def whole(self) -> tuple[int, dict[str, Any]]:
        """Raise: the protocol has no response without a stream."""
        raise NotImplementedError

    def _start(self, event: Start) -> Iterable[Message]:
        self._model = event.model
        if event.via is not None and event.via.door == DOOR:
            self._run = event.via.echo
        return (_event("RUN_STARTED", **self._run),)

    def _delta(self, event: Delta) -> Iterator[Message]:
        if event.tool_call is not None:
            yield from self._close()
            call, is_new = self._calls.add(event.tool_call)
            self.has_spoken = True
            if is_new:
                parent = self._message["messageId"]
                yield _event("TOOL_CALL_START", toolCallId=call.id, toolCallName=call.name, parentMessageId=parent)
            if event.tool_call.arguments:
                yield _event("TOOL_CALL_ARGS", toolCallId=call.id, delta=event.tool_call.arguments)
        elif event.reasoning:
            if self._open != "reasoning":
                yield from self._close()
                yield from self._begin_reasoning()
            yield _event("REASONING_MESSAGE_CONTENT", **self._reasoning, delta=event.reasoning)
        elif words := event.text or event.refusal:
            if self._open != "text":
                yield from self._close()
                self._open = "text"
                self.has_spoken = True
                yield _event("TEXT_MESSAGE_START", **self._message, role="assistant")
            yield _event("TEXT_MESSAGE_CONTENT", **self._message, delta=words)

    def _begin_reasoning(self) -> Iterable[Message]:
        self._open = "reasoning"
        self.has_spoken = True
        self._reasonings += 1
        self._reasoning = {"messageId": f"rs_{self._answer_id}_{self._reasonings}"}
        return (
            _event("REASONING_START", **self._reasoning),
            _event("REASONING_MESSAGE_START", **self._reasoning, role="reasoning"),
        )

    def _close(self) -> Iterable[Message]:
        voice, self._open = self._open, ""
        if voice == "text":
            return (_event("TEXT_MESSAGE_END", **self._message),)
        if voice == "reasoning":
            return (
                _event("REASONING_MESSAGE_END", **self._reasoning),
                _event("REASONING_END", **self._reasoning),
            )
        return ()

    def _done(self, event: Done) -> Iterator[Message]:
        """End the run. Only now calls of tools end, and clients run the tools."""
        yield from self._close()
        outcome: dict[str, Any] = {"type": "success"}
        for call in self._calls:
            yield _event("TOOL_CALL_END", toolCallId=call.id)
            outcome.setdefault("pendingToolCallIds", []).append(call.id)
        run = {name: self._run[name] for name in ("threadId", "runId")}
        result = {"finishReason": event.finish_reason}
        yield _event("RUN_FINISHED", **run, outcome=outcome, result=result, **self._usage(event))

    def _usage(self, event: Done | Stopped | Failed) -> dict[str, Any]:
        if event.usage is UNSET or event.usage is None:
            return {}
        return {"usage": [{"model": self._model, **_counts(event.usage)}]}


def _failure(error: FolyamError, usage: dict[str, Any]) -> Message:
    return _event("RUN_ERROR", message=error.message, code=error.code, **usage)


def _counts(usage: Usage) -> dict[str, int]:
    counts = {
        "inputTokens": usage.prompt_tokens,
        "outputTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
        "cachedInputTokens": (usage.prompt_tokens_details or {}).get("cached_tokens"),
        "reasoningTokens": (usage.completion_tokens_details or {}).get("reasoning_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None and count >= 0}


class _Framing:
    """Server-Sent Events of data, with the id `<answer id>:<number>` as the last line: see `service.renderings.sse`."""

    def __init__(self, answer_id: str) -> None:
        self._id = b"\nid: %b:%%d\n\n" % answer_id.encode("ascii")

    def frame(self, number: int, message: Message) -> bytes:
        """See `service.renderings.fold.Framing.frame`."""
        return b"data: " + _encode(message.data) + self._id % number


@dataclass(frozen=True, slots=True)
class AgUi(DoorRendering):
    """The rendering behind the event with the number `after`."""

    name: str = DOOR
    vocabulary: Callable[[str], Vocabulary] = AgUiEvents
    framing: Framing = DATA  # A follower's own framing also has the answer's id.
    merges: bool = False

    def encoder(self, answer_id: str) -> FoldEncoder:
        """Return the follower's encoder."""
        return FoldEncoder(self.vocabulary(answer_id), _Framing(answer_id), after=self.after, merges=self.merges)
