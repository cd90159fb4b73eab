"""The files of the metrics have all their blocks, however many series there are."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.mmap_dict import MmapedDict

from service.telemetry.allocation import AllocatedValues

FIRST_BYTES = 1 << 16

COUNT = """
import sys
from service.telemetry import own_slot
own_slot.claim()
from service.telemetry import metrics
from service.telemetry.answer_metrics import AnswerMetrics
from service.telemetry.exposition import exposition
models = [f"model-{number}" for number in range(int(sys.argv[1]))]
metrics.begin(models, ["sse"], error_codes=["internal"], upstream_reasons=["connect"], break_reasons=["cut"])
for model in models:
    AnswerMetrics.of(model, models).started()
print(sum(line.startswith("folyam_streams_started_total") and line.endswith(" 1.0")
    for line in exposition().decode().splitlines()))
"""


def count(directory: Path, models: int) -> int:
    """Count an answer of each model in a process of its own; return how many the exposition then has."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", COUNT, str(models)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return int(ended.stdout)


@pytest.mark.parametrize("models", [1, 40])
def test_no_file_of_a_worker_has_a_hole(tmp_path: Path, models: int) -> None:
    assert count(tmp_path, models) == models
    files = {path.name: path.stat() for path in tmp_path.glob("*.db")}
    assert sorted(files) == [
        "counter_0.db",
        "gauge_livemax_0.db",
        "gauge_livemostrecent_0.db",
        "gauge_livesum_0.db",
        "histogram_0.db",
    ]
    assert {name for name, file in files.items() if file.st_blocks * 512 < file.st_size} == set()
    assert (files["histogram_0.db"].st_size > FIRST_BYTES) == (models == 40), "it grew with its series"


def test_the_holes_that_an_earlier_version_left_are_filled(tmp_path: Path) -> None:
    count(tmp_path, 1)
    for path in tmp_path.glob("*.db"):
        os.truncate(path, 4 * FIRST_BYTES)
    count(tmp_path, 1)
    for path in tmp_path.glob("*.db"):
        assert path.stat().st_blocks * 512 >= path.stat().st_size


@pytest.mark.parametrize("left_empty", [False, True])
def test_a_full_disk_leaves_no_empty_file_on_which_a_scrape_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, left_empty: bool
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    path = tmp_path / "counter_0.db"
    if left_empty:  # by an earlier version
        path.touch()
    errors: list[OSError] = []
    values = AllocatedValues(tmp_path, 0, errors.append)

    def is_full(*_: int) -> None:
        assert left_empty or not path.exists(), "it is there before it has its blocks"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", is_full)
        values("counter", "folyam_a", "folyam_a", (), (), "A.").inc(1)
    assert [error.errno for error in errors] == [errno.ENOSPC]
    assert list(tmp_path.iterdir()) == []
    values("counter", "folyam_b", "folyam_b", (), (), "B.").inc(1)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    assert registry.get_sample_value("folyam_b") == 1


def test_what_is_counted_is_where_the_library_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    failed: list[OSError] = []
    made = AllocatedValues(tmp_path, 7, failed.append)
    values = []
    for number in range(2000):  # more than the file has room for at first
        value = made("counter", f"m{number}", f"m{number}_total", ["label"], ["x" * 50], "help")
        value.inc(number)
        values.append(value)
    for number, value in enumerate(values):
        value.inc(0.5)
        assert value.get() == number + 0.5
    assert failed == []
    read = MmapedDict.read_all_values_from_file(  # type: ignore[no-untyped-call]
        str(tmp_path / "counter_7.db")
    )
    assert sorted(value for _, value, _, _ in read) == [number + 0.5 for number in range(2000)]
