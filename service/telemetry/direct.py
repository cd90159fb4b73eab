"""Counts without prometheus_client's checks of each, which take longer than the count.

prometheus_client has no public way to leave them out, or to observe many values at once. `tests/test_metrics.py` checks
that what is counted here is what its own methods count.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram

from service.telemetry.gen_ai import counts_of

_FEW = 8
"""Number of values from which on one look for each bucket is quicker than one for each value."""


def adding_to(metric: Counter | Gauge) -> Callable[[float], None]:
    """Return a function that adds to the metric, which has no labels or is a child with its labels set."""
    add: Callable[[float], None] = metric._value.inc  # noqa: SLF001 (see above)
    return add


class Observations:
    """Observes for a histogram, which has no labels or is a child with its labels set."""

    __slots__ = ("_add_to_buckets", "_add_to_sum", "_bounds")

    def __init__(self, histogram: Histogram) -> None:
        self._bounds = histogram._upper_bounds  # noqa: SLF001 (see above) # the last is infinite
        self._add_to_buckets = [bucket.inc for bucket in histogram._buckets]  # noqa: SLF001
        self._add_to_sum = histogram._sum.inc  # noqa: SLF001

    def observe(self, value: float) -> None:
        """Observe one value."""
        self._add_to_buckets[bisect_left(self._bounds, value)](1)
        self._add_to_sum(value)

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe values that are in order."""
        if len(values) < _FEW:
            for value in values:
                self.observe(value)
            return
        for add, count in zip(self._add_to_buckets, counts_of(values, self._bounds[:-1]), strict=True):
            if count:
                add(count)
        self._add_to_sum(sum(values))
