"""The results as Markdown."""

from collections.abc import Iterable

from tests.bench.aims import aims
from tests.bench.arrivals import ARRIVALS
from tests.bench.followers import RESPONSES
from tests.bench.measurements import (
    BEFORE_THE_END,
    CHUNKS,
    DISTURBED,
    LONG_CHUNKS,
    LOOP_CHUNKS,
    LOOP_READERS,
    Paced,
    Short,
    Unpaced,
)
from tests.bench.run import Results

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
SHARES = ("serving", "upstream", "load", "others")
"""Of one core each; others' of the whole machine."""


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
        _closed_loop(results),
        _arrivals(results),
        _followers(results),
        _idle(results),
        _memory(results),
        _followed(results),
        _resumed(results),
        _kept(results),
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


def _closed_loop(results: Results) -> str:
    rows = [
        (name, f"{it.events_a_second:,.0f}", f"{it.serving_us_an_event:.1f}", *_shares(it))
        for name, it in results.closed_loop.items()
    ]
    heads = (f"{LOOP_CHUNKS} chunks an answer", "chunks a second", "CPU µs a chunk", *SHARES)
    title = f"{LOOP_READERS} readers, each with one unpaced answer after the other"
    return _titled(title, _table(heads, rows)) if rows else ""


def _arrivals(results: Results) -> str:
    rows = [(name, f"{it.median:.0f}", f"{it.last:.0f}") for name, it in results.arrivals.items()]
    heads = ("first chunk, ms", "median", "last")
    title = f"{ARRIVALS} new connections at once beside {results.size.crowd} streams"
    return _titled(title, _table(heads, rows)) if rows else ""


def _followers(results: Results) -> str:
    rows = [
        (f"{each} each, {name}", f"{it.serving_us_a_chunk:.1f}", f"{it.lag_median:.2f}")
        for name, levels in results.followers.items()
        for each, it in levels.items()
    ]
    heads = ("responses of an answer", "CPU µs a delivered chunk", "lag, ms, median")
    return _titled(f"{RESPONSES} responses in all, 64 chunks at 20 ms", _table(heads, rows)) if rows else ""


def _idle(results: Results) -> str:
    rows = [
        (name, f"{it.followers:,.0f}", f"{it.kilobytes:.0f}", f"{it.serving_us_a_second:.0f}")
        for name, it in results.idle.items()
    ]
    heads = ("silent answers", "followers", "kB each", "CPU µs a second each")
    return _titled("Followers that wait", _table(heads, rows)) if rows else ""


def _resumed(results: Results) -> str:
    rows = [
        (f"{chunks:,} chunks", f"{it.milliseconds:.1f}", f"{it.cpu_milliseconds:.1f}")
        for chunks, it in results.resumed.items()
    ]
    title = f"Resuming {BEFORE_THE_END} events before the end of a finished answer, folyam"
    return _titled(title, _table(("the answer's length", "ms", "CPU ms"), rows)) if rows else ""


def _kept(results: Results) -> str:
    rows = [(f"{answers:,} kept answers", f"{it.core_share:.2%}") for answers, it in results.kept.items()]
    return _titled("An idle worker, folyam", _table(("beside", "CPU, of a core"), rows)) if rows else ""


def _aims(results: Results) -> str:
    """Return the aims with the measured values."""
    rows = [(aim.what, aim.wanted, aim.measured, "yes" if aim.reached else "**no**") for aim in aims(results)]
    return _titled("The aims", _table(("aim", "wanted", "measured", "reached"), rows)) if rows else ""
