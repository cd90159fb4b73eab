"""The output items of a response, each with the messages of its life: it is added, grows, and is done.

An item has a list of parts, or, as a call, its arguments. A part or an item that is done does not grow any more.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from service.renderings.fold import Message

Json = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]


class Item:
    """The common part of all items."""

    prefix = ""

    def __init__(self, answer_id: str, index: int) -> None:
        self.index = index
        self.id = f"{self.prefix}_{answer_id}_{index}"

    def data(self, status: Status) -> Json:
        """Return the item as it is now."""
        raise NotImplementedError

    def begin(self) -> Iterator[Message]:
        """Yield the messages of a new item."""
        yield _message("response.output_item.added", output_index=self.index, item=self.data("in_progress"))

    def end(self, status: Status) -> Iterator[Message]:
        """Yield the messages of its end."""
        yield _message("response.output_item.done", output_index=self.index, item=self.data(status))

    def _place(self) -> Json:
        return {"item_id": self.id, "output_index": self.index}


class Reasoning(Item):
    """What the model thinks, as a summary with one part.

    Raw reasoning has one name in Open Responses and another in OpenAI's SDKs. A summary has one in both.
    """

    prefix = "rs"

    def __init__(self, answer_id: str, index: int) -> None:
        super().__init__(answer_id, index)
        self._pieces: list[str] = []
        self._is_begun = False

    def data(self, status: Status) -> Json:
        """See `Item.data`."""
        summary = [self._part()] if self._is_begun else []
        return {"id": self.id, "type": "reasoning", "status": status, "summary": summary}

    def begin(self) -> Iterator[Message]:
        """See `Item.begin`."""
        yield from super().begin()
        self._is_begun = True
        yield self._message("part.added", part=self._part())

    def say(self, piece: str) -> Message:
        """Return the message of a piece."""
        self._pieces.append(piece)
        return self._message("text.delta", delta=piece)

    def end(self, status: Status) -> Iterator[Message]:
        """See `Item.end`."""
        part = self._part()
        yield self._message("text.done", text=part["text"])
        yield self._message("part.done", part=part)
        yield from super().end(status)

    def _part(self) -> Json:
        return {"type": "summary_text", "text": "".join(self._pieces)}

    def _message(self, kind: str, **fields: object) -> Message:
        return _message(f"response.reasoning_summary_{kind}", **self._place(), summary_index=0, **fields)


class Spoken(Item):
    """A message of the assistant: parts of text and of refusal."""

    prefix = "msg"

    def __init__(self, answer_id: str, index: int) -> None:
        super().__init__(answer_id, index)
        self._parts: list[Json] = []  # those that are done
        self._pieces: list[str] = []
        self._kind: Literal["text", "refusal"] | None = None  # of the part that grows

    def data(self, status: Status) -> Json:
        """See `Item.data`."""
        content = [*self._parts, self._part()] if self._kind else [*self._parts]
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}

    def say(self, kind: Literal["text", "refusal"], piece: str) -> Sequence[Message]:
        """Return the messages of a piece."""
        # Most pieces are one message, without generators, nested calls and merged dicts: these took twice as long.
        begun = () if kind == self._kind else (*self._end_part(), self._begin_part(kind))
        self._pieces.append(piece)
        name = "response.output_text.delta" if kind == "text" else "response.refusal.delta"
        data: Json = {
            "type": name,
            "item_id": self.id,
            "output_index": self.index,
            "content_index": len(self._parts),
            "delta": piece,
        }
        if kind == "text":
            data["logprobs"] = []
        said = Message(name, data)
        return (*begun, said) if begun else (said,)

    def end(self, status: Status) -> Iterator[Message]:
        """See `Item.end`."""
        yield from self._end_part()
        yield from super().end(status)

    def _begin_part(self, kind: Literal["text", "refusal"]) -> Message:
        self._kind = kind
        return self._message("response.content_part.added", part=self._part())

    def _end_part(self) -> Iterator[Message]:
        if self._kind is None:
            return
        part = self._part()
        if self._kind == "text":
            yield self._message("response.output_text.done", text=part["text"], logprobs=[])
        else:
            yield self._message("response.refusal.done", refusal=part["refusal"])
        yield self._message("response.content_part.done", part=part)
        self._parts.append(part)
        self._pieces.clear()
        self._kind = None

    def _part(self) -> Json:
        said = "".join(self._pieces)
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": said}
        return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}

    def _message(self, kind: str, **fields: object) -> Message:
        return _message(kind, **self._place(), content_index=len(self._parts), **fields)


class Call(Item):
    """A call of a tool. The client answers it with an item of its own, by `call_id`."""

    prefix = "fc"

    def __init__(self, answer_id: str, index: int, call_id: str, name: str) -> None:
        super().__init__(answer_id, index)
        self._call_id = call_id or f"call_{answer_id}_{index}"
        self._name = name
        self._pieces: list[str] = []

    def data(self, status: Status) -> Json:
        """See `Item.data`."""
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._pieces),
        }

    def say(self, piece: str) -> Message:
        """Return the message of a piece of the arguments."""
        self._pieces.append(piece)
        return _message("response.function_call_arguments.delta", **self._place(), delta=piece)

    def end(self, status: Status) -> Iterator[Message]:
        """See `Item.end`."""
        arguments = "".join(self._pieces)
        kind = "response.function_call_arguments.done"
        yield _message(kind, **self._place(), name=self._name, arguments=arguments)
        yield from super().end(status)


def _message(kind: str, **fields: object) -> Message:
    return Message(kind, {"type": kind, **fields})
