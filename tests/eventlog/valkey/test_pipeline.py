"""Bytes to replies, pushes and errors, at every split, without a network."""

import asyncio
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from service.eventlog.valkey import pipeline as module
from service.eventlog.valkey.pipeline import Command, ErrorReply, Part, Pipeline


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def push(*parts: bytes) -> bytes:
    return b">%d\r\n" % len(parts) + b"".join(map(bulk, parts))


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Made:
    """A pipeline without a network, and what came out of it."""

    def __init__(self) -> None:
        self.pushes: list[list[Any]] = []
        self.lost: list[str] = []
        self.transport = Transport()
        self.pipeline = Pipeline(
            self.pushes.append, lambda _command, _code: False, lambda _pipeline, reason: self.lost.append(reason)
        )
        self.pipeline.connection_made(self.transport)

    def ask(self, *parts: Part) -> "asyncio.Future[Any]":
        reply = asyncio.get_running_loop().create_future()
        self.pipeline.send(Command(parts, reply, 0.0))
        return reply


Step = tuple[tuple[Part, ...] | None, bytes, object]
"""A command, or None for a push that the server sends by itself; the bytes; the reply, or the push."""
STEPS: list[Step] = [
    (("GET", "a"), bulk(b"text \r\n$3\r\n"), b"text \r\n$3\r\n"),
    (("GET", "b"), b"_\r\n", None),
    (("INCR", "c"), b":7\r\n", 7),
    (("HGETALL", "d"), b"%1\r\n" + bulk(b"f") + bulk(b"v"), {b"f": b"v"}),
    (("XRANGE", "e"), b"*1\r\n*2\r\n" + bulk(b"1-0") + b"*2\r\n" + bulk(b"e") + bulk(b""), [[b"1-0", [b"e", b""]]]),
    (("EVALSHA", "f"), b"#f\r\n", False),
    (("SET", "g"), b"-OOM command not allowed\r\n", "OOM"),
    (("SSUBSCRIBE", "h"), push(b"ssubscribe", b"h"), [b"ssubscribe", b"h"]),
    (("SSUBSCRIBE", "i"), b"-NOPERM this user\r\n", "NOPERM"),
    (("SUNSUBSCRIBE", "h"), push(b"sunsubscribe", b"h"), [b"sunsubscribe", b"h"]),
    (None, push(b"smessage", b"h", b"text"), [b"smessage", b"h", b"text"]),
    (None, push(b"sunsubscribe", b"another"), [b"sunsubscribe", b"another"]),
    (None, push(b"ssubscribe", b"another"), [b"ssubscribe", b"another"]),
]


@hypothesis.given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=12), sizes=st.lists(st.integers(1, 40), min_size=1)
)
async def test_every_reply_finds_its_caller_however_the_bytes_are_split(steps: list[Step], sizes: list[int]) -> None:
    made = Made()
    asked = [(made.ask(*command), reply) for command, _, reply in steps if command is not None]
    data = b"".join(received for _, received, _ in steps)
    for piece in pieces(data, sizes):
        made.pipeline.data_received(piece)
    for future, reply in asked:
        error = future.exception()
        assert (error.code if isinstance(error, ErrorReply) else future.result()) == reply
    assert made.pushes == [reply for command, _, reply in steps if command is None]
    assert not made.pipeline.queue
    assert made.lost == []
    made.pipeline.abort("test")


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at, number = at + size, number + 1


async def test_the_commands_of_a_turn_are_one_write() -> None:
    made = Made()
    for number in range(100):
        made.ask("ECHO", number)
    assert made.transport.writes == []
    await asyncio.sleep(0)
    made.ask("PING")
    await asyncio.sleep(0)
    assert [write.count(b"ECHO") for write in made.transport.writes] == [100, 0]
    made.pipeline.abort("test")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"-READONLY You can't write\r\n", "READONLY"),
        (b"-NOSCRIPT No matching script\r\n", "NOSCRIPT"),
        (b"-LOADING\r\n", "LOADING"),
        (b"nonsense\r\n", "protocol"),
    ],
)
async def test_what_another_connection_mends_leaves_the_commands_in_the_queue(data: bytes, reason: str) -> None:
    made = Made()
    one, two, three = made.ask("SET", 1), made.ask("SET", 2), made.ask("SET", 3)
    made.pipeline.data_received(b"+OK\r\n" + data + b"+OK\r\n")
    assert one.result() == b"OK"
    assert [command.reply for command in made.pipeline.queue] == [two, three]
    assert made.lost == [reason]
    assert made.transport.aborted
    made.pipeline.connection_lost(None)
    assert made.lost == [reason]


@pytest.mark.parametrize("data", [b"+OK\r\n", b":1\r\n", b"_\r\n"])
async def test_a_reply_to_nothing_ends_the_connection(data: bytes) -> None:
    made = Made()
    made.pipeline.data_received(data)
    assert made.lost == ["protocol"]


async def test_an_unasked_error_ends_the_connection_with_its_code() -> None:
    made = Made()
    made.pipeline.data_received(b"-ERR max number of clients reached\r\n")
    assert made.lost == ["ERR"]


async def test_nothing_is_written_after_an_abort() -> None:
    made = Made()
    made.ask("SET", 1)
    made.pipeline.abort("test")
    made.ask("SET", 2)
    await asyncio.sleep(0)
    assert made.transport.writes == []
    assert len(made.pipeline.queue) == 1


async def test_an_idle_connection_has_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.01)
    made = Made()
    for _ in range(3):
        made.ask("PING")
        made.pipeline.data_received(b"+PONG\r\n")
        await asyncio.sleep(0.05)
        assert made.pipeline._watchdog is None
    assert made.lost == []
