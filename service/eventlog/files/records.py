"""The lines of a log's file. The event `seq` is line number `seq`, so a place is found by counting line ends."""

import os
from collections.abc import Iterator

FIRST_BLOCK = 1 << 12
BLOCK = 1 << 18
"""Bytes read at once. The first block is small, because the wanted line is mostly near an end; each next one is eight
times as long, up to this length."""


def _lengths() -> Iterator[int]:
    """Yield the lengths of the blocks to read one after the other."""
    length = FIRST_BLOCK
    while True:
        yield min(length, BLOCK)
        length *= 8


def offset_after(fd: int, lines: int) -> int | None:
    """Return the offset behind so many whole lines from the start; None if the file has fewer."""
    if not lines:
        return 0
    offset = 0
    for length in _lengths():
        block = os.pread(fd, length, offset)
        if not block:
            return None
        ends = block.count(b"\n")
        if ends >= lines:
            return offset + _nth_line_end(block, lines)
        lines -= ends
        offset += len(block)
    return None


def offset_before(fd: int, end: int, lines: int) -> int | None:
    """Return the offset before so many whole lines; None if there are fewer. `end` is the offset behind the last one.

    What is appended meanwhile makes no difference: it is behind `end`.
    """
    lines += 1  # The wanted offset is behind the line end before the first of them.
    for length in _lengths():
        start = max(0, end - length)
        block = os.pread(fd, end - start, start)
        if len(block) < end - start:
            return None  # The file was shortened.
        ends = block.count(b"\n")
        if ends >= lines:
            return start + _nth_line_end(block, ends - lines + 1)
        lines -= ends
        end = start
        if not start:
            return 0 if lines == 1 else None
    return None


def _nth_line_end(block: bytes, lines: int) -> int:
    """Return the offset behind the block's `lines`-th line end, by bisection: counting is far faster than finding."""
    low, high = 0, len(block)
    while lines > 1:
        middle = (low + high) // 2
        ends = block.count(b"\n", low, middle)
        if ends < lines:
            lines -= ends
            low = middle
        else:
            high = middle
    return block.index(b"\n", low) + 1


def line_before(fd: int, end: int) -> bytes:
    """Return the line that ends at the offset, with its line end."""
    reach = FIRST_BLOCK
    while True:
        start = max(0, end - reach)
        block = os.pread(fd, end - start, start)
        begin = block.rfind(b"\n", 0, len(block) - 1)
        if begin >= 0 or start == 0:
            return block[begin + 1 :]
        reach *= 8


def last_line(fd: int) -> tuple[bytes, int]:
    """Return the last whole line without its line end, and the offset behind it; `(b"", 0)` if there is none."""
    size = os.fstat(fd).st_size
    reach = FIRST_BLOCK
    while True:
        start = max(0, size - reach)
        block = os.pread(fd, size - start, start)
        end = block.rfind(b"\n")
        begin = block.rfind(b"\n", 0, max(end, 0))
        if begin >= 0 or (start == 0 and end >= 0):
            return block[begin + 1 : end], start + end + 1
        if start == 0:
            return b"", 0
        reach *= 8
