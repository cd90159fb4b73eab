"""The results as Markdown."""

from collections.abc import Iterable

from tests.bench.measurements import CHUNKS, DISTURBED, LONG_CHUNKS, Paced, Short, Unpaced
from tests.bench.run import Results

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
SHARES = ("serving", "upstream", "load", "others")
"""Of one core each; others' of the whole machine."""

FIRST_CHUNK_MS = 1.5
NGINX_TIMES = 3.0
TEXTBOOK_SHARE = 1 / 3
STALL_STREAMS = 128
LAG_STREAMS = 400
LAG_P99_MS = 50.0
EVENTS_A_SECOND = 30_000


def written_into(page: str, tables: str) -> str:
    """The page with the tables between its markers replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def report(results: Results) -> str:
    """All tables."""
    parts = [
        _machine(results),
        _aims(results),
        _first_chunk(results),
        *(_paced(results, streams) for streams in results.size.levels),
        _short(results),
        _unpaced(results),
        _memory(results),
        _followed(results),
    ]
    return "\n".join(part for part in parts if part)


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"{machine['cores']}, Linux {machine['kernel']}, Python {machine['python']}; {machine['packages']}. "
        f"Cores kept awake: {machine['cores kept awake']}. "
        f"Workers of the service: {results.workers}. "
        f"{results.size.runs} runs, medians; {results.seconds:.0f} s in all.\n"
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _titled(title: str, table: str) -> str:
    return f"### {title}\n\n{table}"


def _first_chunk(results: Results) -> str:
    own = results.first_chunk["upstream"]
    rows = [
        (name, f"{it.median:.2f}", f"{it.p99:.2f}", f"{it.median - own.median:+.2f}", f"{it.p99 - own.p99:+.2f}")
        for name, it in results.first_chunk.items()
    ]
    doubt = " (disturbed)" if own.others_share > DISTURBED else ""
    heads = (f"ms{doubt}", "median", "p99", "median added", "p99 added")
    return _titled(f"Time to the first chunk, one of {own.requests} requests at a time", _table(heads, rows))


def _paced(results: Results, streams: int) -> str:
    own = results.paced["upstream"][streams]
    nginx = results.paced.get("nginx", {}).get(streams)
    rows = []
    for name, levels in results.paced.items():
        it = levels[streams]
        doubt = " (disturbed)" if it.others_share > DISTURBED else ""
        rows.append(
            (
                name + doubt,
                f"{it.first_chunk_median:.1f} / {it.first_chunk_p99:.1f}",
                f"{it.lag_median:.2f} / {it.lag_p99:.2f}",
                f"{it.lag_median - own.lag_median:+.2f} / {it.lag_p99 - own.lag_p99:+.2f}",
                f"{it.stalled} of {it.answers}",
                f"{it.serving_us_a_chunk:.0f}",
                _times(it.serving_us_a_chunk, nginx.serving_us_a_chunk if nginx else None),
                f"{_past_set_up(results, name, it):.0f}",
                *_shares(it),
            )
        )
    heads = (
        "median / p99",
        "first chunk, ms",
        "lag, ms",
        "lag gained, ms",
        "stalled",
        "CPU µs a chunk",
        "x nginx",
        "past set-up",
        *SHARES,
    )
    noun = "stream" if streams == 1 else "streams at once"
    return _titled(f"{streams} {noun}, 64 chunks at 20 ms", _table(heads, rows))


def _times(own: float, nginx: float | None) -> str:
    return f"{own / nginx:.1f}" if nginx else ""


def _past_set_up(results: Results, name: str, it: Paced) -> float:
    """The CPU µs a chunk without those of its answer's beginning and end."""
    return it.serving_us_a_chunk - results.short[name].serving_ms_an_answer * 1000 / CHUNKS


def _short(results: Results) -> str:
    nginx = results.short.get("nginx")
    rows = [
        (
            name,
            f"{it.serving_ms_an_answer:.2f}",
            _times(it.serving_ms_an_answer, nginx.serving_ms_an_answer if nginx else None),
            f"{it.answers_a_second:,.0f}",
            *_shares(it),
        )
        for name, it in results.short.items()
    ]
    heads = ("answers of one chunk", "CPU ms an answer", "x nginx", "answers a second", *SHARES)
    return _titled("What an answer costs beside its chunks", _table(heads, rows))


def _shares(it: Paced | Short | Unpaced) -> tuple[str, ...]:
    return (f"{it.serving_share:.0%}", f"{it.upstream_share:.0%}", f"{it.load_share:.0%}", f"{it.others_share:.0%}")


def _unpaced(results: Results) -> str:
    rows = [
        (
            name,
            f"{it.events_a_second:,.0f}",
            f"{it.serving_us_an_event:.1f}",
            *_shares(it),
        )
        for name, it in results.unpaced.items()
    ]
    heads = ("unpaced", "events a second", "CPU µs an event", *SHARES)
    return _titled("Events a second, when the upstream does not pace", _table(heads, rows))


def _memory(results: Results) -> str:
    rows = [(name, f"{it:.0f}") for name, it in results.memory_kilobytes.items()]
    return _titled("Memory of an open stream", _table(("400 held open", "kB each"), rows)) if rows else ""


def _followed(results: Results) -> str:
    rows = [
        (name, f"{it.events:,}", f"{it.milliseconds:.1f}", f"{it.cpu_milliseconds:.1f}")
        for name, it in results.followed.items()
    ]
    heads = ("request", "chunks sent", "ms", "CPU ms")
    return _titled(f"Following a finished answer of {LONG_CHUNKS:,} chunks", _table(heads, rows)) if rows else ""


def _aims(results: Results) -> str:
    """Return the aims with the measured values."""
    if not {"folyam", "nginx", "textbook"} <= results.paced.keys():
        return ""
    rows = []

    def aim(what: str, wanted: str, measured: str, *, reached: bool) -> None:
        rows.append((what, wanted, measured, "yes" if reached else "**no**"))

    added = results.first_chunk["folyam"].median - results.first_chunk["upstream"].median
    aim("added to the first chunk, median", "< 1.5 ms", f"{added:.2f} ms", reached=added < FIRST_CHUNK_MS)
    for streams, it in results.paced["folyam"].items():
        if streams == 1:
            continue
        nginx = it.serving_us_a_chunk / results.paced["nginx"][streams].serving_us_a_chunk
        textbook = it.serving_us_a_chunk / results.paced["textbook"][streams].serving_us_a_chunk
        aim(f"CPU a chunk, {streams} streams", "at most 3 x nginx", f"{nginx:.1f} x", reached=nginx <= NGINX_TIMES)
        aim(
            f"CPU a chunk, {streams} streams",
            "at most 1/3 of textbook",
            f"{textbook:.2f} x",
            reached=textbook <= TEXTBOOK_SHARE,
        )
        if streams == STALL_STREAMS:
            aim(f"stalled at {streams} streams", "0", str(it.stalled), reached=not it.stalled)
        if streams == LAG_STREAMS:
            aim(f"p99 lag at {streams} streams", "< 50 ms", f"{it.lag_p99:.1f} ms", reached=it.lag_p99 < LAG_P99_MS)
    events = results.unpaced["folyam"].events_a_second
    aim("events a second, unpaced", "30,000", f"{events:,.0f}", reached=events >= EVENTS_A_SECOND)
    return _titled("The aims", _table(("aim", "wanted", "measured", "reached"), rows))
