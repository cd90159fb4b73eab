"""The rest of the time for which an answer goes on without a follower: a file beside its log.

The file's modification time is the time at which to stop the answer. A worker that takes the answer over subtracts the
time of the log's last write, so that time without a producer does not count. Without the file, each take-over would
start the time anew.

`LEFT_OVER_SECONDS` count from the modification time, too, so the file stays for as long as it is needed.
"""

import contextlib
import os
from pathlib import Path


def mark(path: str, seconds: float) -> None:
    """Note that the answer has no follower and goes on for so long. If that fails, the time may start anew."""
    new = f"{path}.new"  # Until its time is set: a kill before that would leave no time at all.
    with contextlib.suppress(OSError):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.utime(descriptor)  # By the kernel's clock, as the log's time.
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
    """Return the seconds left when the log was last written to; None if the answer had a follower then.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        until = os.stat(path).st_mtime  # noqa: PTH116 (the path is a string)
    except FileNotFoundError:
        return None
    return max(0.0, until - written_at)
