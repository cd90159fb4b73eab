"""Answers whose upstream breaks off at a random byte, each of which must go on and be the uncut text."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from service.eventlog import Retention, open_event_log
from service.events import Delta, Done, Event, Restart, new_answer_id
from service.question import to_request
from service.telemetry.answer_metrics import AnswerMetrics
from service.upstream.endpoint import TimeOuts
from service.upstream.overlap import LEAST_LETTERS
from tests.bench.percentiles import percentile
from tests.upstream.body import Body, End
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command, parse
from tests.working import Worker, worker

AT_ONCE = 24
CHILDREN = 6
"""Processes of the upstream. The death of one breaks off all answers that it has."""
SILENCE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 1.5
"""Limit on the 95th percentile of the pauses, without the silence before a stall can be known."""
EQUAL_SHARE = 0.995
WAYS = ("reset", "stall", "truncate", "garbage", "die")
PLACES = ("anywhere", "reasoning", "text", "character")
WORDS = (
    *(" the", " river", " and", " flows", " through", " ten", " countries", ",", ".", " very", " deep", " water"),
    *("\n\n", "\n", " ", "- ", "**", "`x = 0`", "```", "  ", "1", "0", ".5", " = ", "}\n", "</td>", "|", " |"),
    *(
        " Duna",
        " árvíztűrő",
        " tükör",
        "fúrógép",
        "é",
        " naïve",
        "😀",
        " 🌊",
        "👩‍🚀",
        "河",
        "流过",
        "长长的",
        "。",
        "ß",
    ),
    *("ing", "er", "un", "ha", " ha", "co", "na", " in", " into", " that", " a", " an", "A", " B"),
)
"""Pieces like tokens: with blanks before them, parts of words, white space alone, several bytes a character."""


@dataclass(frozen=True)
class Planned:
    """One answer: its script, what it says, and how it is broken off."""

    query: str
    text: str
    reasoning: str
    way: str
    place: str


@dataclass
class Outcome:
    """What became of the answers."""

    whole: int = 0
    restarted: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    """By way, by place, and by end."""
    pauses: list[float] = field(default_factory=list)
    """Seconds from the moment at which the producer knows of a break to the next chunk."""
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def answers(self) -> int:
        return self.whole + len(self.wrong)

    @property
    def share(self) -> float:
        """The share of answers that are done and equal to the uncut text, byte by byte."""
        return self.whole / self.answers

    @property
    def p95(self) -> float:
        return percentile(self.pauses, 0.95)

    def lines(self) -> list[str]:
        """The report."""
        figures = [
            f"{'answers':36}{self.answers:9}   in {self.seconds:.0f} s",
            f"{'done and equal to the uncut text':36}{self.whole:9}   {self.share:.2%}",
            f"{'of them visibly begun anew':36}{self.restarted:9}",
            f"{'breaks that were mended':36}{len(self.pauses):9}",
            f"{'pause: median, s':36}{percentile(self.pauses, 0.5):9.3f}",
            f"{'pause: 95th percentile, s':36}{self.p95:9.3f}",
            f"{'pause: longest, s':36}{max(self.pauses):9.3f}",
        ]
        return [*figures, *(f"{name:36}{count:9}" for name, count in sorted(self.counted.items())), *self.wrong[:10]]

    def violations(self) -> list[str]:
        """What the run was to reach and did not."""
        wrong = []
        if self.share < EQUAL_SHARE:
            wrong.append(f"only {self.share:.2%} of the answers are done and equal to the uncut text")
        if self.p95 >= MAX_PAUSE_SECONDS:
            wrong.append(f"the 95th percentile of the pauses is {self.p95:.2f} s")
        return wrong


def plan(numbers: random.Random, number: int, directory: Path) -> Planned:
    """Return the answer of this number."""
    way = WAYS[number % len(WAYS)]
    place = PLACES[number // len(WAYS) % len(PLACES)]
    texts = pieces(numbers, numbers.randint(20, 60))
    thinks = place == "reasoning" or numbers.random() < 0.4
    reasoning = pieces(numbers, numbers.randint(5, 25)) if thinks else []
    halves = number % 2 == 1
    script = {
        "key": f"{number}",
        "texts": texts,
        "reasoning": reasoning,
        "escape": halves,
        "halves": halves,
        "pace": 0.002,
        "break_how": way,
        "break_mark": str(directory / f"broken-{number}"),
    }
    at = _place(script, place, numbers)
    return Planned(command(**script, break_at=at), "".join(texts), "".join(reasoning), way, place)


def pieces(numbers: random.Random, count: int) -> list[str]:
    """Return random pieces. None that is a word without a blank follows itself.

    Such a one (`mur|mur`) cannot be told from a server's manner to repeat the last word. In a natural text it is very
    rare; here every two hundredth piece would be one.
    """
    pieces: list[str] = []
    while len(pieces) < count:
        piece = numbers.choice(WORDS)
        is_word = not piece[0].isspace() and sum(map(str.isalpha, piece)) >= LEAST_LETTERS
        if not (pieces and piece == pieces[-1] and is_word):
            pieces.append(piece)
    return pieces


def _place(script: dict[str, object], place: str, numbers: random.Random) -> int:
    """Return a random byte of the body, of the kind of place, and behind the first chunk.

    A break before that is no break in the middle: the question is asked again as often as `FOLYAM_RETRIES` says.
    """
    whole = Body(parse({**script, "break_mark": ""}), model="test-model", include_usage=True)
    body = b"".join(b"".join(beat) for beat in whole if not isinstance(beat, End))
    first_text = body.index(b'"delta":{"content":"', body.index(b'"content":""') + 1)
    begin = body.index(b"reasoning_content") if script["reasoning"] else first_text
    begun = body.index(b"\n\n", begin) + 2
    if place == "character" and script["halves"]:  # between the chunks of two halves
        places = [body.index(b"\n\n", half.end()) + 2 for half in re.finditer(rb'\\ud[89ab]..(?=")', body)]
    elif place == "character":
        places = [at for at, byte in enumerate(body) if 0x80 <= byte < 0xC0]
    else:
        bounds = {"reasoning": (begun, first_text), "text": (first_text, len(body))}
        places = list(range(*bounds.get(place, (begun, len(body)))))
    behind = [at for at in places if at >= begun] or [max(begun, len(body) // 2)]
    return behind[numbers.randrange(len(behind))]


@contextmanager
def pauses(into: list[float]) -> Iterator[None]:
    """Collect the pauses that the metrics see."""
    counted = AnswerMetrics.break_ended

    def count(self: AnswerMetrics, reason: str, outcome: str, seconds: float) -> None:
        counted(self, reason, outcome, seconds)
        if outcome != "failed":
            into.append(seconds)

    with patch.object(AnswerMetrics, "break_ended", count):
        yield


async def breaks(directory: Path, count: int, seed: int) -> Outcome:
    """Ask for so many answers, each of which is broken off once; return what became of them."""
    outcome = Outcome()
    numbers = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    planned = iter([plan(numbers, number, directory) for number in range(count)])
    logs = directory / "answers"
    logs.mkdir(mode=0o700)
    time_outs = TimeOuts(connect=5, status=10, first_chunk=10, silence=SILENCE_SECONDS)
    began_at = time.monotonic()
    with UpstreamProcess.start(children=CHILDREN) as upstream, pauses(outcome.pauses):
        log = open_event_log(logs.as_uri(), Retention())
        async with (
            worker(log, upstream, recovery="continue", time_outs=time_outs, retries=1) as here,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(AT_ONCE, count)):
                group.create_task(_each(here, planned, outcome))
    outcome.seconds = time.monotonic() - began_at
    return outcome


async def _each(here: Worker, planned: Iterator[Planned], outcome: Outcome) -> None:
    for each in planned:
        began_at = asyncio.get_running_loop().time()
        request = to_request(each.query, model="test-model")
        producer = await here.supervisor.start(request, new_answer_id(), client="c", begun_at=began_at)
        judge(each, await here.follow(producer.answer_id), outcome)


def judge(each: Planned, events: list[Event], outcome: Outcome) -> None:
    """Compare an answer with its plan."""
    end = events[-1]
    restart = max((place for place, event in enumerate(events) if isinstance(event, Restart)), default=-1)
    said = [event for event in events[restart + 1 :] if isinstance(event, Delta)]
    text = "".join(delta.text or "" for delta in said)
    reasoning = "".join(delta.reasoning or "" for delta in said)
    numbered = [event.seq for event in events] == list(range(1, len(events) + 1))
    outcome.counted[f"by {each.way}"] += 1
    outcome.counted[f"in {each.place}"] += 1
    outcome.counted[f"seams: {sum(delta.seam is not None for delta in said)}"] += 1
    if isinstance(end, Done) and numbered and (text, reasoning) == (each.text, each.reasoning):
        outcome.whole += 1
        outcome.restarted += restart >= 0
        return
    got = json.dumps({"end": str(end), "text": text, "wanted": each.text, "reasoning": reasoning == each.reasoning})
    outcome.wrong.append(f"{each.way} in {each.place}: {got}\n{each.query}")
