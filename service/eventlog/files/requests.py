"""Large requests: a file beside the log, `<answer>.request`. It is written before the log, and erased with it."""

import asyncio
import contextlib
import errno
import os

IN_THREAD_BYTES = 1 << 20
"""Length from which a request is read and written in a thread: that takes a millisecond."""


async def write(path: str, request: bytes) -> None:
    """Write the file.

    Raises:
        OSError: it cannot be written. Nothing is left of it.
    """
    if len(request) < IN_THREAD_BYTES:
        _write(path, request)
    else:
        await asyncio.to_thread(_write, path, request)


async def read(path: str, length: int) -> bytes:
    """Return what the file holds; empty if it is gone.

    Raises:
        OSError: it cannot be read.
    """
    return _read(path) if length < IN_THREAD_BYTES else await asyncio.to_thread(_read, path)


def _write(path: str, request: bytes) -> None:
    new = f"{path}.new"  # Until it is whole. The workers hear of it when it is renamed.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, request) < len(request):
            raise OSError(errno.ENOSPC, "")  # noqa: TRY301 (caught to remove what was written)
        os.rename(new, path)  # noqa: PTH104 (see `FileEventLog.name`)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)  # noqa: PTH108
        raise
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except FileNotFoundError:
        return b""
