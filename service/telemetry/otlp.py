"""Send spans and metrics by OTLP over HTTP. Imported only where one is wanted: the SDK and the exporter are an extra.

The exporter is OpenTelemetry's own, for both. It adds 12 MB to a worker's 70, and 0.2 s of CPU to its start; 0.6 MB and
0.05 s of these are for metrics.
"""

import os
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import get_tracer

from service import __version__
from service.telemetry import gen_ai, sending, tracing
from service.telemetry.gen_ai import Server
from service.telemetry.otlp_metrics import MetricSender, interval_seconds, wants_deltas


def start(servers: Mapping[str, Server]) -> None:
    """Start what is wanted, and the threads that send it. The SDK's own environment variables say where and which.

    `servers` has the upstream of each endpoint.

    The tracer's provider does not become OpenTelemetry's global one, which libraries with spans of their own would use.
    """
    resource = _resource()
    if sending.wanted("traces"):
        # At exit the SDK would wait for a collector that does not answer. `sending.aclose` shuts it down before.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        tracing.use(get_tracer("folyam", __version__, provider))
        sending.at_close(provider.shutdown)
    if sending.wanted("metrics"):
        gen_ai.begin(servers)
        sender = MetricSender(OTLPMetricExporter(), resource, interval=interval_seconds(), deltas=wants_deltas())
        sender.start()
        sending.at_close(sender.shutdown)


def _resource() -> Resource:
    # A name given here takes precedence over OTEL_RESOURCE_ATTRIBUTES, so none is given where that has one.
    given = {} if "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") else {SERVICE_NAME: "folyam"}
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        given = {SERVICE_NAME: name}
    resource = Resource.create({SERVICE_VERSION: __version__, **given})
    if SERVICE_INSTANCE_ID not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return resource  # The SDK has made up an id.
    # Each worker counts for itself. A collector would take the counters of one id for one.
    instance = f"{resource.attributes[SERVICE_INSTANCE_ID]!s}-{os.getpid()}"
    return resource.merge(Resource({SERVICE_INSTANCE_ID: instance}))
