"""This process's slot for its metrics. With several workers, `PROMETHEUS_MULTIPROC_DIR` is set before Python starts."""

import os
from pathlib import Path

import structlog
from prometheus_client import values

from service.telemetry import worker_slots
from service.telemetry.allocation import AllocatedValues, Sample

_logger = structlog.get_logger()

_disk_errors: list[OSError] = []
"""Errors that left a metric in memory, where no scrape sees it. The first is logged."""
_slot: worker_slots.Slot | None = None
_values: AllocatedValues | None = None


def directory() -> Path | None:
    """Return where the workers' metrics meet; None if this process counts for itself."""
    variable = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(variable) if variable else None


def claim() -> None:
    """Claim a slot, if there are several workers. To be called before the first metric is made.

    A metric takes the names of its files from the value class when it is made, and the module `series` makes all of
    them. Without a slot that class would use the process id.
    """
    global _slot, _values  # noqa: PLW0603 (as the metrics, one for the process)
    if (meeting := directory()) is None:
        return
    try:
        _slot = worker_slots.claim(meeting)
    except OSError as error:  # A full disk, above all. The service matters more than its metrics.
        _disk_errors.append(error)
        values.ValueClass = values.MutexValue
        return
    values.ValueClass = _values = AllocatedValues(meeting, _slot.number, _disk_errors.append)


def inherited(sample: Sample) -> float:
    """Return what the slot's earlier workers had counted of a counter, or of a part of a histogram."""
    return 0.0 if _values is None else _values.inherited.get(sample, 0.0)


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
