"""Traces, as a real collector receives them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from gunicorn.arbiter import Arbiter

from tests.e2e.client import JSON_LINES, Client, question, script
from tests.e2e.collector import Collector, ReceivedSpan
from tests.e2e.stack import READY_SECONDS, Service, eventually, import_service
from tests.otlp_receiver import receiving
from tests.upstream.process import UpstreamProcess

WORDS = "somebody's own words"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True)
class Traced:
    services: tuple[Service, Service]
    collector: Collector

    @property
    def client(self) -> Client:
        return Client(self.services[0].address)

    def spans(self, answer: str, count: int) -> list[ReceivedSpan]:
        """The spans of an answer, once so many have come."""

        def come() -> list[ReceivedSpan]:
            spans = self.collector.spans()
            found = [span for span in spans if span.attributes.get("folyam.answer.id") == answer]
            return found if len(found) >= count else []

        return eventually(come, 20)

    def line(self, **fields: str) -> dict[str, Any]:
        """The one line of the log that has these fields, once it is there: after the response."""

        def look() -> list[dict[str, Any]]:
            logged = (service.log.read_text().splitlines() for service in self.services)
            lines = [json.loads(line) for log in logged for line in log if line.startswith("{") and line.endswith("}")]
            return [line for line in lines if fields.items() <= line.items()]

        [line] = eventually(look)
        return line


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Traced]:
    directory = tmp_path_factory.mktemp("traced")
    answers = directory / "answers"
    with Collector(directory / "collector") as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "FOLYAM_CONTINUE": "assistant",
            "FOLYAM_RETRIES": "0",
        }
        with (
            Service(directory / "one", answers, upstream.base_url, workers=1, settings=settings) as one,
            Service(directory / "two", answers, upstream.base_url, workers=1, settings=settings) as two,
        ):
            yield Traced((one, two), collector)


def test_an_answer_is_a_request_and_a_generation_in_the_trace_of_who_asked(traced: Traced) -> None:
    body, headers = question(script(chunks=5, key=WORDS), JSON_LINES)
    headers |= {"traceparent": PARENT, "X-Request-Id": "mine"}
    reply = traced.client.request("POST", "/generate", body, headers)
    answer = reply.events[0]["answer"]
    generation, request = sorted(traced.spans(answer, 2), key=lambda span: span.name, reverse=True)
    assert (request.name, request.kind) == ("POST /generate", "SPAN_KIND_SERVER")
    assert f"00-{request.trace_id}-{request.parent_id}-01" == PARENT
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": "200",
        "folyam.request.id": "mine",
        "folyam.answer.id": answer,
        "folyam.rendering": "ndjson",
        "folyam.whole": "true",
    }
    assert (generation.name, generation.kind) == ("chat test-model", "SPAN_KIND_CLIENT")
    assert (generation.trace_id, generation.parent_id) == (request.trace_id, request.span_id)
    assert 0 < float(generation.attributes.pop("gen_ai.response.time_to_first_chunk")) < 20
    assert generation.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "test-model",
        "gen_ai.request.stream": "true",
        "gen_ai.response.finish_reasons": "stop",
        "gen_ai.usage.input_tokens": generation.attributes["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": "5",
        "folyam.answer.id": answer,
        "folyam.endpoint": "primary",
        "folyam.outcome": "done",
    }
    assert generation.events == ["folyam.first_chunk"]
    line = traced.line(event="request", answer=answer)
    assert (line["request_id"], line["trace_id"]) == ("mine", request.trace_id)
    assert traced.line(event="answer", answer=answer, trace_id=request.trace_id)
    assert WORDS not in traced.collector.text()
    assert "traceparent" not in reply.body.decode()


def test_a_failure_is_marked_with_its_code(traced: Traced) -> None:
    traced.client.generate(script(status=401))
    line = traced.line(event="request", error="upstream_credentials")
    for span in traced.spans(line["answer"], 2):
        assert span.status == "STATUS_CODE_ERROR"
        assert span.attributes["error.type"] == "upstream_credentials"


def test_a_stop_is_an_event_and_no_error(traced: Traced) -> None:
    stream = traced.client.ask(script(endless=True, pace=0.02))
    traced.client.stop(stream.answer)
    stream.close()
    spans = traced.spans(stream.answer, 3)
    [generation] = [span for span in spans if span.name.startswith("chat")]
    assert "folyam.stop" in generation.events
    assert (generation.attributes["folyam.outcome"], generation.attributes["folyam.stopped_by"]) == ("stopped", "user")
    assert "POST /answers/{answer_id}/stop" in {span.name for span in spans}
    assert {span.status for span in spans} == {"STATUS_CODE_UNSET"}


def test_a_take_over_goes_on_in_the_same_trace(traced: Traced) -> None:
    dying, other = traced.services
    stream = traced.client.ask(script(chunks=100, pace=0.03))
    events = stream.events()
    first = [next(events) for _ in range(3)]
    follower = Client(other.address).open("GET", f"/answers/{stream.answer}")
    [worker] = dying.workers()
    psutil.Process(worker).kill()
    assert list(follower.events())[-1]["type"] == "done"
    follower.close()
    stream.close()
    [asked] = [span for span in traced.spans(stream.answer, 1) if span.name.startswith("chat")]
    # The killed worker sent no span; the generation that went on elsewhere is in the trace of who asked all the same.
    assert asked.attributes["folyam.takeover"] == "continue"
    assert asked.parent_id
    taken = traced.line(event="answer", answer=stream.answer)
    assert taken["trace_id"] == asked.trace_id
    assert first[0]["answer"] == stream.answer
    eventually(lambda: dying.workers() and dying.workers() != [worker], READY_SECONDS)


def test_a_worker_that_leaves_sends_its_spans_before_it_goes(traced: Traced, upstream: UpstreamProcess) -> None:
    directory = traced.services[0].log.parent.with_name("leaving")
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": traced.collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    with Service(directory, directory / "answers", upstream.base_url, settings=settings) as service:
        answer = Client(service.address).generate(script()).events[0]["answer"]
    assert len(traced.spans(answer, 2)) == 2


def test_a_collector_that_is_gone_holds_up_nothing(tmp_path: Path, upstream: UpstreamProcess) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    settings["OTEL_METRIC_EXPORT_INTERVAL"] = "100"
    with Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service:
        client = Client(service.address)
        assert client.generate(script()).events[-1]["type"] == "done"
    # It left in order, and was not killed for taking too long.
    assert "SIGKILL" not in service.log.read_text()
    assert service.process.returncode == 0


def test_the_framework_sends_nothing_by_itself(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """FastAPI's own telemetry has addresses and exceptions' messages, which may quote a client's words."""
    with receiving() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
        with Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service:
            # FastAPI reports a parameter that it refuses.
            assert Client(service.address).request("GET", "/generate?temperature=hot").status == 422
    # A leaving worker sends its remaining spans and its metrics before it ends.
    assert set(receiver.paths) == {"/v1/traces", "/v1/metrics"}
    assert all(name.startswith(("folyam_", "gen_ai.")) for export in receiver.exports for name in export.metrics)


def test_where_the_packages_are_missing_the_service_says_which(tmp_path: Path) -> None:
    # As if they were not installed: an empty module in their place.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry.sdk'] = None")
    environment = {
        "PYTHONPATH": str(tmp_path),
        "FOLYAM_LOG_URL": tmp_path.as_uri(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    }
    done = import_service(environment)
    assert done.returncode == Arbiter.APP_LOAD_ERROR
    assert "opentelemetry-sdk" in done.stderr
    assert "Traceback" not in done.stderr
