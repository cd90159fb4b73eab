"""A client that reads an answer through the Responses API: by the numbers of its events, cut and resumed anywhere."""

import asyncio
import random
from collections.abc import Iterator

import msgspec

from deploy.local.ports import Address
from tests.faults.viewing import AGAIN_SECONDS, Timeouts, error_code
from tests.faults.wire import Connection, Cut, Hung, Response

CUTS = 4
BEGUN = 1
"""The number of the last event that says nothing of the answer. Behind it, numbers may be missing: a restart's."""
TAKEN_OVER = 10**15
"""In a log that may forget, the numbers go on from a take-over's, which is at least so great. Files have none."""
NAME = "responses"
"""The label in the report."""


class Numbered:
    """Plays one such client, and keeps the event of each number for the checks."""

    def __init__(self, address: Address, answer: str, numbers: random.Random, timeouts: Timeouts) -> None:
        self.wrong: list[str] = []
        self.gone = False
        self._address = address
        self._path = f"/v1/responses/resp_{answer}?stream=true"
        self._numbers = numbers
        self._timeouts = timeouts
        self._cuts = CUTS
        self._events: dict[int, bytes] = {}
        self._last = -1

    async def run(self) -> list[str]:
        """Read the answer in pieces, then once more as a whole; return what is wrong."""
        try:
            async with asyncio.timeout(self._timeouts.whole):
                await self._read()
                seen, self._cuts = self._events, 0
                if not (self.gone or self.wrong):
                    self._begin_anew()
                    await self._read()
                if not self.gone and self._events != seen:
                    self.wrong.append("an event has another number for another worker")
        except Hung as error:
            self.wrong.append(f"hung: {error}")
        except TimeoutError:
            self.wrong.append(f"hung: not at its end after {self._timeouts.whole} s")
        return self.wrong

    async def _read(self) -> None:
        while True:
            if await self._one() or self.gone or self.wrong:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _one(self) -> bool:
        """Send one request; return whether its response came to the answer's end."""
        limit = self._numbers.randint(1, 8000) if self._cuts else None
        after = "" if self._last < 0 else f"&starting_after={self._last}"
        try:
            connection = await Connection.send(
                self._address, "GET", self._path + after, {}, timeout_seconds=self._timeouts.silence, limit=limit
            )
        except Cut:
            return False
        try:
            response = await connection.head()
            async for _ in connection.body():
                pass
        except Cut:
            return False
        finally:
            connection.reset()
        if limit is not None and not response.whole:
            self._cuts -= 1
        return self._take(response)

    def _take(self, response: Response) -> bool:
        if response.status == 404:
            self.gone = True
        elif error_code(response) == "answer_restarted":
            self._begin_anew()
        elif response.status == 200:
            return any(self._event(data) for data in events_of(bytes(response.body)))
        elif response.status not in (429, 502, 503, 504) and response.whole:
            self.wrong.append(f"refused: {response.status} {error_code(response)}")
        return False

    def _event(self, data: bytes) -> bool:
        """Take in an event; return whether it is the mark of the end."""
        if data == b"[DONE]":
            return True
        event = msgspec.json.decode(data)
        number = event["sequence_number"]
        if event["type"] == "error":
            self._begin_anew()
            return False
        if number <= self._last or (self._last > BEGUN and number != self._last + 1 and number < TAKEN_OVER):
            self.wrong.append("an event has another number for another worker")
        self._events[number] = data
        self._last = number
        return False

    def _begin_anew(self) -> None:
        self._events = {}
        self._last = -1


def events_of(body: bytes) -> Iterator[bytes]:
    """Yield the data of each whole event."""
    *whole, _ = body.split(b"\n\n")
    for block in whole:
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                yield line.removeprefix(b"data: ")
