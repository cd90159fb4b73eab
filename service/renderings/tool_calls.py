"""An answer's calls of tools as a vocabulary keeps them: put together from their pieces."""

from collections.abc import Iterator

from service.events import ToolCall


class Call:
    """One call of a tool, as far as it goes."""

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self._pieces: list[str] = []

    @property
    def arguments(self) -> str:
        """The arguments so far. They are JSON once they are whole, unless the model wrote something else."""
        return "".join(self._pieces)

    def add(self, arguments: str) -> None:
        """Add a piece of the arguments."""
        self._pieces.append(arguments)


class Calls:
    """The calls of one answer since its start, or since its last restart.

    Pieces of two calls may alternate, so only the answer's end shows that a call is whole.
    """

    def __init__(self, answer_id: str) -> None:
        self._answer_id = answer_id
        self._by_index: dict[int, Call] = {}

    def __iter__(self) -> Iterator[Call]:
        """Iterate over the calls in the order in which they began."""
        return iter(self._by_index.values())

    def add(self, piece: ToolCall) -> tuple[Call, bool]:
        """Add the piece to its call. Return the call, and whether the piece is its first one."""
        call = self._by_index.get(piece.index)
        is_new = call is None
        if call is None:
            call_id = piece.id or f"call_{self._answer_id[:8]}_{piece.index}"
            call = self._by_index[piece.index] = Call(call_id, piece.name)
        call.add(piece.arguments)
        return call, is_new
