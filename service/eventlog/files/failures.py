"""Map the operating system's errors to those of `service.errors`."""

import contextlib
import errno
from collections.abc import Iterator

from service.errors import Unavailable


@contextlib.contextmanager
def as_unavailable() -> Iterator[None]:
    """Turn an `OSError` in the block into `Unavailable`."""
    try:
        yield
    except OSError as error:
        raise unavailable(error) from error


def unavailable(error: OSError) -> Unavailable:
    """Return the error for a response: `log_full` if no space is left, `log_unavailable` for every other reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("log_full")
    return Unavailable("log_unavailable")
