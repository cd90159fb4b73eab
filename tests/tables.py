"""A table of measurements, printed after the tests."""


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
