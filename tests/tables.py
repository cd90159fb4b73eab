"""Tables of measurements, printed after the tests."""

from dataclasses import dataclass

import pytest


class Table:
    """A title, and rows with the same number of cells."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[tuple[str, ...]] = []

    def add(self, *cells: object) -> None:
        self.rows.append(tuple(str(cell) for cell in cells))

    def lines(self) -> list[str]:
        widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Report:
    """The table of a test module, under the first line of its docstring; `pytest_terminal_summary` prints it."""

    test: pytest.Function

    def add(self, *cells: object) -> None:
        """Add a row. It is a part of the test's result, because another process may print the table."""
        title = str(self.test.module.__doc__).strip().splitlines()[0]
        self.test.user_properties.append((title, [str(cell) for cell in cells]))
