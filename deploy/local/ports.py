"""Addresses to listen on: parse them from the environment, and check that they are free."""

import errno
import os
import socket
from dataclasses import dataclass

from deploy.local.errors import CannotRun

BACKLOG = 2048
"""Listen backlog: gunicorn's own default."""


@dataclass(frozen=True)
class Address:
    """A host and a port of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self) -> "Address":
        """Return the address to connect to for a server that listens here: a wildcard becomes the loopback address."""
        return Address({"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)  # noqa: S104


def parse(text: str, *, setting: str) -> Address:
    """Parse host:port."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise CannotRun(f"{setting} is {text!r}, and should be host:port, such as 127.0.0.1:8000.")
    return Address(host.strip("[]"), parse_port(port, setting=setting))


def parse_port(text: str, *, setting: str) -> int:
    """Parse a port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004 - the highest port
        raise CannotRun(f"{setting} is {text!r}, and should be a port from 1 to 65535.")
    return int(text)


def listen(address: Address) -> socket.socket:
    """Listen at the address, with SO_REUSEADDR: connections of the last run may still be closing.

    Raises:
        OSError: the address cannot be listened at.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except (OSError, TypeError) as error:
        listener.close()
        if isinstance(error, OSError):
            raise
        raise OSError(errno.EINVAL, "not a host name") from None  # not a name in IDNA's form
    return listener


def refusal(address: Address) -> str | None:
    """Return the reason why a server cannot listen at the address, or None."""
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
    return f"is not available ({error.strerror})"


def free() -> Address:
    """Return a free address of the loopback interface."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return Address(*trial.getsockname())


def door() -> Address:
    """Return the address for nginx: FOLYAM_LISTEN and FOLYAM_PORT.

    Raises:
        CannotRun: nginx cannot listen there. The text names the variable to correct.
    """
    host = os.environ.get("FOLYAM_LISTEN", "").strip() or "127.0.0.1"
    address = Address(host, parse_port(os.environ.get("FOLYAM_PORT", "").strip() or "8080", setting="FOLYAM_PORT"))
    try:
        listen(address).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise CannotRun(
                f"Port {address.port} {_reason(error)}. Choose another with FOLYAM_PORT, such as:"
                f" FOLYAM_PORT={other(address.port)} make run"
            ) from None
        raise CannotRun(
            f"FOLYAM_LISTEN is {host!r}, and should be an address of this machine without a port, such as 127.0.0.1, or"
            f" 0.0.0.0 to let other devices in ({error.strerror})."
        ) from None
    return address


def other(port: int) -> int:
    """Return a free port near the given one, as a suggestion."""
    candidates = range(max(port, 1024) + 1, min(max(port, 1024) + 20, 65536))
    return next((each for each in candidates if refusal(Address("127.0.0.1", each)) is None), free().port)


@dataclass(frozen=True)
class Place:
    """gunicorn's address, with a socket that listens already, so that no other run can take the address."""

    address: Address
    listener: socket.socket
    remark: str | None = None
    """A sentence for the terminal if Prometheus would not find the service at its default address."""


def service() -> Place:
    """Listen at FOLYAM_BIND, or at the default address, or at a free port if that one is in use.

    A second run therefore needs only another FOLYAM_PORT.

    Raises:
        CannotRun: FOLYAM_BIND cannot be listened at.
    """
    asked = os.environ.get("FOLYAM_BIND", "").strip()
    address = parse(asked or "127.0.0.1:8000", setting="FOLYAM_BIND")
    try:
        return Place(address, listen(address))
    except OSError as error:
        why = _reason(error)
    if asked:
        raise CannotRun(f"FOLYAM_BIND is {asked!r}, and that address {why}.")
    listener = listen(Address("127.0.0.1", 0))
    instead = Address(*listener.getsockname())
    return Place(instead, listener, f"Port {address.port} {why}, so the service and its /metrics are at {instead}.")
