"""Work on the event loop in steps of up to some 2 ms, with pauses between them.

In a thread it held up every stream: whenever a stream's system call released the interpreter, the thread kept it for up
to five milliseconds.
"""

import asyncio
import time

STEP_SECONDS = 0.002
"""Longest step, except that it has at least an eighth of its files.

On a busy worker, a pause lasts as long as everything else that waits for the loop. With steps of 32 files, a new
worker's first sweep over 3,000 logs took up to 2.4 s, and orphans that arose meanwhile waited for the next sweep.
"""
STEP = 128
"""Files opened or erased in a step, at most: 1.5 to 2 ms."""
STEP_OF_UNKNOWN = 512
"""Files whose age is read in a step, at most: as long."""
STEP_OF_KNOWN = 2048
"""Files recognised by their names, or sorted by their ages, in a step, at most: as long."""
STEP_OF_COMPARED = 16384
"""Files whose known age is compared in a step: as long."""
PAUSE_SECONDS = 0.005


class Steps:
    """Counts work. A step is full when its parts add up to 1, or when it has taken long enough."""

    def __init__(self) -> None:
        self._work = 0.0
        self._began = time.perf_counter()

    def full(self, files: int) -> bool:
        """Count one file of so many that make a step. Return whether the step is full: then call `pause`."""
        self._work += 1 / files
        return self._work >= 1 or (self._work >= 1 / 8 and time.perf_counter() - self._began >= STEP_SECONDS)

    async def pause(self) -> None:
        """Let everything else on the event loop run, and begin the next step."""
        await asyncio.sleep(PAUSE_SECONDS)
        self._work = 0.0
        self._began = time.perf_counter()
