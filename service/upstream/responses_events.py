"""Decode the events of OpenAI's Responses API into deltas. Pure: no I/O, no clock.

The events are typed and numbered (https://platform.openai.com/docs/api-reference/responses-streaming). The stream of a
run that the server keeps can be asked for behind any number. A number does not tell how much text came up to it, so a
`Place` has both.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.answer import Attached
from service.errors import UpstreamError
from service.events import Delta, Run, ToolCall
from service.finish_reasons import Meaning, meaning_of
from service.upstream.error_body import read_error, word
from service.upstream.event_stream import BYTE_ORDER_MARK, EventStreamDecoder, reason_of
from service.upstream.known import Known
from service.upstream.odd_chunks import objects_in, raw_of, text_of
from service.upstream.refusals import reported
from service.upstream.token_usage import usage_of
from service.upstream.tool_calls import Piece, Resumable, ToolCalls

EVENT_BYTES = 16 << 20
"""Limit on an event. The last one repeats the whole answer, and the first one the instructions."""

_VOICES = {
    "response.output_text.delta": "text",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.refusal.delta": "refusal",
}
_BEGINNINGS = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",  # Not OpenAI's: its streams of a cancelled run end with `incomplete`.
    "response.canceled": "cancelled",
}
"""The last events, and the status that each tells."""
_ERRORS = ("error", "response.error")
_NEW_SUMMARY = "response.reasoning_summary_part.added"
_NEW_ITEM = "response.output_item.added"
_WHOLE_ITEM = "response.output_item.done"
_ARGUMENTS = "response.function_call_arguments.delta"
_WHOLE_ARGUMENTS = "response.function_call_arguments.done"
_OTHERS = frozenset(
    {*_BEGINNINGS, *_ENDS, *_ERRORS, _NEW_SUMMARY, _NEW_ITEM, _WHOLE_ITEM, _ARGUMENTS, _WHOLE_ARGUMENTS}
)
"""The types, besides those of deltas, that are read. Any other is passed over."""
_BETWEEN_SUMMARIES = "\n\n"
_CALL = "function_call"
_OTHER_CALL = "custom_tool_call"
"""A call with any text as its input. It is not passed on."""
_UNNAMED = (b"", b"message")
_ID = re.compile(r"(?!\.*\Z)[\w.~:=+/-]{1,1024}", re.ASCII)
"""A run's id, which goes into an address."""

_Json = dict[str, Any]


class _Event(msgspec.Struct, gc=False):
    """What most events are read of."""

    type: str
    delta: str | None = None
    sequence_number: int | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_object = msgspec.json.Decoder(_Json).decode


@dataclass(slots=True)
class Place:
    """How far a run has been read: up to the event `number`. Each voice, and each call, then had so many characters."""

    number: int | None = None
    read: dict[str | int, int] = field(default_factory=dict)
    calls: Resumable = ()
    """The calls of tools that had begun then."""
    has_numbers: bool = True
    """Whether the events are numbered without gaps, so that the stream can be asked for from here."""

    def start(self, known: Attached) -> int | None:
        """Return the number behind which a stream leaves out nothing but what is known; None if there is none."""
        characters = known.characters
        is_known = all(characters.get(voice, -1) >= read for voice, read in self.read.items())
        return self.number if self.has_numbers and is_known else None


class ResponsesDecoder(EventStreamDecoder):
    """Decodes the bytes of a run's stream. `place` follows it.

    A new run is announced by a delta with `run` before its first piece. With `known` the run is followed again, and
    what is known of it is left out. The stream then begins behind `place.start(known)`, or at the run's start: some
    servers take no number.

    `run_ended` is set if the run is over without an answer.
    """

    event_bytes = EVENT_BYTES

    def __init__(self, last_seq: int, at: str, known: Attached | None = None, place: Place | None = None) -> None:
        """`at` is the base URL of the upstream."""
        super().__init__(last_seq)
        self.place = place or Place()
        self._at = at
        self._attached = known
        self._known = Known(known)
        start = self.place.start(known) if known else None
        self._start = None if start is None else (start, self.place.read, self.place.calls)
        self._number: int | None = None  # of the last event
        self._read: dict[str | int, int] = {}

    def _event(self, name: bytes, event: bytes, deltas: list[Delta]) -> None:
        if event == b"[DONE]":
            # The events have an end of their own. A stream without it is cut, however it ends.
            raise (
                UpstreamError("upstream_malformed", "stream")
                if self.is_unreadable
                else UpstreamError("upstream_truncated")
            )
        if not event:
            return
        try:
            said = _decode(event)
            written = _decode_object(event) if said.type in _OTHERS else None
        except (ValueError, RecursionError):
            self._odd_event(name, event, deltas)
            return
        self._take(said, written, deltas)

    def _odd_event(self, name: bytes, event: bytes, deltas: list[Delta]) -> None:
        try:
            objects = objects_in(event)
        except (ValueError, RecursionError):
            if name in _UNNAMED or name.startswith(b"response.") or event.startswith(b"{"):
                raise UpstreamError("upstream_malformed", "event") from None
            return
        self._is_odd = self._is_odd or (not objects and name in _UNNAMED)
        for written in objects:
            self._object(name, written, deltas)
            if self.done:
                return

    def _object(self, name: bytes, written: _Json, deltas: list[Delta]) -> None:
        kind, number = written.get("type"), written.get("sequence_number")
        if not isinstance(kind, str):
            if written.get("error"):
                raise _reported(written)
            kind = name.decode("utf-8", "replace")
            self._is_odd = self._is_odd or name in _UNNAMED
        delta = text_of(written.get("delta")) if kind in _VOICES else None
        said = _Event(kind, delta, number if type(number) is int else None)
        self._take(said, written if kind in _OTHERS else None, deltas)

    def _take(self, said: _Event, written: _Json | None, deltas: list[Delta]) -> None:
        voice = _VOICES.get(said.type)
        if self._start is not None and (said.sequence_number is not None or voice or said.type in _ENDS):
            self._begin_at(said.sequence_number)
        if voice is not None:
            if said.delta:
                self._append(voice, said.delta, deltas)
        elif written is not None:
            self._other(said.type, written, deltas)
        self._passed(said.sequence_number)

    def _begin_at(self, number: int | None) -> None:
        """Find out where the stream of a run begins that is followed again."""
        if self._start is None or self._attached is None:
            return
        (last, read, calls), self._start = self._start, None
        if number is None or number <= last:
            return
        if number > last + 1:
            self.place.has_numbers = False  # Something is missing. The next stream is asked for from its start.
            raise UpstreamError("upstream_truncated")
        self._number = last
        self._read = dict(read)
        self._known = Known(self._attached, read)
        self._calls = ToolCalls(calls) if calls else None

    def _passed(self, number: int | None) -> None:
        """Move the place behind an event."""
        place = self.place
        if number is None or number < 0 or (self._number is not None and number != self._number + 1):
            place.has_numbers = False
        self._number = number
        calls = () if self._calls is None else self._calls.resumable
        if not self._held and calls is not None:
            place.number = number
            place.read = dict(self._read)
            place.calls = calls

    def _other(self, kind: str, written: _Json, deltas: list[Delta]) -> None:
        response = written.get("response")
        if kind in _ERRORS:
            # It may be of the stream alone. If it comes again, it is of the run.
            self.run_ended = self._attached is not None
            raise _reported(written)
        if kind in _BEGINNINGS:
            self._announce(response, deltas)
        elif kind in _ENDS:
            self._end(_ENDS[kind], response if isinstance(response, dict) else {}, deltas)
        elif kind == _NEW_SUMMARY:
            if written.get("summary_index") and self._read.get("reasoning"):
                self._append("reasoning", _BETWEEN_SUMMARIES, deltas)
        elif kind in (_ARGUMENTS, _WHOLE_ARGUMENTS):
            self._arguments(written, deltas, is_whole=kind == _WHOLE_ARGUMENTS)
        elif isinstance(item := written.get("item"), dict):
            self._item(item, _place(written), deltas, is_whole=kind == _WHOLE_ITEM)

    def _arguments(self, written: _Json, deltas: list[Delta], *, is_whole: bool) -> None:
        said = text_of(written.get("arguments" if is_whole else "delta")) or ""
        name = text_of(written.get("name")) or ""
        piece = Piece(_place(written), "", name if is_whole else "", said, b"")
        self._called(piece, deltas, is_whole=is_whole)

    def _item(self, item: _Json, place: int | None, deltas: list[Delta], *, is_whole: bool) -> None:
        """Process what an item tells of a call of a tool."""
        self.has_tool_calls = self.has_tool_calls or item.get("type") == _OTHER_CALL
        if item.get("type") == _CALL:
            id_, name, said = (text_of(item.get(key)) or "" for key in ("call_id", "name", "arguments"))
            piece = Piece(place, id_ or text_of(item.get("id")) or "", name, said, bytes(raw_of(item)))
            self._called(piece, deltas, is_whole=is_whole)

    def _called(self, piece: Piece, deltas: list[Delta], *, is_whole: bool) -> None:
        self.has_tool_calls = True
        self._call(piece, deltas, is_whole=is_whole)

    def _announce(self, response: object, deltas: list[Delta]) -> None:
        """Add the run of a stream that begins. A server without background mode may say so, and has none."""
        if self._attached is not None or self.last_seq != self._first_seq or not isinstance(response, dict):
            return
        run_id = response.get("id")
        if response.get("background") is not False and isinstance(run_id, str) and _ID.fullmatch(run_id):
            self.last_seq += 1
            deltas.append(Delta(self.last_seq, run=Run(run_id, self._at)))

    def _end(self, status: str, response: _Json, deltas: list[Delta]) -> None:
        """Process the last event. Sets `finish_reason`, `usage` and `done`."""
        told = response.get("status")
        status = told if told in ("incomplete", "failed", "cancelled") else status
        self.usage = usage_of(raw_of(response.get("usage"))) or self.usage
        if status in ("failed", "cancelled"):
            self.run_ended = True
            raise _reported(response) if status == "failed" else UpstreamError("upstream_error")
        if not self._read and not self._held:
            self._whole(response, deltas)
        for at, item in enumerate(_objects(response.get("output"))):
            self._item(item, at, deltas, is_whole=True)
        reason = _reason(status, response)
        if reason == "completed" and self._calls is not None:
            reason = "tool_calls"
        if meaning_of(reason) is Meaning.FAILED:
            self.run_ended = True
            raise UpstreamError("upstream_error").told_by_upstream(None, word(reason), "")
        self.finish_reason = reason_of(reason)
        self.done = True

    def _whole(self, response: _Json, deltas: list[Delta]) -> None:
        """Read the answer from the last event, of a server that sent no deltas."""
        for item in _objects(response.get("output")):
            summary = [text_of(part.get("text")) or "" for part in _objects(item.get("summary"))]
            self._say("reasoning", _BETWEEN_SUMMARIES.join(summary), deltas)
            for part in _objects(item.get("content")):
                voice = "reasoning" if item.get("type") == "reasoning" else "text"
                self._say(voice, text_of(part.get("text")), deltas)
                self._say("refusal", text_of(part.get("refusal")), deltas)

    def _say(self, voice: str, text: str | None, deltas: list[Delta]) -> None:
        if text:
            self._append(voice, text, deltas)

    def _completion(self) -> list[Delta]:
        """Process a whole response in place of a stream, or events as JSON lines."""
        body = b"\n".join(self._data).strip().removeprefix(BYTE_ORDER_MARK)
        self._data.clear()
        self._is_odd = True
        deltas: list[Delta] = []
        try:
            for written in objects_in(body):
                if written.get("object") == "response":
                    self._is_odd = False
                    self._response(written, deltas)
                elif written.get("type") in _OTHERS:
                    self._is_odd = False
                    self._object(b"", written, deltas)
                elif "type" in written:
                    self._object(b"", written, deltas)
        except UpstreamError as error:
            self.failure = error
        except (ValueError, RecursionError):
            pass  # Nothing was read.
        return deltas

    def _response(self, response: _Json, deltas: list[Delta]) -> None:
        """Process a response that is no stream. One that is not at its end is asked for again, later."""
        self._start = None
        self.place.has_numbers = False
        self._announce(response, deltas)
        status = response.get("status")
        if status in ("queued", "in_progress"):
            raise UpstreamError("upstream_truncated")
        self._end(status if isinstance(status, str) else "completed", response, deltas)

    def _append(self, voice: str, text: str, deltas: list[Delta]) -> None:
        before = len(deltas)
        super()._append(voice, text, deltas)
        if len(deltas) > before:
            delta = deltas.pop()
            self._read_on(voice, delta.text or delta.reasoning or delta.refusal or "")
            self._leave_out(delta, deltas)

    def _append_call(self, call: ToolCall, deltas: list[Delta]) -> None:
        super()._append_call(call, deltas)
        self._read_on(call.index, call.arguments)
        self._leave_out(deltas.pop(), deltas)

    def _read_on(self, voice: str | int, piece: str) -> None:
        self._read[voice] = self._read.get(voice, 0) + len(piece)

    def _leave_out(self, delta: Delta, deltas: list[Delta]) -> None:
        """Append what of the delta is not known."""
        rest = self._known.rest(delta, delta.seq)
        if rest is None:
            self.last_seq -= 1
        else:
            deltas.append(rest)


def _objects(value: object) -> list[_Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _place(written: _Json) -> int | None:
    """Return the place of the item that an event is about."""
    return place if type(place := written.get("output_index")) is int else None


def _reason(status: str, response: _Json) -> str:
    """Return the finish reason: why the response is incomplete, else its status."""
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if status == "incomplete" and isinstance(reason, str) and reason else status


def _reported(written: _Json) -> UpstreamError:
    """Return the error that an event or a response describes."""
    return reported(read_error(bytes(raw_of(written))))
