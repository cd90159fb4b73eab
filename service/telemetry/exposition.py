"""The metrics in Prometheus' text format. With several workers, each answers for all."""

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess

from service.telemetry import own_slot, series, worker_slots

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """Return all workers' metrics, dead workers counted."""
    own_slot.log_disk_errors()
    directory = own_slot.directory()
    if directory is None:
        return generate_latest(REGISTRY)
    if deaths := worker_slots.sweep(directory):
        series.WORKER_DEATHS.inc(deaths)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
