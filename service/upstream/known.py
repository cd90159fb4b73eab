"""What the log has of an upstream's run, by voice and in characters, where the run is read from its start again. Pure.

An upstream may merge its pieces, so that their numbers do not say how much is known: their characters do.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from service.answer import Attached
from service.events import Delta, ToolCall


class Known:
    """The characters that are known and have not been read again yet."""

    def __init__(self, attached: Attached | None = None, read: Mapping[str | int, int] | None = None) -> None:
        """`read` is what was read before: the run is not read from its start, but from behind so many characters."""
        read = read or {}
        known = {} if attached is None else attached.characters
        self._left = {voice: count - read.get(voice, 0) for voice, count in known.items()}
        self._begun = {voice for voice in known if isinstance(voice, int) and voice not in read}
        """The calls of tools whose first piece is known and has not been read again."""

    @property
    def is_over(self) -> bool:
        """Whether all that is known has been read again."""
        return not self._begun and not any(self._left.values())

    def rest(self, delta: Delta, seq: int) -> Delta | None:
        """Return the end of a run's next delta that is not known, with this number; None for nothing."""
        if (call := delta.tool_call) is not None:
            rest = self._rest_of_call(call)
            return None if rest is None else Delta(seq, tool_call=rest)
        voice = "text" if delta.text else "reasoning" if delta.reasoning else "refusal"
        piece = self._new(voice, delta.text or delta.reasoning or delta.refusal or "")
        return Delta(seq, **{voice: piece}) if piece else None  # type: ignore[arg-type]

    def forget(self) -> None:
        """Take every further piece for new."""
        self._left.clear()
        self._begun.clear()

    def _rest_of_call(self, call: ToolCall) -> ToolCall | None:
        if call.index not in self._left:
            return call
        self._begun.discard(call.index)
        arguments = self._new(call.index, call.arguments)
        # Its id and its name are in the log, where another worker may have made up the id.
        return replace(call, id="", name="", arguments=arguments) if arguments else None

    def _new(self, voice: str | int, piece: str) -> str:
        if known := self._left.get(voice, 0):
            self._left[voice] = max(0, known - len(piece))
            piece = piece[known:]
        return piece
