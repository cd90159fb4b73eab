"""The log of answers' events: the only copy of an answer, written before anybody receives it.

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
    "Reader",
    "Retention",
    "UnusableLog",
    "open_event_log",
    "prepare_event_log",
]


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the logs of a URL's scheme are kept."""

    module: str
    """What to import: it has `open_event_log` and `prepare_event_log`."""
    url: re.Pattern[str]
    form: str
    """The same for people."""


BACKENDS = {
    "file": Backend("service.eventlog.files.backend", re.compile(r"file:///[^?#]*"), "file:///<absolute path>"),
}
"""By the URL's scheme."""


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
    """Make ready what this process must have before it is confined; return the directories that it must write to.

    Raises:
        UnusableLog: no backend is known for the URL, or no log can be kept there.
    """
    return _backend(url).prepare_event_log(url)


def _backend(url: str) -> _Module:
    backend = BACKENDS.get(url.partition(":")[0])
    if backend is None or not backend.url.fullmatch(url):
        raise UnusableLog(f"Should be {' or '.join(each.form for each in BACKENDS.values())}")
    return cast("_Module", import_module(backend.module))
