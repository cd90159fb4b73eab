"""One worker's log, upstream and supervisor, composed as in `service.app`, for tests without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from msgspec import UNSET
from msgspec.structs import replace

from service.eventlog import EventLog, Retention, open_event_log
from service.events import Delta, Event, Failed, Stopped, Terminal, UnknownEvent, new_answer_id
from service.producer import Limits, Producer
from service.question import to_request
from service.recovery import Recovery
from service.request import Request
from service.supervisor import Bounds, Supervisor
from service.upstream.endpoint import Continuation, Endpoint, TimeOuts
from service.upstream.stream import Upstream
from tests.upstream.script import command
from tests.waiting import DEADLINE_SECONDS, first

LONG_SECONDS = 60.0
POLL_SECONDS = 0.2
PATIENT = Limits(answer_seconds=LONG_SECONDS, answer_bytes=1 << 30, unwatched_seconds=LONG_SECONDS)
GENEROUS = Bounds(answers=1000, answers_per_client=1000)
TIME_OUTS = TimeOuts(10, 10, 10, 10)


class Addressed(Protocol):
    """An upstream, by its address."""

    @property
    def base_url(self) -> str:
        """The value for `OPENAI_BASE_URL`."""


@dataclass(frozen=True)
class Worker:
    """The parts of a worker."""

    log: EventLog
    supervisor: Supervisor

    async def start(self, key: str = "", **script: Any) -> Producer:  # noqa: ANN401 (the fields of Script)
        """Begin an answer that follows the script."""
        return await self.ask(to_request(command(key=key, **script), model="test-model"))

    async def ask(self, request: Request, client: str = "somebody") -> Producer:
        begun_at = asyncio.get_running_loop().time()
        return await self.supervisor.start(request, new_answer_id(), client=client, begun_at=begun_at)

    async def follow(self, answer: str, *, watch: bool = True) -> list[Event]:
        """Return all events of the answer, up to its terminal event."""
        return await self._read_until(answer, lambda last: isinstance(last, Terminal), watch=watch)

    async def read_to(self, answer: str, *, seq: int) -> list[Event]:
        """Wait for the event `seq`; return the events so far."""
        return await self._read_until(answer, lambda last: last.seq >= seq, watch=False)

    async def read_more(self, answer: str, *, events: int) -> None:
        """Wait until there are so many events more than now."""
        length = len(await self.read(answer)) + events

        async def is_there() -> bool:
            return len(await self.read(answer)) >= length

        await first(is_there)

    async def _read_until(self, answer: str, whole: Callable[[Event], bool], *, watch: bool) -> list[Event]:
        reader = await self.log.open(answer, watch=watch)
        read: list[Event] = []
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not (read and whole(read[-1])):
                    events = await reader.read()
                    read += events
                    if not events:
                        await reader.wait(POLL_SECONDS)
        finally:
            reader.close()
        return read

    async def read(self, answer: str) -> list[Event]:
        """Return the events so far."""
        reader = await self.log.open(answer, watch=False)
        read: list[Event] = []
        while events := await reader.read():
            read += events
        reader.close()
        return read


@asynccontextmanager
async def worker(  # noqa: PLR0913 (the parts of a worker)
    log: str | EventLog,
    upstream: Addressed,
    *,
    limits: Limits = PATIENT,
    bounds: Bounds = GENEROUS,
    recovery: Recovery | None = None,
    continuation: Continuation = "assistant",
    time_outs: TimeOuts = TIME_OUTS,
    retries: int = 0,
    fallback: Endpoint | None = None,
    first: Endpoint | None = None,
) -> AsyncIterator[Worker]:
    """A worker with the log, or with that of the URL. The log is closed with the worker."""
    if isinstance(log, str):
        log = open_event_log(log, Retention())
    first = first or Endpoint(upstream.base_url, "key", continuation=continuation)
    client = Upstream([first, *([fallback] if fallback else [])], time_outs, retries=retries)
    supervisor = Supervisor(log, client, limits, bounds, recovery=recovery, models=["test-model"])
    try:
        yield Worker(log, supervisor)
    finally:
        await supervisor.aclose()
        await client.aclose()
        await log.aclose()


def without_figures(event: Event | UnknownEvent) -> Event | UnknownEvent:
    """Return the event without its usage and its timing, if it is a `stopped` or a `failed`."""
    if isinstance(event, Stopped | Failed):
        return replace(event, usage=UNSET, usage_complete=UNSET, timing=UNSET)
    return event


def text_of(events: list[Event]) -> str:
    return "".join(event.text or "" for event in events if isinstance(event, Delta))


def seqs_without_gaps(events: list[Event]) -> bool:
    """Each seq follows the one before, or the number of a claim, which is the time in microseconds."""
    seqs = [0, *(event.seq for event in events)]
    return all(after == before + 1 or after > max(before, 10**15) for before, after in pairwise(seqs))
