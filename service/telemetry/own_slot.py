"""This process's slot for its metrics, claimed at import: before the first metric is made.

Each metric takes the names of its files from the value class when it is made. Without a slot that class would use the
process id. With several workers, `PROMETHEUS_MULTIPROC_DIR` is set before Python starts.
"""

import os
from pathlib import Path

import structlog
from prometheus_client import values

from service.telemetry import worker_slots
from service.telemetry.allocation import AllocatedValues

_logger = structlog.get_logger()

_variable = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
DIRECTORY = Path(_variable) if _variable else None
"""Where the workers' metrics meet; None if this process counts for itself."""

_disk_errors: list[OSError] = []
"""Errors that left a metric in memory, where no scrape sees it. The first is logged."""


def _claim(directory: Path) -> worker_slots.Slot | None:
    try:
        slot = worker_slots.claim(directory)
    except OSError as error:  # A full disk, above all. The service matters more than its metrics.
        _disk_errors.append(error)
        values.ValueClass = values.MutexValue
        return None
    values.ValueClass = AllocatedValues(directory, slot.number, _disk_errors.append)
    return slot


_slot = _claim(DIRECTORY) if DIRECTORY else None


def deaths_found() -> int:
    """Return how many workers were found dead when this one claimed its slot."""
    return 0 if _slot is None else _slot.lost


def serve() -> None:
    """Mark this worker as serving. An unclean exit is counted from here on."""
    log_disk_errors()
    if _slot is not None:
        _slot.serve()


def leave() -> None:
    """Mark this worker's exit as clean."""
    if _slot is not None:
        _slot.leave()


def log_disk_errors() -> None:
    """Log once that some metrics are not counted, if the disk had no room for their files."""
    if _disk_errors:
        _logger.warning("metrics_not_counted", reason=_disk_errors[0].strerror)
        _disk_errors.clear()
