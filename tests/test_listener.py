"""A worker accepts all connections that wait, over real sockets and on the event loop that it has in production."""

import asyncio
import errno
import os
import resource
import socket
import ssl
import struct
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
import uvloop

from service.listener import Listener
from tests.waiting import until
from tests.wire.certificates import make_authority

WAITING = 20
SERVED = b"served"
T = TypeVar("T")


class Faulty(socket.socket):
    """A listening socket whose next accepts fail with these errors."""

    faults: ClassVar[list[int]] = []

    def accept(self) -> tuple[socket.socket, object]:
        if self.faults:
            number = self.faults.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@dataclass
class Worker:
    """A listener with an event loop of its own, which runs only in `run`."""

    runner: asyncio.Runner
    listening: socket.socket
    workers: int = 1
    tls: ssl.SSLContext | None = None
    made: list["Serving"] = field(default_factory=list)
    served: int = 0

    def __post_init__(self) -> None:
        self.listener, self._server = self.runner.run(self._start())

    async def _start(self) -> tuple[Listener, asyncio.Server]:
        listener = Listener(self.listening, self.make, workers=self.workers, tls=self.tls)
        return listener, await listener.start(backlog=1024)

    async def close(self) -> None:
        self._server.close()
        await until(lambda: self.served == len(self.made))

    def make(self) -> asyncio.Protocol:
        self.made.append(Serving(self))
        return self.made[-1]

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.runner.run(wait())

    def accepted_in_a_turn(self) -> int:
        """Run the loop until it accepts connections; return how many it has accepted in that turn."""

        async def turn() -> int:
            before = len(self.made)
            while len(self.made) == before:  # noqa: ASYNC110 (turns are what is counted)
                await asyncio.sleep(0)
            return len(self.made) - before

        return self.run(turn())

    def serve(self, number: int) -> None:
        self.run(until(lambda: self.served == number))


class Serving(asyncio.Protocol):
    """Sends a word and closes the connection."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(SERVED)
        transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._worker.served += 1


@contextmanager
def listening(family: socket.AddressFamily, directory: Path) -> Iterator[socket.socket]:
    with Faulty(family) as sock:
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(directory / "socket"))
        sock.listen(1024)
        yield sock


@pytest.fixture
def inet(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(socket.AF_INET, tmp_path) as sock:
        yield sock


@contextmanager
def a_worker(sock: socket.socket, workers: int = 1, tls: ssl.SSLContext | None = None) -> Iterator[Worker]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        worker = Worker(runner, sock.dup(), workers, tls)  # a descriptor of its own, as each process has
        try:
            yield worker
        finally:
            runner.run(worker.close())


@contextmanager
def waiting(sock: socket.socket, number: int = WAITING) -> Iterator[list[socket.socket]]:
    """So many connections that wait in the socket's backlog."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(sock.family)) for _ in range(number)]
        for client in clients:
            client.connect(sock.getsockname())
        while sock.family == socket.AF_INET and backlog(sock) < number:
            os.sched_yield()  # The kernel may end the handshake later.
        yield clients


def backlog(sock: socket.socket) -> int:
    """Connections that wait to be accepted: `tcpi_unacked` of the kernel's `struct tcp_info`."""
    (number,) = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)
    return int(number)


def read(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(64), b""))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_all_that_wait_are_accepted_in_one_turn_and_served(family: socket.AddressFamily, tmp_path: Path) -> None:
    with listening(family, tmp_path) as sock, a_worker(sock) as worker, waiting(sock) as clients:
        assert worker.accepted_in_a_turn() == WAITING
        worker.serve(WAITING)
        assert [read(client) for client in clients] == [SERVED] * WAITING


def test_with_tls_all_that_wait_are_served_and_a_failed_handshake_harms_no_other(
    inet: socket.socket, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path)

    async def read_encrypted(client: socket.socket) -> bytes:
        tls = ssl.create_default_context(cafile=authority.file)
        reader, writer = await asyncio.open_connection(sock=client, ssl=tls, server_hostname="localhost")
        try:
            return await reader.read()
        finally:
            writer.close()

    with a_worker(inet, tls=authority.server) as worker, waiting(inet) as (plain, gone, *clients):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        gone.close()
        assert worker.accepted_in_a_turn() == WAITING
        for client in clients:
            assert worker.run(read_encrypted(client)) == SERVED
        worker.serve(len(clients))
        worker.run(until(lambda: not worker.listener.is_opening))
        worker.made = worker.made[: worker.served]  # The protocols of the two others do not hear of their end.


def test_a_client_that_resets_its_connection_harms_no_other(inet: socket.socket) -> None:
    with a_worker(inet) as worker, waiting(inet) as (*clients, gone):
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        worker.serve(WAITING)
        assert [read(client) for client in clients] == [SERVED] * len(clients)


def test_of_two_workers_neither_takes_more_than_its_share_in_a_turn(
    inet: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.listener.CONNECTIONS_A_TURN", 8)
    with a_worker(inet, 2) as one, a_worker(inet, 2) as other, waiting(inet) as clients:
        assert one.accepted_in_a_turn() == 4
        assert other.accepted_in_a_turn() == 4
        one.run(until(lambda: one.served + len(other.made) == WAITING))
        other.serve(len(other.made))
        assert [read(client) for client in clients] == [SERVED] * WAITING


def test_more_workers_than_connections_a_turn_accept_one_each(inet: socket.socket) -> None:
    with a_worker(inet, 1024) as worker, waiting(inet):
        assert worker.accepted_in_a_turn() == 1


@pytest.mark.parametrize("fault", [errno.ECONNABORTED, errno.EPROTO])
def test_a_client_that_has_gone_does_not_delay_those_behind_it(inet: socket.socket, fault: int) -> None:
    with a_worker(inet) as worker, waiting(inet):
        Faulty.faults = [fault, fault]
        assert worker.accepted_in_a_turn() == WAITING


@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_a_descriptor_or_memory_the_others_wait_for_a_later_turn(inet: socket.socket, fault: int) -> None:
    with a_worker(inet) as worker, waiting(inet) as clients:
        Faulty.faults = [fault]
        assert worker.accepted_in_a_turn() == 1
        worker.serve(WAITING)
        assert [read(client) for client in clients] == [SERVED] * WAITING


def test_a_fault_of_one_connection_is_logged_and_the_others_are_served(
    inet: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with a_worker(inet) as worker, waiting(inet) as clients:
        faults: list[Exception] = [ZeroDivisionError()]

        def make() -> asyncio.Protocol:
            if faults:
                raise faults.pop()
            return worker.make()

        monkeypatch.setattr(worker.listener, "_make_protocol", make)
        worker.serve(WAITING - 1)
        assert "A connection was not accepted" in caplog.text
        assert sorted(map(read, clients)) == [b""] + [SERVED] * (WAITING - 1)


@pytest.mark.parametrize("fault", [None, errno.ECONNABORTED])
def test_a_worker_that_stops_accepts_all_that_wait(
    inet: socket.socket, fault: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.listener.CONNECTIONS_A_TURN", 4)
    with a_worker(inet) as worker, waiting(inet) as clients:

        async def stop() -> None:
            Faulty.faults = [fault] if fault else []
            worker.listener.stop()
            assert len(worker.made) == WAITING
            assert worker.listener.is_opening
            await until(lambda: not worker.listener.is_opening)

        worker.run(stop())
        worker.serve(WAITING)
        assert [read(client) for client in clients] == [SERVED] * WAITING


@contextmanager
def without_descriptors() -> Iterator[None]:
    """No new descriptor for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_without_a_descriptor_stops_and_leaves_those_that_wait_to_another(inet: socket.socket) -> None:
    async def stop(worker: Worker) -> None:
        with without_descriptors():
            worker.listener.stop()

    with a_worker(inet) as worker, a_worker(inet) as other, waiting(inet) as clients:
        worker.run(stop(worker))
        assert worker.made == []
        other.serve(WAITING)
        assert [read(client) for client in clients] == [SERVED] * WAITING
