"""The kinds of faults of hosts, of the network between them, and of the log's servers."""

import asyncio
import random
import shutil
import signal
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from tests.e2e.stack import READY_SECONDS
from tests.faults.hosts.network import DATA, FRONT
from tests.faults.hosts.town import Host, Town, slowed
from tests.faults.kinds import CancelStorm, Crowd, Fault, RateLimitStorm, WorkerHung, WorkerKilled, WorkerPaused
from tests.faults.stack import until

SLOW_SHARE = 0.9
SLOW_TURN_SECONDS = 0.2
"""A slow server stands still for so much of each turn."""
MAX_FORGOTTEN_BYTES = 60_000
FULL_BYTES = 1


class TownCrowd(Crowd, Protocol):
    """The interface of the clients of a town for faults."""

    def struck(self, fault: Fault, source: str) -> None:
        """Record that the fault begins now, at the host with this address."""


class HostFault(Fault):
    """A fault of one host, while no other host is down."""

    which: float

    async def inject(self, stack: Any, crowd: Any) -> None:  # noqa: ANN401 (a Town, and a TownCrowd)
        async with stack.lock:
            host = stack.hosts[int(self.which * len(stack.hosts))]
            crowd.struck(self, host.place.source)
            await self._hit(stack, host)

    async def _hit(self, town: Town, host: Host) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class HostKilled(HostFault):
    """A host dies: nobody hears of it. It is started again."""

    name = "host killed"
    orphans = True
    which: float
    pause: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random(), numbers.uniform(0, 3))

    async def _hit(self, town: Town, host: Host) -> None:
        town.kill(host)
        await asyncio.sleep(self.pause)
        await town.start(host)


@dataclass(frozen=True)
class HostStopped(HostFault):
    """A host stands still, as a virtual machine that is moved, and goes on."""

    name = "host SIGSTOP, SIGCONT"
    orphans = True
    which: float
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random(), numbers.uniform(0.3, 4.5))

    async def _hit(self, town: Town, host: Host) -> None:
        del town
        host.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            host.send(signal.SIGCONT)


@dataclass(frozen=True)
class HostCut(HostFault):
    """A host is cut off."""

    links: ClassVar[frozenset[str]]
    which: float
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random(), numbers.choice([1.0, 5.0, numbers.uniform(0.3, 8)]))

    async def _hit(self, town: Town, host: Host) -> None:
        town.network.cut(host.place, self.links)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            town.network.heal(host.place)


class CutFromServer(HostCut):
    name = "host cut off from Valkey"
    orphans = True
    links = frozenset((DATA,))


class CutFromReaders(HostCut):
    name = "host cut off from readers"
    links = frozenset((FRONT,))


class CutFromBoth(HostCut):
    name = "host cut off from both"
    orphans = True
    links = frozenset((FRONT, DATA))


@dataclass(frozen=True)
class HostRolled(HostFault):
    """A host's service is ended and started, as for a new version."""

    name = "host SIGTERM and start"
    orphans = True
    which: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.random())

    async def _hit(self, town: Town, host: Host) -> None:
        await town.end(host)
        await town.start(host)


@dataclass(frozen=True)
class AllCutFromServer(Fault):
    """All hosts are cut off from the log's servers."""

    name = "all hosts cut off from Valkey"
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.choice([1.0, 5.0]))

    async def inject(self, stack: Any, crowd: Any) -> None:  # noqa: ANN401 (a Town, and a TownCrowd)
        async with stack.lock, stack.server_lock:
            crowd.struck(self, "")
            try:
                for host in stack.hosts:
                    stack.network.cut(host.place, {DATA})
                await asyncio.sleep(self.seconds)
            finally:
                for host in stack.hosts:
                    stack.network.heal(host.place)


# The log's servers


@dataclass(frozen=True)
class ServerFault(Fault):
    """A fault of the primary, while no other one is under way. After it there is a primary, with its replica."""

    forgets: ClassVar[bool] = False
    """Whether what was acknowledged may be lost."""
    fills: ClassVar[bool] = False
    """Whether it fills the server's memory."""
    seconds: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.uniform(0.3, 4))

    async def inject(self, stack: Any, crowd: Any) -> None:  # noqa: ANN401 (a Town, and a TownCrowd)
        async with stack.server_lock:
            crowd.struck(self, "")
            if self.fills:
                crowd.disk_is_full(full=True)
            try:
                await self._hit(stack, stack.servers.primary())
            finally:
                if self.fills:
                    crowd.disk_is_full(full=False)
            await until(lambda: _is_whole(stack), READY_SECONDS, "the primary has a replica")

    async def _hit(self, town: Town, primary: int) -> None:
        raise NotImplementedError


def _is_whole(town: Town) -> bool:
    try:
        return town.servers.has_replica()
    except Exception:  # noqa: BLE001 (whatever a server that is away raises)
        return False


class ServerKilled(ServerFault):
    name = "Valkey SIGKILL and start"

    async def _hit(self, town: Town, primary: int) -> None:
        server = town.servers.servers[primary]
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(server.start)


class ServerStopped(ServerFault):
    name = "Valkey SIGSTOP, SIGCONT"

    async def _hit(self, town: Town, primary: int) -> None:
        server = town.servers.servers[primary]
        with slowed(server):
            server.freeze()
            await asyncio.sleep(self.seconds)


class ServerRestarted(ServerFault):
    name = "Valkey SIGTERM and start"

    async def _hit(self, town: Town, primary: int) -> None:
        server = town.servers.servers[primary]
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)


class ServerSlow(ServerFault):
    """The server answers, and stands still for most of the time."""

    name = "Valkey slow"

    async def _hit(self, town: Town, primary: int) -> None:
        server = town.servers.servers[primary]
        with slowed(server):
            for _ in range(int(self.seconds / SLOW_TURN_SECONDS)):
                server.freeze()
                await asyncio.sleep(SLOW_TURN_SECONDS * SLOW_SHARE)
                server.thaw()
                await asyncio.sleep(SLOW_TURN_SECONDS * (1 - SLOW_SHARE))


class ServerFull(ServerFault):
    """No memory is left: nothing is taken but ends of answers."""

    name = "Valkey full"
    fills = True

    async def _hit(self, town: Town, primary: int) -> None:
        server = town.servers.servers[primary]
        [_, before] = await asyncio.to_thread(server.command, "CONFIG", "GET", "maxmemory")
        try:
            await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", FULL_BYTES)
            await asyncio.sleep(self.seconds)
        finally:
            await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", before)


@dataclass(frozen=True)
class ServerForgets(ServerFault):
    """The server is killed, and has lost what it wrote last: a power cut."""

    name = "Valkey forgets"
    forgets = True
    size: int

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(0.0, numbers.choice([numbers.randint(1, 3000), numbers.randint(1, MAX_FORGOTTEN_BYTES)]))

    async def _hit(self, town: Town, primary: int) -> None:
        await asyncio.to_thread(town.servers.servers[primary].forget, self.size)


@dataclass(frozen=True)
class ServerForgetsWithHost(ServerForgets):
    """The same, and a host dies with it, so that its producers put nothing back."""

    name = "Valkey forgets, host killed"
    orphans = True

    async def _hit(self, town: Town, primary: int) -> None:
        async with town.lock:
            host = town.hosts[self.size % len(town.hosts)]
            town.kill(host)
            await asyncio.to_thread(town.servers.servers[primary].forget, self.size)
            await asyncio.sleep(2.5)  # Else it would come back before the others held it for dead.
            await town.start(host)


class ServerEmptied(ServerFault):
    """The server comes back with nothing: all answers are gone."""

    name = "Valkey empty"
    forgets = True

    async def _hit(self, town: Town, primary: int) -> None:
        server = town.servers.servers[primary]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(shutil.rmtree, server.directory / "appendonlydir")
        await asyncio.to_thread(server.start)


# With a replica and sentinels


class PrimaryKilled(ServerFault):
    """The primary is killed, and another one becomes the primary. It comes back as a replica."""

    name = "primary SIGKILL"
    forgets = True

    async def _hit(self, town: Town, primary: int) -> None:
        servers = town.servers.servers
        await asyncio.to_thread(servers[primary].kill)
        await until(lambda: servers[1 - primary].role() == "master", READY_SECONDS, "the replica is the primary")
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(servers[primary].start)


@dataclass(frozen=True)
class PrimaryCut(ServerFault):
    """The primary is cut off from all, and comes back as a replica."""

    name = "primary cut off"
    forgets = True

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.uniform(1, 8))

    async def _hit(self, town: Town, primary: int) -> None:
        place = town.servers.places[primary]
        town.network.cut(place, {DATA})
        try:
            await asyncio.sleep(self.seconds)
        finally:
            town.network.heal(place)


@dataclass(frozen=True)
class SplitBrain(ServerFault):
    """The primary and one host are cut off from the others: both sides have a primary."""

    name = "split brain"
    orphans = True
    forgets = True
    which: float

    @classmethod
    def draw(cls, numbers: random.Random) -> Self:
        return cls(numbers.uniform(6, 10), numbers.random())

    async def _hit(self, town: Town, primary: int) -> None:
        async with town.lock:
            host = town.hosts[int(self.which * len(town.hosts))]
            town.network.split([town.servers.places[primary], host.place])
            try:
                await asyncio.sleep(self.seconds)
            finally:
                town.network.join()


Kinds = tuple[tuple[type[Fault], int], ...]

HOSTS: Kinds = (
    (HostKilled, 4),
    (HostStopped, 3),
    (CutFromServer, 3),
    (CutFromReaders, 2),
    (CutFromBoth, 2),
    (HostRolled, 2),
    (AllCutFromServer, 1),
    (WorkerKilled, 4),
    (WorkerPaused, 2),
    (WorkerHung, 1),
    (CancelStorm, 1),
    (RateLimitStorm, 1),
)
"""The kinds with their weights."""
ONE_SERVER: Kinds = (
    *HOSTS,
    (ServerKilled, 2),
    (ServerStopped, 2),
    (ServerRestarted, 2),
    (ServerSlow, 2),
    (ServerFull, 1),
    (ServerForgets, 3),
    (ServerForgetsWithHost, 2),
    (ServerEmptied, 1),
)
WATCHED: Kinds = ((HostKilled, 1), (WorkerKilled, 1), (CutFromServer, 1), (PrimaryKilled, 3))
CAN_SPLIT: Kinds = ((PrimaryCut, 2), (SplitBrain, 3))
"""More of them where the network can be split."""
FORGETFUL = frozenset(
    kind.name for kind, _ in (*ONE_SERVER, *WATCHED, *CAN_SPLIT) if issubclass(kind, ServerFault) and kind.forgets
)
"""What a server forgot may have been seen."""
