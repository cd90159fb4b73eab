"""Decode the bytes of an OpenAI-compatible chat-completions stream into deltas. Pure: no I/O, no clock.

The stream is Server-Sent Events, each with one JSON chunk as its data, then `[DONE]`
(https://platform.openai.com/docs/api-reference/chat-streaming). Servers differ in everything else: a role chunk at the
start or none, usage in a chunk of its own or in the last one, one of two names for reasoning, comments as keep-alives,
LF or CRLF.

Beyond that, what is not needed cannot hurt: an event is malformed only if text of the answer may be lost with it, and a
stream only if nothing of it can be read. msgspec decodes the usual chunk. What it rejects, `odd_chunks` decodes.
"""

import contextlib
import re

import msgspec

from service.errors import UpstreamError
from service.events import Delta
from service.finish_reasons import Meaning, meaning_of
from service.upstream.chunk_json import (
    NULL,
    CallPart,
    Choice,
    Chunk,
    Message,
    Rarities,
    arguments_of,
    decode,
    decode_rarities,
    is_error,
    is_error_event,
)
from service.upstream.error_body import read_error, word
from service.upstream.event_stream import BYTE_ORDER_MARK, EventStreamDecoder, reason_of
from service.upstream.odd_chunks import decode_loosely, decode_rarities_loosely
from service.upstream.refusals import reported
from service.upstream.token_usage import usage_of
from service.upstream.tool_calls import Piece

_EMPTY = (b"null", b"{}", b"[]")
_RARE = re.compile(rb'"(?:text|x_groq|usage"\s*:\s*[{])')
"""The fields of `Rarities`. Most of the chunks in question, such as the first one with the role, have none of them."""
_UNNAMED = (b"", b"message")
"""Names of an event that may be a chunk. Plain text in an event of another name, such as `ping`, is none."""
_NO_REASON = ("null", "NULL", "none", "None", "not_finished")
"""Texts that some servers write in place of a missing finish reason; `not_finished` is watsonx's."""


class ChunkDecoder(EventStreamDecoder):
    """Decodes the bytes of a stream. `done` is set at its `[DONE]`."""

    def _completion(self) -> list[Delta]:
        """Process a whole completion in place of a stream, or JSON lines."""
        body = b"\n".join(self._data).strip().removeprefix(BYTE_ORDER_MARK)
        self._data.clear()
        self._is_odd = True
        deltas: list[Delta] = []
        try:
            chunk = decode_loosely(body)
            if chunk.choices and not is_error(chunk.error):
                self._event(b"", body, deltas)
                self.done = True
        except UpstreamError as error:
            self.failure = error
        except (ValueError, RecursionError):
            pass  # Nothing was read.
        return deltas

    def _event(self, name: bytes, event: bytes, deltas: list[Delta]) -> None:
        try:
            chunk = decode(event)
        except (ValueError, RecursionError):
            if event == b"[DONE]":
                self.done = True
                return
            if not event:
                return  # Empty data is the keep-alive of some gateways.
            chunk = self._odd_chunk(name, event)
        if chunk.error is not NULL and is_error(chunk.error):
            raise _reported(chunk.error)
        if chunk.usage is not NULL and bytes(chunk.usage) != b"null":
            self.usage = usage_of(chunk.usage) or self.usage
        choices = chunk.choices
        if not choices:
            if choices is None:
                self._no_chunk(name, event)
            self._rarities(event)
            return
        for choice in choices:
            # The request is for one choice. Of several, only the one with the index 0 is the answer.
            if not choice.index:
                self._choice(choice, event, deltas)

    def _no_chunk(self, name: bytes, event: bytes) -> None:
        if name == b"error" or is_error_event(event):
            raise _reported(event)
        if name in _UNNAMED and event not in _EMPTY:
            self._is_odd = True

    def _odd_chunk(self, name: bytes, event: bytes) -> Chunk:
        if event.strip(b'"').upper().startswith(b"[DONE]"):
            self.done = True
            return Chunk()
        try:
            return decode_loosely(event)
        except (ValueError, RecursionError):
            # It is a broken chunk, unless its name is another one. After the finish, it loses nothing of the answer.
            if self.finish_reason is None and (name in _UNNAMED or event.startswith(b"{")):
                raise UpstreamError("upstream_malformed", "event") from None
            return Chunk()

    def _rarities(self, event: bytes) -> str:
        """Read what few chunks have: usage in other places. Return the older API's text."""
        if not _RARE.search(event):
            return ""
        rarities = _rarities_of(event)
        groq = rarities.x_groq
        if groq is not None:
            if is_error(groq.error):
                raise _reported(groq.error)
            self.usage = usage_of(groq.usage) or self.usage
        text = ""
        for choice in rarities.choices or ():
            if not choice.index:
                self.usage = usage_of(choice.usage) or self.usage
                text += choice.text or ""
        return text

    def _choice(  # noqa: C901 (runs once a chunk: no call more)
        self, choice: Choice, event: bytes, deltas: list[Delta]
    ) -> None:
        if said := choice.delta or self._message(choice):
            if reasoning := said.reasoning_content or said.reasoning:
                self._append("reasoning", reasoning, deltas)
            if text := said.content:
                self._append("text", text, deltas)
            elif not reasoning:
                self._rarities(event)
                if said.function_call:
                    self._tool_calls([CallPart(function=said.function_call)], event, deltas)
            if said.refusal:
                self._append("refusal", said.refusal, deltas)
            if said.tool_calls:
                self._tool_calls(said.tool_calls, event, deltas)
        elif text := self._rarities(event):
            self._append("text", text, deltas)
        if choice.error is not NULL and is_error(choice.error):
            raise _reported(choice.error)
        if choice.finish_reason and choice.finish_reason not in _NO_REASON:
            if meaning_of(choice.finish_reason) is Meaning.FAILED:
                raise UpstreamError("upstream_error").told_by_upstream(None, word(choice.finish_reason), "")
            self.finish_reason = reason_of(choice.finish_reason)
            self._rarities(event)

    def _tool_calls(self, parts: list[CallPart], event: bytes, deltas: list[Delta]) -> None:
        self.has_tool_calls = True
        for number, part in enumerate(parts):
            if (function := part.function) is None:
                continue  # A call of another kind of tool.
            try:
                arguments = arguments_of(function.arguments)
            except (ValueError, RecursionError):
                raise UpstreamError("upstream_malformed", "event") from None
            piece = Piece(part.index, part.id or "", function.name or "", arguments, event, is_apart=number > 0)
            self._call(piece, deltas)

    def _message(self, choice: Choice) -> Message | None:
        """Return the message of a server that does not stream. After deltas, a message only repeats them."""
        message = choice.message
        if message is None or self.last_seq != self._first_seq:
            return None
        if message.function_call and message.content:
            return msgspec.structs.replace(message, tool_calls=[CallPart(function=message.function_call)])
        return message


def _rarities_of(event: bytes) -> Rarities:
    try:
        return decode_rarities(event)
    except (ValueError, RecursionError):
        with contextlib.suppress(ValueError, RecursionError):
            return decode_rarities_loosely(event)
    return Rarities()


def _reported(error: msgspec.Raw | bytes) -> UpstreamError:
    """Return the error that the upstream describes in JSON."""
    return reported(read_error(bytes(error)))
