"""OpenTelemetry traces, where the environment asks for them (`sending.wanted`). Otherwise every span is a no-op one.

A request is one span. The generation of an answer is another: it outlives its request and may continue in another
worker. Names follow OpenTelemetry's conventions for HTTP and for generative AI; names that those do not have begin with
`folyam.`. No span holds people's words, nor a path or a query string, which may contain them.
"""

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.gen_ai import OPERATION, PROVIDER
from service.telemetry.usage import Usage, cached_tokens, reasoning_tokens

Span = trace.Span
"""The API's span, named here for modules that may not import OpenTelemetry."""

NO_SPAN: Span = INVALID_SPAN
"""Records nothing and has no ids."""

_propagator = TraceContextTextMapPropagator()
_tracer: Tracer | None = None


def use(tracer: Tracer) -> None:
    """Start all spans from the tracer from now on."""
    global _tracer  # noqa: PLW0603 (one for the process, as the metrics)
    _tracer = tracer


def log_fields(span: Span) -> Mapping[str, str]:
    """Return the ids to log with events of the span; empty without traces."""
    if span is NO_SPAN:
        return {}
    context = span.get_span_context()
    return {"trace_id": format_trace_id(context.trace_id)} if context.is_valid else {}


def traceparent(span: Span) -> str:
    """Return the W3C `traceparent` header that makes a span elsewhere a child of this one; empty without traces."""
    if span is NO_SPAN:
        return ""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")


def start_request(method: str, traceparent: str, request_id: str) -> Span:
    """Start the span of a request. `traceparent` is its header of that name: the client's span, or empty."""
    if _tracer is None:
        return NO_SPAN
    span = _start(method, traceparent, SpanKind.SERVER)
    _set(span, {"http.request.method": method, "folyam.request.id": request_id})
    return span


def end_request(
    span: Span,
    name: str,
    *,
    route: str | None,
    status: int | None,
    answer_id: str | None,
    rendering: str | None,
    whole: bool,
    error: str | None,
) -> None:
    """End the span of a request, as failed if there is an error code."""
    if span is NO_SPAN:
        return
    span.update_name(name)
    _set(
        span,
        {
            "http.route": route,
            "http.response.status_code": status,
            "folyam.answer.id": answer_id,
            "folyam.rendering": rendering,
            "folyam.whole": whole,
        },
    )
    _end(span, error)


def start_generation(
    answer_id: str,
    *,
    model: str,
    temperature: float | None,
    max_tokens: int | None,
    traceparent: str,
    taken_over: str | None,
) -> Span:
    """Start the span of a generation, or of the rest of one: `taken_over` is the way of a take-over."""
    if _tracer is None:
        return NO_SPAN
    span = _start(f"{OPERATION} {model}", traceparent, SpanKind.CLIENT)
    _set(
        span,
        {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": temperature,
            "gen_ai.request.max_tokens": max_tokens,
            "folyam.answer.id": answer_id,
            "folyam.takeover": taken_over,
        },
    )
    return span


def end_generation(
    span: Span,
    outcome: str,
    *,
    stopped_by: str | None,
    first_chunk_seconds: float | None,
    finish_reason: str | None,
    usage: Usage | None,
    endpoint: str | None,
    error: str | None,
) -> None:
    """End the span of a generation, as failed if there is an error code."""
    if span is NO_SPAN:
        return
    _set(
        span,
        {
            "folyam.outcome": outcome,
            "folyam.stopped_by": stopped_by,
            "folyam.endpoint": endpoint,
            "gen_ai.response.time_to_first_chunk": first_chunk_seconds,
            "gen_ai.response.finish_reasons": None if finish_reason is None else [finish_reason],
        },
    )
    if usage is not None:
        _set(
            span,
            {
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": cached_tokens(usage),
                "gen_ai.usage.reasoning.output_tokens": reasoning_tokens(usage),
            },
        )
    _end(span, error)


def _start(name: str, traceparent: str, kind: SpanKind) -> Span:
    # The API's no-op tracer would return the client's own span, whose trace id the log would then show.
    if _tracer is None:
        return NO_SPAN
    return _tracer.start_span(name, _propagator.extract({"traceparent": traceparent}), kind)


def _set(span: Span, attributes: Mapping[str, str | float | Sequence[str] | None]) -> None:
    if span.is_recording():
        span.set_attributes({key: value for key, value in attributes.items() if value is not None})


def _end(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end()
