"""The event log: the only copy of an answer. An event is in it before anyone receives the event.

To add a backend: a package beside `files`, with a module that has `open_event_log` and `prepare_event_log`, and a line
in `BACKENDS`. It is imported when it is first needed. `channel` gives it fan-out within a worker.
"""

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from service.eventlog.base import (
    AheadOfLogError,
    Claims,
    DamagedLogError,
    EventLog,
    Lease,
    LeaseLostError,
    NameTakenError,
    Push,
    Reader,
    Retention,
    UnusableLog,
)

__all__ = [
    "BACKENDS",
    "AheadOfLogError",
    "Backend",
    "Claims",
    "DamagedLogError",
    "EventLog",
    "Lease",
    "LeaseLostError",
    "NameTakenError",
    "Push",
    "Reader",
    "Retention",
    "UnusableLog",
    "open_event_log",
    "prepare_event_log",
]


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend for a URL scheme."""

    module: str
    """The module to import. It has `open_event_log` and `prepare_event_log`."""
    url: re.Pattern[str]
    """The pattern of the whole URL."""
    form: str
    """The same, for error messages."""


_FILES = Backend("service.eventlog.files.backend", re.compile(r"file:///[^?#]*"), "file:///<absolute path>")
_VALKEY = Backend("service.eventlog.valkey.backend", re.compile(r"[a-z+]+://.+"), "valkey://<host>:<port>")

BACKENDS = {
    "file": _FILES,
    **dict.fromkeys(("valkey", "valkeys", "redis", "rediss", "valkey+sentinel", "valkeys+sentinel"), _VALKEY),
}
"""By URL scheme."""


class _Module(Protocol):
    def open_event_log(self, url: str, retention: Retention) -> EventLog: ...
    def prepare_event_log(self, url: str) -> list[Path]: ...


def open_event_log(url: str, retention: Retention) -> EventLog:
    """Return the event log at the URL.

    Raises:
        UnusableLog: no backend is known for the URL.
        Unavailable: the log cannot be reached.
    """
    return _backend(url).open_event_log(url, retention)


def prepare_event_log(url: str) -> list[Path]:
    """Load the backend and create its directories before the process is confined. Return those that it must write to.

    Raises:
        UnusableLog: no backend is known for the URL, or its place cannot be used.
    """
    return _backend(url).prepare_event_log(url)


def _backend(url: str) -> _Module:
    backend = BACKENDS.get(url.partition(":")[0])
    if backend is None or not backend.url.fullmatch(url):
        raise UnusableLog(f"Should be {' or '.join(dict.fromkeys(each.form for each in BACKENDS.values()))}")
    return cast("_Module", import_module(backend.module))
