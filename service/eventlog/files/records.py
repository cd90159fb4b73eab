"""The lines of a log's file. The event `seq` is line number `seq`, so a place is found by counting line ends."""

import os

BLOCK = 1 << 18


def offset_after(fd: int, lines: int) -> int | None:
    """Return the offset behind so many whole lines; None if the file has fewer."""
    offset = 0
    while lines:
        block = os.pread(fd, BLOCK, offset)
        if not block:
            return None
        ends = block.count(b"\n")
        if ends < lines:
            lines -= ends
            offset += len(block)
        else:
            return offset + _nth_line_end(block, lines)
    return offset


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
    reach = 1 << 12
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
    reach = 1 << 12
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
