"""The log of answers' events: the only copy of an answer, written before anybody receives it."""

from urllib.parse import unquote, urlsplit

from service.eventlog.base import DamagedLogError, EventLog, Lease, Reader
from service.eventlog.files import FileEventLog
from service.eventlog.retention import Retention

__all__ = ["DamagedLogError", "EventLog", "Lease", "Reader", "Retention", "open_event_log"]


def open_event_log(url: str, retention: Retention) -> EventLog:
    """Return the event log at the URL: `file:///path` keeps it in a directory, which is made if it is missing.

    Raises:
        ValueError: no backend is known for the URL.
        Unavailable: the log cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return FileEventLog(unquote(parts.path), retention)
    raise ValueError("the log's URL must be file:///<absolute path>")
