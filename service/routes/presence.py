"""Whether the client is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


class Presence:
    """Cancels the request's task as soon as its client disconnects, until `close`.

    ASGI tells of it by a message. It is received without a task: the connection's callback runs the wait for it.
    """

    def __init__(self, receive: Receive) -> None:
        """Create it in the request's task. `receive` is ASGI's."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (this runs in one)
        self._task = task
        self._is_gone = False
        self._waiting: Coroutine[Any, Any, None] | None = _gone(receive)
        self._wait()

    def has_ended(self, error: BaseException) -> bool:
        """Return whether the error is the cancellation by this object. Call it once, with the task's error."""
        return self._is_gone and isinstance(error, asyncio.CancelledError) and self._task.uncancel() == 0

    def close(self) -> None:
        """Stop watching."""
        if (waiting := self._waiting) is not None:
            self._waiting = None
            waiting.close()

    def _wait(self, _: object = None) -> None:
        if (waiting := self._waiting) is None:
            return
        try:
            future = waiting.send(None)
        except Exception:  # noqa: BLE001 (StopIteration; or nothing more can be received)
            # In a later turn, because the task itself may be running.
            self._task.get_loop().call_soon(self._interrupt)
            return
        if future is None:  # the pause of an `asyncio.sleep(0)`
            self._task.get_loop().call_soon(self._wait)
        else:
            future.add_done_callback(self._wait)

    def _interrupt(self) -> None:
        if self._waiting is not None:
            self._waiting = None
            self._is_gone = True
            self._task.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
