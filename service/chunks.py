"""Decodes the bytes of an OpenAI-compatible chat-completions stream into deltas. Pure: no I/O, no clock.

The stream is Server-Sent Events whose data is one JSON chunk each, then `[DONE]`
(https://platform.openai.com/docs/api-reference/chat-streaming). Servers differ in all that is not here: a role chunk
first or not, usage in a chunk of its own or with the last, reasoning under one name or the other, comments as
keep-alives, LF or CRLF.
"""

import contextlib
import json

import msgspec

from service.errors import UpstreamError
from service.events import Delta, Usage

EVENT_BYTES = 1 << 20
"""A longer event than this is not a model's answer but a server gone wrong; reading on would only fill the memory."""


_NULL = msgspec.Raw(b"null")


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None
    index: int | None = 0


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_usage = msgspec.json.Decoder(Usage).decode
_CR = 13
_BYTE_ORDER_MARK = "\ufeff".encode()


class ChunkDecoder:
    """Bytes in, as they come from the network, deltas out, numbered on from `last_seq`.

    `finish_reason` and `usage` are set when the stream has told them, `done` when it has said that it ends, `failure`
    when it is malformed or carries an error of the upstream's own.
    """

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.failure: UpstreamError | None = None
        self._tail = b""
        self._after_cr = False
        self._at_start = True
        self._data: list[bytes] = []
        self._held: dict[str, str] = {}  # a voice: the first half of a character whose second half is yet to come

    def feed(self, data: bytes) -> list[Delta]:
        """Return the deltas that the bytes complete, up to the stream's end or its `failure`."""
        deltas: list[Delta] = []
        try:
            for event in self._events(data):
                self._chunk(event, deltas)
                if self.done:
                    return deltas
            if (self._tail or self._data) and len(self._tail) + sum(map(len, self._data)) > EVENT_BYTES:
                raise _malformed("an event is too long")
        except UpstreamError as error:
            self.failure = error
        return deltas

    def finish(self) -> list[Delta]:
        """Return what was held back: half characters whose other half never came, as U+FFFD."""
        deltas: list[Delta] = []
        for voice in list(self._held):
            del self._held[voice]
            self._append(voice, "�", deltas)
        return deltas

    def _events(self, data: bytes) -> list[bytes]:
        """Return the data of the events that end in these bytes."""
        # Every read comes by here: what looks odd below takes a tenth of the instructions of what would look better.
        # Lines end with CR, LF or CRLF. JSON holds no raw CR, so that each of them ends a line.
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
        if self._at_start and lines:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        events = []
        for line in lines:
            if line[:5] == b"data:":
                self._data.append(line[5:])
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
        return events

    def _chunk(self, event: bytes, deltas: list[Delta]) -> None:
        event = event.strip()
        if event == b"[DONE]":
            self.done = True
            return
        if not event:
            return  # Data without a word is some gateways' sign of life.
        try:
            chunk = _decode(event)
        except (ValueError, RecursionError):
            chunk = _decode_again(event)
        if chunk.error is not _NULL and bytes(chunk.error) != b"null":
            raise UpstreamError("upstream_error", "The model's server broke off with an error of its own.")
        if chunk.usage is not _NULL and bytes(chunk.usage) != b"null":
            # Usage of another form is no reason to lose an answer.
            with contextlib.suppress(ValueError, RecursionError):
                self.usage = _decode_usage(chunk.usage)
        for choice in chunk.choices or ():
            # One answer was asked for. A server that sends more has them in the order of their index.
            if not choice.index:
                self._choice(choice, deltas)

    def _choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        if delta := choice.delta:
            if reasoning := delta.reasoning_content or delta.reasoning:
                self._append("reasoning", reasoning, deltas)
            if delta.content:
                self._append("text", delta.content, deltas)
            if delta.refusal:
                self._append("refusal", delta.refusal, deltas)
        if choice.finish_reason:
            self.finish_reason = _in_whole_characters(choice.finish_reason)

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
        """Join surrogate halves, also across chunks: some servers cut a character between two of its escapes."""
        text = self._held.pop(voice, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held[voice] = text[-1]
            text = text[:-1]
        return _in_whole_characters(text)


def _in_whole_characters(text: str) -> str:
    """Return the text with its surrogates joined, and those that have no other half as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_again(event: bytes) -> _Chunk:
    """Decode what msgspec refuses and JSON allows: escapes of lone surrogates."""
    try:
        chunk = json.loads(event)
        raw = {key: msgspec.Raw(json.dumps(chunk.pop(key, None)).encode()) for key in ("usage", "error")}
        return _Chunk(msgspec.convert(chunk, _Chunk).choices, **raw)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise _malformed("an event is not a chunk") from None


def _malformed(what: str) -> UpstreamError:
    return UpstreamError("upstream_malformed", f"The model's server sent something unreadable: {what}.")
