"""OpenAI's Responses API as the upstream of a worker that is killed: another worker follows the same run."""

import asyncio
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.client import Client
from tests.e2e.logfile import read_log
from tests.e2e.stack import Service
from tests.upstream.responses_api import Break, Plan, serving_responses

WORDS = tuple(f"w{n} " for n in range(1, 151))
"""The run must still go on when its worker is killed, also where the test gets to that late."""


async def test_a_killed_workers_run_is_followed_by_another_and_paid_for_once(tmp_path: Path) -> None:
    plan = Plan(texts=WORDS, summaries=(("hm ", "so"),), pace=0.02, breaks=(Break(1 << 30), Break(4000)))
    async with serving_responses() as api:
        log = await asyncio.to_thread(_kill, tmp_path, api.base_url, plan.command())
        run = api.run_of(plan.command())
        follows = [path for method, path in api.requests if method == "GET"]
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert "".join(event.get("text", "") for event in log) == "".join(WORDS)
    assert "".join(event.get("reasoning", "") for event in log) == "hm so"
    assert {event["seam"]["how"] for event in log if "seam" in event} == {"reattached"}
    assert log[-1]["type"] == "done"
    assert log[-1]["usage"]["completion_tokens"] == run.tokens == len(WORDS) + 2
    # The other worker has not read the run, and asks for all of it. When it is cut itself, it knows its place.
    assert follows[0] == f"/responses/{run.id}?stream=true"
    assert follows[1].startswith(f"/responses/{run.id}?stream=true&starting_after=")
    assert len(follows) == 2


def _kill(directory: Path, base_url: str, query: str) -> list[dict[str, Any]]:
    """Ask one service, kill its worker in the middle of the answer; return the log that the other service ends."""
    settings = {"FOLYAM_UPSTREAM": "responses"}
    with (
        Service(directory / "one", directory / "answers", base_url, workers=1, settings=settings) as dying,
        Service(directory / "two", directory / "answers", base_url, workers=1, settings=settings) as other,
    ):
        stream = Client(dying.address).ask(query)
        events = stream.events()
        for _ in range(20):
            next(events)
        follower = Client(other.address).open("GET", f"/answers/{stream.answer}")
        [worker] = dying.workers()
        psutil.Process(worker).kill()
        for _ in follower.events():
            pass
        stream.close()
        follower.close()
        return read_log(other.log_directory, stream.answer)
