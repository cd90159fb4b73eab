"""Work that completes or fails even if its caller is cancelled: an append over a network, say.

A stop cancels the producer's task during an append. Whether that append was written decides the terminal event's seq.
"""

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def completed(work: asyncio.Future[T]) -> T:
    """Return the result of the work. A cancelled caller waits for it, too, and is then told of its cancellation.

    The work has to end by itself: nothing interrupts it.

    Raises:
        CancelledError: the caller was cancelled. The work is done, or has failed.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    if not work.cancelled():
        work.exception()  # Retrieved, so that asyncio does not log it.
    raise cancelled
