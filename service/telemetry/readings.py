"""This process's metrics as numbers, for OTLP: Prometheus' series under their names, and those of `gen_ai`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import REGISTRY, Metric
from prometheus_client.samples import Sample

from service.telemetry import gen_ai, own_slot
from service.telemetry.gen_ai import Attributes

PREFIX = "folyam_"
"""The rest of the registry is Python's and the process's own."""

BOUND = "le"
"""The label of a bucket's upper bound."""

KINDS = ("counter", "gauge", "histogram")


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric's values at one time."""

    name: str
    unit: str
    description: str
    kind: str
    """One of `KINDS`."""
    bounds: tuple[float, ...]
    """The upper bounds of a histogram's buckets; the last bucket has none."""
    points: Mapping[Attributes, tuple[float, ...]]
    """By attributes: one value, or the number of values in each of a histogram's buckets with their sum at the end."""

    def since(self, earlier: "Reading | None") -> "Reading":
        """Return what was counted since the earlier reading; the same where nothing is counted."""
        if earlier is None or self.kind == "gauge":
            return self
        points = {
            attributes: tuple(now - before for now, before in zip(values, earlier.points[attributes], strict=True))
            if attributes in earlier.points
            else values
            for attributes, values in self.points.items()
        }
        return Reading(self.name, self.unit, self.description, self.kind, self.bounds, points)


def read() -> list[Reading]:
    """Return all metrics of this process, since its start."""
    return [*_series(), *_conventions()]


def _series() -> Iterator[Reading]:
    for family in REGISTRY.collect():
        if family.type not in KINDS or not family.name.startswith(PREFIX):
            continue
        if family.type == "histogram":
            yield _histogram(family)
        else:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            samples = [each for each in family.samples if each.name == name]
            points = {_attributes(each): (each.value - _inherited(each),) for each in samples}
            yield Reading(name, "", family.documentation, family.type, (), points)


def _histogram(family: Metric) -> Reading:
    """Return a histogram. Prometheus' buckets hold all values up to their bounds, OTLP's those of the bucket alone."""
    points: dict[Attributes, tuple[float, ...]] = {}
    bounds: dict[float, None] = {}
    upto = 0.0
    for each in family.samples:
        attributes = _attributes(each)
        if BOUND in each.labels:
            bounds[float(each.labels[BOUND])] = None
            before = points.get(attributes, ())
            upto = upto if before else 0.0
            points[attributes] = (*before, each.value - upto - _inherited(each))
            upto = each.value
        elif each.name.endswith("_sum"):
            points[attributes] += (each.value - _inherited(each),)
    return Reading(family.name, "", family.documentation, "histogram", tuple(bounds)[:-1], points)


def _inherited(sample: Sample) -> float:
    return own_slot.inherited((sample.name, tuple(sample.labels.items())))


def _attributes(sample: Sample) -> Attributes:
    return tuple((name, value) for name, value in sample.labels.items() if name != BOUND)


def _conventions() -> Iterator[Reading]:
    for each in gen_ai.ALL:
        points = {attributes: (*point.counts, point.total) for attributes, point in each.points().items()}
        yield Reading(each.name, each.unit, each.description, "histogram", each.bounds, points)
