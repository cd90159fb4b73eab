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
from service.events import Delta, Usage
from service.upstream.chunk_json import (
    NULL,
    Choice,
    Chunk,
    Message,
    Rarities,
    decode,
    decode_rarities,
    is_error,
    is_error_event,
)
from service.upstream.error_body import read_error, word
from service.upstream.finish_reasons import Meaning, meaning_of
from service.upstream.odd_chunks import decode_loosely, decode_rarities_loosely
from service.upstream.refusals import reported
from service.upstream.token_usage import usage_of

EVENT_BYTES = 1 << 20
"""Limit on an event. A longer one is a server's fault, and buffering it would fill the memory."""
LINE_BYTES = 16
"""Added for each line of an event: empty lines take up memory, too."""
REASON_CHARACTERS = 200
"""Limit on a finish reason. Some servers write a sentence; a longer text is no reason."""

_NO_STREAM = (b"<", b"\x1f")
"""First bytes of a body that has no answer: HTML, a compressed body."""
_JSON = (b"{", b"[")
"""First bytes of a whole completion in place of a stream, or of an error."""
_FIELD = re.compile(rb":|(?:data|event|id|retry)(?::|\Z)")
"""The start of a line of an event stream: a comment or a field."""


_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax and creates no objects
_CR = 13
_EMPTY = (b"null", b"{}", b"[]")
_RARE = re.compile(rb'"(?:text|x_groq|tool_calls|usage"\s*:\s*[{])')
"""The fields of `Rarities`. Most of the chunks in question, such as the first one with the role, have none of them."""
_UNNAMED = (b"", b"message")
"""Names of an event that may be a chunk. Plain text in an event of another name, such as `ping`, is none."""
_NO_REASON = ("null", "NULL", "none", "None", "not_finished")
"""Texts that some servers write in place of a missing finish reason; `not_finished` is watsonx's."""
_BYTE_ORDER_MARK = "\ufeff".encode()


class ChunkDecoder:
    """Decodes the bytes of a stream, in any pieces, into deltas with the seqs after `last_seq`.

    `finish_reason` and `usage` are set from the stream, `done` at its `[DONE]`, `failure` if it is malformed or reports
    an error of the upstream. `has_tool_calls` tells whether the model called a tool. Unset `keeps_halves` if a failed
    answer may be continued: half a character at its end is then left to the continuation.
    """

    keeps_halves = True
    run_ended = False
    usage_complete = True

    def __init__(self, last_seq: int) -> None:
        self.last_seq = self._first_seq = last_seq
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.failure: UpstreamError | None = None
        self.has_tool_calls = False
        self._tail = b""
        self._after_cr = False
        self._at_start = True  # before the first line of an event stream
        self._is_odd = False  # after another line at the start, or an event that is no chunk
        self._is_json = False  # a whole completion in place of a stream
        self._data: list[bytes] = []
        self._name = b""  # the event's name
        self._held: dict[str, str] = {}  # by voice: a high surrogate at the end of the last chunk

    def feed(self, data: bytes) -> list[Delta]:  # noqa: C901 (runs once a line)
        """Return the deltas that the bytes complete, up to the stream's end or its `failure`."""
        deltas: list[Delta] = []
        try:
            lines, name = self._data, self._name
            for line in self._lines(data):
                if line[:5] == b"data:":
                    if lines and self._is_whole_event():
                        self._event(name, lines.pop().strip(), deltas)
                        if self.done:
                            return deltas
                    lines.append(line[5:])
                elif not line:
                    if lines:
                        event = lines[0] if len(lines) == 1 else b"\n".join(lines)
                        lines.clear()
                        self._event(name, event.strip(), deltas)
                        if self.done:
                            return deltas
                    name = b""
                elif line[:6] == b"event:":
                    name = line[6:].strip()
            self._name = name
            if (self._tail or self._data) and (
                len(self._tail) + sum(map(len, self._data)) + LINE_BYTES * len(self._data) > EVENT_BYTES
            ):
                self.failure = UpstreamError("upstream_malformed", "event_length")
        except UpstreamError as error:
            self.failure = error
        return deltas

    def _is_whole_event(self) -> bool:
        """Return whether the event is complete although more data follows: some servers write no blank lines.

        The first line of JSON in several lines is not valid JSON.
        """
        if len(self._data) > 1:
            return False
        first = self._data[0].strip()
        try:
            _skip(first)
        except (ValueError, RecursionError):
            return first == b"[DONE]"
        return True

    def end(self) -> list[Delta]:
        """Process the end of the body; return the deltas that it completes. Sets `failure` if the answer has no end.

        Some servers omit the blank line after the last event, or its line end.
        """
        deltas = self.feed(b"\n\n")
        if self._is_json and self.failure is None:
            deltas += self._completion()
        if self.done or self.finish_reason is not None:
            return deltas
        if self.is_unreadable:
            self.failure = UpstreamError("upstream_malformed", "stream")
        elif self.failure is None or self.failure.code == "upstream_malformed":  # from half an event
            self.failure = UpstreamError("upstream_truncated")
        return deltas + self.finish()

    @property
    def is_unreadable(self) -> bool:
        """Whether something came, and nothing of it could be read."""
        is_silent = self.last_seq == self._first_seq and not self._held and not self.has_tool_calls
        return self._is_odd and is_silent and self.finish_reason is None and self.usage is None

    def _completion(self) -> list[Delta]:
        """Process a whole completion in place of a stream, or JSON lines."""
        body = b"\n".join(self._data).strip().removeprefix(_BYTE_ORDER_MARK)
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

    def finish(self) -> list[Delta]:
        """Return the held surrogates, whose other halves never came, as U+FFFD."""
        deltas: list[Delta] = []
        if self.failure is not None and not self.keeps_halves:
            self._held.clear()
        for voice in list(self._held):
            del self._held[voice]
            self._append(voice, "�", deltas)
        return deltas

    def _lines(self, data: bytes) -> list[bytes]:
        """Return the lines that end in these bytes."""
        # This runs once a read: the odd code below takes a tenth of the instructions of a tidier form.
        # Lines end with CR, LF or CRLF. JSON holds no raw CR, so each CR ends a line.
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._tail:
            data = self._tail + data
        lines = data.split(b"\n")
        self._tail = lines.pop()
        if self._at_start:
            self._look_at_the_start(lines)
        return lines

    def _look_at_the_start(self, lines: list[bytes]) -> None:
        """Find the first line of an event stream, and remove its byte order mark. Keep the lines of other JSON."""
        if self._is_json:
            self._keep(lines)
            return
        for number, line in enumerate([*lines, self._tail]):
            start = line.removeprefix(_BYTE_ORDER_MARK)
            if start.lstrip().startswith(_NO_STREAM):
                raise UpstreamError("upstream_malformed", "stream")
            if start.lstrip().startswith(_JSON):
                self._is_json = True
                del lines[:number]
                self._keep(lines)
                return
            if number == len(lines):
                return
            if _FIELD.match(start):
                lines[number] = start
                self._at_start = False
                return
            self._is_odd = self._is_odd or bool(start.strip())

    def _keep(self, lines: list[bytes]) -> None:
        self._data += lines
        lines.clear()

    def _event(self, name: bytes, event: bytes, deltas: list[Delta]) -> None:
        """Process the data of one event."""
        if event == b"[DONE]":
            self.done = True
            return
        if not event:
            return  # Empty data is the keep-alive of some gateways.
        try:
            chunk = decode(event)
        except (ValueError, RecursionError):
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
        """Read what few chunks have: tool calls, and usage in other places. Return the older API's text."""
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
                said = choice.delta or choice.message
                if said is not None and bytes(said.tool_calls) not in _EMPTY:
                    self.has_tool_calls = True
                text += choice.text or ""
        return text

    def _choice(self, choice: Choice, event: bytes, deltas: list[Delta]) -> None:
        if said := choice.delta or self._message(choice):
            if reasoning := said.reasoning_content or said.reasoning:
                self._append("reasoning", reasoning, deltas)
            if said.content:
                self._append("text", said.content, deltas)
            elif not reasoning:
                self._rarities(event)
            if said.refusal:
                self._append("refusal", said.refusal, deltas)
        elif text := self._rarities(event):
            self._append("text", text, deltas)
        if choice.error is not NULL and is_error(choice.error):
            raise _reported(choice.error)
        if choice.finish_reason and choice.finish_reason not in _NO_REASON:
            if meaning_of(choice.finish_reason) is Meaning.FAILED:
                raise UpstreamError("upstream_error").told_by_upstream(None, word(choice.finish_reason), "")
            self.finish_reason = _in_whole_characters(choice.finish_reason)[:REASON_CHARACTERS]
            self._rarities(event)

    def _message(self, choice: Choice) -> Message | None:
        """Return the message of a server that does not stream. After deltas, a message only repeats them."""
        return choice.message if self.last_seq == self._first_seq else None

    def _append(self, voice: str, text: str, deltas: list[Delta]) -> None:
        if self._held or not (text.isascii() or _is_whole(text)):
            text = self._mend(voice, text)
            if not text:
                return
        self.last_seq = seq = self.last_seq + 1
        if voice == "text":
            deltas.append(Delta(seq, text=text))
        elif voice == "reasoning":
            deltas.append(Delta(seq, reasoning=text))
        else:
            deltas.append(Delta(seq, refusal=text))

    def _mend(self, voice: str, text: str) -> str:
        """Join surrogate pairs, also across chunks: some servers split a character between its two escapes."""
        text = self._held.pop(voice, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held[voice] = text[-1]
            text = text[:-1]
        return _in_whole_characters(text)


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


def _in_whole_characters(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
