"""What the log has of an upstream's run, by voice and in characters, where the run is read from its start again. Pure.

An upstream may merge its pieces, so that their numbers do not say how much is known: their characters do.
"""

from service.answer import Attached


class Known:
    """The characters that are known and have not been read again yet."""

    def __init__(self, attached: Attached | None = None) -> None:
        self._left: dict[str, int] = {}
        if attached is not None:
            self._left = {"text": attached.text, "reasoning": attached.reasoning, "refusal": attached.refusal}

    @property
    def is_over(self) -> bool:
        """Whether all that is known has been read again."""
        return not any(self._left.values())

    def new(self, voice: str, piece: str) -> str:
        """Return the end of a run's next piece that is not known."""
        if known := self._left.get(voice, 0):
            self._left[voice] = max(0, known - len(piece))
            piece = piece[known:]
        return piece

    def forget(self) -> None:
        """Take every further piece for new."""
        self._left.clear()
