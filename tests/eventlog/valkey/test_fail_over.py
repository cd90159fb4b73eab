"""Another server becomes the primary, and what it does not have is forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.ports import Address
from tests.eventlog.valkey.town import Town
from tests.eventlog.valkey.watched import Watched
from tests.listening import listening
from tests.valkey import ValkeyServer
from tests.waiting import until


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        yield Watched(tmp_path, stack)


async def test_answers_go_on_at_the_new_primary_after_a_fail_over(watched: Watched) -> None:
    await watched.ready()
    async with contextlib.aclosing(Town(watched.url)) as town:
        await town.two_workers(words=200, pause=0.02)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(watched.primary.kill)
        await town.ended()
        assert watched.replica.role() == "master"
        assert not any(client.is_refused for client in town.clients)
        assert not any(client.text.restarts for client in town.clients), (
            "the producers live, and put back what is missing"
        )


async def test_answers_of_a_worker_that_dies_with_the_primary_go_on(watched: Watched) -> None:
    await watched.ready()
    async with contextlib.aclosing(Town(watched.url)) as town:
        first, _ = await town.two_workers(words=200, pause=0.02)
        await until(lambda: min(client.text.seq for client in town.clients) > 10)
        first.kill()
        await asyncio.to_thread(watched.primary.kill)
        await town.ended()
        assert town.take_overs >= 5
        assert not any(client.is_refused for client in town.clients)


# Split brain


class Pointer:
    """A sentinel of one side of the network. It names the server that this side takes for the primary."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.epoch = 1
        self.address: Address | None = None

    @property
    def url(self) -> str:
        return f"valkey+sentinel://{self.address}/folyam"

    def name(self, server: ValkeyServer) -> None:
        """Name another server, as after a fail-over."""
        self.server = server
        self.epoch += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"folyam\r\n")
        fields = {"ip": self.server.address.host, "port": self.server.address.port, "config-epoch": self.epoch}
        parts = [str(part) for field in fields.items() for part in field]
        writer.write(b"%0\r\n%3\r\n" + "".join(f"${len(part)}\r\n{part}\r\n" for part in parts).encode())
        await reader.read()


class Split:
    """A primary and a replica, and two sides of a network that may break between them."""

    def __init__(self, old: ValkeyServer, new: ValkeyServer) -> None:
        self.old, self.new = old, new
        self.minority, self.majority = Pointer(old), Pointer(old)

    async def split(self, majority: list[str]) -> None:
        """Make the replica the primary of the majority, and cut the majority's workers off the old one."""
        await asyncio.to_thread(self.new.command, "REPLICAOF", "NO", "ONE")
        self.majority.name(self.new)
        for line in (await asyncio.to_thread(self.old.command, "CLIENT", "LIST")).decode().splitlines():
            fields = dict(field.split("=", 1) for field in line.split(" ") if "=" in field)
            if fields["name"] in majority:
                await asyncio.to_thread(self.old.command, "CLIENT", "KILL", "ID", fields["id"])

    async def heal(self) -> None:
        """Make the old primary a replica of the new one. It drops what it alone has."""
        self.minority.name(self.new)
        await asyncio.to_thread(self.old.command, "REPLICAOF", self.new.address.host, self.new.address.port)


@pytest.fixture
async def split(tmp_path: Path, server: ValkeyServer) -> AsyncIterator[Split]:
    async with contextlib.AsyncExitStack() as stack:
        new = stack.enter_context(ValkeyServer(tmp_path / "replica", replica_of=server))
        split = Split(server, new)
        for pointer in (split.minority, split.majority):
            pointer.address = await stack.enter_async_context(listening(pointer.serve))
        await until(lambda: b"master_link_status:up" in _bytes(new.command("INFO", "replication")))
        yield split


def _bytes(reply: object) -> bytes:
    return reply if isinstance(reply, bytes) else str(reply).replace("'", "").replace(": ", ":").encode()


async def test_each_client_has_one_whole_text_after_a_split_brain(split: Split) -> None:
    async with contextlib.aclosing(Town(split.majority.url)) as town:
        majority = [town.worker(), town.worker()]
        minority = [town.worker(split.minority.url), town.worker(split.minority.url)]
        for worker in (majority[0], minority[0]):
            for _ in range(3):
                answer = await worker.ask(words=250, pause=0.03)
                for each in (*majority, *minority):
                    each.follow(answer)
        await until(lambda: min(client.text.seq for client in town.clients) > 5)
        await split.split([worker.log._store.me for worker in majority])
        await until(lambda: town.take_overs >= 6)  # Each side takes over what the other one produces.
        begun_there = await minority[1].ask(words=1000, pause=0.03)
        lost = minority[0].follow(begun_there)
        await until(lambda: lost.text.seq > 5)
        await split.heal()
        await town.ended()
        assert lost.is_refused
        assert not any(client.is_refused for client in town.clients if client is not lost)
        restarts = {client.text.restarts for client in town.clients}
        assert restarts <= {0, 1}
        assert any(client.text.restarts for client in town.clients if client._worker in minority)
