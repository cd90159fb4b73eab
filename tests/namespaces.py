"""Enter a network namespace, for which Python has a function since 3.12."""

import ctypes
import os

CLONE_NEWNET = 0x40000000


def join_namespace(path: str) -> None:
    """Move this process, which has one thread, into the network namespace.

    Raises:
        OSError: it cannot be moved there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "the namespace cannot be entered", path)
    finally:
        os.close(descriptor)
