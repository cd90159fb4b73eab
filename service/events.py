"""The events of an answer's log, and their ids.

An answer is one generation: an unguessable id and an append-only log of events: `start`, any number of `delta` and
`restart`, then exactly one of `done`, `stopped` and `failed`. They are numbered from 1 on. The numbers rise: by one as
long as one producer writes, and by more where another one takes over, if the log's backend may forget events.

A newer version may add types and fields: readers pass over those that they do not know. It never adds another type of
last event, never changes what a known field may hold, and puts what was asked into `start` alone. So an unknown event
never ends an answer, and a `restart` discards it like any other.

Imports `service.request` alone; every other layer speaks these words.
"""

import re
from collections.abc import Sequence
from os import urandom
from typing import Annotated, Literal, Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from service.request import GenerateRequest, Request, Via

ANSWER_ID_BYTES = 16
"""Without API keys the id alone gives access to an answer, so it has 128 random bits."""

_ANSWER_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)

MAX_SEQ = 2**53 - 1
"""The greatest seq. JavaScript and Lua cannot tell greater integers apart."""
SEQ_DIGITS = len(str(MAX_SEQ))
_EVENT_ID = re.compile(rf"([0-9a-f]{{32}}):(0|[1-9][0-9]{{0,{SEQ_DIGITS - 1}}})", re.ASCII)

MERGED_CHARACTERS = 16_384
"""A merged delta of at least this length takes up no further delta, so that each event stays small to parse."""

StoppedBy = Literal["user", "unwatched", "shutdown"]

Tokens = Annotated[int, msgspec.Meta(ge=0)]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts of the upstream."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_tokens_details: dict[str, int | None] | None = None
    completion_tokens_details: dict[str, int | None] | None = None


class Timing(msgspec.Struct, frozen=True):
    """Durations in seconds since the request. `first_chunk_seconds` is null if no chunk came."""

    first_chunk_seconds: float | None
    duration_seconds: float


class Start(msgspec.Struct, frozen=True, tag="start", omit_defaults=True):
    """The first event."""

    # The fields from `request` on are private: they stay in the log. The request is in one of `request` and
    # `chat`: in both, it would double the bytes of a long conversation.
    seq: int
    answer: str
    model: str
    request: GenerateRequest | None = None
    """The request, if the form of `/generate` can express it. Versions before `chat` read no other field."""
    at: float = 0.0
    """Unix time of the request."""
    owner: str = ""
    """The mark of the key that the answer belongs to (see `service.keys`)."""
    chat: Request | None = None
    """The request, if only the neutral form can express it."""
    via: Via | None = None
    """How it was asked for; None for `/generate`."""
    names: tuple[str, ...] = ()
    """The answer's names (see `service.names`)."""
    request_bytes: int = 0
    """The length of the request, if the log keeps it beside this event (`EventLog.with_request`)."""

    @classmethod
    def asking(cls, answer: str, request: Request, *, at: float, owner: str = "", names: tuple[str, ...] = ()) -> Self:
        """Return the first event of the request's answer."""
        old = GenerateRequest.of(request)
        new = None
        if old is None:
            new = request if request.via is None else replace(request, via=None)
        return cls(1, answer, request.model, old, at, owner, new, request.via, names)

    def asked(self) -> Request | None:
        """Return the request; None if the event has none, has it beside it, or has it in a newer version's form."""
        asked = self.chat if self.request is None else self.request.neutral()
        return asked if asked is None or self.via is None else replace(asked, via=self.via)

    def public(self) -> "Start":
        """Return the event without its private fields."""
        return Start(seq=self.seq, answer=self.answer, model=self.model)


class Seam(msgspec.Struct, frozen=True):
    """Where one upstream's text ends and the next one's begins."""

    how: str = ""
    """`continued`: an upstream was given the text so far. `reattached`: the same run was followed again."""
    why: str = ""
    """`takeover`, or the reason of the upstream's failure, as the metrics have it."""


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """An upstream's own run of the answer, which can be followed again. It is private."""

    id: str
    at: str
    """The base URL of the upstream."""
    restarts: int = 0
    """The number of times that the upstream has begun the run anew."""
    tells_all: bool = False
    """Whether the usage that the run ends with is all of the answer's: no request before it cost anything."""
    by: str = "primary"
    """The role of the endpoint that began it. Two endpoints may have one address, and read a run in different ways."""


NO_RUN = Run("", "")
"""In the log: what follows is of no run, because another endpoint was asked in place of the one that kept the run."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A further request for an answer, after a break or by a further worker, and the count of them. It is private."""

    number: int = 0
    """This request and all further ones before it."""
    without_progress: int = 0
    """This request and those in a row before it that brought nothing new."""
    restarts: int = 0
    """The number of restarts after breaks."""


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A piece of a call of a tool, or a whole call. `id` and `name` are in a call's first piece alone."""

    index: Annotated[int, msgspec.Meta(ge=0)]
    """The call's place among the answer's calls, from 0 on."""
    id: str = ""
    name: str = ""
    arguments: str
    """A piece of the arguments, which are JSON once they are whole."""


class Delta(msgspec.Struct, frozen=True, tag="delta", omit_defaults=True, gc=False):
    """A piece of the answer, in exactly one of its four voices; or, without a voice, a seam, a run or an attempt."""

    # A seam is no type of its own: versions before it would take an unknown type for damage. A delta that a newer
    # version wrote may have none of the fields.

    seq: int
    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_call: ToolCall | None = None
    seam: Seam | None = None
    run: Run | None = None
    """Private: such a delta stays in the log. It comes before the run's first piece, for a take-over."""
    attempt: Attempt | None = None
    """Private, as `run`. It comes before the request is made, which may be the last thing that its worker does."""

    @property
    def is_private(self) -> bool:
        """Whether the event stays in the log."""
        return self.run is not None or self.attempt is not None

    @property
    def has_voice(self) -> bool:
        """Whether it is a piece of the answer, in a voice that this version knows."""
        return (
            self.text is not None
            or self.reasoning is not None
            or self.refusal is not None
            or self.tool_call is not None
        )


class Restart(msgspec.Struct, frozen=True, tag="restart", omit_defaults=True):
    """The answer begins anew: discard its text, reasoning and refusal so far."""

    seq: int
    again: bool = False
    """Whether the same answer is only told again, because the log had lost the reader's place. It is no restart for
    readers that have their place, and none in the log as they read it."""


# `usage` of a terminal event has the tokens that the upstream told. `usage_complete` is false if it did not tell all of
# them. Earlier versions wrote no `usage_complete`, and neither usage nor timing in `stopped` and `failed`.


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The upstream finished the answer. `usage_complete` is there only as false."""

    seq: int
    finish_reason: str
    usage: Usage | None
    timing: Timing
    usage_complete: bool | UnsetType = UNSET


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """The answer was ended before the upstream finished it: by a user, the lack of followers, or a shutdown."""

    seq: int
    by: StoppedBy
    usage: Usage | UnsetType | None = UNSET
    usage_complete: bool | UnsetType = UNSET
    timing: Timing | UnsetType = UNSET


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The answer could not be finished. `message` is fit for users. `retryable` says whether a retry may help."""

    seq: int
    code: str
    message: str
    retryable: bool
    usage: Usage | UnsetType | None = UNSET
    usage_complete: bool | UnsetType = UNSET
    timing: Timing | UnsetType = UNSET


class UnknownEvent(msgspec.Struct, frozen=True):
    """An event of a type that this version does not know. It is read and never written."""

    seq: int


Event = Start | Delta | Restart | Done | Stopped | Failed
Terminal = Done | Stopped | Failed
TERMINAL = frozenset({Done, Stopped, Failed})
"""The same as a set of types, for checks on each chunk: `isinstance` with a union takes five times as long."""

_TAGS = frozenset([kind.__struct_config__.tag for kind in Event.__args__])

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_encode_lines = _encoder.encode_lines


def encode(event: Event) -> bytes:
    """Return the event as one line of JSON, without a line end. JSON escapes CR and LF, so it is always one line."""
    return _encode(event)


def encode_lines(events: Sequence[Event]) -> bytes:
    """Return the events as lines, each with its line end."""
    if len(events) != 1:
        return _encode_lines(events)
    global _last  # noqa: PLW0603 (one for the whole process: the next event replaces it)
    if events[0] is not _last[0]:
        _last = (events[0], _encode_lines(events))
    return _last[1]


_last: tuple[Event | None, bytes] = (None, b"")
"""The last event that was encoded alone, and its line. The log and the event's followers need it in the same turn."""


def decode(line: bytes) -> Event:
    """Return the event in a line that `encode` wrote.

    Raises:
        ValueError: the line is not an event of this version (`msgspec.ValidationError` and `msgspec.DecodeError` are
            ValueErrors).
    """
    return _decoder.decode(line)


class _Header(msgspec.Struct):
    """The fields that every event has, in any version."""

    type: str
    seq: Annotated[int, msgspec.Meta(ge=1)]


_decode_header = msgspec.json.Decoder(_Header).decode


def decode_any(line: bytes) -> Event | UnknownEvent:
    """Return the event in a line that this or a newer version wrote.

    Raises:
        ValueError: the line is not an event, or a known field of a known type holds something else.
    """
    try:
        return _decoder.decode(line)
    except msgspec.ValidationError:
        header = _decode_header(line)
        if header.type in _TAGS:
            raise
        return UnknownEvent(header.seq)


def new_answer_id() -> str:
    """Return a new, unguessable id."""
    return urandom(ANSWER_ID_BYTES).hex()  # as `secrets.token_hex`, in a fifth of the calls


def is_answer_id(text: str) -> bool:
    """Return whether the text has the form of an answer id, and so is safe as a file name."""
    return _ANSWER_ID.fullmatch(text) is not None


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Return the answer id and the seq of `<answer id>:<seq>`, or None where the text is not an event id."""
    match = _EVENT_ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None


def public_events(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events as followers get them: merged, without what is private. There may be none."""
    if len(events) == 1:
        event = events[0]
        if type(event) is Delta:
            return () if event.run is not None or event.attempt is not None else events
        return (event.public(),) if type(event) is Start else events
    if len(events) == 2 and type(events[0]) is Start:  # noqa: PLR2004 (an answer's beginning, which most followers read)
        return (events[0].public(), *public_events(events[1:]))
    merged = _merge(events)
    return [
        event.public() if type(event) is Start else event
        for event in merged
        if type(event) is not Delta or not event.is_private
    ]


def merge_deltas(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events with neighbouring deltas of one voice merged, each under the seq of its last part."""
    return events if len(events) == 1 else _merge(events)


def _merge(events: Sequence[Event]) -> Sequence[Event]:
    merged: list[Event] = []
    parts: list[str] = []
    length = 0
    voice = ""
    call: ToolCall | None = None
    seq = 0

    def flush() -> None:
        nonlocal length
        if parts:
            if call is None:
                merged.append(Delta(seq, **{voice: "".join(parts)}))  # type: ignore[arg-type]
            else:
                merged.append(Delta(seq, tool_call=replace(call, arguments="".join(parts))))
            parts.clear()
            length = 0

    for event in events:
        voiced = _voiced(event) if type(event) is Delta else None
        if voiced is None:
            flush()
            merged.append(event)
            continue
        this, part, this_call = voiced
        if this != voice or length >= MERGED_CHARACTERS or (this_call is not None and _begins(this_call, call)):
            flush()
            voice, call = this, this_call
        parts.append(part)
        length += len(part)
        seq = event.seq
    flush()
    return merged


def _voiced(delta: Delta) -> tuple[str, str, ToolCall | None] | None:
    """Return the delta's voice, its words and its call of a tool.

    None for a seam, what is private, and a newer version's: it has a voice that this one does not know, or none.
    """
    if delta.text is not None:
        return "text", delta.text, None
    if delta.reasoning is not None:
        return "reasoning", delta.reasoning, None
    if delta.refusal is not None:
        return "refusal", delta.refusal, None
    if delta.tool_call is not None:
        return "tool_call", delta.tool_call.arguments, delta.tool_call
    return None


def _begins(piece: ToolCall, before: ToolCall | None) -> bool:
    """Return whether the piece is of another call than the one before it."""
    return before is None or piece.index != before.index or piece.id != "" or piece.name != ""
