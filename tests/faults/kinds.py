"""The kinds of faults, each a small class: drawn from the seed, then injected into a running stack."""

import asyncio
import contextlib
import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

import psutil

from tests.disk import filled
from tests.e2e.stack import READY_SECONDS
from tests.faults.stack import HUNG_SECONDS, Stack, until

MAX_CLOCK_SECONDS = 250.0
"""Two jumps are less apart than an answer may take, which a take-over has to reckon by the time of day."""
RECENT = 40
"""A log is chosen among so many: most of them run."""


class Crowd(Protocol):
    """What faults may ask of the clients."""

    def storm(self, kind: str, clients: int, seed: int) -> None:
        """Have so many more clients come at once."""

    def damage(self, answer: str) -> None:
        """Note that the answer's log was damaged."""

    def disk_is_full(self, *, full: bool) -> None:
        """Note that nothing can be written now, or again."""


@dataclass(frozen=True)
class Fault(ABC):
    """One fault, with all that chance had to choose."""

    name: ClassVar[str]
    orphans: ClassVar[bool] = False
    """Whether it ends producers, so that answers wait for new ones."""

    @classmethod
    @abstractmethod
    def draw(cls, numbers: random.Random) -> Self:
        """Choose."""

    @abstractmethod
    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        """Do it; return when it is over."""


@dataclass(frozen=True)
class _OnWorker(Fault):
    which: float
    """The worker, as its place among them from 0 to 1."""

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random())

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        async with stack.lock:
            pids = stack.workers()
            if pids:
                await self._hit(pids[int(self.which * len(pids))], stack)

    async def _hit(self, pid: int, stack: Stack) -> None:
        del stack
        _send(pid, self._signal)

    _signal: ClassVar[signal.Signals]


class WorkerKilled(_OnWorker):
    name = "worker SIGKILL"
    orphans = True
    _signal = signal.SIGKILL


class ServingWorkerKilled(WorkerKilled):
    """The same, if another one serves and so can carry on."""

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        serving = stack.serving()
        if len(serving) > 1:
            _send(serving[int(self.which * len(serving))], self._signal)


class WorkerTerminated(_OnWorker):
    name = "worker SIGTERM"
    orphans = True
    _signal = signal.SIGTERM


class WorkerHungUp(_OnWorker):
    name = "worker SIGHUP"
    orphans = True
    _signal = signal.SIGHUP


@dataclass(frozen=True)
class WorkerPaused(Fault):
    name = "worker SIGSTOP, SIGCONT"
    which: float
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random(), numbers.uniform(0.2, 3))

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        async with stack.lock:
            pids = stack.workers()
            if not pids:
                return
            pid = pids[int(self.which * len(pids))]
            _send(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            if pid not in stack.hung:
                _send(pid, signal.SIGCONT)


class WorkerHung(_OnWorker):
    """Stands still until gunicorn's time-out ends it."""

    name = "worker hung"
    orphans = True

    async def _hit(self, pid: int, stack: Stack) -> None:
        # Before its first sign of life gunicorn gives a worker longer than a run can wait.
        serving = stack.serving()
        if not serving:
            return
        pid = serving[int(self.which * len(serving))]
        stack.hung.add(pid)
        _send(pid, signal.SIGSTOP)
        await until(lambda: pid not in stack.workers(), 2 * HUNG_SECONDS + 5, "gunicorn ends a hung worker")


@dataclass(frozen=True)
class _OnStack(Fault):
    pause: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.uniform(0, 1))

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        async with stack.lock:
            await self._hit(stack)

    @abstractmethod
    async def _hit(self, stack: Stack) -> None: ...


class MasterReloaded(_OnStack):
    """A rolling restart: new workers, then the old ones' drain."""

    name = "master SIGHUP"
    orphans = True

    async def _hit(self, stack: Stack) -> None:
        old = set(stack.workers())
        _send(stack.master, signal.SIGHUP)
        await until(
            lambda: len(set(stack.workers()) - old) >= stack.workers_wanted, READY_SECONDS, "new workers after SIGHUP"
        )


class MasterPaused(_OnStack):
    name = "master SIGSTOP, SIGCONT"

    async def _hit(self, stack: Stack) -> None:
        _send(stack.master, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.pause)
        finally:
            _send(stack.master, signal.SIGCONT)


class MasterKilled(_OnStack):
    """The master is killed, and started again in its place."""

    name = "master SIGKILL and start"
    orphans = True

    async def _hit(self, stack: Stack) -> None:
        await stack.end_service(signal.SIGKILL)
        await asyncio.sleep(self.pause)
        await stack.start_service()


class AllKilled(_OnStack):
    """Master and workers at once, as by the kernel when memory is out; then a start."""

    name = "all SIGKILL and start"
    orphans = True

    async def _hit(self, stack: Stack) -> None:
        workers = stack.workers()
        _send(stack.master, signal.SIGSTOP)  # It would start new ones meanwhile.
        for pid in workers:
            _send(pid, signal.SIGKILL)
        await stack.end_service(signal.SIGKILL)
        await asyncio.sleep(self.pause)
        await stack.start_service()


class MasterTerminated(_OnStack):
    """A full stop and start, as a deployment that is no rolling one."""

    name = "master SIGTERM and start"
    orphans = True

    async def _hit(self, stack: Stack) -> None:
        await stack.end_service(signal.SIGTERM)
        await stack.start_service()


class NginxReloaded(_OnStack):
    name = "nginx reload"

    async def _hit(self, stack: Stack) -> None:
        before = _children(stack.nginx_master)
        _send(stack.nginx_master, signal.SIGHUP)
        await until(lambda: _children(stack.nginx_master) - before, READY_SECONDS, "nginx has new workers")


class NginxKilled(_OnStack):
    name = "nginx SIGKILL and start"

    async def _hit(self, stack: Stack) -> None:
        await stack.kill_nginx()
        await asyncio.sleep(self.pause)
        await stack.start_nginx()


@dataclass(frozen=True)
class ClockJumped(Fault):
    """The workers' time of day is another from one moment to the next, and stays so."""

    name = "clock jump"
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.uniform(-MAX_CLOCK_SECONDS, MAX_CLOCK_SECONDS))

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        stack.set_clock(self.seconds)


@dataclass(frozen=True)
class _Storm(Fault):
    clients: int
    seed: int

    kind: ClassVar[str]
    most: ClassVar[int]

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.randint(cls.most // 4, cls.most), numbers.randrange(1 << 30))

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del stack
        crowd.storm(self.kind, self.clients, self.seed)


class CancelStorm(_Storm):
    """Clients that come all at once, and leave after a random byte."""

    name = "storm of cancels"
    kind = "cancel"
    most = 60


class RateLimitStorm(_Storm):
    """The upstream refuses many at once."""

    name = "storm of 429"
    kind = "429"
    most = 40


@dataclass(frozen=True)
class _OnLog(Fault):
    which: float
    keep: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random(), numbers.choice([0.0, numbers.random()]))

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        logs = newest(stack.logs, RECENT)
        if logs:
            path = logs[int(self.which * len(logs))]
            crowd.damage(path.stem)
            with contextlib.suppress(FileNotFoundError):
                self._hit(path)

    @abstractmethod
    def _hit(self, path: Path) -> None: ...


class LogTruncated(_OnLog):
    name = "log truncated"

    def _hit(self, path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * self.keep))


class LogDeleted(_OnLog):
    name = "log deleted"

    def _hit(self, path: Path) -> None:
        path.unlink()


@dataclass(frozen=True)
class DiskFull(Fault):
    name = "disk full"
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.uniform(0.5, 3))

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        crowd.disk_is_full(full=True)
        try:
            with filled(stack.logs):
                await asyncio.sleep(self.seconds)
        finally:
            crowd.disk_is_full(full=False)


def newest(directory: Path, most: int) -> list[Path]:
    """Return the logs that were written to last."""
    times = []
    for path in directory.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            times.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(times)[-most:]]


PROCESSES: tuple[tuple[type[Fault], int], ...] = (
    (WorkerKilled, 10),
    (WorkerPaused, 4),
    (WorkerTerminated, 2),
    (WorkerHungUp, 2),
    (WorkerHung, 1),
    (MasterReloaded, 2),
    (MasterPaused, 1),
    (MasterKilled, 1),
    (AllKilled, 1),
    (MasterTerminated, 1),
    (NginxReloaded, 2),
    (NginxKilled, 2),
    (CancelStorm, 3),
    (RateLimitStorm, 2),
    (ClockJumped, 2),
)
"""With their weights."""
DISK: tuple[tuple[type[Fault], int], ...] = ((DiskFull, 2), (LogTruncated, 3), (LogDeleted, 3), (WorkerKilled, 1))


@dataclass(frozen=True)
class Planned:
    """A fault and its moment, in seconds from the beginning."""

    at: float
    fault: Fault


def plan(
    seed: int,
    seconds: float,
    kinds: tuple[tuple[type[Fault], int], ...] = PROCESSES,
    pause: Callable[[random.Random], float] = lambda numbers: numbers.uniform(0.4, 2.5),
) -> list[Planned]:
    """Return all the faults of a run; the same for the same seed."""
    numbers = random.Random(f"faults {seed}")  # noqa: S311 (reproducible, not secret)
    planned = []
    at = 1.0
    while at < seconds:
        kind = numbers.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        planned.append(Planned(at, kind.draw(numbers)))
        at += pause(numbers)
    return planned


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children()}
