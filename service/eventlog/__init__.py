"""The log of answers' events: the only copy of an answer, written before anybody receives it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.eventlog.base import AheadOfLogError, Claims, DamagedLogError, EventLog, Lease, Reader
from service.eventlog.files.directory import UnsafeDirectory, make_private
from service.eventlog.files.inotify import load_libc
from service.eventlog.files.log import FileEventLog
from service.eventlog.files.sweep import Retention

__all__ = [
    "AheadOfLogError",
    "Claims",
    "DamagedLogError",
    "EventLog",
    "Lease",
    "Reader",
    "Retention",
    "UnsafeDirectory",
    "directory_of",
    "load_libc",
    "make_private",
    "open_event_log",
]


def open_event_log(url: str, retention: Retention) -> EventLog:
    """Return the event log at the URL: `file:///path` keeps it in a directory, which is made if it is missing.

    Raises:
        ValueError: no backend is known for the URL.
        Unavailable: the log cannot be reached.
    """
    return FileEventLog(str(directory_of(url)), retention)


def directory_of(url: str) -> Path:
    """Return the directory that the log at the URL writes to.

    Raises:
        ValueError: no backend is known for the URL.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return Path(unquote(parts.path))
    raise ValueError("the log's URL must be file:///<absolute path>")
