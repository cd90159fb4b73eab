"""Erase expired logs, and the oldest ones beyond the limits."""

import asyncio
import contextlib
import heapq
import os
import time
from collections.abc import Callable

from service.eventlog.base import Retention
from service.eventlog.files.inventory import Inventory, is_left_over, look_at
from service.eventlog.files.names import NameFiles
from service.eventlog.files.steps import STEP, STEP_OF_COMPARED, STEP_OF_KNOWN, Steps

EXPIRE_SECONDS = 10.0
"""Longest interval between two searches for expired logs. It is a hundredth of `Retention.seconds` if that is less."""
SPARE = 20
"""Beyond a limit, a twentieth of it is erased, too. Otherwise each new answer beyond it would cost sorting all logs."""


class Eraser:
    """Erases an inventory's logs. One worker does so at a time."""

    def __init__(
        self, directory: str, inventory: Inventory, retention: Retention, on_error: Callable[[OSError], None]
    ) -> None:
        """`on_error` is called with the error of a file that cannot be erased."""
        self._directory = directory
        self._inventory = inventory
        self._retention = retention
        self._on_error = on_error
        self._expire_at = 0.0
        self._names = NameFiles(directory)

    async def run(self, steps: Steps) -> None:
        """Erase what is to be erased now."""
        await self._erase_left_over(steps)
        await self._tidy_names(steps)
        now = asyncio.get_running_loop().time()
        if now >= self._expire_at:
            self._expire_at = now + min(EXPIRE_SECONDS, self._retention.seconds / 100)
            await self._erase_expired(steps)
        if self._is_crowded():
            if not self._inventory.is_listed:
                await self._inventory.list_logs(
                    steps
                )  # Without the logs that were erased by a `DELETE`, it may not be.
            if self._is_crowded():
                await self._erase_oldest(steps)

    def _is_crowded(self) -> bool:
        most, inventory = self._retention, self._inventory
        return bool(inventory.ended) and (inventory.answers > most.answers or inventory.bytes > most.bytes)

    async def _erase_left_over(self, steps: Steps) -> None:
        for path in self._inventory.left_over:
            try:
                if path.endswith(".request"):  # Its log was erased, or its worker died before it created the log.
                    _unlink(path)
                    continue
                state, seen = look_at(path)
                # A log that is being created is locked, and stays, however old a clock that jumped makes it look.
                if state != "running" and is_left_over(seen.written_at):
                    _unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._on_error(error)
            if steps.full(STEP // 2):
                await steps.pause()
        self._inventory.left_over = []

    async def _tidy_names(self, steps: Steps) -> None:
        """Remove the names whose answers are gone. Until then they stand for nothing."""
        for written_at, name in self._inventory.names:
            if not is_left_over(written_at):
                continue
            try:
                self._names.tidy(name)
            except OSError as error:
                self._on_error(error)
            if steps.full(STEP // 2):
                await steps.pause()
        self._inventory.names = []

    async def _erase_expired(self, steps: Steps) -> None:
        before = time.time() - self._retention.seconds
        logs = list(self._inventory.ended.items())
        for begin in range(0, len(logs), STEP_OF_COMPARED):
            if begin:
                await steps.pause()
            for name in [name for name, ended in logs[begin : begin + STEP_OF_COMPARED] if ended.written_at < before]:
                self._erase(name)
                if steps.full(STEP):
                    await steps.pause()

    async def _erase_oldest(self, steps: Steps) -> None:
        most, inventory = self._retention, self._inventory
        answers, size = most.answers, most.bytes
        if inventory.answers > answers:
            answers -= answers // SPARE
        if inventory.bytes > size:
            size -= size // SPARE
        for name in heapq.merge(*await self._by_age(steps), key=inventory.ended.__getitem__):
            if inventory.answers <= answers and inventory.bytes <= size:
                break
            self._erase(name)
            if steps.full(STEP):
                await steps.pause()

    async def _by_age(self, steps: Steps) -> list[list[str]]:
        """Return the ended logs' names in sorted pieces: sorting all at once would be one long step."""
        ended = self._inventory.ended
        names = list(ended)
        pieces = []
        for begin in range(0, len(names), STEP_OF_KNOWN):
            await steps.pause()
            pieces.append(sorted(names[begin : begin + STEP_OF_KNOWN], key=ended.__getitem__))
        await steps.pause()
        return pieces

    def _erase(self, name: str) -> None:
        try:
            _unlink(f"{self._directory}/{name}")
            answer_id = name.removesuffix(".jsonl")
            if self._inventory.forget_request(answer_id):
                _unlink(f"{self._directory}/{answer_id}.request")
        except OSError as error:
            self._on_error(error)
        else:
            self._inventory.forget(name)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 (a path for each of thousands of names costs more than this does)
