"""Put calls of tools together, however a server splits them. Pure: no I/O, no clock.

OpenAI numbers the calls, and sends id and name with a call's first piece alone. Others give each call the index 0 and a
new id, repeat id and name in each piece, send no id or no index, send whole calls, or send a call once more at its end.
What begins a call is told by the first of these that a piece has: its id, its index, its name.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from service.events import ToolCall
from service.upstream.characters import in_whole_characters, is_whole, without_half

Resumable = tuple[tuple[int | None, str, int], ...]
"""For each call that has begun: the server's index, its id, the length of its arguments in characters."""

MINTED_CHARACTERS = 9
"""Length of the ids that are made here: Mistral's models take no other length."""

_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax and creates no objects


@dataclass(slots=True)
class Piece:
    """What a server sends of a call at once. Empty is what it leaves out."""

    index: int | None
    id: str
    name: str
    arguments: str
    source: bytes
    """The event that it came with. An id that is missing is made of it, so that the same bytes have the same id."""
    is_apart: bool = False
    """Whether it stands behind another one in a list. Without an index and an id, its name then begins a call."""


@dataclass(slots=True)
class _Call:
    place: int | None
    """The server's index."""
    id: str
    """The server's id; empty if there is none."""
    source: bytes
    name: str = ""
    index: int | None = None
    """The place among the answer's calls. None until the name is known, which the first piece has to tell."""
    arguments: list[str] = field(default_factory=list)
    length: int = 0
    """Of the arguments, in characters. Those of a run that is followed again need not be known."""
    half: str = ""
    is_named_again: bool = False
    """Whether its name came again, without arguments: another call of the same tool may have begun."""

    @property
    def is_known(self) -> bool:
        """Whether all its arguments are known."""
        return sum(map(len, self.arguments)) == self.length


class ToolCalls:
    """The calls of one answer, from its stream's pieces."""

    __slots__ = ("_calls", "_count")

    def __init__(self, resumed: Resumable = ()) -> None:
        self._calls = [
            _Call(place, id_, b"", "-", index, length=length) for index, (place, id_, length) in enumerate(resumed)
        ]
        self._count = len(resumed)

    @property
    def resumable(self) -> Resumable | None:
        """What `__init__` takes to go on from here; None while something is held back."""
        if any(call.half or call.index is None for call in self._calls):
            return None
        calls = sorted(self._calls, key=lambda call: call.index or 0)
        return tuple([(call.place, call.id, call.length) for call in calls])

    def add(self, piece: Piece) -> ToolCall | None:
        """Return what is new with the piece; None for nothing, or nothing yet."""
        call = self._call_of(piece)
        if call is not None and self._ends(call, piece):
            piece.name = piece.name or call.name
            call = None
        if call is None:
            if not (piece.id or piece.name or piece.arguments):
                return None
            call = self._begin(piece)
        elif call.length and self._is_sent_again(call, piece.arguments):
            return None
        return self._grow(call, piece, piece.arguments)

    def add_whole(self, piece: Piece) -> ToolCall | None:
        """Return what is new with a piece that has all of its call's arguments."""
        call = next((each for each in self._calls if piece.id and each.id == piece.id), None) or self._at(piece.index)
        if call is None or (call.id and piece.id and call.id != piece.id):
            return self.add(piece)
        if call.is_known and not piece.arguments.startswith("".join(call.arguments)):
            return None
        call.half = ""
        return self._grow(call, piece, piece.arguments[call.length :])

    def finish(self) -> Iterator[ToolCall]:
        """Yield what was held back: calls without a name, and half a character, whose other half never came."""
        for call in self._calls:
            half, call.half = call.half, ""
            if half or call.index is None:
                yield self._new(call, in_whole_characters(half))

    def _call_of(self, piece: Piece) -> _Call | None:
        """Return the call that the piece is of; None if it begins one."""
        if piece.id:
            for call in reversed(self._calls):
                if call.id == piece.id and (piece.index is None or call.place in (None, piece.index)):
                    return call
            late = self._at(piece.index)  # Its id may come behind its first piece.
            return late if late is not None and not late.id and not piece.name else None
        if piece.is_apart and piece.index is None and piece.name:
            return None
        return self._at(piece.index)

    def _at(self, index: int | None) -> _Call | None:
        for call in reversed(self._calls):
            if index is None or call.place is None or call.place == index:
                return call
        return None

    def _ends(self, call: _Call, piece: Piece) -> bool:
        """Return whether a piece without an id of its own begins another call where this one is."""
        if piece.id:
            return False
        if piece.name and call.name and piece.name != call.name:
            return True
        named_again = call.is_named_again or bool(piece.name and call.name)
        if not piece.arguments.strip():
            call.is_named_again = named_again
            return False
        # Behind arguments that are whole there can be no more of them.
        return named_again and piece.arguments.lstrip().startswith("{") and _is_whole_json(call)

    def _is_sent_again(self, call: _Call, arguments: str) -> bool:
        """Return whether all of the arguments, which were whole already, come once more."""
        return len(arguments) == call.length and "".join(call.arguments) == arguments and _is_whole_json(call)

    def _begin(self, piece: Piece) -> _Call:
        call = _Call(piece.index, in_whole_characters(piece.id), piece.source)
        self._calls.append(call)
        return call

    def _grow(self, call: _Call, piece: Piece, arguments: str) -> ToolCall | None:
        call.name = call.name or in_whole_characters(piece.name)
        call.id = call.id or in_whole_characters(piece.id)
        if call.half or not (arguments.isascii() or is_whole(arguments)):
            arguments, call.half = without_half(call.half + arguments)
        call.arguments.append(arguments)
        call.length += len(arguments)
        if not call.name:
            return None
        if call.index is None:
            return self._new(call, "")
        return ToolCall(index=call.index, arguments=arguments) if arguments else None

    def _new(self, call: _Call, more: str) -> ToolCall:
        call.arguments.append(more)
        call.length += len(more)
        if call.index is not None:
            return ToolCall(index=call.index, arguments=more)
        is_taken = any(other.id == call.id and other.index is not None for other in self._calls)
        call.index = self._count
        self._count += 1
        id_ = _minted(call.index, call.source) if is_taken or not call.id else call.id
        call.source = b""
        return ToolCall(index=call.index, id=id_, name=call.name, arguments="".join(call.arguments))


def _minted(index: int, source: bytes) -> str:
    return hashlib.blake2b(b"%d %b" % (index, source)).hexdigest()[:MINTED_CHARACTERS]


def _is_whole_json(call: _Call) -> bool:
    """Return whether the call's arguments are a whole object."""
    arguments = "".join(call.arguments).strip()
    if not (arguments.startswith("{") and arguments.endswith("}")):
        return False
    try:
        _skip(arguments.encode())
    except (ValueError, RecursionError):
        return False
    return True
