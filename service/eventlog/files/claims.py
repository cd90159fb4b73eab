"""The number of an answer's take-overs, and after which of them it grew: a file beside the log, one byte for each.

`..+.` means four take-overs, with growth after the third. A claim appends a byte. With the first delta its holder
changes the byte to `+`. If a worker is killed between the delta and the `+`, its take-over counts as one without
growth. The file is erased with the log, or a minute after it was last written to.

The previous version counts the bytes only, so workers of both versions can share a log.
"""

import contextlib
import os

from service.eventlog.base import Claims

CLAIMED = b"."
GREW = b"+"
MAX_READ = 1 << 10
"""More than the claims of any answer: it is ended after twenty, unless its end cannot be written for minutes."""


def count(path: str) -> Claims:
    """Add a claim. Return the claims so far.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, CLAIMED)
        claims = os.pread(descriptor, MAX_READ, 0)
    finally:
        os.close(descriptor)
    return Claims(len(claims), len(claims) - len(claims.rstrip(CLAIMED)))


def grew(path: str, number: int) -> None:
    """Note that the answer grew after this claim. Does nothing if the claims were reset."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, GREW, number - 1)
        finally:
            os.close(descriptor)
