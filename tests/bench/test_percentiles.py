import pytest

from tests.bench.percentiles import median, percentile


def test_a_percentile_is_the_smallest_value_that_covers_the_share() -> None:
    values = list(range(1, 101))
    assert percentile(values, 0.99) == 99
    assert percentile(values, 0.991) == 100
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.0) == 1
    assert percentile(values, 1.0) == 100


def test_the_order_of_the_values_does_not_matter() -> None:
    assert percentile([3, 1, 2], 0.99) == 3
    assert median([9, 1, 5]) == 5


def test_one_value_is_every_percentile() -> None:
    assert percentile([7], 0.01) == percentile([7], 0.99) == 7


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])
