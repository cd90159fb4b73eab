"""What other HTTP clients cost a chunk and an answer in place of the service's own, in CPU time.

    uv run --with aiohttp --with pyreqwest python -m tests.bench.clients

Each client reads the same paced stream from a server in another process and throws it away. The CPU time is that of the
client's process, all threads together. The clients take turns in each round, so that the ratios within a round hold on
a busy machine, where times do not.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import uvloop

CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":"word "},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
)
PACE_SECONDS = 0.004
CHUNKS = 400
ANSWERS = 100
WARMING_UP = 10
ROUNDS = 7

Ask = Callable[[int], Awaitable[int]]
"""Asks for an answer of so many chunks, and returns the bytes of its body."""


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            chunks = json.loads(await reader.readexactly(int(length[1])))["seed"]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for n in range(chunks):
                await asyncio.sleep(PACE_SECONDS if n else 0)
                writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _body(chunks: int) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "seed": chunks}


def _own(url: str) -> Ask:
    from service.upstream.pool import Pool  # noqa: PLC0415 (each process has one client)

    pool = Pool(httpx2.Request("POST", f"{url}/chat/completions", headers={"authorization": "Bearer k"}), 10)

    async def ask(chunks: int) -> int:
        exchange = await pool.send(json.dumps(_body(chunks)).encode())
        taken = 0
        while data := await exchange.read():
            taken += len(data)
        return taken

    return ask


def _aiohttp(url: str) -> Ask:
    import aiohttp  # type: ignore[import-not-found] # noqa: PLC0415

    session = aiohttp.ClientSession(headers={"authorization": "Bearer k"})

    async def ask(chunks: int) -> int:
        taken = 0
        async with session.post(f"{url}/chat/completions", json=_body(chunks)) as response:
            async for data in response.content.iter_any():
                taken += len(data)
        return taken

    return ask


def _httpx2(url: str) -> Ask:
    client = httpx2.AsyncClient(headers={"authorization": "Bearer k"}, timeout=None)

    async def ask(chunks: int) -> int:
        taken = 0
        async with client.stream("POST", f"{url}/chat/completions", json=_body(chunks)) as response:
            async for data in response.aiter_raw():
                taken += len(data)
        return taken

    return ask


def _openai_bytes(url: str) -> Ask:
    import openai  # noqa: PLC0415

    client = openai.AsyncOpenAI(base_url=url, api_key="k")

    async def ask(chunks: int) -> int:
        taken = 0
        create = client.chat.completions.with_streaming_response.create
        async with create(**_body(chunks)) as response:
            async for data in response.iter_bytes():
                taken += len(data)
        return taken

    return ask


def _openai_objects(url: str) -> Ask:
    import openai  # noqa: PLC0415

    client = openai.AsyncOpenAI(base_url=url, api_key="k")

    async def ask(chunks: int) -> int:
        taken = 0
        async for _ in await client.chat.completions.create(**_body(chunks)):
            taken += len(CHUNK)
        return taken

    return ask


def _pyreqwest(url: str) -> Ask:
    from pyreqwest.client import ClientBuilder  # type: ignore[import-not-found] # noqa: PLC0415

    client = ClientBuilder().build()

    async def ask(chunks: int) -> int:
        taken = 0
        request = client.post(f"{url}/chat/completions").header("authorization", "Bearer k").body_json(_body(chunks))
        async with request.build_streamed() as response:
            while data := await response.body_reader.read_chunk():
                taken += len(data)
        return taken

    return ask


CLIENTS = {
    "the service's own": _own,
    "aiohttp": _aiohttp,
    "httpx2": _httpx2,
    "httpx2 under openai, bytes": _openai_bytes,
    "httpx2 under openai, objects": _openai_objects,
    "pyreqwest": _pyreqwest,
}


async def _cpu_seconds(ask: Ask, answers: int, chunks: int) -> float:
    began = time.process_time()
    for _ in range(answers):
        assert await ask(chunks) == chunks * len(CHUNK)
    return time.process_time() - began


async def _costs(client: str, url: str) -> tuple[float, float]:
    """Return the CPU seconds of a chunk, and of an answer of one chunk."""
    ask = CLIENTS[client](url)
    await _cpu_seconds(ask, WARMING_UP, 2)
    answer = await _cpu_seconds(ask, ANSWERS, 1) / ANSWERS
    chunk = (await _cpu_seconds(ask, 1, CHUNKS) - answer) / (CHUNKS - 1)
    return chunk, answer


async def _measure(rounds: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)  # noqa: TID251 (it ends with the process)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    costs: dict[str, list[tuple[float, float]]] = {client: [] for client in CLIENTS}
    for _ in range(rounds):
        for client, rows in costs.items():
            itself = [sys.executable, "-m", "tests.bench.clients", "--client", client, "--url", url]
            process = await asyncio.create_subprocess_exec(
                *itself, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            out, _ = await process.communicate()
            chunk, answer = json.loads(out)
            rows.append((chunk, answer))
    sys.stdout.write(_table(costs))
    server.close()


def _table(costs: dict[str, list[tuple[float, float]]]) -> str:
    """Return the medians, with their ranges, and the medians of the ratios within a round."""
    lines = [
        "| CPU µs | a chunk | x | an answer of one chunk | x |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    own = costs["the service's own"]
    for client, rows in costs.items():
        cells = []
        for n in range(2):
            values = [row[n] * 1e6 for row in rows]
            ratios = [row[n] / base[n] for row, base in zip(rows, own, strict=True)]
            least, median, most = (f"{value:,.0f}" for value in (min(values), statistics.median(values), max(values)))
            cells += [f"{median} ({least} to {most})", f"{statistics.median(ratios):.1f}"]
        lines.append(f"| {client} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--client", choices=CLIENTS)
    parser.add_argument("--url")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.client:
            sys.stdout.write(json.dumps(runner.run(_costs(options.client, options.url))))
        else:
            runner.run(_measure(options.rounds))


if __name__ == "__main__":
    main()
