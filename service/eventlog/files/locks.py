"""Kernel locks on a log's file: who produces it and who follows it, truthful even after a SIGKILL.

They are open file description locks (https://man7.org/linux/man-pages/man2/fcntl_locking.2.html): they belong to one
open(), not to the process as the older POSIX locks do, so that several readers and a producer in one worker each have
their own, and the kernel drops them with the last descriptor, however the process ended. They are held on bytes far
behind the end of any log; nothing is ever written there.
"""

import errno
import fcntl
import os
import struct

LEASE = 1 << 62
"""The byte that the producer locks exclusively."""
WATCH = LEASE + 1
"""The byte that each follower locks shared."""

_FLOCK = struct.Struct("@hhqqi0q")  # struct flock: type, whence, start, length, pid (0 by rule), padded as C does


def lock(fd: int, byte: int, kind: int) -> bool:
    """Lock a byte with `fcntl.F_RDLCK` or `fcntl.F_WRLCK`; tell whether it was free to be locked. Never waits."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def is_locked_by_another(fd: int, byte: int) -> bool:
    """Tell whether another open file holds a lock on the byte. Taking none itself, the question disturbs nobody."""
    query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, query)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
