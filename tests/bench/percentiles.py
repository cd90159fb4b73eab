"""The statistics of the tables."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all values does not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    # Rounded first: 0.99 * 100 is a little more than 99 in binary, and must not be the 100th value for that.
    rank = -int(-round(share * len(ordered), 9) // 1)
    return ordered[max(rank, 1) - 1]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return percentile(values, 0.5)
