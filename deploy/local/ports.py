"""Addresses to listen on: read from the environment, free or not."""

import errno
import os
import socket
from dataclasses import dataclass

from deploy.local.errors import CannotRun

# Connections that wait to be accepted: gunicorn's own default.
BACKLOG = 2048


@dataclass(frozen=True)
class Address:
    """A host and a port of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self) -> "Address":
        """Return where to connect to, if this is where a server listens: "every address" is none to connect to."""
        return Address({"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)  # noqa: S104


def parse(text: str, *, setting: str) -> Address:
    """Read host:port."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise CannotRun(f"{setting} is {text!r}, and should be host:port, such as 127.0.0.1:8000.")
    return Address(host.strip("[]"), parse_port(port, setting=setting))


def parse_port(text: str, *, setting: str) -> int:
    """Read a port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004 - the highest port
        raise CannotRun(f"{setting} is {text!r}, and should be a port from 1 to 65535.")
    return int(text)


def listen(address: Address) -> socket.socket:
    """Listen there, as servers do it: connections of the last run that are still closing do not count."""
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def refusal(address: Address) -> str | None:
    """Say why one cannot listen there, or None if one can."""
    try:
        listen(address).close()
    except OSError as error:
        return _reason(error)
    return None


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use by another program"
    if error.errno == errno.EACCES:
        return "needs root (ports below 1024 do)"
    return f"cannot be had ({error.strerror})"


def free() -> Address:
    """Return an address of the loopback interface that is free now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return Address(*trial.getsockname())


def door() -> Address:
    """Return where nginx will listen: FOLYAM_PORT of FOLYAM_LISTEN, which must be free."""
    port = parse_port(os.environ.get("FOLYAM_PORT") or "8080", setting="FOLYAM_PORT")
    address = Address(os.environ.get("FOLYAM_LISTEN") or "127.0.0.1", port)
    if why := refusal(address):
        raise CannotRun(
            f"Port {port} {why}. Choose another with FOLYAM_PORT, such as: FOLYAM_PORT={other(port)} make run"
        )
    return address


def other(port: int) -> int:
    """Return a port to suggest instead."""
    candidates = range(max(port, 1024) + 1, min(max(port, 1024) + 20, 65536))
    return next((each for each in candidates if refusal(Address("127.0.0.1", each)) is None), free().port)


@dataclass(frozen=True)
class Place:
    """Where gunicorn will listen. The socket listens already, so that no other run can take the place meanwhile."""

    address: Address
    listener: socket.socket
    # What to tell if this is not where Prometheus expects it.
    remark: str | None = None


def service() -> Place:
    """Take the place that FOLYAM_BIND asks for, or else the default; that one moves out of the way.

    So a second run needs only another FOLYAM_PORT.
    """
    asked = os.environ.get("FOLYAM_BIND")
    address = parse(asked or "127.0.0.1:8000", setting="FOLYAM_BIND")
    try:
        return Place(address, listen(address))
    except OSError as error:
        why = _reason(error)
    if asked:
        raise CannotRun(f"{address} {why}. FOLYAM_BIND asks for it: choose another there.")
    listener = listen(Address("127.0.0.1", 0))
    instead = Address(*listener.getsockname())
    return Place(instead, listener, f"Port {address.port} {why}, so the service and its /metrics are at {instead}.")
