"""Send spans by OTLP over HTTP. Imported only where traces are wanted: the SDK and the exporter are an extra."""

import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import get_tracer

from service import __version__
from service.telemetry import tracing


def start() -> None:
    """Start recording spans, and the thread that sends them. The SDK's own environment variables say where and which.

    The provider does not become OpenTelemetry's global one, which libraries with spans of their own would use.
    """
    # A name given here takes precedence over OTEL_RESOURCE_ATTRIBUTES, so none is given where that has one.
    given = {} if "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") else {SERVICE_NAME: "folyam"}
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        given = {SERVICE_NAME: name}
    # At exit the SDK would wait for a collector that does not answer. `tracing.aclose` shuts it down before.
    provider = TracerProvider(resource=Resource.create({SERVICE_VERSION: __version__, **given}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.use(get_tracer("folyam", __version__, provider), provider.shutdown)
