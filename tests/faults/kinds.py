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
"""Limit on a jump. Two jumps differ by less than an answer's timeout, which a take-over counts by wall-clock time."""
RECENT = 40
"""Number of recent logs from which one is chosen. Most of them are running."""


class Crowd(Protocol):
    """The interface of the clients for faults."""

    def storm(self, kind: str, clients: int, seed: int) -> None:
        """Add clients at once."""

    def damage(self, answer: str) -> None:
        """Record that the answer's log was damaged."""

    def disk_is_full(self, *, full: bool) -> None:
        """Record that the disk is full, or has room again."""


@dataclass(frozen=True)
class Fault(ABC):
    """One fault with its random parameters."""

    name: ClassVar[str]
    orphans: ClassVar[bool] = False
    """Whether it ends producers, so that answers need new ones."""

    @classmethod
    @abstractmethod
    def draw(cls, numbers: random.Random) -> Self:
        """Draw a fault's parameters at random."""

    @abstractmethod
    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        """Inject the fault; return when it is over."""


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
    """The same, but only if another worker serves and can take over."""

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        serving = stack.serving()
        if len(serving) > 1:
            _send(serving[int(self.which * len(serving))], self._signal)


class BusyWorkerKilled(WorkerKilled):
    """The same, but not before it has some answer's log open: a producer, or a follower."""

    async def inject(self, stack: Stack, crowd: Crowd) -> None:
        del crowd
        async with stack.lock:
            await until(stack.busy, READY_SECONDS, "a worker with an answer")
            busy = stack.busy()
            _send(busy[int(self.which * len(busy))], self._signal)


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
    """A worker that is stopped until gunicorn's timeout ends it."""

    name = "worker hung"
    orphans = True

    async def _hit(self, pid: int, stack: Stack) -> None:
        # Before a worker's first heartbeat, gunicorn's timeout is longer than a run.
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
    """The master is killed and restarted."""

    name = "master SIGKILL and start"
    orphans = True

    async def _hit(self, stack: Stack) -> None:
        await stack.end_service(signal.SIGKILL)
        await asyncio.sleep(self.pause)
        await stack.start_service()


class AllKilled(_OnStack):
    """Master and workers are killed at once, as by the kernel without memory; then restarted."""

    name = "all SIGKILL and start"
    orphans = True

    async def _hit(self, stack: Stack) -> None:
        workers = stack.workers()
        _send(stack.master, signal.SIGSTOP)  # The master first: it would start new workers.
        for pid in workers:
            _send(pid, signal.SIGKILL)
        await stack.end_service(signal.SIGKILL)
        await asyncio.sleep(self.pause)
        await stack.start_service()


class MasterTerminated(_OnStack):
    """A stop and a start, as in a deployment that is not rolling."""

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
    """The workers' wall clock jumps, and stays so."""

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
    """A burst of clients that disconnect after a random byte."""

    name = "storm of cancels"
    kind = "cancel"
    most = 60


class RateLimitStorm(_Storm):
    """A burst of questions that the upstream rejects."""

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
    """Return the logs that were written most recently."""
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
"""The kinds with their weights."""
DISK: tuple[tuple[type[Fault], int], ...] = ((DiskFull, 2), (LogTruncated, 3), (LogDeleted, 3), (WorkerKilled, 1))


@dataclass(frozen=True)
class Planned:
    """A fault and its time, in seconds from the start."""

    at: float
    fault: Fault


def plan(
    seed: int,
    seconds: float,
    kinds: tuple[tuple[type[Fault], int], ...] = PROCESSES,
    pause: Callable[[random.Random], float] = lambda numbers: numbers.uniform(0.4, 2.5),
) -> list[Planned]:
    """Return the faults of a run, which the seed determines."""
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
