"""OpenAI's SDKs repeat a request that is cut: the model is asked once, and the answer is whole."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest

from deploy.local.ports import Address
from service.events import new_answer_id
from tests.e2e.client import script
from tests.e2e.cutter import reset
from tests.e2e.stack import NODE, ROOT, Service
from tests.listening import listening
from tests.upstream.process import UpstreamProcess

AT_ONCE = 40
"""Requests under way at once. An SDK waits for half a second before it repeats one."""
TEXT = "Győr 🌊"
EVERY = 1 << 30


@dataclass(frozen=True)
class Cut:
    """After how many bytes of a connection's request and of its response it is reset."""

    sent: int = EVERY
    received: int = EVERY


@dataclass
class Passed:
    """What a proxy has passed on."""

    requests: bytearray = field(default_factory=bytearray)
    responses: bytearray = field(default_factory=bytearray)
    connections: int = 0


@dataclass(frozen=True)
class Workers:
    """Two services of one worker each that share a log directory."""

    addresses: tuple[Address, Address]
    upstream: UpstreamProcess


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Workers]:
    directory = tmp_path_factory.mktemp("retries")
    with (
        Service(directory / "one", directory / "answers", upstream.base_url, workers=1) as one,
        Service(directory / "two", directory / "answers", upstream.base_url, workers=1) as two,
    ):
        yield Workers((one.address, two.address), upstream)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int, copied: bytearray) -> None:
    """Copy up to so many bytes, until the end."""
    while left and (data := await reader.read(min(left, 1 << 14))):
        copied += data
        left -= len(data)
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def cutting(workers: Workers, cut: Cut) -> AsyncIterator[tuple[Address, Passed]]:
    """Pass the first connection to one worker, and cut it; pass all others to the other one."""
    passed = Passed()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed.connections += 1
        is_first = passed.connections == 1
        most = cut if is_first else Cut()
        address = workers.addresses[not is_first]
        there_reader, there_writer = await asyncio.open_connection(address.host, address.port)
        try:
            requests = asyncio.create_task(copy(reader, there_writer, most.sent, passed.requests))
            responses = asyncio.create_task(copy(there_reader, writer, most.received, passed.responses))
            await asyncio.wait([requests, responses], return_when=asyncio.FIRST_COMPLETED)
            for task in (requests, responses):
                task.cancel()
            await asyncio.gather(requests, responses, return_exceptions=True)
            for each in (writer, there_writer):
                reset(each.get_extra_info("socket"))
        finally:
            there_writer.transport.abort()
            writer.transport.abort()

    async with listening(pass_on) as address:
        yield address, passed


Asked = dict[str, Any]
"""What an SDK made of a request: `text`, `finish_reason` and `done`, or `error`."""
Sdk = Callable[[Address, str, str, bool], Awaitable[Asked]]
"""Asks a query at an address through the door, streamed or not."""


async def python(address: Address, door: str, query: str, stream: bool) -> Asked:  # noqa: FBT001
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=60) as http_client,
        openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="any", http_client=http_client) as client,
    ):
        try:
            if door == "responses":
                asked: Any = await client.responses.create(model="test-model", input=query, stream=stream)
                if not stream:
                    return {"text": asked.output_text, "end": asked.status}
                said, end = "", None
                async for event in asked:
                    said += event.delta if event.type == "response.output_text.delta" else ""
                    end = event.response.status if event.type == "response.completed" else end
                return {"text": said, "end": end}
            messages: Any = [{"role": "user", "content": query}]
            asked = await client.chat.completions.create(model="test-model", messages=messages, stream=stream)
            if not stream:
                return {"text": asked.choices[0].message.content, "end": "completed"}
            said, end = "", None
            async for chunk in asked:
                said += chunk.choices[0].delta.content or ""
                end = "completed" if chunk.choices[0].finish_reason == "stop" else end
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            return {"error": type(error).__name__}
        return {"text": said, "end": end}


class JavaScript:
    """The SDK for JavaScript in one process, with many requests at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._results: dict[str, asyncio.Future[Asked]] = {}
        self._reading = asyncio.create_task(self._read())

    async def __call__(self, address: Address, door: str, query: str, stream: bool) -> Asked:  # noqa: FBT001
        named = new_answer_id()
        self._results[named] = asyncio.get_running_loop().create_future()
        job = {"id": named, "base_url": f"http://{address}/v1", "door": door, "query": query, "stream": stream}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        return await self._results[named]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            result = json.loads(line)
            self._results[result.pop("id")].set_result(result)

    async def close(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading


@asynccontextmanager
async def sdk(name: str) -> AsyncIterator[Sdk]:
    if name == "python":
        yield python
        return
    process = await asyncio.create_subprocess_exec(
        NODE, ROOT / "tests/clients/retries.mjs", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    javascript = JavaScript(process)
    try:
        yield javascript
    finally:
        await javascript.close()


def query_of(key: str) -> str:
    return script(key=key, texts=[TEXT, " ő", " ű"])


async def each_cut(
    name: str,
    door: str,
    workers: Workers,
    stream: bool,  # noqa: FBT001 (pytest gives it)
    cuts: Callable[[Passed], Sequence[Cut]],
) -> list[tuple[Cut, str, Asked]]:
    """Ask once without a cut, and then with each of the cuts; return what came of these, with the requests' keys."""
    async with sdk(name) as ask:
        async with cutting(workers, Cut()) as (address, passed):
            whole = await ask(address, door, query_of(new_answer_id()), stream)
            assert whole == {"text": f"{TEXT} ő ű", "end": "completed"}
        free = asyncio.Semaphore(AT_ONCE)

        async def one(cut: Cut) -> tuple[Cut, str, Asked]:
            async with free, cutting(workers, cut) as (address, _):
                key = new_answer_id()
                return cut, key, await ask(address, door, query_of(key), stream)

        return await asyncio.gather(*map(one, cuts(passed)))


STEP = 7
"""Bytes from one cut to the next where the state is the same: an SDK takes 20 ms of CPU for a request."""
MOST = 100
"""Cuts of a part, about."""
LAST = 12
"""Bytes at the end of a part, each of which is a cut."""


def stepped(first: int, end: int) -> list[int]:
    step = max(STEP, (end - first) // MOST)
    return sorted({*range(first, end, step), *range(max(first, end - LAST), end)})


def of_requests(passed: Passed) -> list[Cut]:
    return [Cut(sent=sent) for sent in stepped(1, len(passed.requests) + 1)]


def of_heads(passed: Passed) -> list[Cut]:
    """Every byte up to the last one of the head."""
    return [Cut(received=received) for received in range(passed.responses.index(b"\r\n\r\n") + 4)]


def of_bodies(passed: Passed) -> list[Cut]:
    first = passed.responses.index(b"\r\n\r\n") + 4
    return [Cut(received=received) for received in stepped(first, len(passed.responses))]


def of_responses(passed: Passed) -> list[Cut]:
    return [*of_heads(passed), *of_bodies(passed)]


CASES = [
    ("python", "chat", False, of_requests),
    ("python", "chat", False, of_responses),
    ("python", "chat", True, of_heads),
    ("python", "responses", False, of_bodies),
    ("javascript", "chat", False, of_requests),
    ("javascript", "chat", False, of_heads),
    ("javascript", "responses", True, of_heads),
]


@pytest.mark.parametrize(("name", "door", "stream", "cuts"), CASES)
def test_a_request_that_is_cut_at_any_byte_is_asked_once_and_answered_whole(
    workers: Workers,
    name: str,
    door: str,
    stream: bool,  # noqa: FBT001 (pytest gives it)
    cuts: Callable[[Passed], Sequence[Cut]],
) -> None:
    seen = asyncio.run(each_cut(name, door, workers, stream, cuts))
    assert [(cut, asked) for cut, _, asked in seen if asked != {"text": f"{TEXT} ő ű", "end": "completed"}] == []
    assert asked_more_or_less_than_once(workers, seen) == []


@pytest.mark.parametrize(
    ("name", "door", "stream"),
    [
        ("python", "chat", True),
        ("python", "responses", True),
        ("javascript", "chat", True),
        ("javascript", "responses", True),
        # This SDK repeats no request of which it has the head, also without a stream.
        ("javascript", "chat", False),
    ],
)
def test_a_body_that_is_cut_at_any_byte_raises(workers: Workers, name: str, door: str, stream: bool) -> None:  # noqa: FBT001
    seen = asyncio.run(each_cut(name, door, workers, stream, of_bodies))
    # The protocols' own end comes before HTTP's. A cut between the two loses nothing.
    ended = [asked for _, _, asked in seen if "error" not in asked]
    assert [asked for asked in ended if asked != {"text": f"{TEXT} ő ű", "end": "completed"}] == []
    assert len(ended) < len(seen) / 2
    assert asked_more_or_less_than_once(workers, seen) == []


def asked_more_or_less_than_once(workers: Workers, seen: Sequence[tuple[Cut, str, Asked]]) -> list[tuple[Cut, int]]:
    requests = Counter(record["key"] for record in workers.upstream.requests())
    return [(cut, requests[key]) for cut, key, _ in seen if requests[key] != 1]
