import pytest

from tests.bench.measurements import FirstChunk, Followed, Paced, Short, Unpaced, middle
from tests.bench.report import BEGIN, END, report, written_into
from tests.bench.run import FULL, Results


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
    cpu = {"upstream": 10.0, "nginx": 20.0, "textbook": 300.0, "folyam": 50.0}
    results = Results({"cores": "2", "kernel": "6", "python": "3", "packages": "p", "cores kept awake": "yes"}, FULL)
    for name, each in cpu.items():
        results.first_chunk[name] = FirstChunk(10, each / 100, each / 50, 0.0)
        results.paced[name] = {streams: a_paced(streams, each) for streams in FULL.levels}
        results.short[name] = Short(1000.0, each / 100, 1.0, 0.1, 0.1, 0.0)
        results.unpaced[name] = Unpaced(40_000.0, 5.0, 1.0, 0.5, 0.5, 0.0)
        results.memory_kilobytes[name] = 40.0
    results.followed["replay, folyam"] = Followed(5.0, 4.0, 20_000)
    return results


def test_the_aims_are_held_against_the_figures() -> None:
    results = a_result()
    assert "**no**" not in report(results)
    results.paced["folyam"][128] = a_paced(128, 61.0)
    assert report(results).count("**no**") == 1


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
