"""The usage of one answer: what its requests to the upstream have told, added up."""

from service.events import Usage
from service.recovery import Mending
from service.upstream.stream import UpstreamStream


class SpentUsage:
    """The sum over the requests so far, and whether each has told its usage.

    Args:
        taken_over: How the answer of a dead worker goes on. What its requests cost is unknown, unless its run tells all
            of it.
    """

    def __init__(self, taken_over: Mending | None) -> None:
        self._usages: dict[str | int, Usage] = {}  # by run, which tells its usage each time that it is followed
        followed = taken_over.attached.run if taken_over and taken_over.attached else None
        self._untold_run = followed if followed is not None and followed.tells_all else None
        self._has_all = taken_over is None or self._untold_run is not None

    @property
    def total(self) -> Usage | None:
        """The tokens of all requests, as far as they are known."""
        total: Usage | None = None
        for usage in self._usages.values():
            total = sum_usage(total, usage)
        return total

    @property
    def is_complete(self) -> bool:
        """Whether `total` is the usage of all requests."""
        return bool(self._usages) and self.has_all_told

    @property
    def has_all_told(self) -> bool:
        """Whether each request so far has told its usage, if there was any."""
        return self._has_all and self._untold_run is None

    def add(self, stream: UpstreamStream) -> None:
        """Add the usage of a request that has ended, however it ended."""
        if stream.usage is not None:
            run = None if stream.attached is None else stream.attached.run.id
            self._usages[run or len(self._usages)] = stream.usage
        left = self._untold_run
        if left is not None and (stream.attached is None or stream.attached.run.id != left.id):
            self._has_all = False
        # A run that broke off tells all of its usage at its end, to the stream that follows it again.
        self._untold_run = None if stream.has_all_usage else stream.untold_run
        self._has_all = self._has_all and (stream.has_all_usage or self._untold_run is not None)


def sum_usage(first: Usage | None, second: Usage | None) -> Usage | None:
    """Return the tokens of both requests, as far as they are known."""
    if first is None or second is None:
        return first or second
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
        first.total_tokens + second.total_tokens,
        _sum_details(first.prompt_tokens_details, second.prompt_tokens_details),
        _sum_details(first.completion_tokens_details, second.completion_tokens_details),
    )


def _sum_details(
    first: dict[str, int | None] | None, second: dict[str, int | None] | None
) -> dict[str, int | None] | None:
    if not first or not second:
        return first or second
    return {name: (first.get(name) or 0) + (second.get(name) or 0) for name in (*first, *second)}
