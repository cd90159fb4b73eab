"""The network between hosts, servers, readers and the upstream, which can be cut.

A host has three links: `FRONT` to nginx, through which readers come, `DATA` to the servers of the log, and one to the
upstream, which is never cut. A server has a `DATA` link only.
"""

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

from deploy.local import ports
from deploy.local.ports import Address
from tests.e2e.cutter import Cutter
from tests.ending import end_with_us

FRONT, DATA = "front", "data"
LINKS = frozenset((FRONT, DATA))
SERVICE_PORT, SERVER_PORT, SENTINEL_PORT = 8000, 6379, 26379
INSIDE = "FOLYAM_TEST_NETWORK"
"""Environment variable of a process that `enter_namespace` has started."""
READY_SECONDS = 10.0


@dataclass
class Place:
    """One host's or server's place in the network."""

    name: str
    front: Address
    """Where nginx reaches its service."""
    bind: Address
    """Where its service, or its server, listens."""
    outside: str
    """The address of nginx's and the upstream's host, as seen from here."""
    source: str
    """Its address, as the upstream sees it; empty if it cannot be told from the others'."""
    namespace: Path | None = None
    is_cut: frozenset[str] = frozenset()
    server: Address | None = None
    """Where it reaches the one server, if that is not where the server listens."""
    proxies: dict[str, Cutter] = field(default_factory=dict)

    @property
    def prefix(self) -> list[str]:
        """What goes before a command that is to run here."""
        return [] if self.namespace is None else ["nsenter", f"--net={self.namespace}", "--"]


class Network(Protocol):
    """A network of hosts and servers. A `with` block, around all of their processes, ends it."""

    can_split: bool
    """Whether servers can be cut off, too."""
    outside: str
    """The address of nginx's and the upstream's host, as the servers see it."""

    def host(self, number: int, server: Address | None) -> Place:
        """Add a host, whose `DATA` link leads to the server, or to all servers."""

    def server(self, number: int) -> Place:
        """Add a server's host."""

    def cut(self, place: Place, links: Collection[str]) -> None:
        """Cut links. What is sent is lost, with no sign to either side."""

    def heal(self, place: Place) -> None:
        """Mend all links of a place."""

    def split(self, places: Sequence[Place]) -> None:
        """Cut the `DATA` links of these places off the others. They reach each other."""

    def join(self) -> None:
        """Mend the split."""


# With namespaces


def can_have_namespaces() -> bool:
    """Return whether this user can have network namespaces with links between them."""
    if os.geteuid():
        return False
    script = "ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master br0"
    return subprocess.run(["unshare", "--net", "sh", "-c", script], check=False, capture_output=True).returncode == 0


def enter_namespace(arguments: Sequence[str]) -> NoReturn:
    """Start this program again in a network of its own, which vanishes with its processes, however they end."""
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, *arguments])  # noqa: S606 (no shell; from the path)


def _ip(*lines: str, namespace: Path | None = None) -> None:
    prefix = [] if namespace is None else ["nsenter", f"--net={namespace}", "--"]
    subprocess.run([*prefix, "ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


class Namespaces:
    """A namespace a host, each with a pair of interfaces a link. This process has been started by `enter_namespace`.

    The other ends of the pairs are ports of bridges, one a link, and two for `DATA`, which a pair joins: a split puts
    ports on the second bridge, and takes the pair down.
    """

    can_split = True
    outside = "10.3.0.1"

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        bridges = {"front": "10.1.0.1/24", "world": "10.2.0.1/24", "data": self.outside + "/24", "other": None}
        _ip(
            "link set lo up",
            *(f"link add {name} type bridge forward_delay 0" for name in bridges),
            *(f"addr add {address} dev {name}" for name, address in bridges.items() if address),
            "link add join type veth peer name joined",
            "link set join master data",
            "link set joined master other",
            *(f"link set {name} up" for name in (*bridges, "join", "joined")),
        )

    def host(self, number: int, server: Address | None) -> Place:
        del server
        host = self._place(f"h{number}", 10 + number, (FRONT, "world", DATA))
        address = Address(f"10.1.0.{10 + number}", SERVICE_PORT)
        return Place(host[0], address, Address("0.0.0.0", SERVICE_PORT), "10.2.0.1", f"10.2.0.{10 + number}", host[1])  # noqa: S104 (in a namespace)

    def server(self, number: int) -> Place:
        name, namespace = self._place(f"s{number}", 100 + number, (DATA,))
        address = Address(f"10.3.0.{100 + number}", SERVER_PORT)
        return Place(name, address, address, self.outside, "", namespace)

    def _place(self, name: str, last: int, links: Sequence[str]) -> tuple[str, Path]:
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        end_with_us(holder.pid)
        self._stack.callback(holder.wait)
        self._stack.callback(holder.kill)
        namespace = Path(f"/proc/{holder.pid}/ns/net")
        deadline = time.monotonic() + READY_SECONDS
        while not namespace.exists() or namespace.readlink() == Path("/proc/self/ns/net").readlink():
            if time.monotonic() > deadline:
                raise TimeoutError("no namespace")
            time.sleep(0.005)
        networks = {FRONT: 1, "world": 2, DATA: 3}
        _ip(
            *(f"link add {name}-{link} type veth peer name {link} netns {holder.pid}" for link in links),
            *(f"link set {name}-{link} master {link}" for link in links),
            *(f"link set {name}-{link} up" for link in links),
        )
        _ip(
            "link set lo up",
            *(f"addr add 10.{networks[link]}.0.{last}/24 dev {link}" for link in links),
            *(f"link set {link} up" for link in links),
            namespace=namespace,
        )
        return name, namespace

    def cut(self, place: Place, links: Collection[str]) -> None:
        place.is_cut |= frozenset(links)
        _ip(*(f"link set {place.name}-{link} down" for link in links))

    def heal(self, place: Place) -> None:
        if place.is_cut:
            _ip(*(f"link set {place.name}-{link} up" for link in place.is_cut))
            place.is_cut = frozenset()

    def split(self, places: Sequence[Place]) -> None:
        _ip("link set join down", *(f"link set {place.name}-{DATA} master other" for place in places))

    def join(self) -> None:
        _ip("link set join up")


# Without


class Proxies:
    """Each link of a host is a proxy, and the servers are not cut off."""

    can_split = False
    outside = "127.0.0.1"

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def host(self, number: int, server: Address | None) -> Place:
        bind = ports.free()
        proxies = {FRONT: self._stack.enter_context(Cutter(bind))}
        place = Place(f"h{number}", proxies[FRONT].address, bind, self.outside, "", proxies=proxies)
        if server is not None:
            proxies[DATA] = self._stack.enter_context(Cutter(server))
            place.server = proxies[DATA].address
        return place

    def server(self, number: int) -> Place:
        from tests.valkey import free_address  # noqa: PLC0415 (a client library, not for namespaces' children)

        address = free_address()
        return Place(f"s{number}", address, address, self.outside, "")

    def cut(self, place: Place, links: Collection[str]) -> None:
        place.is_cut |= frozenset(links)
        for link in place.is_cut & place.proxies.keys():
            place.proxies[link].swallow()

    def heal(self, place: Place) -> None:
        for link in place.is_cut & place.proxies.keys():
            place.proxies[link].heal()
        place.is_cut = frozenset()

    def split(self, places: Sequence[Place]) -> None:
        raise NotImplementedError

    def join(self) -> None:
        """Nothing is split."""
