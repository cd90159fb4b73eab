"""Restrict this process to changing files in some directories only, with Landlock.

https://docs.kernel.org/userspace-api/landlock.html

A path traversal in this code or in a library then cannot overwrite a program, a page or a configuration. Landlock
needs no root, and the restriction holds until the process ends. Linux has it since 5.13, and the default seccomp
filters of containers allow it.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION = 1
PATH_BENEATH = 1

WRITE_FILE = 1 << 1
REMOVE_AND_MAKE = 0b1_1111_1111 << 4
"""Remove a directory or a file; create a device, directory, file, socket, pipe, block device or symbolic link."""
TRUNCATE = 1 << 14
TRUNCATE_SINCE = 3
"""First version of Landlock that has `TRUNCATE`"""


def confine(directories: Iterable[Path]) -> bool:
    """Restrict this thread, and threads that it starts later, to changing files below the directories. Irreversible.

    Open files, such as standard error, stay writable. Returns False, and restricts nothing, if the kernel cannot.

    Raises:
        OSError: one of the directories does not exist.
    """
    version = _call(CREATE_RULESET, None, 0, VERSION)
    if version < 1:
        return False
    rights = WRITE_FILE | REMOVE_AND_MAKE | (TRUNCATE if version >= TRUNCATE_SINCE else 0)
    handled = struct.pack("=Q", rights)
    ruleset = _call(CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    try:
        for directory in directories:
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if _call(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0) < 0:
                    return False
            finally:
                os.close(descriptor)
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return _call(RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: int | bytes | None) -> int:
    # Without explicit types ctypes passes an int as 32 bits, where the kernel reads a long.
    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    typed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(libc.syscall(ctypes.c_long(number), *typed))
