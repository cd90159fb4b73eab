"""Another worker: a process that uses an event log on command.

    with AnotherWorker(url) as another:
        await another.ask("create", answer=ANSWER)

Run as `python -m tests.eventlog.another <url>`, it reads one command a line and replies with one line each.
"""

import asyncio
import json
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from service.errors import FolyamError
from service.eventlog import EventLog, Lease, NameTakenError, Reader, Retention, open_event_log
from service.events import Event, Start, StoppedBy, Terminal, decode, encode
from service.names import Naming
from tests.waiting import DEADLINE_SECONDS

ROOT = Path(__file__).parents[2]


async def tended(log: EventLog) -> list[str]:
    """Tend the log; return the orphans that it reports."""
    orphans: list[str] = []
    await log.tend(orphans.append)
    return orphans


class AnotherWorker:
    """The process, seen from the test. Ends with the `with` block."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.eventlog.another", url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def ask(self, what: str, **given: Any) -> Any:  # noqa: ANN401 (whatever the command returns)
        """Call a method of `_Worker` in that process; return its result."""
        return await asyncio.to_thread(self._ask, {"what": what, "given": given})

    async def append(self, answer: str, events: list[Event]) -> int:
        """Have it append the events; return its lease's last seq."""
        last_seq = await self.ask("append", answer=answer, events=[encode(event).decode() for event in events])
        assert isinstance(last_seq, int)
        return last_seq

    async def follow(self, answer: str, *, after: int = 0) -> list[Event]:
        """Follow the answer there to its terminal event; return the events."""
        lines = await self.ask("follow", answer=answer, after=after)
        return [decode(line.encode()) for line in lines]

    def kill(self) -> None:
        """SIGKILL: no `finally` runs."""
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)

    def _ask(self, command: dict[str, Any]) -> Any:  # noqa: ANN401 (whatever the command returns)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 2 * DEADLINE_SECONDS)
        assert ready, f"no reply to {command['what']}"
        reply = self._process.stdout.readline()
        assert reply, f"it died of {command['what']}"
        return json.loads(reply)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=DEADLINE_SECONDS)


class _Worker:
    def __init__(self, url: str) -> None:
        self._log = open_event_log(url, Retention())
        self._leases: dict[str, Lease] = {}
        self._readers: dict[str, Reader] = {}
        self._naming: Any = None

    async def create(self, answer: str, names: list[list[Any]] | None = None) -> int | None:
        """Create a log. None if another answer has a name that may stand for one only."""
        namings = [Naming(*each) for each in names or ()]
        start = Start(1, answer, "model", names=tuple(naming.name for naming in namings))
        try:
            lease = self._leases[answer] = await self._log.create(start, namings)
        except NameTakenError:
            return None
        return lease.last_seq

    async def create_each(self, answers: list[str], names: list[str]) -> list[str]:
        """Create a log for each of the names, which may stand for one answer only. Return the answers that were."""
        pairs = zip(answers, names, strict=True)
        created = [await self.create(answer, [[name, "digest", "only"]]) for answer, name in pairs]
        return [answer for answer, is_created in zip(answers, created, strict=True) if is_created]

    async def begin_to_name(self, answer: str, name: str) -> None:
        """Write a name as before the log is created, and keep it so."""
        names: Any = self._log._names  # type: ignore[attr-defined] # both shared backends have it
        namings = [Naming(name, "digest", "only")]
        if hasattr(names, "take"):
            await names.take(answer, namings)
        else:
            self._naming = names.creating(answer, namings)
            await self._naming.__aenter__()

    async def named(self, name: str) -> list[list[Any]]:
        return [[named.answer, named.digest, named.delivered] for named in await self._log.named(name)]

    async def followed(self, answer: str) -> bool:
        return await self._log.followed(answer)

    async def claim(self, answer: str) -> int | None:
        lease = await self._log.claim(answer)
        if lease is None:
            return None
        self._leases[answer] = lease
        return lease.last_seq

    async def append(self, answer: str, events: list[str]) -> int:
        lease = self._leases[answer]
        await lease.append([decode(line.encode()) for line in events])
        return lease.last_seq

    async def release(self, answer: str) -> None:
        self._leases.pop(answer).release()

    async def watched(self, answer: str) -> bool:
        return self._leases[answer].watched()

    async def open(self, answer: str, after: int = 0) -> None:
        self._readers[answer] = await self._log.open(answer, after)

    async def close(self, answer: str) -> None:
        self._readers.pop(answer).close()

    async def follow(self, answer: str, after: int) -> list[str]:
        reader = await self._log.open(answer, after)
        read: list[Event] = []
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not (read and isinstance(read[-1], Terminal)):
                    events = await reader.read()
                    read += events
                    if not events:
                        await reader.wait(DEADLINE_SECONDS)
        finally:
            reader.close()
        return [encode(event).decode() for event in read]

    async def request_stop(self, answer: str, by: StoppedBy) -> None:
        await self._log.request_stop(answer, by)

    async def tend(self) -> list[str]:
        return await tended(self._log)


async def _serve(url: str) -> None:
    worker = _Worker(url)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        try:
            reply = await getattr(worker, command["what"])(**command["given"])
        except FolyamError as error:
            reply = {"error": error.code}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # Standard output has the replies.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_serve(sys.argv[1]))
