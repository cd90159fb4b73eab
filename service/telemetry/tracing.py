"""OpenTelemetry traces, if `OTEL_EXPORTER_OTLP_ENDPOINT` asks for them; otherwise nothing, at no cost.

A request is one span and the generation of an answer another, which outlives its request and may go on in another
worker. Names are those of OpenTelemetry's conventions for HTTP and for generative AI; what these do not know begins
with `folyam.`. No span holds what people wrote, nor a path or a query string, which might.
"""

import asyncio
import os
import threading
from collections.abc import Mapping
from typing import Protocol

from service.events import Done, Request

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS = 2.0
"""How long a worker that leaves waits for its last spans to be taken."""

Value = str | int | float | bool | list[str]


class Span:
    """A span, or this: nothing, where traces are off."""

    ids: Mapping[str, str] = {}
    """What to log with what happens in it."""
    traceparent = ""
    """Its name for others, as in the header; empty where there is none."""

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """Add what is known; what is None is not."""

    def rename(self, name: str) -> None:
        """Give it another name, where that is known only now."""

    def event(self, name: str) -> None:
        """Note that something happens now."""

    def end(self, error: str | None = None) -> None:
        """End it, as failed where there is an error: its code."""


class Tracer(Protocol):
    """Whoever makes spans."""

    def start(self, name: str, traceparent: str, *, client: bool) -> Span:
        """Begin a span: of a client that asks somebody, or else of a server that was asked."""

    def shutdown(self) -> None:
        """Send what has not been sent, however long that takes. For a thread."""


NO_SPAN = Span()
_tracer: Tracer | None = None


def wanted() -> bool:
    """Tell whether the environment asks for traces."""
    return any(os.environ.get(name) for name in ENDPOINTS)


def use(tracer: Tracer) -> None:
    """Have spans made by the tracer from now on."""
    global _tracer  # noqa: PLW0603 (as the metrics, one for the process)
    _tracer = tracer


async def aclose() -> None:
    """Send what has not been sent, if it is taken soon."""
    if _tracer is not None:
        # In a thread that nobody has to wait for: a collector that is gone would hold up the worker's end.
        sending = threading.Thread(target=_tracer.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_SECONDS)


def request(method: str, traceparent: str, request_id: str) -> Span:
    """Begin the span of a request. `traceparent` is its header, or empty."""
    if _tracer is None:
        return NO_SPAN
    span = _tracer.start(method, traceparent, client=False)
    span.set({"http.request.method": method, "folyam.request.id": request_id})
    return span


def generation(asked: Request, answer_id: str, *, taken_over: str | None) -> Span:
    """Begin the span of a generation, or of the rest of one: `taken_over` tells how another worker's goes on."""
    if _tracer is None:
        return NO_SPAN
    span = _tracer.start(f"chat {asked.model}", asked.traceparent, client=True)
    span.set(
        {
            "gen_ai.operation.name": "chat",
            # Whoever answers in truth: this is the API that they are asked by.
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": asked.model,
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": asked.temperature,
            "gen_ai.request.max_tokens": asked.max_tokens,
            "folyam.answer.id": answer_id,
            "folyam.takeover": taken_over,
        }
    )
    return span


def generated(span: Span, outcome: str, *, first_chunk_seconds: float | None, done: Done | None) -> None:
    """Add what came of a generation to its span."""
    span.set({"folyam.outcome": outcome, "gen_ai.response.time_to_first_chunk": first_chunk_seconds})
    if done is not None:
        span.set({"gen_ai.response.finish_reasons": [done.finish_reason]})
        if done.usage is not None:
            span.set(
                {
                    "gen_ai.usage.input_tokens": done.usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": done.usage.completion_tokens,
                    "gen_ai.usage.cache_read.input_tokens": (done.usage.prompt_tokens_details or {}).get(
                        "cached_tokens"
                    ),
                    "gen_ai.usage.reasoning.output_tokens": (done.usage.completion_tokens_details or {}).get(
                        "reasoning_tokens"
                    ),
                }
            )
