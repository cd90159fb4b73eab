"""No server of a test leaves a connection behind."""

import asyncio
import gc
import socket
import sys
from collections.abc import Iterator

import pytest

from deploy.local.ports import Address
from tests.e2e.cutter import Cutter
from tests.e2e.page.wire import Wire
from tests.listening import Handle, Listener, listening
from tests.waiting import DEADLINE_SECONDS, until

CONNECTIONS = 3
ROUNDS = 8
"""The server ends 0, 1, 2 … turns of the loop after the connections have come."""


async def read_on(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def say_and_leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"x" * (16 << 20))  # more than the kernel takes


async def fail(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    raise ConnectionResetError


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is raised where nobody can catch it: a ResourceWarning is an error here."""
    seen: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: seen.append(repr(raised.exc_value)))
    return seen


def come(address: Address) -> list[socket.socket]:
    """Connect, which the kernel does without the server."""
    return [socket.create_connection((address.host, address.port), DEADLINE_SECONDS) for _ in range(CONNECTIONS)]


def leave(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


@pytest.mark.parametrize("handle", [read_on, say_and_leave, fail])
async def test_a_listener_that_closes_soon_after_connections_came_loses_none(handle: Handle, warned: list[str]) -> None:
    for turns in range(ROUNDS):
        async with listening(handle) as address:
            clients = come(address)
            for _ in range(turns):
                await asyncio.sleep(0)
        leave(clients)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert not warned


async def test_a_handler_that_is_cancelled_has_ended_when_the_listener_is_closed() -> None:
    begun: list[None] = []
    ended: list[None] = []

    async def tidy_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        begun.append(None)
        try:
            await reader.read()
        finally:
            await asyncio.sleep(0)
            ended.append(None)

    listener = await Listener.start(tidy_up)
    clients = come(listener.address)
    await until(lambda: len(begun) == CONNECTIONS)
    await listener.close()
    assert len(ended) == CONNECTIONS
    leave(clients)


@pytest.fixture
def target() -> Iterator[Address]:
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield Address(*server.getsockname())


def test_a_cutter_that_ends_as_connections_come_loses_none(target: Address, warned: list[str]) -> None:
    for _ in range(ROUNDS):
        with Cutter(target, iter(())) as cutter:
            clients = come(cutter.address)
        leave(clients)
    gc.collect()
    assert not warned


def test_a_wire_that_is_cut_as_connections_come_ends_and_loses_none(target: Address, warned: list[str]) -> None:
    with Wire(target) as wire:
        for _ in range(ROUNDS):
            clients = come(wire.address)
            wire.cut()
            for client in clients:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            leave(clients)
            wire.restore()
    gc.collect()
    assert not warned
