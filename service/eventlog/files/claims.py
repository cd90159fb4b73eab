"""How often an answer was taken over, and after which take-overs it grew: one byte for each, in a file beside its log.

`..+.` is four take-overs; after the third the answer grew. A claim appends a byte, and its holder turns that byte into
`+` with the first delta. A worker that is killed between the delta and the `+` makes its take-over count as one without
growth, and nothing worse. The file is erased with the log, or a minute after it was last written to.

The version before this one counts the bytes alone, so workers of both versions can share a log.
"""

import contextlib
import os

from service.eventlog.base import Claims

CLAIMED = b"."
GREW = b"+"
MOST_READ = 1 << 10
"""More claims than an answer gets: after twenty it is ended, unless the disk refuses its end for minutes."""


def count(path: str) -> Claims:
    """Add a claim; return all of them.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, CLAIMED)
        claims = os.pread(descriptor, MOST_READ, 0)
    finally:
        os.close(descriptor)
    return Claims(len(claims), len(claims) - len(claims.rstrip(CLAIMED)))


def grew(path: str, number: int) -> None:
    """Note that the answer grew after the claim of that number. Does nothing where the claims were forgotten."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, GREW, number - 1)
        finally:
            os.close(descriptor)
