"""The reader finds stamps and ends at every cut of the bytes, so that no figure depends on cuts."""

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from tests.bench.load import BrokenAnswer, Client, Reading
from tests.bench.stacks import ask_openai
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import command
from tests.upstream.stamp import WIDTH, stamp, stamps

HEAD = b"HTTP/1.1 200 OK\r\nX-Answer-Id: abc\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport(asyncio.Transport):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Discard the bytes: there is no server."""

    def abort(self) -> None:
        """Nothing to close."""


async def read(pieces: list[bytes], *, timed: bool = True) -> Reading:
    client = Client()
    client.connection_made(Transport())
    asked = asyncio.ensure_future(client.ask(b"", timed=timed))
    await asyncio.sleep(0)
    for piece in pieces:
        client.data_received(piece)
    return await asked


def body() -> bytes:
    lines = [json.dumps({"text": stamp() + "é\r\n0\r\n\r\n"}).encode() + b"\n" for _ in range(3)]
    return b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"


def test_a_stamp_tells_its_time() -> None:
    before = time.monotonic_ns() // 1000
    [found] = stamps(f"text {stamp()} more".encode())
    assert before <= found <= time.monotonic_ns() // 1000


def test_stamps_are_found_one_after_the_other_and_torn_ones_are_not() -> None:
    assert list(stamps(b"@00000000000001w1 @00000000000022")) == [1, 22]
    assert list(stamps(b"@0000000000000")) == []


async def test_every_cut_of_a_response_gives_the_same_reading() -> None:
    whole = HEAD + body()
    for at in range(1, len(whole)):
        for timed in (True, False):
            reading = await read([whole[:at], whole[at:]], timed=timed)
            assert reading.chunks == 3
            assert reading.first_at
            assert reading.ended_at
            assert len(reading.lags) == (3 if timed else 0)
            assert all(0 <= lag < 60_000_000 for lag in reading.lags)
    assert reading.header("x-answer-id") == "abc"


async def test_times_are_those_of_the_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = [1_000, 5_000, 5_010, 9_010, 9_030]  # microseconds: the question, the head, three chunks
    clock = iter(arrivals)
    marks = ["@" + f"{sent:0{WIDTH - 1}}" for sent in (5_008, 9_000, 9_000)]
    pieces = [b"%x\r\n%b\r\n" % (len(mark), mark.encode()) for mark in marks]
    monkeypatch.setattr("tests.bench.load.time.monotonic_ns", lambda: next(clock) * 1_000)
    reading = await read([HEAD, *pieces[:2], pieces[2] + b"0\r\n\r\n"])
    assert (reading.asked_at, reading.first_at, reading.ended_at) == (1_000, 5_010, 9_030)
    assert reading.lags == [2, 10, 30]
    assert reading.largest_gap == 4_000


async def test_a_stamp_that_a_proxy_cut_into_two_chunks_is_read() -> None:
    mark = stamp().encode()
    cut = b"5\r\n" + mark[:5] + b"\r\na\r\n" + mark[5:] + b"\r\n0\r\n\r\n"
    reading = await read([HEAD + cut])
    assert reading.chunks == 1
    assert 0 <= reading.lags[0] < 60_000_000


async def test_an_error_is_no_answer() -> None:
    with pytest.raises(BrokenAnswer, match="status 503"):
        await read([b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"])


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamProcess]:
    with UpstreamProcess.start() as process:
        yield process


async def test_a_real_stream_is_timed(upstream: UpstreamProcess) -> None:
    host, _, port = upstream.address.removeprefix("http://").partition(":")
    client = await Client.connect((host, int(port)))
    for _ in range(2):
        reading = await client.ask(ask_openai(command(chunks=5, pace=0.01, stamp=True)))
        assert len(reading.lags) == reading.chunks == 5
        assert reading.asked_at < reading.first_at <= reading.ended_at
    client.close()


async def test_a_lost_connection_is_no_answer(upstream: UpstreamProcess) -> None:
    host, _, port = upstream.address.removeprefix("http://").partition(":")
    client = await Client.connect((host, int(port)))
    with pytest.raises(BrokenAnswer, match="lost"):
        await client.ask(ask_openai(command(chunks=5, cut_after=2)))
