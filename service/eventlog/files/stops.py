"""Stop requests by any worker: a file beside the log says who requested it. The producer removes the file."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import cast, get_args

from service.events import StoppedBy


def ask(path: str, by: StoppedBy) -> None:
    """Request a stop.

    Raises:
        OSError: it cannot be written.
    """
    # Under another name until it is written, so that the producer cannot read half of it.
    asking = Path(f"{path}.{secrets.token_hex(4)}")
    try:
        asking.write_text(by, encoding="ascii")
        asking.rename(path)
    except OSError:
        with contextlib.suppress(OSError):  # On a read-only disk it does not exist, and removing it fails, too.
            asking.unlink()
        raise


def take(path: str) -> StoppedBy | None:
    """Return who requested a stop, and remove the file. None if there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text = os.read(descriptor, 64).decode("ascii", "replace")
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # On a read-only disk it stays. The answer is stopped all the same.
        Path(path).unlink()
    return cast("StoppedBy", text) if text in get_args(StoppedBy) else "user"
