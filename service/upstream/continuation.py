"""Join a continuation's deltas to what was said before. Pure: no I/O, no clock."""

from collections.abc import Sequence

from service.answer import Said
from service.errors import UpstreamError
from service.events import Delta, Event, ToolCall, encode_lines
from service.upstream.overlap import Overlap


class Continuation:
    """The deltas of one continuation of `said`, without what they repeat. They are numbered on from `last_seq`.

    `is_found` is set once nothing is held back or compared any more. `is_anew` is set if the upstream began another
    answer instead.
    """

    def __init__(self, said: Said, last_seq: int, most_bytes: int | None = None) -> None:
        """`most_bytes` limits what is held back, in bytes of the log: a model may think again without an end."""
        self.last_seq = last_seq
        self._bytes_left = most_bytes
        self.is_anew = False
        self._new: list[Delta] = []
        self._in_text = bool(said.text)
        self._text: Overlap | None = Overlap(said.text) if said.text else None
        self._reasoning: Overlap | None = Overlap(said.reasoning) if said.reasoning else None

    @property
    def is_found(self) -> bool:
        """Whether the next deltas are new, each as it is."""
        return self._text is None and self._reasoning is None

    def add(self, events: Sequence[Event]) -> list[Delta]:
        """Return the new deltas so far, as soon as all is found: until then it might be another answer.

        Raises:
            UpstreamError: what is held back is too long.
        """
        for delta in events:
            if not isinstance(delta, Delta):
                continue  # A continuation has nothing else.
            if delta.reasoning is not None:
                if self._reasoning is not None:
                    self._add_reasoning(delta.reasoning)
                else:
                    self._append(reasoning=delta.reasoning)
                continue
            self._add_reasoning("", last=True)
            if delta.text is not None and self._text is not None:
                self._add_text(delta.text)
            else:
                self._add_text("", last=True)
                self._append(text=delta.text, refusal=delta.refusal, tool_call=delta.tool_call)
        return self._take() if self.is_found else []

    def end(self) -> list[Delta]:
        """Return the deltas that were held back. None follows."""
        self._add_reasoning("", last=True)
        self._add_text("", last=True)
        return self._take()

    def _take(self) -> list[Delta]:
        new, self._new = self._new, []
        return new

    def _add_text(self, piece: str, *, last: bool = False) -> None:
        if self._text is not None and (text := self._text.add(piece, last=last)) is not None:
            self.is_anew = self.is_anew or self._text.is_anew
            self._text = None
            self._append(text=text)

    def _add_reasoning(self, piece: str, *, last: bool = False) -> None:
        if self._reasoning is not None and (reasoning := self._reasoning.add(piece, last=last)) is not None:
            # A model that thinks once more before it goes on with a given text has not begun another answer.
            self.is_anew = self.is_anew or (self._reasoning.is_anew and not self._in_text)
            self._reasoning = None
            self._append(reasoning=reasoning)

    def _append(
        self,
        *,
        text: str | None = None,
        reasoning: str | None = None,
        refusal: str | None = None,
        tool_call: ToolCall | None = None,
    ) -> None:
        if text or reasoning or refusal or tool_call:
            self.last_seq += 1
            delta = Delta(self.last_seq, text, reasoning, refusal, tool_call)
            self._new.append(delta)
            if self._bytes_left is not None:
                self._bytes_left -= len(encode_lines([delta]))
                if self._bytes_left < 0:
                    raise UpstreamError("answer_too_long")
