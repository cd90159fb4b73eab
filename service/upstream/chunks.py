"""Decode the bytes of an OpenAI-compatible chat-completions stream into deltas. Pure: no I/O, no clock.

The stream is Server-Sent Events whose data is one JSON chunk each, then `[DONE]`
(https://platform.openai.com/docs/api-reference/chat-streaming). Servers differ in all that is not here: a role chunk
first or not, usage in a chunk of its own or with the last, reasoning under one name or the other, comments as
keep-alives, LF or CRLF.

msgspec decodes the usual chunk in one pass. What it refuses is read again, slowly and tolerantly, in one place:
`_decode_loosely`. An event is malformed only if words of the answer may be lost with it.
"""

import contextlib
import json
import re
from typing import Annotated, Any

import msgspec

from service.errors import UpstreamError
from service.events import Delta, Usage

EVENT_BYTES = 1 << 20
"""A longer event than this is not a model's answer but a server gone wrong; reading on would only fill the memory."""

MAX_TOKENS = 1_000_000_000
"""A count above it is a server's mistake. Passed on, 10^400 would be no number to a reader, nor to a metric."""

_NULL = msgspec.Raw(b"null")
_NO_ERROR = (b"null", b'""', b"false", b"0", b"[]")
"""What servers that always send an `error` put there if there was none. `{}` is not among them: JavaScript writes an
exception so."""

_FAILURE = re.compile(
    r"error|fail|abort|cancel|insufficient|exhausted|malformed|unexpected|unavailable|overload|interrupt|time_?out",
    re.IGNORECASE,
)
"""What a `finish_reason` has in it that names a failure: `error` (OpenRouter), `network_error` (z.ai), `abort` (vLLM),
`insufficient_system_resource` (DeepSeek), `function_call_filter: MALFORMED_FUNCTION_CALL` (Gemini).

There are as many words for a good end (`eos`, `end_turn`, `COMPLETE`, `model_length`), so a list of those would fail
every answer of a server that has another. A word that is in no list, such as Gemini's `OTHER`, is passed on as it is.
"""

_NO_STREAM = (b"{", b"[", b"<", b"\x1f")
"""First bytes of bodies that are no event stream: JSON, a page, a compressed body."""
_FIELD = re.compile(rb":|(?:data|event|id|retry)(?::|\Z)")
"""How each line of an event stream begins: as a comment, or with a field."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    index: int | None = 0
    error: msgspec.Raw = _NULL


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Other(msgspec.Struct):
    """An event without choices."""

    kind: Any = msgspec.field(name="object", default=None)
    type: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_other = msgspec.json.Decoder(_Other).decode
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: dict[str, _Count | None] | None = None
    completion_tokens_details: dict[str, _Count | None] | None = None


_decode_usage = msgspec.json.Decoder(_Usage).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax, and makes nothing
_CR = 13
_BYTE_ORDER_MARK = "\ufeff".encode()


class ChunkDecoder:
    """Bytes in, as they come from the network, deltas out, numbered on from `last_seq`.

    `finish_reason` and `usage` are set when the stream has told them, `done` when it has said that it ends, `failure`
    when it is malformed or carries an error of the upstream's own.
    """

    def __init__(self, last_seq: int) -> None:
        self.last_seq = self._first_seq = last_seq
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.failure: UpstreamError | None = None
        self._tail = b""
        self._after_cr = False
        self._at_start = True  # no line of an event stream has come yet
        self._is_odd = False  # but another line has
        self._data: list[bytes] = []
        self._name = b""  # of the event
        self._held: dict[str, str] = {}  # a voice: the first half of a character whose second half is yet to come

    def feed(self, data: bytes) -> list[Delta]:  # noqa: C901 (each line comes by here)
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
            if (self._tail or self._data) and len(self._tail) + sum(map(len, self._data)) > EVENT_BYTES:
                self.failure = UpstreamError("upstream_malformed", "event_length")
        except UpstreamError as error:
            self.failure = error
        return deltas

    def _is_whole_event(self) -> bool:
        """Return whether the event is whole although more data follows: some servers write no blank lines.

        JSON that is written in several lines has no first line that is JSON by itself.
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
        """Take the end of a body that is whole; return what it completes. It is a failure where it ends no answer.

        Some servers leave out the blank line behind the last event, or its line end.
        """
        deltas = self.feed(b"\n\n")
        if self.done or self.finish_reason is not None:
            return deltas
        if self._at_start and self._is_odd:
            self.failure = UpstreamError("upstream_malformed", "stream")
        elif self.failure is None or self.failure.code == "upstream_malformed":  # by half an event
            self.failure = UpstreamError("upstream_truncated")
        return deltas + self.finish()

    def finish(self) -> list[Delta]:
        """Return what was held back: half characters whose other half never came, as U+FFFD."""
        deltas: list[Delta] = []
        for voice in list(self._held):
            del self._held[voice]
            self._append(voice, "�", deltas)
        return deltas

    def _lines(self, data: bytes) -> list[bytes]:
        """Return the lines that end in these bytes."""
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
        if self._at_start:
            self._look_at_the_start(lines)
        return lines

    def _look_at_the_start(self, lines: list[bytes]) -> None:
        """Look for the first line of an event stream, and take the byte order mark from it."""
        for number, line in enumerate([*lines, self._tail]):
            start = line.removeprefix(_BYTE_ORDER_MARK)
            if start.lstrip().startswith(_NO_STREAM):
                raise UpstreamError("upstream_malformed", "stream")
            if number == len(lines):
                return
            if _FIELD.match(start):
                lines[number] = start
                self._at_start = False
                return
            self._is_odd = self._is_odd or bool(start.strip())

    def _event(self, name: bytes, event: bytes, deltas: list[Delta]) -> None:
        """Process the data of one event."""
        if event == b"[DONE]":
            self.done = True
            return
        if not event:
            return  # Data without a word is some gateways' sign of life.
        try:
            chunk = _decode(event)
        except (ValueError, RecursionError):
            chunk = self._decode_loosely(name, event)
        if chunk.error is not _NULL and bytes(chunk.error) not in _NO_ERROR:
            raise UpstreamError("upstream_error")
        if chunk.usage is not _NULL and bytes(chunk.usage) != b"null":
            self.usage = _usage(chunk.usage) or self.usage
        choices = chunk.choices
        if choices is None:
            if name == b"error" or _is_error(event):
                raise UpstreamError("upstream_error")
            return
        for choice in choices:
            # One answer was asked for. A server that sends more has them in the order of their index.
            if not choice.index:
                self._choice(choice, deltas)

    def _decode_loosely(self, name: bytes, event: bytes) -> _Chunk:
        try:
            return _decode_loosely(event)
        except (ValueError, AttributeError, TypeError, RecursionError):
            # A text in an event of another name is no chunk: a gateway's `ping` has a date for its data. An unreadable
            # event behind the finish takes nothing from the answer.
            is_chunk = name in (b"", b"message") or event.startswith(b"{")
            if is_chunk and self.finish_reason is None:
                raise UpstreamError("upstream_malformed", "event") from None
            return _Chunk()

    def _choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        if said := choice.delta or self._message(choice):
            if reasoning := said.reasoning_content or said.reasoning:
                self._append("reasoning", reasoning, deltas)
            if said.content:
                self._append("text", said.content, deltas)
            if said.refusal:
                self._append("refusal", said.refusal, deltas)
        if choice.error is not _NULL and bytes(choice.error) not in _NO_ERROR:
            raise UpstreamError("upstream_error")
        if choice.finish_reason:
            if _FAILURE.search(choice.finish_reason):
                raise UpstreamError("upstream_error")
            self.finish_reason = _in_whole_characters(choice.finish_reason)

    def _message(self, choice: _Choice) -> _Delta | None:
        """Return the answer of a server that sends it whole. Behind deltas, a message only repeats them."""
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


def _decode_loosely(event: bytes) -> _Chunk:
    """Decode a chunk with something odd in it: a lone surrogate, a broken character, an index that is a string.

    Raises:
        ValueError, AttributeError, TypeError, RecursionError: it is not a chunk.
    """
    try:
        text = event.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = event.decode("utf-8", "replace")
    chunk = json.loads(text)
    if not chunk:
        return _Chunk()
    choices = [_tidied(choice) for choice in chunk.get("choices") or ()]
    raw = {name: _raw(chunk.get(name)) for name in ("usage", "error")}
    return _Chunk(msgspec.convert(choices, list[_Choice], strict=False) or None, **raw)


def _tidied(choice: dict[str, Any]) -> dict[str, Any]:
    """Return the choice as most servers would write it."""
    tidied = {**choice, "error": _raw(choice.get("error"))}
    for name in ("delta", "message"):
        said = choice.get(name) or None  # PHP writes an object without fields as [].
        if said is not None and isinstance(said.get("content"), list):
            text, thinking = _in_parts(said["content"])
            said = {**said, "content": text, "reasoning": thinking or said.get("reasoning")}
        tidied[name] = said
    reason = choice.get("finish_reason") or None
    tidied["finish_reason"] = reason if reason is None or isinstance(reason, str) else json.dumps(reason)
    return tidied


def _in_parts(content: list[Any]) -> tuple[str, str]:
    """Return the text and the thinking of a list of parts, as Mistral's reasoning models send it.

    Parts without a text are passed over: references, images.
    """
    text: list[str] = []
    thinking: list[str] = []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif part.get("type") == "thinking":
            inner = part.get("thinking") or ""
            thinking.append(inner if isinstance(inner, str) else _in_parts(inner)[0])
        else:  # `text`; `output_text` of other servers; or none
            text.append(part.get("text") or "")
    return "".join(text), "".join(thinking)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def _usage(raw: msgspec.Raw) -> Usage | None:
    """Return the usage, without details of another form. Usage that cannot be read is no reason to lose an answer."""
    with contextlib.suppress(ValueError, RecursionError):
        return Usage(*msgspec.structs.astuple(_decode_usage(raw)))
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        usage = msgspec.json.decode(raw)
        for name in ("prompt_tokens_details", "completion_tokens_details"):
            details = usage.get(name)
            counts = details.items() if isinstance(details, dict) else ()
            usage[name] = {key: count for key, count in counts if count is None or _is_count(count)} or None
        return Usage(*msgspec.structs.astuple(msgspec.convert(usage, _Usage)))
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def _is_error(event: bytes) -> bool:
    """Return whether an event without choices is an error: `{"object": "error", …}`, of older vLLM and FastChat."""
    try:
        other = _decode_other(event)
    except (ValueError, RecursionError):
        return False
    return "error" in (other.kind, other.type)
