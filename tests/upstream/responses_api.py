"""A server of OpenAI's Responses API with background mode, over real sockets, in the test's own event loop.

A run goes on without its reader. Its events are kept, and given out again behind any number.
"""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, zip_longest
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.listening import listening
from tests.upstream.tools import Call

How = Literal["reset", "close", "stall", "truncate", "garbage"]
Numbers = Literal["all", "none", "zero", "below"]
GARBAGE = b'\n\ndata: {"type": "response.output_text.delta", oops\n\n'


class Break(msgspec.Struct, frozen=True):
    """Where a response breaks off, in bytes of its body, and how."""

    at: int
    how: How = "reset"


class Plan(msgspec.Struct, frozen=True):
    """What a run says, and how its responses break off. It is the text of the question's last message, as JSON."""

    texts: tuple[str, ...] = ("A river ", "flows")
    summaries: tuple[tuple[str, ...], ...] = ()
    """The pieces of each part of the reasoning's summary."""
    thoughts: tuple[str, ...] = ()
    """Pieces of the reasoning itself, which open models tell."""
    refusal: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    """Calls of tools, which take turns."""
    pace: float = 0.0
    """Seconds from one piece to the next."""
    endless: bool = False
    end: str = "completed"
    """The status at the end."""
    reason: str = ""
    """Why the response is incomplete."""
    error: dict[str, Any] = {}
    """Of a failed response."""
    breaks: tuple[Break, ...] = ()
    """One for each response that streams the question's first run: the first, the second, …"""
    forgotten: bool = False
    """The server gives the run out no more."""
    halves: bool = False
    """Characters beyond U+FFFF are split between their two escapes into two events."""
    numbers: Numbers = "all"
    """`zero` and `below`: each event has the number 0 or -1 (vLLM, once), and `starting_after` is passed over."""
    created_delay: float = 0.0
    """Seconds from the status to the first event."""

    def command(self) -> str:
        """The question's text."""
        return msgspec.json.encode(self).decode()


@dataclass
class Run:
    """One response."""

    id: str
    plan: Plan
    asked: dict[str, Any]
    status: str = "queued"
    events: list[bytes] = field(default_factory=list)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    output: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    """Generated, and paid for."""
    streams: int = 0
    """Responses that have streamed it."""
    task: "asyncio.Task[None] | None" = None

    @property
    def is_over(self) -> bool:
        return self.status not in ("queued", "in_progress")

    def has_news(self, at: int) -> bool:
        """Whether there is an event at this place, or no more will come."""
        return len(self.events) > at or self.is_over

    def response(self) -> dict[str, Any]:
        usage = {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
            "output_tokens": self.tokens,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 7 + self.tokens,
        }
        return {
            "id": self.id,
            "object": "response",
            "created_at": 1_780_000_000,
            "status": self.status,
            "background": bool(self.asked.get("background")),
            "error": {"code": "server_error", "message": "It broke.", **self.plan.error}
            if self.status == "failed"
            else None,
            "incomplete_details": {"reason": self.plan.reason} if self.status == "incomplete" else None,
            "model": self.asked["model"],
            "output": self.output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if self.is_over and self.status != "cancelled" else None,
        }


class ResponsesApi:
    """The server's state: its runs, and the requests that came."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and path with query."""
        self.base_url = ""
        self._ids = count(1)

    def run_of(self, query: str) -> Run:
        """Return the one run of a question."""
        [run] = [run for run in self.runs.values() if _question(run.asked) == query]
        return run

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection's one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.requests.append((method, target.removeprefix("/v1")))
        url = urlsplit(target)
        match = re.fullmatch(r"/v1/responses(?:/(?P<id>[^/]+)(?P<cancel>/cancel)?)?", url.path)
        if match is None:
            await _send(writer, 404, {"error": {"message": "Not found.", "code": "unknown_url"}})
        elif match["id"] is None:
            await self._create(json.loads(body), reader, writer)
        elif (run := self.runs.get(match["id"])) is None or run.plan.forgotten:
            error = {"message": f"Response with id '{match['id']}' not found.", "type": "invalid_request_error"}
            await _send(writer, 404, {"error": {**error, "param": "id", "code": None}})
        elif match["cancel"]:
            await self._cancel(run)
            await _send(writer, 200, run.response())
        elif (query := parse_qs(url.query)).get("stream") == ["true"]:
            await _stream(run, int(query.get("starting_after", ["-1"])[0]), reader, writer)
        else:
            await _send(writer, 200, run.response())

    async def _create(self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not (asked.get("background") and asked.get("store") and asked.get("stream")):
            await _send(writer, 400, {"error": {"message": "Unsupported here.", "type": "invalid_request_error"}})
            return
        try:
            plan = msgspec.json.decode(_question(asked), type=Plan)
        except msgspec.DecodeError:
            plan = Plan()
        if any(_question(run.asked) == _question(asked) for run in self.runs.values()):
            plan = msgspec.structs.replace(plan, breaks=())
        run = Run(f"resp_{next(self._ids):032x}", plan, asked)
        self.runs[run.id] = run
        run.task = asyncio.create_task(_generate(run))
        await _stream(run, -1, reader, writer)

    async def _cancel(self, run: Run) -> None:
        if not run.is_over and run.task is not None:
            run.task.cancel()
            await asyncio.gather(run.task, return_exceptions=True)
            run.status = "cancelled"
            await _emit(run, "response.incomplete", response=run.response())

    async def aclose(self) -> None:
        """End the runs that go on."""
        tasks = [run.task for run in self.runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def serving_responses() -> AsyncIterator[ResponsesApi]:
    """A server on a free port."""
    api = ResponsesApi()
    async with listening(api.serve) as address:
        api.base_url = f"http://{address}/v1"
        try:
            yield api
        finally:
            await api.aclose()


def _question(asked: dict[str, Any]) -> str:
    content = asked["input"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


async def _generate(run: Run) -> None:
    for kind in ("response.created", "response.queued"):
        await _emit(run, kind, response=run.response())
    run.status = "in_progress"
    await _emit(run, "response.in_progress", response=run.response())
    plan = run.plan
    if plan.summaries or plan.thoughts:
        await _reason(run)
    if plan.texts or plan.refusal:
        await _message(run)
    if plan.calls:
        await _call(run)
    run.status = plan.end
    await _emit(run, f"response.{plan.end}", response=run.response())


async def _reason(run: Run) -> None:
    plan, place = run.plan, {"item_id": "rs_1", "output_index": 0}
    item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
    await _emit(run, "response.output_item.added", output_index=0, item=item)
    for index, pieces in enumerate(plan.summaries):
        at = {**place, "summary_index": index}
        await _emit(run, "response.reasoning_summary_part.added", **at, part=_part("summary_text", ""))
        await _say(run, "response.reasoning_summary_text", pieces, at)
        whole = "".join(pieces)
        await _emit(run, "response.reasoning_summary_text.done", **at, text=whole)
        await _emit(run, "response.reasoning_summary_part.done", **at, part=_part("summary_text", whole))
        item["summary"].append(_part("summary_text", whole))
    if plan.thoughts:
        at = {**place, "content_index": 0}
        await _say(run, "response.reasoning_text", plan.thoughts, at)
        await _emit(run, "response.reasoning_text.done", **at, text="".join(plan.thoughts))
    run.output.append(item)
    await _emit(run, "response.output_item.done", output_index=0, item=item)


async def _message(run: Run) -> None:
    plan, index = run.plan, len(run.output)
    item: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    await _emit(run, "response.output_item.added", output_index=index, item=item)
    at = {"item_id": "msg_1", "output_index": index, "content_index": 0}
    if plan.refusal:
        await _say(run, "response.refusal", plan.refusal, at)
        await _emit(run, "response.refusal.done", **at, refusal="".join(plan.refusal))
        part: dict[str, Any] = {"type": "refusal", "refusal": "".join(plan.refusal)}
    else:
        part = {**_part("output_text", ""), "annotations": [], "logprobs": []}
        await _emit(run, "response.content_part.added", **at, part=part)
        await _say(run, "response.output_text", _endless() if plan.endless else plan.texts, at, logprobs=[])
        part = {**part, "text": "".join(plan.texts)}
        await _emit(run, "response.output_text.done", **at, text=part["text"], logprobs=[])
    await _emit(run, "response.content_part.done", **at, part=part)
    item |= {"status": "completed", "content": [part]}
    run.output.append(item)
    await _emit(run, "response.output_item.done", output_index=index, item=item)


async def _call(run: Run) -> None:
    first, items = len(run.output), list[dict[str, Any]]()
    for number, call in enumerate(run.plan.calls):
        item = {"type": "function_call", "id": f"fc_{number}", "call_id": call.id or f"call_{number + 1}"}
        items.append({**item, "name": call.name, "arguments": "", "status": "in_progress"})
        await _emit(run, "response.output_item.added", output_index=first + number, item=items[-1])
    for turn in zip_longest(*[call.arguments for call in run.plan.calls]):
        for number, piece in enumerate(turn):
            if piece is not None:
                at = {"item_id": f"fc_{number}", "output_index": first + number}
                await _say(run, "response.function_call_arguments", (piece,), at)
    for number, (call, item) in enumerate(zip(run.plan.calls, items, strict=True)):
        item |= {"arguments": "".join(call.arguments), "status": "completed"}
        at = {"item_id": item["id"], "output_index": first + number}
        await _emit(run, "response.function_call_arguments.done", **at, arguments=item["arguments"])
        await _emit(run, "response.output_item.done", output_index=first + number, item=item)
        run.output.append(item)


def _endless() -> Iterator[str]:
    return (f"w{n} " for n in count(1))


def _part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": text}


async def _say(
    run: Run, kind: str, pieces: Iterator[str] | tuple[str, ...], at: dict[str, Any], **more: object
) -> None:
    for piece in pieces:
        run.tokens += 1
        for half in _halves(piece) if run.plan.halves else [piece]:
            await _emit(run, f"{kind}.delta", **at, delta=half, **more)
        await asyncio.sleep(run.plan.pace)


def _halves(piece: str) -> list[str]:
    """Split the piece within its first character beyond U+FFFF."""
    units = piece.encode("utf-16-le")
    at = next((at for at in range(0, len(units), 2) if 0xD8 <= units[at + 1] < 0xDC), None)
    if at is None:
        return [piece]
    return [part.decode("utf-16-le", "surrogatepass") for part in (units[: at + 2], units[at + 2 :])]


async def _emit(run: Run, kind: str, **fields: object) -> None:
    number = {
        "all": {"sequence_number": len(run.events)},
        "none": {},
        "zero": {"sequence_number": 0},
        "below": {"sequence_number": -1},
    }
    event = {"type": kind, **number[run.plan.numbers], **fields}
    async with run.grown:
        run.events.append(f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode())
        run.grown.notify_all()


async def _stream(run: Run, after: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the events behind a number, as they come, up to the end or the planned break."""
    breaks = run.plan.breaks
    planned = breaks[run.streams] if run.streams < len(breaks) else None
    run.streams += 1
    head = "HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Connection: close"
    writer.write("\r\n".join((*head, "", "")).encode())
    await asyncio.sleep(run.plan.created_delay)
    at = after + 1 if run.plan.numbers == "all" else 0
    left = planned.at if planned is not None else 1 << 60
    while True:
        async with run.grown:
            await run.grown.wait_for(partial(run.has_news, at))
        if len(run.events) == at:
            break
        piece = run.events[at][:left]
        at, left = at + 1, left - len(piece)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        if planned is not None and left <= 0:
            await _break(planned.how, reader, writer)
            return
    writer.write(b"0\r\n\r\n")


async def _break(how: How, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    match how:
        case "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        case "stall":
            await reader.read()
        case "truncate":
            writer.write(b"0\r\n\r\n")
        case "garbage":
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(GARBAGE), GARBAGE))


async def _send(writer: asyncio.StreamWriter, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()
