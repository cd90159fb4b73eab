"""The bytes of one streamed answer, from its script: pure, lazy, no I/O."""

import base64
import json
import time
from collections.abc import Callable, Generator, Iterator
from enum import Enum, auto
from itertools import count, pairwise, takewhile
from pathlib import Path
from typing import Any, Literal

from tests.upstream.script import NotAScript, Script
from tests.upstream.stamp import stamp
from tests.upstream.tools import deltas, message_calls

Beat = tuple[bytes, ...]
"""The writes at one moment. The pace is the pause between two beats."""


class End(Enum):
    """The way in which a body ends."""

    CLEAN = auto()
    SILENT = auto()
    RESET = auto()
    CLOSED = auto()
    DEAD = auto()
    """The process dies."""


Course = Generator[Beat | End, None, None]


class Body:
    """Iterates over the beats of one answer and then its end.

    A generator pulled at the moment of sending, so that an endless answer costs no memory and a stamp tells
    the send time.
    """

    def __init__(
        self,
        script: Script,
        *,
        model: str,
        given: str = "",
        given_reasoning: str = "",
        include_usage: bool = False,
        prompt_tokens: int = 0,
        told_to_end: Callable[[], bool] = lambda: False,
    ) -> None:
        self.chunks_sent = 0
        self._told_to_end = told_to_end
        self._script = script
        self._given = given
        self._given_reasoning = given_reasoning
        self._include_usage = include_usage and script.usage
        self._prompt_tokens = prompt_tokens
        self._blank = 2 * script.newline
        common = {
            "id": f"chatcmpl-{script.key or 'test'}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": "fp_test",
        }
        usage = ',"usage":null' if self._include_usage else ""
        self._before_choices = f'data: {_compact(common)[:-1]}{usage},"choices":'
        comment = f": ping{self._blank}" if script.comments else ""
        self._before_text = [
            f'{comment}{self._before_choices}[{{"index":{index},"delta":{{"content":' for index in range(script.choices)
        ]
        self._after_text = '},"logprobs":null,"finish_reason":null}]}' + self._blank
        self._faults = _faults(script)

    def __iter__(self) -> Iterator[Beat | End]:
        script = self._script
        course = self._course() if script.raw is None else _verbatim(base64.b64decode(script.raw))
        if script.break_at is not None and _is_first(script.break_mark):
            course = _broken(course, script)
        return course if script.split is None else _split(course, script.split)

    def _course(self) -> Course:
        opening = self._opening()
        if not self._given:
            for text in _rest(iter(self._script.reasoning), self._given_reasoning):
                yield (*opening, self._event(_choice({self._script.reasoning_field: text})))
                opening = ()
        if opening and 0 in self._faults:
            yield opening
            opening = ()
        if (yield from self._fault()):
            return
        batch: list[bytes] = []
        for text in takewhile(lambda _: not self._told_to_end(), _said(self._script, self._given)):
            written = json.dumps(text, ensure_ascii=self._script.escape)
            batch.append("".join([before + written + self._after_text for before in self._before_text]).encode())
            self.chunks_sent += 1
            faulty = self.chunks_sent in self._faults
            if len(batch) < self._script.batch and not faulty:
                continue
            yield (*opening, batch[0] if len(batch) == 1 else b"".join(batch))
            opening = ()
            batch.clear()
            if faulty and (yield from self._fault()):
                return
        if batch:
            yield (*opening, b"".join(batch))
            opening = ()
        for delta in deltas(self._script.tool_calls, self._script.tool_style) if self._script.tool_calls else ():
            yield (*opening, self._event(_choice(delta)))
            opening = ()
        yield opening + self._tail()
        yield End.CLEAN

    def _opening(self) -> Beat:
        if not self._script.role:
            return ()
        roles = [_choice({"role": "assistant", "content": ""}, index) for index in range(self._script.choices)]
        return (self._event(*roles),)

    def _tail(self) -> Beat:
        script = self._script
        tail = []
        if script.refusal:
            tail.append(self._event(_choice({"refusal": script.refusal})))
        if (reason := script.ends_with) is not None:
            tail.append(self._event(*(_choice({}, index, reason) for index in range(script.choices))))
        if self._include_usage:
            said = self.chunks_sent + len(script.reasoning)
            usage = {
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": said,
                "total_tokens": self._prompt_tokens + said,
            }
            tail.append(self._event().replace(b'"usage":null', b'"usage":' + _compact(usage).encode(), 1))
        if not script.no_done:
            tail.append(f"data: [DONE]{self._blank}".encode())
        return tuple(tail)

    def _fault(self) -> Generator[Beat | End, None, bool]:
        """Inject the fault at this place; return whether it ended the body."""
        script = self._script
        for fault in self._faults.get(self.chunks_sent, ()):
            match fault:
                case "garbage":
                    yield (script.garbage.encode("latin-1"),)
                    continue
                case "stall":
                    yield End.SILENT
                case "cut":
                    yield End.RESET if script.cut == "rst" else End.CLOSED
                case "truncate":
                    event = self._event(_choice({"content": "never whole"}))
                    yield (event[: len(event) // 2],)
                    yield End.CLEAN
                case "error":
                    yield (f"data: {_compact({'error': script.error})}{self._blank}".encode(),)
                    yield End.CLEAN
                case "huge":
                    yield (f'{self._before_text[0]}"'.encode().ljust(script.huge, b"x"),)
                    yield End.CLEAN
            return True
        return False

    def _event(self, *choices: dict[str, object]) -> bytes:
        written = json.dumps(choices, separators=(",", ":"), ensure_ascii=self._script.escape)
        return f"{self._before_choices}{written}}}{self._blank}".encode()


Fault = Literal["garbage", "stall", "cut", "truncate", "error", "huge"]


def _faults(script: Script) -> dict[int, list[Fault]]:
    """Return the faults by number of chunks; garbage first, because another fault can follow it."""
    places: list[tuple[Fault, int | None]] = [
        ("garbage", script.garbage_after),
        ("stall", script.stall_after),
        ("cut", script.cut_after),
        ("truncate", script.truncate_after),
        ("error", script.error_after),
        ("huge", script.huge_after),
    ]
    faults: dict[int, list[Fault]] = {}
    for fault, after in places:
        if after is not None:
            faults.setdefault(after, []).append(fault)
    return faults


def _texts(script: Script, given: str) -> Iterator[str]:
    """Return the texts of the chunks after the given text."""
    if script.texts is not None:
        numbered: Iterator[str] = iter(script.texts)
    else:
        numbers = count(1) if script.endless else iter(range(1, script.chunks + 1))
        numbered = (script.text.replace("{n}", str(n)) for n in numbers)
    if script.stamp:
        numbered = (stamp() + text for text in numbered)
    return _rest(numbered, given, exact=not script.stamp)


def _rest(pieces: Iterator[str], given: str, *, exact: bool = True) -> Iterator[str]:
    """Return the pieces behind the given text. Unless `exact`, the text counts by its length only."""
    at = 0
    for whole in pieces:
        if at == len(given):
            yield whole
            continue
        known = given[at : at + len(whole)]
        if exact and not whole.startswith(known):
            raise NotAScript("the text to continue is not how this script's answer begins")
        at += len(known)
        if len(known) < len(whole):
            yield whole[len(known) :]


def _said(script: Script, given: str) -> Iterator[str]:
    """Return the texts of the chunks, as a server of the script's manners sends them."""
    texts = _texts(script, given)
    if given and script.echo:
        texts = _echoing(texts, script.echo, given)
    return (half for text in texts for half in _halves(text)) if script.halves else texts


def _echoing(texts: Iterator[str], echo: str, given: str) -> Iterator[str]:
    if echo != "stripped":
        yield given if echo == "all" else given.rsplit(maxsplit=1)[-1]
        yield from texts
        return
    for text in texts:
        if stripped := text.lstrip():
            yield stripped
            break
    yield from texts


def _halves(text: str) -> Iterator[str]:
    """Return the text, split within each character that has two escapes."""
    pairs = text.encode("utf-16-le", "surrogatepass")
    units = [pairs[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(pairs), 2)]
    piece = ""
    for unit in units:
        piece += unit
        if "\ud800" <= unit <= "\udbff":
            yield piece
            piece = ""
    if piece:
        yield piece


def continues(script: Script, given: str) -> bool:
    """Return whether an answer by this script can begin with the given text."""
    try:
        next(_texts(script, given), None)
    except NotAScript:
        return False
    return True


def _verbatim(body: bytes) -> Course:
    yield (body,)
    yield End.CLEAN


def _is_first(mark: str) -> bool:
    """Create the file, unless the path is empty; return whether it was not there."""
    try:
        if mark:
            Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _broken(course: Course, script: Script) -> Course:
    """Yield the bytes up to `break_at`, and then break off."""
    left = script.break_at or 0
    for beat in course:
        if isinstance(beat, End):
            yield beat
            return
        data = b"".join(beat)
        if len(data) < left:
            left -= len(data)
            yield beat
            continue
        yield (data[:left],)
        break
    match script.break_how:
        case "reset":
            yield End.RESET
        case "stall":
            yield End.SILENT
        case "die":
            yield End.DEAD
        case "garbage":
            yield (b'\n\ndata: {"choices": [oops\n\n',)
            yield End.CLEAN
        case "truncate":
            yield End.CLEAN


def _split(course: Course, cuts: Literal["bytes"] | tuple[int, ...]) -> Course:
    """Yield the same bytes in other writes."""
    body = b""
    end = End.CLEAN
    for beat in course:
        if isinstance(beat, End):
            end = beat
        else:
            body += b"".join(beat)
    places = range(1, len(body)) if cuts == "bytes" else sorted({cut for cut in cuts if 0 < cut < len(body)})
    for start, stop in pairwise([0, *places, len(body)]):
        yield (body[start:stop],)
    yield end


def whole_text(script: Script, given: str = "") -> str:
    """Return the text of a whole answer."""
    return "".join(_texts(script, given))


def whole_message(script: Script, given: str = "") -> dict[str, Any]:
    """Return the message of a whole answer, for a request without a stream."""
    text = whole_text(script, given)
    message: dict[str, Any] = {"role": "assistant", "content": text or None if script.tool_calls else text}
    if script.reasoning and not given:
        message[script.reasoning_field] = "".join(script.reasoning)
    if script.refusal:
        message["refusal"] = script.refusal
    if script.tool_calls:
        message |= message_calls(script.tool_calls, script.tool_style)
    return message


def _choice(delta: dict[str, object], index: int = 0, finish_reason: str | None = None) -> dict[str, object]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
