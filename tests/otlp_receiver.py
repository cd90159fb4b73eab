"""A collector of metrics over a real socket, which decodes what it receives and answers as it is told."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint

POLL_SECONDS = 0.01
"""How soon the server notices its end."""

Attributes = dict[str, str | int]
PARTIAL = ExportMetricsServiceResponse(
    partial_success=ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too many")
).SerializeToString()


@dataclass
class Reply:
    """One response. It is sent after `held` is set."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    held: threading.Event | None = None


def attributes_of(written: list[KeyValue]) -> Attributes:
    return {each.key: each.value.int_value or each.value.string_value for each in written}


@dataclass
class Export:
    """One request, decoded."""

    headers: Mapping[str, str]
    request: ExportMetricsServiceRequest

    @property
    def resource(self) -> Attributes:
        [resource] = self.request.resource_metrics
        return attributes_of(list(resource.resource.attributes))

    @property
    def metrics(self) -> dict[str, Metric]:
        [resource] = self.request.resource_metrics
        [scope] = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def numbers(self, name: str) -> list[tuple[Attributes, NumberDataPoint]]:
        metric = self.metrics[name]
        points = metric.gauge.data_points if metric.HasField("gauge") else metric.sum.data_points
        return [(attributes_of(list(point.attributes)), point) for point in points]

    def number(self, name: str, **labels: str) -> float:
        [value] = [point.as_double for attributes, point in self.numbers(name) if attributes == labels]
        return value

    def distributions(self, name: str) -> list[tuple[Attributes, HistogramDataPoint]]:
        if name not in self.metrics:
            return []
        points = self.metrics[name].histogram.data_points
        return [(attributes_of(list(point.attributes)), point) for point in points]

    def distribution(self, name: str, **labels: str) -> HistogramDataPoint:
        """The only one with these attributes among others."""
        wanted = labels.items()
        [point] = [point for attributes, point in self.distributions(name) if wanted <= attributes.items()]
        return point


@dataclass
class Receiver:
    """What has come. `replies` are given in order; then each request is accepted."""

    endpoint: str
    exports: list[Export] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive until the end."""
    receiver = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = receiver.replies.pop(0) if receiver.replies else Reply()
            receiver.paths.append(self.path)
            if self.path == "/v1/metrics":
                receiver.exports.append(Export(dict(self.headers), ExportMetricsServiceRequest.FromString(body)))
            if reply.held is not None:
                reply.held.wait()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
