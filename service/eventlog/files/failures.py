"""Map the operating system's errors to those of `service.errors`."""

import errno

from service.errors import Unavailable


class _AsUnavailable:
    """See `as_unavailable`. Without a state, and so without an object for each block."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise unavailable(error) from error


_AS_UNAVAILABLE = _AsUnavailable()


def as_unavailable() -> _AsUnavailable:
    """Turn an `OSError` in the block into `Unavailable`."""
    return _AS_UNAVAILABLE


def unavailable(error: OSError) -> Unavailable:
    """Return the error for a response: `log_full` if no space is left, `log_unavailable` for every other reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("log_full")
    return Unavailable("log_unavailable")
