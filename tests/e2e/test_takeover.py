"""An answer whose worker dies is carried on by another, and its followers see one whole answer."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.client import Client, script
from tests.e2e.logfile import assert_equals_log, json_events, read_log
from tests.e2e.stack import Service, eventually
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

CHUNKS = 150
"""It must still be going when its worker is killed, also where the test gets to that late."""
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))


@pytest.fixture(params=["continue", "restart", "fail"])
def recovery(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def two(tmp_path: Path, upstream: UpstreamProcess, recovery: str) -> Iterator[tuple[Service, Service]]:
    settings = {"FOLYAM_RECOVERY": recovery, "FOLYAM_CONTINUE": "assistant"}
    with (
        Service(tmp_path / "one", tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as one,
        Service(tmp_path / "two", tmp_path / "answers", upstream.base_url, workers=1, settings=settings) as other,
    ):
        yield one, other


def test_a_killed_workers_answer_goes_on_under_another(
    two: tuple[Service, Service], upstream: UpstreamProcess, recovery: str, report: Report
) -> None:
    dying, other = two
    key = f"killed {recovery} {time.monotonic_ns()}"
    stream = Client(dying.address).ask(script(key=key, chunks=CHUNKS, pace=0.02))
    follower = Client(other.address).open("GET", f"/answers/{stream.answer}")
    events = follower.events()
    seen = [next(events) for _ in range(20)]
    [worker] = dying.workers()
    killed_at = time.monotonic()
    psutil.Process(worker).kill()
    seen.append(next(event for event in events if event["seq"] > seen[-1]["seq"] + 3 or event["type"] != "delta"))
    waited = time.monotonic() - killed_at
    seen += list(events)
    log = read_log(other.log_directory, stream.answer)
    assert log[-1]["type"] == {"continue": "done", "restart": "done", "fail": "failed"}[recovery]
    assert seen[-1] == log[-1]
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert Client(other.address).read(stream.answer)["text"] == (
        WHOLE if recovery != "fail" else "".join(event.get("text", "") for event in log)
    )
    assert len(upstream.requests(key)) == (1 if recovery == "fail" else 2)
    assert [event["type"] for event in log].count("restart") == (1 if recovery == "restart" else 0)
    # A client that was cut resumes at its place, on any worker.
    resumed = json_events(Client(other.address).follow(stream.answer, 10).body)
    assert_equals_log(log[:10], resumed, log=log)
    report.add(f"SIGKILL, {recovery}", f"{waited * 1000:.0f} ms until it went on", f"{len(log)} events")
    stream.close()
    follower.close()


def test_an_orphan_without_followers_is_settled_after_a_complete_restart(
    tmp_path: Path, upstream: UpstreamProcess
) -> None:
    answers = tmp_path / "answers"
    settings = {"FOLYAM_RECOVERY": "fail"}
    with Service(tmp_path / "one", answers, upstream.base_url, workers=1, settings=settings) as service:
        stream = Client(service.address).ask(script(endless=True, pace=0.05))
        next(stream.events())
        for process in (psutil.Process(service.process.pid), *map(psutil.Process, service.workers())):
            process.send_signal(signal.SIGKILL)
        service.process.wait()
    stream.close()
    path = answers / f"{stream.answer}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"type":"delta","seq":99,"te')  # torn by the death of its writer
    with Service(tmp_path / "one", answers, upstream.base_url, workers=1, settings=settings):
        log = eventually(lambda: [event for event in read_log(answers, stream.answer) if event["type"] == "failed"])
    assert log[0]["code"] == "interrupted"
    seqs = [event["seq"] for event in read_log(answers, stream.answer)]
    assert seqs == list(range(1, len(seqs) + 1))
