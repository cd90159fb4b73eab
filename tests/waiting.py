"""Wait for a condition, with a timeout."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

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


async def first(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Ask until there is a result other than None, False and an empty one; return it.

    Raises:
        TimeoutError: there is none within DEADLINE_SECONDS.
    """
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (result := await ask()):  # noqa: ASYNC110 (the result depends on other processes)
            await asyncio.sleep(POLL_SECONDS)
    return result
