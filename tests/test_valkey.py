"""The tests' own Valkey, and the network to it, do what their names say."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cutter import Cutter
from tests.valkey import ValkeyServer


def test_a_server_keeps_its_data_over_a_kill_and_forgets_its_end_on_demand(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey") as server:
        for number in range(100):
            server.command("SET", f"key-{number}", "x")
        first = server.pid
        server.restart()
        assert server.pid != first
        assert server.command("DBSIZE") == 100
        # A command is some 34 bytes: *3 $3 SET $6 key-99 $1 x
        server.forget(3 * 34 + 10)
        assert server.command("EXISTS", "key-99", "key-98", "key-97") == 0
        assert 90 <= server.command("DBSIZE") < 97
        server.forget(1 << 20)
        assert server.command("DBSIZE") == 0


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Cutter]:
    with ValkeyServer(tmp_path / "valkey") as server, Cutter(server.address) as network:
        yield network


def ask(connection: socket.socket) -> bytes:
    try:
        connection.sendall(b"PING\r\n")
        return connection.recv(100)
    except TimeoutError:
        return b"silence"
    except ConnectionError:
        return b"reset"


def connect(network: Cutter) -> socket.socket:
    return socket.create_connection((network.address.host, network.address.port), timeout=0.3)


def test_a_network_cuts_holds_delays_and_loses(network: Cutter) -> None:
    with connect(network) as connection:
        assert ask(connection) == b"+PONG\r\n"
        network.cut()
        assert ask(connection) in (b"reset", b"")
    with connect(network) as held:
        network.hold()
        assert ask(held) == b"silence"
        network.heal()
        held.settimeout(10)
        assert held.recv(100) == b"+PONG\r\n"
    with connect(network) as losing, connect(network) as silent:
        assert ask(losing) == ask(silent) == b"+PONG\r\n"
        network.swallow()
        assert ask(losing) == b"silence"
        network.heal()
        assert ask(losing) in (b"reset", b"")
        silent.settimeout(10)
        assert ask(silent) == b"+PONG\r\n"
    with connect(network) as slow:
        slow.settimeout(10)
        assert ask(slow) == b"+PONG\r\n"
        network.delay_seconds = 0.1
        began = time.monotonic()
        assert ask(slow) == b"+PONG\r\n"
        assert time.monotonic() - began >= 0.2
