"""What the service is to reach, held against the figures."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.run import Results

FIRST_CHUNK_MS = 1.0
FIRST_CHUNK_NGINX_MS = 1.3
CHUNK_US = {32: 75, 128: 62, 400: 55}
"""CPU time a chunk of Server-Sent Events, by streams at once."""
TEXTBOOK_SHARE = 1 / 3
STALL_STREAMS = 128
CROWD = 400
"""Streams at once at which lag and first chunks are judged."""
LAG_MS = (2.0, 20.0)
"""Median and p99, of Server-Sent Events."""
CROWD_FIRST_CHUNK_MS = (150.0, 400.0)
"""Median and p99, through the shipped nginx.conf."""
LAST_ARRIVAL_MS = 60.0
CLOSED_LOOP_CHUNKS = 80_000
ANSWER_MS = 0.35
MANY = 100
DELIVERED_US = 12.0
MEMORY_KILOBYTES = 40.0
LONG = 400_000
RESUME_MS = 1.0
FULL = 10_000
VALKEY_US, VALKEY_LAG_MS, VALKEY_FIRST_CHUNK_MS = 25.0, 0.5, 0.5
"""What the log on Valkey may cost more than files: CPU a chunk, the median lag, and the median first chunk."""
IDLE_SHARE = 0.002
"""Of a core."""


@dataclass(frozen=True)
class Aim:
    """One figure beside what is wanted of it."""

    what: str
    wanted: str
    measured: str
    reached: bool


def aims(results: Results) -> Iterator[Aim]:
    """Yield the aims whose figures were measured."""
    yield from _first_chunk(results)
    yield from _paced(results)
    yield from _crowd(results)
    yield from _others(results)
    yield from _valkey(results)


def _most(what: str, limit: float, unit: str, measured: float, digits: int = 2) -> Aim:
    return Aim(what, f"≤ {limit:g} {unit}", f"{measured:.{digits}f} {unit}", measured <= limit)


def _first_chunk(results: Results) -> Iterator[Aim]:
    own = results.first_chunk["upstream"].median
    for name, limit, how in (
        ("folyam", FIRST_CHUNK_MS, ""),
        ("folyam+nginx", FIRST_CHUNK_NGINX_MS, " through the shipped nginx.conf"),
    ):
        if name in results.first_chunk:
            yield _most(f"added to the first chunk{how}, median", limit, "ms", results.first_chunk[name].median - own)


def _paced(results: Results) -> Iterator[Aim]:
    for streams, it in results.paced.get("folyam-sse", {}).items():
        if streams in CHUNK_US:
            yield _most(f"CPU a chunk, {streams} streams", CHUNK_US[streams], "µs", it.serving_us_a_chunk, 0)
            if textbook := results.paced.get("textbook"):
                share = it.serving_us_a_chunk / textbook[streams].serving_us_a_chunk
                what = f"CPU a chunk, {streams} streams, of textbook's"
                yield Aim(what, "≤ 1/3", f"{share:.2f}", share <= TEXTBOOK_SHARE)
        if streams == STALL_STREAMS:
            yield Aim(f"stalled at {streams} streams", "0", f"{it.stalled:g} of {it.answers:g}", not it.stalled)


def _crowd(results: Results) -> Iterator[Aim]:
    if sse := results.paced.get("folyam-sse", {}).get(CROWD):
        for name, limit, measured in zip(("median", "p99"), LAG_MS, (sse.lag_median, sse.lag_p99), strict=True):
            yield _most(f"lag at {CROWD} streams, {name}", limit, "ms", measured, 1)
    if nginx := results.paced.get("folyam+nginx", {}).get(CROWD):
        measured_both = (nginx.first_chunk_median, nginx.first_chunk_p99)
        for name, limit, measured in zip(("median", "p99"), CROWD_FIRST_CHUNK_MS, measured_both, strict=True):
            what = f"first chunk at {CROWD} streams through the shipped nginx.conf, {name}"
            yield _most(what, limit, "ms", measured, 0)
    if arrivals := results.arrivals.get("folyam-sse"):
        what = f"new connections beside {arrivals.streams:g} streams, the last one's first chunk"
        yield _most(what, LAST_ARRIVAL_MS, "ms", arrivals.last, 0)


def _others(results: Results) -> Iterator[Aim]:
    if loop := results.closed_loop.get("folyam"):
        reached = loop.events_a_second >= CLOSED_LOOP_CHUNKS
        wanted, measured = f"≥ {CLOSED_LOOP_CHUNKS:,}", f"{loop.events_a_second:,.0f}"
        yield Aim("chunks a second, one answer after the other", wanted, measured, reached)
    if short := results.short.get("folyam"):
        yield _most("CPU of an answer", ANSWER_MS, "ms", short.serving_ms_an_answer)
    if many := results.followers.get("folyam-sse", {}).get(MANY):
        yield _most(
            f"CPU a delivered chunk, {MANY} responses of one answer", DELIVERED_US, "µs", many.serving_us_a_chunk, 1
        )
    if kilobytes := results.memory_kilobytes.get("folyam"):
        yield _most("memory of an open stream", MEMORY_KILOBYTES, "kB", kilobytes, 0)
    if resumed := results.resumed.get(LONG):
        yield _most(f"resume near the end of {LONG:,} chunks", RESUME_MS, "ms", resumed.milliseconds, 1)
    if full := results.kept.get(FULL):
        reached = full.core_share <= IDLE_SHARE
        what = f"CPU of an idle worker with {FULL:,} kept answers"
        yield Aim(what, f"≤ {IDLE_SHARE:.1%} of a core", f"{full.core_share:.2%}", reached)


def _valkey(results: Results) -> Iterator[Aim]:
    files, valkey = (results.paced.get(name, {}) for name in ("folyam", "folyam-valkey"))
    for streams in sorted(files.keys() & valkey.keys()):
        before, it = files[streams], valkey[streams]
        dearer, later = it.serving_us_a_chunk - before.serving_us_a_chunk, it.lag_median - before.lag_median
        yield _most(f"Valkey's CPU a chunk beside files', {streams} streams", VALKEY_US, "µs", dearer, 0)
        yield _most(f"Valkey's median lag beside files', {streams} streams", VALKEY_LAG_MS, "ms", later)
    if {"folyam", "folyam-valkey"} <= results.first_chunk.keys():
        later = results.first_chunk["folyam-valkey"].median - results.first_chunk["folyam"].median
        yield _most("Valkey's first chunk beside files', median", VALKEY_FIRST_CHUNK_MS, "ms", later)
