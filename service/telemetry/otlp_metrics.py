"""Send metrics by OTLP over HTTP, in a thread. Imported only where they are wanted: the exporter is an extra.

The SDK's exporter encodes, sends and tries again. The SDK's instruments are not used: recording each chunk in one would
cost as much as a tenth of the chunk. What is counted anyway is read when it is sent.
"""

import os
import threading
import time
from collections.abc import Sequence

import structlog
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from service import __version__
from service.telemetry.readings import Reading, read

DEFAULT_INTERVAL_SECONDS = 60.0
"""The SDK's own, for `OTEL_METRIC_EXPORT_INTERVAL`."""

_logger = structlog.get_logger()


def interval_seconds() -> float:
    """Return the time between two exports, which the variable has in milliseconds; the default if that is invalid."""
    try:
        seconds = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or "nan") / 1000
    except ValueError:
        seconds = 0.0
    return seconds if 0 < seconds <= threading.TIMEOUT_MAX else DEFAULT_INTERVAL_SECONDS


def wants_deltas() -> bool:
    """Return whether the collector wants what was counted since the last export, and not since the start."""
    return os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower() in (
        "delta",
        "lowmemory",
    )


class MetricSender:
    """Sends this process's metrics at intervals, and once more at the end."""

    def __init__(self, exporter: MetricExporter, resource: Resource, *, interval: float, deltas: bool) -> None:
        self._exporter = exporter
        self._resource = resource
        self._interval = interval
        self._deltas = deltas
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="metrics by OTLP")
        self._since: dict[str, Reading] = {}
        self._since_ns = time.time_ns()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def shutdown(self) -> None:
        """Send the last figures. Blocks until the collector has them or the exporter gives up."""
        self._leaving.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._leaving.wait(self._interval):
            self._send()
        self._send()
        self._exporter.shutdown()

    def _send(self) -> None:
        try:
            now = {each.name: each for each in read()}
            now_ns = time.time_ns()
            readings = [each.since(self._since.get(name)) for name, each in now.items()]
            sent = self._exporter.export(self._data(readings, now_ns))
        except Exception:  # A defect must not end all further exports.
            _logger.exception("metrics_not_sent")
            return
        # What the collector did not take is part of the next delta.
        if self._deltas and sent is MetricExportResult.SUCCESS:
            self._since, self._since_ns = now, now_ns

    def _data(self, readings: Sequence[Reading], now_ns: int) -> MetricsData:
        metrics = [
            Metric(each.name, each.description, each.unit, self._points(each, now_ns))
            for each in readings
            if each.points
        ]
        scope = ScopeMetrics(InstrumentationScope("folyam", __version__), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])

    def _points(self, reading: Reading, now_ns: int) -> Sum | Gauge | Histogram:
        temporality = AggregationTemporality.DELTA if self._deltas else AggregationTemporality.CUMULATIVE
        if reading.kind == "histogram":
            return Histogram([*self._distributions(reading, now_ns)], temporality)
        numbers = [
            NumberDataPoint(dict(attributes), self._since_ns, now_ns, value)
            for attributes, (value,) in reading.points.items()
        ]
        return Gauge(numbers) if reading.kind == "gauge" else Sum(numbers, temporality, is_monotonic=True)

    def _distributions(self, reading: Reading, now_ns: int) -> Sequence[HistogramDataPoint]:
        return [
            HistogramDataPoint(
                attributes=dict(attributes),
                start_time_unix_nano=self._since_ns,
                time_unix_nano=now_ns,
                count=int(sum(counts)),
                sum=total,
                bucket_counts=[int(count) for count in counts],
                explicit_bounds=reading.bounds,
                # Unknown, and optional in the protocol.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
            )
            for attributes, (*counts, total) in reading.points.items()
        ]
