"""OpenTelemetry's spans, sent by OTLP over HTTP. Imported only where traces are wanted: its packages are an extra."""

import os
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.telemetry.tracing import Span, Value


class OtlpSpan(Span):
    """A span of OpenTelemetry's."""

    def __init__(self, span: Any) -> None:  # noqa: ANN401 (opentelemetry's own type is not the one it gives)
        context = span.get_span_context()
        trace_id = f"{context.trace_id:032x}"
        self._span = span
        self.ids = {"trace_id": trace_id}
        self.traceparent = f"00-{trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """Add what is known."""
        self._span.set_attributes({key: value for key, value in attributes.items() if value is not None})

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def event(self, name: str) -> None:
        """Note that something happens now."""
        self._span.add_event(name)

    def end(self, error: str | None = None) -> None:
        """End it."""
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class OtlpTracer:
    """Makes spans, and has a thread send them now and then. The SDK's own environment variables say where and which."""

    def __init__(self) -> None:
        # OTEL_RESOURCE_ATTRIBUTES would not take precedence over a name that is given here.
        given = {} if "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") else {SERVICE_NAME: "folyam"}
        if name := os.environ.get("OTEL_SERVICE_NAME"):
            given = {SERVICE_NAME: name}
        # At the process' end it would wait for a collector that is gone; `shutdown` is called before.
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_VERSION: __version__, **given}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("folyam", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, traceparent: str, *, client: bool) -> OtlpSpan:
        """Begin a span."""
        context = self._propagator.extract({"traceparent": traceparent})
        return OtlpSpan(self._tracer.start_span(name, context, SpanKind.CLIENT if client else SpanKind.SERVER))

    def shutdown(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()
