from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.bench.arrivals import Arrivals
from tests.bench.followers import Followers, Idle
from tests.bench.kept import Kept
from tests.bench.measurements import FirstChunk, Followed, Paced, Short, Unpaced, middle
from tests.bench.report import BEGIN, END, report, written_into
from tests.bench.run import FULL, RESPONSES_EACH, Results


def a_paced(streams: int, cpu: float) -> Paced:
    return Paced(
        streams=streams,
        first_chunk_median=1.0,
        first_chunk_p99=2.0,
        lag_median=0.5,
        lag_p99=1.5,
        answers=3 * streams,
        stalled=0,
        serving_us_a_chunk=cpu,
        serving_share=0.5,
        upstream_share=0.1,
        load_share=0.1,
        others_share=0.0,
    )


def a_result() -> Results:
    cpu = {"upstream": 10.0, "nginx": 20.0, "textbook": 300.0, "folyam": 50.0, "folyam-sse": 52.0, "folyam+nginx": 90.0}
    cpu["folyam-valkey"] = 75.0
    results = Results({"cores": "2", "kernel": "6", "python": "3", "packages": "p", "cores kept awake": "yes"}, FULL)
    for name, each in cpu.items():
        results.first_chunk[name] = FirstChunk(10, each / 100, each / 50, 0.0)
        results.paced[name] = {streams: a_paced(streams, each) for streams in FULL.levels}
        results.short[name] = Short(1000.0, each / 200, 1.0, 0.1, 0.1, 0.0)
        results.unpaced[name] = Unpaced(40_000.0, 5.0, 1.0, 0.5, 0.5, 0.0)
        results.closed_loop[name] = Unpaced(80_000.0, 5.0, 1.0, 0.5, 0.5, 0.0)
        results.arrivals[name] = Arrivals(400, 20.0, 60.0)
        results.memory_kilobytes[name] = 40.0
        if name.startswith("folyam"):
            results.followers[name] = {each: Followers(each, 12.0, 1.0, 0.0) for each in RESPONSES_EACH}
            results.idle[name] = Idle(2000, 31.0, 9.0)
    results.followed["replay, folyam"] = Followed(5.0, 4.0, 20_000)
    results.resumed[400_000] = Followed(0.7, 0.6, 9)
    results.kept[10_000] = Kept(0.0015)
    return results


def test_an_aim_that_is_missed_is_told() -> None:
    assert "**no**" not in report(a_result())


MISSES: dict[str, Callable[[Results], None]] = {
    "added to the first chunk, median": lambda it: it.first_chunk.update(folyam=FirstChunk(10, 1.2, 2.0, 0.0)),
    "CPU a chunk, 128 streams": lambda it: it.paced["folyam-sse"].update({128: a_paced(128, 63.0)}),
    "stalled at 128 streams": lambda it: it.paced["folyam-sse"].update({128: replace(a_paced(128, 52.0), stalled=1)}),
    "lag at 400 streams, p99": lambda it: it.paced["folyam-sse"].update({400: replace(a_paced(400, 52.0), lag_p99=21)}),
    "first chunk at 400 streams through the shipped nginx.conf, median": lambda it: it.paced["folyam+nginx"].update(
        {400: replace(a_paced(400, 90.0), first_chunk_median=151.0)}
    ),
    "new connections beside 400 streams, the last one's first chunk": lambda it: it.arrivals.update(
        {"folyam-sse": Arrivals(400, 20.0, 61.0)}
    ),
    "chunks a second, one answer after the other": lambda it: it.closed_loop.update(
        folyam=Unpaced(79_999.0, 5.0, 1.0, 0.5, 0.5, 0.0)
    ),
    "CPU of an answer": lambda it: it.short.update(folyam=Short(1000.0, 0.36, 1.0, 0.1, 0.1, 0.0)),
    "CPU a delivered chunk, 100 responses of one answer": lambda it: it.followers["folyam-sse"].update(
        {100: Followers(100, 12.1, 1.0, 0.0)}
    ),
    "memory of an open stream": lambda it: it.memory_kilobytes.update(folyam=41.0),
    "resume near the end of 400,000 chunks": lambda it: it.resumed.update({400_000: Followed(1.1, 0.9, 9)}),
    "Valkey's CPU a chunk beside files', 128 streams": lambda it: it.paced["folyam-valkey"].update(
        {128: a_paced(128, 76.0)}
    ),
    "Valkey's median lag beside files', 32 streams": lambda it: it.paced["folyam-valkey"].update(
        {32: replace(a_paced(32, 75.0), lag_median=a_paced(32, 75.0).lag_median + 0.6)}
    ),
    "Valkey's first chunk beside files', median": lambda it: it.first_chunk.update(
        {"folyam-valkey": FirstChunk(10, 1.01, 2.0, 0.0)}
    ),
    "CPU of an idle worker with 10,000 kept answers": lambda it: it.kept.update({10_000: Kept(0.0021)}),
}


@pytest.mark.parametrize("aim", MISSES)
def test_each_aim_is_held_against_its_own_figure(aim: str) -> None:
    results = a_result()
    MISSES[aim](results)
    [missed] = [line for line in report(results).splitlines() if "**no**" in line]
    assert missed.startswith(f"| {aim} |")


def test_a_run_of_some_stacks_has_the_aims_of_these() -> None:
    results = a_result()
    for figures in (results.paced, results.short, results.closed_loop, results.arrivals, results.followers):
        figures.pop("folyam-sse", None)
    assert "CPU a chunk, 128" not in report(results)


def test_every_table_has_as_many_cells_in_each_row() -> None:
    for table in report(a_result()).split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_the_median_of_runs_is_taken_figure_by_figure() -> None:
    runs = [a_paced(32, cpu) for cpu in (3.0, 1.0, 2.0)]
    assert middle(runs) == a_paced(32, 2.0)


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert written_into(page, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="the page has no"):
        written_into("no markers", "new")
