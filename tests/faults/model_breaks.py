"""Answers of the real local model that break off in the middle, each compared with the same answer uncut.

A proxy between the service and the model breaks the connection off: the model itself does not.
"""

import asyncio
import json
import random
import re
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.ports import Address
from service.eventlog import EventLog, Retention, open_event_log
from service.events import Delta, Done, Event, Restart, Terminal
from service.question import to_request
from service.upstream.endpoint import TimeOuts
from tests.bench.percentiles import percentile
from tests.faults.breaks import pauses
from tests.listening import listening
from tests.working import PATIENT, Worker, worker

WAYS = ("reset", "close", "stall", "garbage")
ANSWER_TOKENS = 60
ANSWER_SECONDS = 300.0
SILENCE_SECONDS = 5.0
"""Silence after which an answer counts as stalled. A busy machine's pauses between two tokens are shorter."""
EQUAL_SHARE = 0.99
READ_BYTES = 1 << 16
FORMS = (
    "What is a {}? Answer in one short sentence.",
    "Write one short sentence about a {}.",
    "Name three things that a {} needs.",
    "Why is a {} useful? Answer in one short sentence.",
    "Explain to a child what a {} is, in one sentence.",
)
NOUNS = (
    *("river", "lake", "mountain", "forest", "bridge", "boat", "train", "clock", "book", "garden", "horse", "bird"),
    *("fish", "tree", "flower", "house", "window", "door", "chair", "table", "lamp", "road", "city", "village"),
    *("school", "teacher", "doctor", "farmer", "baker", "painter", "song", "dance", "game", "ball", "kite", "wheel"),
    *("candle", "mirror", "map", "compass"),
)


@dataclass
class Outcome:
    """What became of the answers."""

    equal: int = 0
    """Done, and equal to the uncut text. One that is cut by its length begins with the uncut text: a continuation may
    have as many tokens again."""
    restarted: int = 0
    """Of the others: visibly begun anew."""
    wrong: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    """By way, by the uncut answer's end, and by seams."""
    pauses: list[float] = field(default_factory=list)
    """Seconds from the moment at which the producer knows of a break to the next chunk."""
    seconds: float = 0.0

    @property
    def answers(self) -> int:
        return self.equal + self.restarted + len(self.wrong)

    def lines(self) -> list[str]:
        """The report."""
        return [
            f"{'answers':36}{self.answers:9}   in {self.seconds:.0f} s",
            f"{'done and equal to the uncut text':36}{self.equal:9}   {self.equal / self.answers:.2%}",
            f"{'visibly begun anew, and different':36}{self.restarted:9}",
            f"{'breaks that were mended':36}{len(self.pauses):9}",
            *(f"{f'pause: {name}, s':36}{percentile(self.pauses, at):9.3f}" for name, at in PAUSES if self.pauses),
            *(f"{name:36}{count:9}" for name, count in sorted(self.counted.items())),
            *self.wrong,
        ]

    def violations(self) -> list[str]:
        """What the run was to reach and did not."""
        wrong = [f"{len(self.wrong)} answers differ and do not show it"] if self.wrong else []
        if self.equal < EQUAL_SHARE * self.answers:
            wrong.append(f"only {self.equal / self.answers:.2%} of the answers are done and equal to the uncut text")
        return wrong


PAUSES = (("median", 0.5), ("95th percentile", 0.95), ("longest", 1.0))


@dataclass
class Planned:
    """One question, and how its second request breaks off."""

    query: str
    way: str
    place: float
    """Where, as a share of the answer behind its first piece."""
    requests: int = 0
    begun: int = 0
    """Bytes of the uncut response up to the end of its first piece."""
    size: int = 0
    """Bytes of the uncut response."""

    @property
    def break_at(self) -> int:
        return self.begun + int(self.place * (self.size - self.begun))


class Proxy:
    """Passes each request on to the model. The second one of each question breaks off."""

    def __init__(self, model: Address, planned: list[Planned]) -> None:
        self._model = model
        self._planned = {each.query: each for each in planned}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request of a connection, and close it."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        messages: list[dict[str, Any]] = json.loads(body)["messages"]
        planned = self._planned[next(each["content"] for each in messages if each["role"] == "user")]
        planned.requests += 1
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        from_model, to_model = await asyncio.open_connection(self._model.host, self._model.port)
        try:
            to_model.write(head + body)
            if planned.requests == 1:
                await _measure(from_model, writer, planned)
            elif planned.requests > 2 or not await _pass(from_model, writer, planned.break_at):
                await _pass(from_model, writer)
            else:
                to_model.transport.abort()
                await _break(planned.way, reader, writer)
        finally:
            to_model.transport.abort()


async def _measure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, planned: Planned) -> None:
    """Pass the uncut response on, and note its size and the end of its first piece of text.

    Both are noted before the bytes are passed on: the next question may come before this connection's end.
    """
    whole = b""
    while piece := await reader.read(READ_BYTES):
        whole += piece
        planned.size = planned.begun = len(whole)
        if first := re.search(rb'"content":"[^"].*?\n\n', whole, re.DOTALL):
            planned.begun = first.end()
        writer.write(piece)
        await writer.drain()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None = None) -> bool:
    """Pass bytes on, until the limit or the end; return whether the limit was reached."""
    left = limit
    while left is None or left > 0:
        piece = await reader.read(READ_BYTES if left is None else min(left, READ_BYTES))
        if not piece:
            return False
        left = None if left is None else left - len(piece)
        writer.write(piece)
        await writer.drain()
    return True


async def _break(way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    match way:
        case "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        case "stall":
            await reader.read()
        case "garbage":
            writer.write(b'\n\ndata: {"choices": [oops\n\n')


def plan(seed: int, count: int) -> list[Planned]:
    """Return so many different questions."""
    numbers = random.Random(f"model {seed}")  # noqa: S311 (reproducible, not secret)
    queries = [form.format(noun) for form, noun in product(FORMS, NOUNS)]
    if count > len(queries):
        raise SystemExit(f"There are {len(queries)} questions for the model.")
    chosen = numbers.sample(queries, count)
    return [Planned(query, WAYS[number % len(WAYS)], numbers.random()) for number, query in enumerate(chosen)]


async def breaks(directory: Path, base_url: str, model: str, count: int, seed: int) -> Outcome:
    """Ask so many questions twice, at temperature 0; break the second answer off; return how they compare.

    One at a time: the model's words may depend on what it computes beside them.
    """
    outcome = Outcome()
    planned = plan(seed, count)
    url = urlsplit(base_url)
    assert url.hostname is not None
    assert url.port is not None
    logs = directory / "answers"
    logs.mkdir(mode=0o700)
    patient = TimeOuts(connect=10, status=ANSWER_SECONDS, first_chunk=ANSWER_SECONDS, silence=ANSWER_SECONDS)
    hasty = replace(patient, silence=SILENCE_SECONDS)
    limits = replace(PATIENT, answer_seconds=ANSWER_SECONDS)
    began_at = time.monotonic()
    async with listening(Proxy(Address(url.hostname, url.port), planned).handle) as address:
        upstream = _Addressed(f"http://{address}{url.path}")
        async with (
            # A silence on a busy machine must not break an uncut answer off.
            worker(_log(logs / "uncut"), upstream, limits=limits, recovery="fail", time_outs=patient) as uncut,
            worker(
                _log(logs / "broken"), upstream, limits=limits, recovery="continue", time_outs=hasty, retries=1
            ) as broken,
        ):
            for each in planned:
                wanted = await _ask(uncut, each.query, model)
                with pauses(outcome.pauses):
                    got = await _ask(broken, each.query, model)
                _judge(each, wanted, got, outcome)
    outcome.seconds = time.monotonic() - began_at
    return outcome


def _log(directory: Path) -> EventLog:
    directory.mkdir(mode=0o700)
    return open_event_log(directory.as_uri(), Retention())


@dataclass
class _Addressed:
    base_url: str


async def _ask(here: Worker, query: str, model: str) -> list[Event]:
    request = to_request(query, model=model, temperature=0, max_tokens=ANSWER_TOKENS)
    async with asyncio.timeout(ANSWER_SECONDS):
        producer = await here.ask(request)
        await producer.task
    return await here.read(producer.answer_id)


def text_of(events: list[Event]) -> str:
    """Return the text behind the last restart."""
    parts: list[str] = []
    for event in events:
        if isinstance(event, Restart):
            parts.clear()
        elif isinstance(event, Delta):
            parts.append(event.text or "")
    return "".join(parts)


def _judge(planned: Planned, uncut: list[Event], broken: list[Event], outcome: Outcome) -> None:
    wanted, got = text_of(uncut), text_of(broken)
    ends = [each for each in (uncut[-1], broken[-1]) if isinstance(each, Terminal)]
    reasons = [each.finish_reason for each in ends if isinstance(each, Done)]
    assert reasons, uncut[-1]
    outcome.counted[f"by {planned.way}"] += 1
    outcome.counted[f"uncut: {reasons[0]}"] += 1
    outcome.counted[f"seams: {sum(isinstance(each, Delta) and each.seam is not None for each in broken)}"] += 1
    is_equal = got.startswith(wanted) if reasons[0] == "length" else got == wanted
    if len(reasons) == len(ends) and is_equal:
        outcome.equal += 1
    elif any(isinstance(each, Restart) for each in broken):
        outcome.restarted += 1
    else:
        shown = {"query": planned.query, "way": planned.way, "uncut": wanted, "end": str(broken[-1])}
        outcome.wrong.append(json.dumps({**shown, "pieces": pieces_of(broken)}, ensure_ascii=False))


def pieces_of(events: list[Event]) -> list[str]:
    """Return the texts before, between and behind the seams."""
    pieces = [""]
    for event in events:
        if isinstance(event, Delta) and event.seam is not None:
            pieces.append("")
        elif isinstance(event, Delta):
            pieces[-1] += event.text or ""
    return pieces
