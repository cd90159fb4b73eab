"""The metrics of OpenTelemetry's conventions for generative AI, counted only where metrics go out by OTLP.

They are this process's alone: each worker sends its own. Prometheus' series could not be sent in their place: they have
other labels and other buckets.

Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import add
from typing import NamedTuple

from service.telemetry.usage import Usage

OPERATION = "chat"
PROVIDER = "openai"
"""The API that is spoken. Which provider stands behind it is unknown."""

SECONDS = tuple(round(0.01 * 2**power, 2) for power in range(14))
TOKENS = tuple(4**power for power in range(14))
"""The conventions' bounds of buckets."""

Attributes = tuple[tuple[str, str | int], ...]


class Server(NamedTuple):
    """An upstream's host and port."""

    address: str
    port: int


class Point(NamedTuple):
    """The values that were recorded with the same attributes."""

    counts: tuple[int, ...]
    """Number of values in each bucket, those above the last bound last."""
    total: float


class Histogram:
    """One metric's values. It is recorded in one thread, and may be read in another: each `Point` is replaced whole."""

    def __init__(self, name: str, unit: str, description: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self.bounds = tuple(bounds)
        self._nothing = Point((0,) * (len(self.bounds) + 1), 0.0)
        self._points: dict[Attributes, Point] = {}

    def record(self, attributes: Attributes, value: float) -> None:
        """Record one value."""
        known = self._points.get(attributes, self._nothing)
        counts = list(known.counts)
        counts[bisect_left(self.bounds, value)] += 1
        self._points[attributes] = Point(tuple(counts), known.total + value)

    def record_all(self, attributes: Attributes, values: Sequence[float]) -> None:
        """Record values that are in order."""
        known = self._points.get(attributes, self._nothing)
        counts = tuple(map(add, known.counts, counts_of(values, self.bounds)))
        self._points[attributes] = Point(counts, known.total + sum(values))

    def points(self) -> Mapping[Attributes, Point]:
        """Return all that was recorded so far."""
        return self._points.copy()

    def clear(self) -> None:
        """Forget what was recorded."""
        self._points.clear()


def counts_of(values: Sequence[float], bounds: Sequence[float]) -> list[int]:
    """Return the number of values in each bucket, those above the last bound last. The values are in order."""
    places = [0, *(bisect_right(values, bound) for bound in bounds), len(values)]
    return [place - before for before, place in pairwise(places)]


DURATION = Histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", SECONDS)
FIRST_CHUNK = Histogram(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "Time from the request to the upstream to its first chunk.",
    SECONDS,
)
PER_CHUNK = Histogram(
    "gen_ai.client.operation.time_per_output_chunk",
    "s",
    "Time between two arrivals of chunks from the upstream.",
    SECONDS,
)
TOKEN_USAGE = Histogram("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", TOKENS)

ALL = (DURATION, FIRST_CHUNK, PER_CHUNK, TOKEN_USAGE)

_servers: dict[str, Attributes] | None = None


def begin(servers: Mapping[str, Server]) -> None:
    """Count from now on. `servers` has the upstream of each endpoint."""
    global _servers  # noqa: PLW0603 (one for the process, as the metrics)
    _servers = {
        endpoint: (("server.address", server.address), ("server.port", server.port))
        for endpoint, server in servers.items()
    }


def end() -> None:
    """Count no more, and forget what was counted."""
    global _servers  # noqa: PLW0603 (the same)
    _servers = None
    for histogram in ALL:
        histogram.clear()


class Operation:
    """One answer, as the conventions count it."""

    def __init__(self, model: str, servers: Mapping[str, Attributes]) -> None:
        self._servers = servers
        self._asked: Attributes = (
            ("gen_ai.operation.name", OPERATION),
            ("gen_ai.provider.name", PROVIDER),
            ("gen_ai.request.model", model),
        )
        self._attributes: Attributes = self._asked

    @classmethod
    def of(cls, model: str) -> "Operation | None":
        """Return the counting of an answer by the model; None where nothing goes out."""
        return None if _servers is None else cls(model, _servers)

    def answered(self, endpoint: str) -> None:
        """Note which endpoint a first chunk came from."""
        self._attributes = self._asked + self._servers.get(endpoint, ())

    def first_chunk(self, seconds: float) -> None:
        """Record the time from the request to the upstream to its first chunk."""
        FIRST_CHUNK.record(self._attributes, seconds)

    def chunks(self, seconds: Sequence[float]) -> None:
        """Record the times between arrivals of chunks, in order of size."""
        PER_CHUNK.record_all(self._attributes, seconds)

    def ended(self, seconds: float, error: str | None, usage: Usage | None) -> None:
        """Record an ended answer. `error` is the code of a failure."""
        failure: Attributes = () if error is None else (("error.type", error),)
        DURATION.record(self._attributes + failure, seconds)
        if usage is not None:
            for kind, tokens in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
                TOKEN_USAGE.record((*self._attributes, ("gen_ai.token.type", kind)), tokens)
