"""The file backend: `file:///path` keeps logs in a directory, which is created if it is missing."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.eventlog.base import EventLog, Retention, UnusableLog
from service.eventlog.files.directory import UnsafeDirectory, make_private
from service.eventlog.files.inotify import load_libc
from service.eventlog.files.log import FileEventLog


def open_event_log(url: str, retention: Retention) -> EventLog:
    """See `service.eventlog.open_event_log`."""
    return FileEventLog(str(_directory_of(url)), retention)


def prepare_event_log(url: str) -> list[Path]:
    """See `service.eventlog.prepare_event_log`."""
    directory = _directory_of(url)
    load_libc()
    try:
        make_private(directory)
    except UnsafeDirectory as error:
        raise UnusableLog(f"Should be a directory that only this user can write: {error}") from None
    except OSError as error:
        raise UnusableLog(f"Should be a directory that can be written: {error.filename}: {error.strerror}") from None
    return [directory]


def _directory_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))
