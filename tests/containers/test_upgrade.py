"""`docker compose up -d --build` in the middle of running answers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.containers.following import follow_to_the_end
from tests.containers.project import Project, docker, label
from tests.e2e.client import script
from tests.e2e.logfile import assert_equals_log, read_log
from tests.tables import Report

STREAMS = 50
CHUNKS = 300
PACE_SECONDS = 0.1
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))


def containers(project: Project) -> dict[str, str]:
    return {label(each, "service"): each["Id"] for each in project.containers()}


def change(project: Project, *names: str) -> None:
    """Make another version of it, by comments."""
    for name in names:
        file = project.directory / name
        file.write_text(file.read_text() + ("# changed\n" if name.endswith(".py") else "<!-- changed -->\n"))


def test_new_images_under_running_answers_lose_and_double_nothing(
    paced: Project, tmp_path: Path, report: Report
) -> None:
    paced.up("--build", "--wait")
    before = containers(paced)
    # A new version of the service, and a new page. Built beforehand, so that it is the replacement that takes the time.
    change(paced, "service/main.py", "frontend/index.html")
    paced.compose("build")
    begun = threading.Barrier(STREAMS + 1)
    query = script(chunks=CHUNKS, pace=PACE_SECONDS)
    with ThreadPoolExecutor(STREAMS) as threads:
        following = [threads.submit(follow_to_the_end, paced.client, query, begun) for _ in range(STREAMS)]
        begun.wait()
        paced.up("--build", "--wait")
        after = containers(paced)
        results = [answer.result() for answer in following]
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"service", "nginx"}
    logs = paced.logs_directory(tmp_path)
    for answer, pieces in results:
        assert len(pieces) > 1, "it was in the middle, and was cut"
        log = read_log(logs, answer)
        assert_equals_log(*pieces, log=log)
        assert "".join(event.get("text", "") for event in log) == WHOLE
        assert log[-1]["type"] == "done"
    cuts = sum(len(pieces) - 1 for _, pieces in results)
    assert paced.client.generate(script(chunks=1)).events[-1]["type"] == "done"
    report.add("docker compose up -d --build", f"{STREAMS} streams", f"{cuts} cuts, 0 lost, 0 doubled")


def test_a_new_version_beside_the_old_goes_on_serving(paced: Project, report: Report) -> None:
    """As docs/deploy/compose.md says."""
    paced.up("--wait")
    [old] = paced.replicas()
    door = containers(paced)["nginx"]
    change(paced, "service/main.py")
    over = threading.Event()
    ends: list[str] = []
    refused: list[str] = []

    def go_on_asking() -> None:
        while not over.is_set():
            reply = paced.client.generate(script(chunks=5, pace=0.1))
            if reply.status in (502, 504):
                assert reply.headers["Retry-After"]
                refused.append(reply.json["error"]["code"])
            else:
                ends.append(reply.events[-1]["type"])

    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(go_on_asking) for _ in range(4)]
        try:
            paced.up("--build", "--no-recreate", "--wait", "--scale", "service=2")
            assert old in paced.replicas()
            docker("stop", old)
            docker("rm", old)
            paced.up("--wait")
            [new] = paced.replicas()
        finally:
            over.set()
        for each in asking:
            each.result()
    assert new != old
    assert containers(paced)["nginx"] == door, "no connection was cut"
    assert set(ends) == {"done"}
    # Refusals only come in the short time without a serving worker, and a refused client asks again at once.
    assert len(refused) < len(ends)
    counts = f"{len(refused)} refused, with Retry-After: {' '.join(sorted(set(refused)))}"
    report.add("a new version beside the old", f"{len(ends)} answers", counts)
