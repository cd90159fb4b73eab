"""Reasoning that a model writes into its text, as `<think>…</think>` at the start.

Servers with a parser for it send reasoning in a field of its own; Ollama, llama.cpp and vLLM without one do not. Only a
tag at the start counts: later ones may be the answer's subject. A model whose prompt has the first tag writes the
second one alone. Its reasoning cannot be told from text before that one comes, and stays text.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.events import Delta
from service.upstream.chunks import ChunkDecoder
from service.upstream.tool_calls import Piece

BLANKS = 1000
"""Limit on the blanks before the first tag. More of them are text: held back, they would fill the memory."""
REST = 4000
"""Limit on the text behind a reasoning that may be its rest, of a server that sends reasoning in a field. More of it is
text: models that answer at once would be held back."""
_OPEN = "<think>"
_CLOSE = "</think>"
_KNOWN = re.compile(
    r"deepseek-?r1|(?<![a-z0-9])r1(?![a-z0-9])|qwq|qwen-?3|smollm-?3|minimax-m[12]|phi-?4(-mini)?-reasoning|exaone-deep"
    r"|glm-?(4\.[1-9]|z1)|marco-o1|openthinker|nemotron.*(nano|super|ultra)|magistral",
    re.IGNORECASE,
)
"""Names of models whose templates have the tags."""


def thinks_inline(model: str) -> bool:
    """Return whether the model is known to write its reasoning into its text."""
    return _KNOWN.search(model) is not None


@dataclass(slots=True)
class Manner:
    """How a server sends one model's reasoning, as its streams showed."""

    in_field: bool = False
    """Whether it came in a field of its own. Unset by tags."""


_Parts = Iterator[tuple[str, str]]
"""Voices and their pieces of a text."""
_Split = Callable[["ThinkTagDecoder", str], _Parts]


class ThinkTagDecoder(ChunkDecoder):
    """A decoder that takes the text between the tags for reasoning, without the blanks around it."""

    def __init__(self, last_seq: int, manner: Manner | None = None) -> None:
        super().__init__(last_seq)
        self._manner = manner or Manner()
        # Not bound: a decoder that refers to itself would wait for the collector.
        self._split: _Split = ThinkTagDecoder._at_first
        self._kept = ""
        self._expects_rest = False  # of a reasoning whose first tag was not in this stream
        self._behind_rest: _Split = ThinkTagDecoder._at_first

    def begin_in_reasoning(self, *, looks_for_tags: bool = True) -> None:
        """Expect the rest of a reasoning whose first tag came before: the answer is continued from its middle.

        A model that thinks anew writes the tag once more. It is dropped, so that the reasoning that it repeats can be
        recognised.

        A server that sends reasoning in a field may have lost its place in it, and send the rest as text. It is the
        rest if a tag ends it, and else the text behind a reasoning that was whole. Without `looks_for_tags` this is the
        only place where a tag counts.
        """
        in_field = self._manner.in_field or not looks_for_tags
        self._split = ThinkTagDecoder._at_rest_or_text if in_field else ThinkTagDecoder._at_rest
        self._expects_rest = True
        if not looks_for_tags:
            self._behind_rest = ThinkTagDecoder._in_text

    def finish(self) -> list[Delta]:
        """Return what was kept because it might have been the start of a tag, and the held surrogates."""
        deltas: list[Delta] = []
        if self.failure is None or self.keeps_halves:
            self._let_go(deltas)
        return deltas + super().finish()

    def _call(self, piece: Piece, deltas: list[Delta], *, is_whole: bool = False) -> None:
        self._let_go(deltas)  # It came before the call.
        super()._call(piece, deltas, is_whole=is_whole)

    def _let_go(self, deltas: list[Delta]) -> None:
        """Append what was kept."""
        if kept := self._take(""):
            in_reasoning = self._split in (ThinkTagDecoder._at_rest, ThinkTagDecoder._in_reasoning)
            voice = "reasoning" if in_reasoning else "text"
            super()._append(voice, kept, deltas)

    def _append(self, voice: str, text: str, deltas: list[Delta]) -> None:
        if voice != "text":
            if voice == "reasoning":
                self._manner.in_field = True
            if voice == "reasoning" and self._expects_rest:
                # The server has a parser for the reasoning, and no tag will end it.
                self._expects_rest = False
                self._split = self._behind_rest
                if kept := self._take(""):
                    super()._append("text", kept, deltas)
            super()._append(voice, text, deltas)
            return
        for part_voice, part in self._split(self, text):
            super()._append(part_voice, part, deltas)

    def _at_first(self, text: str) -> _Parts:
        return self._behind_tag(text, ThinkTagDecoder._in_text)

    def _at_rest(self, text: str) -> _Parts:
        return self._behind_tag(text, ThinkTagDecoder._in_reasoning)

    def _behind_tag(self, text: str, without: _Split) -> _Parts:
        text = self._take(text)
        start = text.lstrip()
        if start.startswith(_OPEN):
            self._manner.in_field = False
            self._split = ThinkTagDecoder._before_reasoning
            yield from self._split(self, start[len(_OPEN) :])
        elif _OPEN.startswith(start) and len(text) <= BLANKS:
            self._kept = text
        else:
            self._split = without
            yield from without(self, text)

    def _at_rest_or_text(self, text: str) -> _Parts:
        text = self._take(text)
        if text.lstrip().startswith(_OPEN):
            yield from self._behind_tag(text, ThinkTagDecoder._in_text)
        elif _CLOSE in text:
            self._split = ThinkTagDecoder._in_reasoning
            yield from self._split(self, text)
        elif len(text) <= REST:
            self._kept = text
        else:
            self._split = ThinkTagDecoder._in_text
            yield "text", text

    def _before_reasoning(self, text: str) -> _Parts:
        if text := text.lstrip():
            self._split = ThinkTagDecoder._in_reasoning
            yield from self._split(self, text)

    def _in_reasoning(self, text: str) -> _Parts:
        reasoning, tag, rest = self._take(text).partition(_CLOSE)
        if not tag:
            self._kept = _start_of_tag(reasoning)
            reasoning = reasoning.removesuffix(self._kept)
        if reasoning:
            yield "reasoning", reasoning
        if tag:
            self._split = ThinkTagDecoder._before_text
            yield from self._split(self, rest)

    def _before_text(self, text: str) -> _Parts:
        if text := text.lstrip():
            self._split = ThinkTagDecoder._in_text
            yield "text", text

    def _in_text(self, text: str) -> _Parts:
        yield "text", text

    def _take(self, text: str) -> str:
        text, self._kept = self._kept + text, ""
        return text


def _start_of_tag(text: str) -> str:
    """Return the end of the text that may be the start of a closing tag."""
    return next((_CLOSE[:length] for length in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:length])), "")
