"""Wait for a condition, with a timeout."""

import asyncio
from collections.abc import Callable

DEADLINE_SECONDS = 30.0
"""Timeout far above any duration, so that it means a failure and not a slow machine."""
POLL_SECONDS = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it does not within DEADLINE_SECONDS.
    """
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 (the condition depends on other processes)
            await asyncio.sleep(POLL_SECONDS)
