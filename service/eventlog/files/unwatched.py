"""The rest of the time for which an answer goes on without a follower: kept in a file beside its log.

The file's time of modification is when the answer is to be stopped. A worker that takes the answer over subtracts the
time of the log's last write, so that time without a producer is not charged. Without the file the time would begin anew
with each take-over.

`LEFT_OVER_SECONDS` count from that time, too, so the file stays for as long as it is needed.
"""

import contextlib
import os
from pathlib import Path


def mark(path: str, seconds: float) -> None:
    """Note that the answer has no follower, and goes on for so long. Where that fails, the time may begin anew."""
    new = f"{path}.new"  # Until it has its time: a kill before that would leave no time at all.
    with contextlib.suppress(OSError):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.utime(descriptor)  # The kernel's clock, as the log's.
            until = os.fstat(descriptor).st_mtime + seconds
            os.utime(descriptor, (until, until))
        finally:
            os.close(descriptor)
        Path(new).rename(path)


def clear(path: str) -> None:
    """Note that the answer has a follower again, or has ended."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def left(path: str, written_at: float) -> float | None:
    """Return the seconds left when the log was last written to; None where the answer then had a follower.

    Raises:
        OSError: the file cannot be looked at.
    """
    try:
        until = os.stat(path).st_mtime  # noqa: PTH116 (the path is a string)
    except FileNotFoundError:
        return None
    return max(0.0, until - written_at)
