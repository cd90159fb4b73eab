"""One client's viewing of one answer: ask, lose or cut the connection, resume, and keep every byte for the checks."""

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from deploy.local.ports import Address
from tests.e2e.client import JSON_LINES, SSE, TEXT, question, resume_headers
from tests.e2e.logfile import Event, json_events, sse_events
from tests.faults.questions import Question
from tests.faults.wire import Connection, Cut, Hung, Response, exchange

AGAIN_SECONDS = 0.1
GAP_SECONDS = 0.25
MAX_RETRY_SECONDS = 2.0
TERMINAL = ("done", "stopped", "failed")
NDJSON = "application/x-ndjson"
RENDERINGS = (JSON_LINES, NDJSON, SSE, TEXT)


@dataclass(frozen=True)
class Timeouts:
    """Timeouts of a client, in seconds."""

    silence: float
    """Timeout between two bytes."""
    whole: float
    """Timeout for an answer with all its cuts and resumes."""
    patience: float = math.inf
    """Silence after which the client resumes: a host that is cut off says nothing."""
    text_patience: float = math.inf
    """The same for plain text, which has no heartbeats."""


TIMEOUTS = Timeouts(silence=60.0, whole=180.0)
"""Longer than every wait of the service under these settings."""


@dataclass(frozen=True)
class Manner:
    """How a client behaves."""

    rendering: str
    event_source: bool = False
    """Asks with GET and resumes at the same address, as a browser's EventSource does."""
    cuts: tuple[int, ...] = ()
    """Resets its connections after so many bytes, one after the other."""
    stall_after: int | None = None
    """Stops reading after so many bytes, for `stall_seconds`."""
    stall_seconds: float = 0.0
    stop_after: int | None = None
    """Asks for a stop after so many bytes."""
    leaves: bool = False
    """Does not come back after its first cut."""
    seconds: bool = False
    """Has a second device that joins later."""

    @property
    def name(self) -> str:
        """The label in the report."""
        kinds = {
            "leaves": self.leaves,
            "stops": self.stop_after is not None,
            "stalls": self.stall_after is not None,
            "is cut": bool(self.cuts),
        }
        return next((kind for kind, so in kinds.items() if so), "reads")


def draw(numbers: random.Random) -> Manner:
    """Choose a manner."""
    rendering = numbers.choice(RENDERINGS)
    event_source = rendering == SSE and numbers.random() < 0.5
    seconds = numbers.random() < 0.25
    match numbers.choices(["reads", "is cut", "stalls", "stops", "leaves"], [5, 4, 1, 1, 1])[0]:
        case "is cut":
            cuts = tuple(numbers.choice([numbers.randint(1, 400), numbers.randint(1, 6000)]) for _ in range(4))
            return Manner(rendering, event_source, cuts=cuts, seconds=seconds)
        case "stalls":
            return Manner(
                rendering, event_source, stall_after=numbers.randint(1, 2000), stall_seconds=numbers.uniform(1, 5)
            )
        case "stops":
            return Manner(rendering, event_source, stop_after=numbers.randint(1, 4000), seconds=seconds)
        case "leaves":
            return Manner(rendering, event_source, cuts=(numbers.randint(0, 3000),), leaves=True)
        case _:
            return Manner(rendering, event_source, seconds=seconds)


@dataclass
class Refusal:
    """A rejected request."""

    at: float
    status: int
    code: str
    retry_after: str | None


@dataclass
class Viewing:
    """One client's requests and responses."""

    number: str
    question: Question
    manner: Manner
    answer: str = ""
    responses: list[Response] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    unreached: int = 0
    """Tries without a response."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of each time without a byte of the answer."""
    asked_stop: bool = False
    stop_status: int = 0
    gone: bool = False
    """Whether the answer was gone."""
    refused: bool = False
    """Whether the question was rejected, so that there is no answer."""
    hung: str = ""
    began_at: float = 0.0
    ended_at: float = 0.0

    @property
    def is_text(self) -> bool:
        return self.manner.rendering == TEXT

    @property
    def bodies(self) -> list[Response]:
        """The responses that carry a part of the answer."""
        return [response for response in self.responses if response.status == 200]

    def events(self) -> list[Event]:
        """All complete events of all responses, in order."""
        read = sse_events if self.manner.rendering == SSE else json_events
        return [event for response in self.bodies for event in read(bytes(response.body))]

    @property
    def last_seq(self) -> int:
        return next((event["seq"] for event in reversed(self.events())), 0)

    @property
    def over(self) -> bool:
        """Whether it has a terminal event."""
        if self.is_text:
            return any(response.whole for response in self.bodies)
        return any(event["type"] in TERMINAL for event in self.events()[-1:])


class Viewer:
    """Plays one viewing."""

    def __init__(self, address: Address, viewing: Viewing, timeouts: Timeouts) -> None:
        self.viewing = viewing
        self._address = address
        self._timeouts = timeouts
        self._cuts = list(viewing.manner.cuts)
        self._received = 0
        self._heard_at = 0.0
        self._stopping: asyncio.Task[None] | None = None
        self.begun = asyncio.Event()
        """Set when the answer's id is known, or cannot become known."""

    async def run(self) -> Viewing:
        """Return the viewing when it is over."""
        viewing = self.viewing
        viewing.began_at = self._heard_at = time.monotonic()
        try:
            async with asyncio.timeout(self._timeouts.whole):
                await self._run()
        except Hung as error:
            viewing.hung = str(error)
        except TimeoutError:
            viewing.hung = f"not at its end after {self._timeouts.whole} s"
        finally:
            self.begun.set()
            viewing.ended_at = time.monotonic()
            if self._stopping is not None:
                self._stopping.cancel()
                await asyncio.gather(self._stopping, return_exceptions=True)
        return viewing

    async def _run(self) -> None:
        viewing = self.viewing
        while not (viewing.over or viewing.refused or viewing.gone):
            cut = await self._one()
            if viewing.manner.leaves and (cut or viewing.answer):
                return
            if not (viewing.over or viewing.refused or viewing.gone):
                await asyncio.sleep(AGAIN_SECONDS)
        if self._stopping is not None:
            await self._stopping

    async def _one(self) -> bool:
        """Send one request and read the response; return whether this client cut it."""
        viewing, manner = self.viewing, self.viewing.manner
        limit = self._cuts.pop(0) if self._cuts else None
        try:
            connection = await Connection.send(
                self._address,
                *self._request(),
                timeout_seconds=min(self._timeouts.silence, self._patience),
                limit=limit,
                narrow=manner.stall_after is not None,
            )
        except Cut:
            viewing.unreached += 1
            if limit is not None:
                self._cuts.insert(0, limit)
            return False
        try:
            response = await connection.head()
            viewing.responses.append(response)
            if response.status == 200:
                viewing.answer = viewing.answer or response.headers.get("x-answer-id", "")
                self.begun.set()
            async for piece in connection.body():
                if response.status == 200:
                    await self._heard(piece)
        except (Cut, Hung) as error:
            if isinstance(error, Hung) and self._patience >= self._timeouts.silence:
                raise
            viewing.unreached += 1
        finally:
            if limit is None:
                connection.close()
            else:
                connection.reset()
        response = connection.response
        if response.whole and response.status != 200:
            await self._refused(response)
        return limit is not None and not response.whole

    @property
    def _patience(self) -> float:
        return self._timeouts.text_patience if self.viewing.is_text else self._timeouts.patience

    def _request(self) -> tuple[str, str, dict[str, str], bytes]:
        viewing, manner = self.viewing, self.viewing.manner
        if not viewing.answer:
            if manner.event_source:
                return "GET", f"/generate?query={quote(viewing.question.query)}", {"Accept": manner.rendering}, b""
            body, headers = question(viewing.question.query, manner.rendering, **dict(viewing.question.fields))
            return "POST", "/generate", headers, body
        # Plain text has no event ids, so its reader starts again.
        headers = resume_headers(viewing.answer, 0 if viewing.is_text else viewing.last_seq, manner.rendering)
        if manner.event_source and "Last-Event-ID" in headers:
            return "GET", f"/generate?query={quote(viewing.question.query)}", headers, b""
        return "GET", f"/answers/{viewing.answer}", headers, b""

    async def _heard(self, piece: bytes) -> None:
        now = time.monotonic()
        manner = self.viewing.manner
        if piece.strip(b"\n:"):  # no heartbeat
            if now - self._heard_at > GAP_SECONDS:
                self.viewing.gaps.append((self._heard_at, now))
            self._heard_at = now
        before, self._received = self._received, self._received + len(piece)
        if manner.stop_after is not None and self._stopping is None and self._received >= manner.stop_after:
            self.viewing.asked_stop = True
            self._stopping = asyncio.create_task(self._stop())
        if manner.stall_after is not None and before < manner.stall_after <= self._received:
            await asyncio.sleep(manner.stall_seconds)

    async def _stop(self) -> None:
        silence = min(self._timeouts.silence, self._timeouts.patience)
        while True:
            try:
                target = f"/answers/{self.viewing.answer}/stop"
                response = await exchange(self._address, "POST", target, {}, timeout_seconds=silence)
            except (Cut, Hung):
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self.viewing.stop_status = response.status
            if response.status not in (429, 502, 503, 504):
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _refused(self, response: Response) -> None:
        viewing = self.viewing
        retry_after = response.headers.get("retry-after")
        code = error_code(response)
        viewing.refusals.append(Refusal(time.monotonic(), response.status, code, retry_after))
        if response.status in (204, 404) and viewing.answer:
            viewing.gone = True
        elif code in viewing.question.codes or response.status not in (429, 502, 503, 504):
            viewing.refused = True
        else:
            seconds = float(retry_after) if retry_after and retry_after.isdecimal() else AGAIN_SECONDS
            await asyncio.sleep(min(seconds, MAX_RETRY_SECONDS))


def error_code(response: Response) -> str:
    """Return the code of an error in the protocol's form; empty for another body."""
    try:
        error: Any = msgspec.json.decode(bytes(response.body))
        return str(error["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
