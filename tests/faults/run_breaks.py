"""Answers of an upstream that keeps its runs, broken off at random bytes: each is the uncut text, and paid for once."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

from service.eventlog import Retention, open_event_log
from service.events import new_answer_id
from service.question import to_request
from service.upstream.endpoint import Endpoint, TimeOuts
from tests.faults.breaks import AT_ONCE, SILENCE_SECONDS, Outcome, Planned, judge, pauses, pieces
from tests.upstream.responses_api import Break, How, Plan, ResponsesApi, serving_responses
from tests.working import Worker, worker

WAYS: tuple[How, ...] = ("reset", "close", "stall", "truncate", "garbage")
AGAIN: tuple[How, ...] = ("reset", "close", "truncate", "garbage")
"""How a stream breaks off that follows a run again. Two stalls in a row would be no pause, but a silence twice."""
MOST_BREAKS = 3
EVENT_BYTES = 200
"""An event's usual size."""


def plan(numbers: random.Random, number: int) -> tuple[Planned, Plan]:
    """Return the answer of this number, and what its run does."""
    way = WAYS[number % len(WAYS)]
    texts = pieces(numbers, numbers.randint(20, 60))
    thinks = numbers.random() < 0.5
    summaries = [pieces(numbers, numbers.randint(2, 10)) for _ in range(numbers.randint(1, 2))] if thinks else []
    length = EVENT_BYTES * (len(texts) + sum(map(len, summaries)))
    # The first one is mostly behind the first piece, with the events before it. The others are anywhere.
    places = [numbers.randint(3000, 3000 + length), *(numbers.randint(1, length) for _ in range(MOST_BREAKS))]
    breaks = [Break(at, numbers.choice(AGAIN) if number else way) for number, at in enumerate(places)]
    said = Plan(
        texts=tuple(texts),
        summaries=tuple(map(tuple, summaries)),
        pace=0.002,
        breaks=tuple(breaks[: numbers.randint(1, MOST_BREAKS)]),
        halves=number % 2 == 1,
        numbers=numbers.choice(("all", "all", "none", "zero")),
    )
    reasoning = "\n\n".join("".join(part) for part in summaries)
    return Planned(said.command(), "".join(texts), reasoning, way, "reasoning" if thinks else "text"), said


async def breaks(directory: Path, count: int, seed: int) -> Outcome:
    """Ask for so many answers, each of which is broken off up to MOST_BREAKS times; return what became of them."""
    outcome = Outcome()
    numbers = random.Random(f"runs {seed}")  # noqa: S311 (reproducible, not secret)
    planned = iter([plan(numbers, number) for number in range(count)])
    logs = directory / "answers"
    logs.mkdir(mode=0o700)
    time_outs = TimeOuts(connect=5, status=10, first_chunk=2 * SILENCE_SECONDS, silence=SILENCE_SECONDS)
    began_at = time.monotonic()
    async with serving_responses() as api:
        log = open_event_log(logs.as_uri(), Retention())
        first = Endpoint(api.base_url, "key", kind="responses")
        with pauses(outcome.pauses):
            async with worker(log, api, first=first, time_outs=time_outs, retries=MOST_BREAKS) as here:
                await asyncio.gather(*(_each(here, api, planned, outcome) for _ in range(min(AT_ONCE, count))))
        asked = sum(method == "POST" and path == "/responses" for method, path in api.requests)
    if asked != count:
        outcome.wrong.append(f"{count} answers were asked for {asked} times")
    outcome.seconds = time.monotonic() - began_at
    return outcome


async def _each(here: Worker, api: ResponsesApi, planned: Iterator[tuple[Planned, Plan]], outcome: Outcome) -> None:
    for each, said in planned:
        began_at = asyncio.get_running_loop().time()
        request = to_request(each.query, model="test-model")
        producer = await here.supervisor.start(request, new_answer_id(), client="c", begun_at=began_at)
        events = await here.follow(producer.answer_id)
        judge(each, events, outcome)
        wanted = len(said.texts) + sum(map(len, said.summaries))
        run = api.run_of(each.query)
        outcome.counted[f"streams: {run.streams}"] += 1
        if run.tokens != wanted:
            outcome.wrong.append(json.dumps({"tokens": run.tokens, "wanted": wanted, "query": each.query}))
