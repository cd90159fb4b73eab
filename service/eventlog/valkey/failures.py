"""Map the connection's errors to those of `service.errors`."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from service.errors import Unavailable
from service.eventlog.valkey.pipeline import ErrorReply

PATIENCE_SECONDS = 2.0
"""Longest wait of a request that asks, follows or stops. The client asks again: it is told that it may do so soon."""


def unavailable(error: Exception) -> Unavailable:
    """Return the error for a response: `log_full` if the server's memory is full."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, ErrorReply) and error.code == "OOM":
        return Unavailable("log_full")
    return Unavailable("log_unavailable")


async def soon(reply: Awaitable[Any]) -> Any:  # noqa: ANN401 (any reply)
    """Return the reply.

    Raises:
        Unavailable: there is none within `PATIENCE_SECONDS`, or it is an error.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reply
    except (ErrorReply, TimeoutError) as error:
        raise unavailable(error) from error
