"""Every `FOLYAM_…` variable: the settings, and the variables of nginx, gunicorn, Compose, `make run` and the tests.

Any other is a misspelling. The setting that it was meant for keeps its default.
"""

import difflib
import os
from collections.abc import Iterator

import structlog

from service.config.settings import SECRETS, Settings, variable_of

PREFIX = "FOLYAM_"
OF_TESTS = "FOLYAM_TEST_"
"""Prefix of the variables by which tests control a service under test."""
OTHERS = frozenset(
    {
        # gunicorn
        "FOLYAM_BIND",
        "FOLYAM_WORKERS",
        # nginx
        "FOLYAM_ACCESS_LOG",
        "FOLYAM_CLIENT_CONNECTIONS",
        "FOLYAM_CLIENT_REQUESTS",
        "FOLYAM_LISTEN",
        "FOLYAM_NGINX_DIR",
        "FOLYAM_NGINX_USER",
        "FOLYAM_RESOLVER",
        "FOLYAM_SERVICE",
        "FOLYAM_WEB_ROOT",
        # make run, Compose
        "FOLYAM_PAGE_PORT",
        "FOLYAM_PORT",
        "FOLYAM_STOP_GRACE_PERIOD",
        "FOLYAM_TLS_CERTIFICATE",
        "FOLYAM_TLS_KEY",
        "FOLYAM_TLS_PORT",
    }
)
LIKENESS = 0.5
"""Minimum similarity (difflib) of a misspelling. `DRAIN` is one of `DRAIN_SECONDS`."""


def known() -> frozenset[str]:
    """Return the names of all variables, including OpenAI's."""
    return OTHERS | _settings()


def unknown() -> Iterator[tuple[str, str | None]]:
    """Yield each unknown `FOLYAM_…` variable, or file in place of one, and the nearest known name or None."""
    files = SECRETS.iterdir() if SECRETS.is_dir() else ()
    nearest_to = {name.removeprefix(PREFIX): name for name in known()}
    for given in sorted({*os.environ, *(file.name for file in files)}):
        name = given.upper()
        # Settings are read in any case, and from files. The others are not.
        is_known = name in _settings() or given in OTHERS or given.startswith(OF_TESTS)
        if name.startswith(PREFIX) and not is_known:
            nearest = difflib.get_close_matches(name.removeprefix(PREFIX), nearest_to, n=1, cutoff=LIKENESS)
            yield given, nearest_to[nearest[0]] if nearest else None


def log_unknown() -> None:
    """Log a warning for each unknown variable."""
    for name, nearest in unknown():
        structlog.get_logger().warning("unknown_variable", name=name, nearest=nearest)


def _settings() -> frozenset[str]:
    return frozenset(map(variable_of, Settings.model_fields))
