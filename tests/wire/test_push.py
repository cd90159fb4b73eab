"""What a connection receives is decoded and passed on in the same turn of the loop."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from service.errors import UpstreamError
from service.events import Delta, Event
from service.upstream import body as bodies
from service.upstream.body import Body
from service.upstream.chunks import ChunkDecoder
from service.upstream.connection import HIGH_WATER_BYTES, PUSHED_BYTES, Connection
from service.upstream.endpoint import TimeOuts
from tests.fuzz.targets import SilentTransport
from tests.waiting import DEADLINE_SECONDS

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
LONG = TimeOuts(60, 60, 60, 60)


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk(text: str = "", finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


class Flow:
    """A body behind its first delta, whose deltas are pushed to `got`."""

    def __init__(self, connection: Connection, body: Body, freed: list[Connection]) -> None:
        self.connection = connection
        self.body = body
        self.freed = freed
        self.got: list[str] = []
        self.goes_on = True
        self.breaks = False
        self.flowing = asyncio.create_task(body.flow(self._push))

    def _push(self, deltas: Sequence[Event]) -> bool:
        if self.breaks:
            raise ZeroDivisionError
        self.got += [delta.text or "" for delta in deltas if isinstance(delta, Delta)]
        return self.goes_on

    def come(self, *data: bytes) -> None:
        """Data comes, in one read."""
        self.connection.data_received(b"".join(map(framed, data)))

    async def is_over(self) -> None:
        await asyncio.wait_for(self.flowing, DEADLINE_SECONDS)

    async def read(self) -> str:
        deltas = await asyncio.wait_for(self.body.read(), DEADLINE_SECONDS)
        return "".join(delta.text or "" for delta in deltas if isinstance(delta, Delta))


async def flow(time_outs: TimeOuts = LONG) -> Flow:
    freed: list[Connection] = []
    connection = Connection(freed.append, lambda _: None)
    connection.connection_made(cast("Any", SilentTransport()))
    exchange = connection.send(b"")
    connection.data_received(HEAD + framed(chunk("first")))
    await exchange.head()
    body = Body(exchange, ChunkDecoder(1), time_outs)
    assert len(await body.read()) == 1
    flow = Flow(connection, body, freed)
    await asyncio.sleep(0)
    return flow


async def test_deltas_are_pushed_in_the_turn_in_which_they_come_and_wake_no_task() -> None:
    flowing = await flow()
    for number in range(3):
        flowing.come(chunk(f"{number}"))
        assert flowing.got[-1] == f"{number}"
        flowing.come(chunk(f"{number}a"), chunk(f"{number}b")[:-20])
        flowing.connection.data_received(framed(chunk(f"{number}b")[-20:]))
        assert flowing.got[-2:] == [f"{number}a", f"{number}b"]
        await asyncio.sleep(0)
        assert not flowing.flowing.done()
    assert len(flowing.got) == 9
    flowing.flowing.cancel()
    flowing.body.close()


async def test_a_flood_is_left_to_the_task_which_takes_its_turns() -> None:
    flowing = await flow()
    flood = [chunk("x" * 1000) for _ in range(PUSHED_BYTES // 1000 + 1)]
    flowing.come(*flood)
    flowing.come(chunk("behind"))
    assert flowing.got == [], "neither the flood nor what comes behind it"
    await flowing.is_over()
    assert await flowing.read() == "x" * 1000 * len(flood) + "behind"
    flowing.body.close()


async def test_what_comes_before_the_task_goes_on_is_kept_for_it_in_its_order() -> None:
    flowing = await flow()
    flowing.goes_on = False
    flowing.come(chunk("1"))
    flowing.come(chunk("2"))
    flowing.come(chunk("3"))
    assert flowing.got == ["1"]
    await flowing.is_over()
    assert await flowing.read() == "23"
    flowing.body.close()


async def test_what_is_kept_for_the_task_is_limited_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    flowing = await flow()
    paused: list[bool] = []
    monkeypatch.setattr(SilentTransport, "pause_reading", lambda _: paused.append(True))
    monkeypatch.setattr(SilentTransport, "resume_reading", lambda _: paused.clear())
    piece = chunk("x" * 10_000)
    for _ in range(2 * HIGH_WATER_BYTES // len(piece)):
        flowing.come(piece)
    assert not paused, "what is pushed is not held"
    flowing.goes_on = False
    for _ in range(2 * HIGH_WATER_BYTES // len(piece)):
        flowing.come(piece)
    assert paused
    await flowing.is_over()
    await flowing.read()
    assert not paused
    flowing.body.close()


async def test_what_a_push_raises_is_raised_in_the_task_and_hurts_no_connection() -> None:
    flowing = await flow()
    flowing.breaks = True
    flowing.come(chunk("1"))
    flowing.come(chunk("2"))
    with pytest.raises(ZeroDivisionError):
        await flowing.is_over()
    assert await flowing.read() == "2"
    flowing.body.close()


async def test_a_task_that_was_stopped_gets_nothing_more() -> None:
    flowing = await flow()
    flowing.flowing.cancel()
    flowing.come(chunk("1"))
    await asyncio.sleep(0)
    flowing.come(chunk("2"))
    assert flowing.got == []
    flowing.body.close()


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_end_is_the_tasks_and_the_connection_is_free_again(*, at_once: bool) -> None:
    flowing = await flow()
    end = (chunk("last", "stop"), DONE)
    if at_once:
        flowing.connection.data_received(b"".join(map(framed, end)) + END)
    else:
        for each in end:
            flowing.come(each)
        flowing.connection.data_received(END)
    assert flowing.got == ["last"]
    await flowing.is_over()
    assert await flowing.read() == ""
    assert flowing.body.ended
    assert flowing.freed == [flowing.connection]
    flowing.body.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (framed(b"data: {oops\n\n"), "upstream_malformed"),
        (framed(b'data: {"error": {"code": 1}}\n\n'), "upstream_error"),
    ],
)
async def test_a_failure_is_the_tasks_behind_what_came_before_it(data: bytes, code: str) -> None:
    flowing = await flow()
    flowing.come(chunk("1"), data)
    assert flowing.got == ["1"]
    await flowing.is_over()
    with pytest.raises(UpstreamError) as failed:
        await flowing.read()
    assert failed.value.code == code
    flowing.body.close()


async def test_a_cut_is_the_tasks() -> None:
    flowing = await flow()
    flowing.come(chunk("1"))
    flowing.connection.connection_lost(ConnectionResetError())
    await flowing.is_over()
    with pytest.raises(UpstreamError) as failed:
        await flowing.read()
    assert failed.value.code == "upstream_cut"
    assert flowing.got == ["1"]
    flowing.body.close()


async def test_silence_counts_from_the_last_that_was_pushed_a_comment_among_others() -> None:
    flowing = await flow(TimeOuts(60, 60, first_chunk=60, silence=0.4))
    for number in range(8):
        await asyncio.sleep(0.1)
        flowing.come(chunk("w") if number % 2 else b": ping\n\n")
        assert not flowing.flowing.done()
    assert len(flowing.got) == 4
    await flowing.is_over()
    with pytest.raises(UpstreamError) as failed:
        await flowing.read()
    assert failed.value.reason == "silence_timeout"
    flowing.body.close()


async def test_an_upstream_that_only_comments_after_the_finish_reason_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "USAGE_SECONDS", 0.3)
    flowing = await flow()
    flowing.come(chunk("last", "stop"))
    began = asyncio.get_running_loop().time()
    while not flowing.flowing.done():
        await asyncio.sleep(0.05)
        flowing.come(b": ping\n\n")
        assert asyncio.get_running_loop().time() - began < DEADLINE_SECONDS
    assert await flowing.read() == ""
    assert flowing.body.ended
    flowing.body.close()


async def test_nothing_is_pushed_where_the_failure_is_known_already() -> None:
    flowing = await flow()
    flowing.connection.connection_lost(None)
    await flowing.is_over()
    await asyncio.wait_for(flowing.body.flow(lambda _: True), DEADLINE_SECONDS)
    with pytest.raises(UpstreamError):
        await flowing.read()
    flowing.body.close()
