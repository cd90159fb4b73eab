"""Decode the bytes of an event stream into deltas. Pure: no I/O, no clock.

Each API has a decoder of its own for what its events say. This is what their streams have in common: Server-Sent Events
(https://html.spec.whatwg.org/multipage/server-sent-events.html) with JSON as data. Servers differ in line ends, blank
lines and keep-alives, and some send a whole answer, or a page, in place of a stream.
"""

import re
from abc import ABC, abstractmethod

import msgspec

from service.errors import UpstreamError
from service.events import Delta, ToolCall, Usage
from service.upstream.characters import in_whole_characters, is_whole, without_half
from service.upstream.tool_calls import Piece, ToolCalls

EVENT_BYTES = 1 << 20
"""Usual limit on an event. A longer one is a server's fault, and buffering it would fill the memory."""
LINE_BYTES = 16
"""Added for each line of an event: empty lines take up memory, too."""
REASON_CHARACTERS = 200
"""Limit on a finish reason. Some servers write a sentence; a longer text is no reason."""

_NO_STREAM = (b"<", b"\x1f")
"""First bytes of a body that has no answer: HTML, a compressed body."""
_JSON = (b"{", b"[")
"""First bytes of a whole answer in place of a stream, or of an error."""
_FIELD = re.compile(rb":|(?:data|event|id|retry)(?::|\Z)")
"""The start of a line of an event stream: a comment or a field."""
BYTE_ORDER_MARK = "\ufeff".encode()

_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax and creates no objects
_CR = 13


class EventStreamDecoder(ABC):
    """Decodes the bytes of a stream, in any pieces, into deltas with the seqs after `last_seq`.

    `finish_reason` and `usage` are set from the stream, `done` at its end, `failure` if it is malformed or reports an
    error of the upstream. `has_tool_calls` tells whether the model called a tool, of any kind. Unset `keeps_halves` if
    a failed answer may be continued: half a character at its end is then left to the continuation.
    """

    keeps_halves = True
    run_ended = False
    usage_complete = True
    event_bytes = EVENT_BYTES
    _calls: ToolCalls | None = None

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
        self._is_json = False  # a whole answer in place of a stream
        self._data: list[bytes] = []
        self._name = b""  # the event's name
        self._held: dict[str, str] = {}  # by voice: a high surrogate at the end of the last piece

    @abstractmethod
    def _event(self, name: bytes, event: bytes, deltas: list[Delta]) -> None:
        """Process the data of one event, and append what it says. Sets `done` if the answer has ended with it.

        Raises:
            UpstreamError: the event is malformed, or reports an error of the upstream.
        """

    @abstractmethod
    def _completion(self) -> list[Delta]:
        """Process `_data`, a whole answer in place of a stream. Sets `done` if it is one, or `failure`."""

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
                len(self._tail) + sum(map(len, self._data)) + LINE_BYTES * len(self._data) > self.event_bytes
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

    def finish(self) -> list[Delta]:
        """Return the held surrogates, whose other halves never came, as U+FFFD, and calls whose names never came."""
        deltas: list[Delta] = []
        if self.failure is not None and not self.keeps_halves:
            self._held.clear()
            return deltas
        for voice in list(self._held):
            del self._held[voice]
            self._append(voice, "�", deltas)
        for call in () if self._calls is None else self._calls.finish():
            self._append_call(call, deltas)
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
            start = line.removeprefix(BYTE_ORDER_MARK)
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

    def _append(self, voice: str, text: str, deltas: list[Delta]) -> None:
        if self._held or not (text.isascii() or is_whole(text)):
            text = self._mend(voice, text)
            if not text:
                return
        self.last_seq = seq = self.last_seq + 1
        if voice == "text":
            deltas.append(Delta(seq, text))
        elif voice == "reasoning":
            deltas.append(Delta(seq, None, text))
        else:
            deltas.append(Delta(seq, None, None, text))

    def _mend(self, voice: str, text: str) -> str:
        """Join surrogate pairs, also across events: some servers split a character between its two escapes."""
        text, half = without_half(self._held.pop(voice, "") + text)
        if half:
            self._held[voice] = half
        return text

    def _call(self, piece: Piece, deltas: list[Delta], *, is_whole: bool = False) -> None:
        """Append what a piece of a call of a tool says. It may have all of the call's arguments."""
        if self._calls is None:
            self._calls = ToolCalls()
        call = self._calls.add_whole(piece) if is_whole else self._calls.add(piece)
        if call is not None:
            self._append_call(call, deltas)

    def _append_call(self, call: ToolCall, deltas: list[Delta]) -> None:
        self.last_seq += 1
        deltas.append(Delta(self.last_seq, tool_call=call))


def reason_of(text: str) -> str:
    """Return a finish reason as it is passed on."""
    return in_whole_characters(text)[:REASON_CHARACTERS]
