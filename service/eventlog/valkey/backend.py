"""The Valkey backend."""

from pathlib import Path

from service.eventlog.base import EventLog, Retention
from service.eventlog.valkey.address import parse_address
from service.eventlog.valkey.log import ValkeyEventLog


def open_event_log(url: str, retention: Retention) -> EventLog:
    """See `service.eventlog.open_event_log`. Connects in the background."""
    return ValkeyEventLog(parse_address(url), retention)


def prepare_event_log(url: str) -> list[Path]:
    """See `service.eventlog.prepare_event_log`."""
    parse_address(url)
    return []
