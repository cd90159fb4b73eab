"""Kernel locks on a log's file show its producer and its followers. They are right even after a SIGKILL.

They are open file description locks (https://man7.org/linux/man-pages/man2/fcntl_locking.2.html). Each belongs to one
open(), not to the process as the older POSIX locks do. So several readers and a producer in one worker each have their
own, and the kernel drops a lock with its last descriptor, however the process ended. The locked bytes are far behind
the end of any log. Nothing is written there.
"""

import errno
import fcntl
import os
import struct

LEASE = 1 << 62
"""The byte that the producer locks exclusively: the lease."""
WATCH = LEASE + 1
"""The byte that each follower locks shared."""

_FLOCK = struct.Struct("@hhqqi0q")  # struct flock: type, whence, start, length, pid (0 by rule), padded as C does


def lock(fd: int, byte: int, kind: int) -> bool:
    """Lock a byte with `fcntl.F_RDLCK` or `fcntl.F_WRLCK`. Return False if it is locked. Does not wait."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def is_locked_by_another(fd: int, byte: int) -> bool:
    """Return whether another open file has a lock on the byte. Uses `F_OFD_GETLK`, so no lock is taken."""
    query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, query)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
