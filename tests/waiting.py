"""Waiting for what is to become true, with an end to the wait."""

import asyncio
from collections.abc import Callable

DEADLINE_SECONDS = 30.0
"""Far longer than anything takes: whoever waits so long sees a failure, and no slow machine."""
POLL_SECONDS = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 (what is waited for happens in other processes)
            await asyncio.sleep(POLL_SECONDS)
