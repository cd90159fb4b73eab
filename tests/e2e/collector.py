"""A real OpenTelemetry collector, which prints the spans that it receives."""

import importlib.util
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import ports
from tests.e2e.stack import READY_SECONDS, Program, eventually


@dataclass
class ReceivedSpan:
    """A span as parsed by the collector."""

    name: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    kind: str = ""
    status: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


class Collector(Program):
    """Rotel: receives OTLP over HTTP, exports nothing, and logs each span in full."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        package = importlib.util.find_spec("rotel")
        assert package, "the collector comes with the package rotel, which has none for this version of Python"
        assert package.submodule_search_locations
        program = Path(package.submodule_search_locations[0]) / "rotel-agent"
        program.chmod(0o755)
        self.address = ports.free()
        command = [str(program), "start", "--exporter", "blackhole"]
        command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        command += ["--otlp-http-endpoint", str(self.address), "--otlp-grpc-endpoint", str(ports.free())]
        super().__init__(command, {}, directory / "collector.log")
        eventually(self._ready, READY_SECONDS)

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    def text(self) -> str:
        """The collector's output without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())

    def spans(self) -> list[ReceivedSpan]:
        """All spans in the order of their arrival."""
        spans: list[ReceivedSpan] = []
        within = ""
        for line in self.text().splitlines():
            if re.fullmatch(r"Span #\d+", line):
                spans.append(ReceivedSpan())
                within = "span"
            elif line.startswith("ResourceSpans"):
                within = ""
            elif not within:
                continue
            elif line in ("Attributes:", "Events:"):
                within = line
            elif match := re.fullmatch(r" {4}([\w ]+?) +: (.*)", line):
                _set(spans[-1], match[1], match[2])
            elif (match := re.fullmatch(r" +-> ([\w.]+): (.*)", line)) and within == "Attributes:":
                spans[-1].attributes[match[1]] = re.sub(r"^(\w+\()+|\)+$", "", match[2])
            elif (match := re.fullmatch(r" +-> Name: (.*)", line)) and within == "Events:":
                spans[-1].events.append(match[1])
        return spans

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as trial:
            return trial.connect_ex((self.address.host, self.address.port)) == 0


def _set(span: ReceivedSpan, label: str, value: str) -> None:
    names = {"Name": "name", "Trace ID": "trace_id", "ID": "span_id", "Parent ID": "parent_id", "Kind": "kind"}
    names["Status code"] = "status"
    if label in names:
        setattr(span, names[label], value)
