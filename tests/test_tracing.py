"""Trace context for other workers and the log, with and without traces."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF, DEFAULT_ON, Sampler
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as conventions
from opentelemetry.trace import Span, TraceFlags

from service.events import Usage
from service.telemetry import tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7"


@pytest.fixture
def sampler() -> Sampler:
    return DEFAULT_ON


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch, sampler: Sampler) -> None:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("tests"))


def generation(traceparent: str) -> Span:
    return tracing.start_generation(
        "0" * 32, model="m", temperature=None, max_tokens=None, traceparent=traceparent, taken_over=None
    )


def test_without_traces_a_client_that_has_some_changes_nothing() -> None:
    request = tracing.start_request("POST", f"{PARENT}-01", "mine")
    assert tracing.traceparent(request) == ""
    assert tracing.log_fields(request) == {}
    assert tracing.log_fields(generation(f"{PARENT}-01")) == {}


@pytest.mark.usefixtures("traces")
def test_a_generation_is_in_the_trace_of_its_request_wherever_it_is_made() -> None:
    request = tracing.start_request("POST", f"{PARENT}-01", "mine")
    header = tracing.traceparent(request)
    assert header.startswith(f"00-{TRACE}-")
    assert header != f"{PARENT}-01"
    assert tracing.log_fields(request) == tracing.log_fields(generation(header)) == {"trace_id": TRACE}


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize(("sampler", "sent"), [(DEFAULT_ON, f"{PARENT}-00"), (DEFAULT_OFF, "")])
def test_a_generation_is_not_recorded_where_its_request_was_not(sent: str) -> None:
    request = tracing.start_request("POST", sent, "mine")
    assert not request.is_recording()
    header = tracing.traceparent(request)
    assert not TraceFlags(int(header[-2:], 16)).sampled
    assert not generation(header).is_recording()


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize("header", ["", "nonsense", f"{PARENT}-01-more", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
def test_a_request_whose_header_cannot_be_read_begins_a_trace(header: str) -> None:
    request = tracing.start_request("POST", header, "mine")
    assert isinstance(request, ReadableSpan)
    assert request.parent is None


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize("outcome", ["done", "stopped", "failed"])
def test_a_generation_has_the_tokens_that_are_known_however_it_ends(outcome: str) -> None:
    span = generation(f"{PARENT}-01")
    tracing.end_generation(
        span,
        outcome,
        stopped_by=None,
        first_chunk_seconds=0.5,
        finish_reason="stop",
        usage=Usage(5, 4, 9, {"cached_tokens": 3}, {"reasoning_tokens": 2}),
        endpoint="fallback",
        error=None,
    )
    assert isinstance(span, ReadableSpan)
    attributes = span.attributes
    assert attributes
    assert (
        attributes.items()
        >= {
            conventions.GEN_AI_USAGE_INPUT_TOKENS: 5,
            conventions.GEN_AI_USAGE_OUTPUT_TOKENS: 4,
            conventions.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 3,
            conventions.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 2,
            conventions.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 0.5,
            "folyam.endpoint": "fallback",
            "folyam.outcome": outcome,
        }.items()
    )
    defined = {name for key, name in vars(conventions).items() if key.startswith("GEN_AI_")}
    assert {name for name in attributes if name.startswith("gen_ai.")} <= defined
