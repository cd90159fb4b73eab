"""Sentinels: which server is the primary, and what a fail-over does to a connection."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.eventlog.valkey import handshake, pipeline
from service.eventlog.valkey.address import Address, Host, parse_address
from service.eventlog.valkey.handshake import UnreachableError
from service.eventlog.valkey.sentinel import find_primary
from tests.eventlog.valkey.connecting import APPEND_ONCE, connected
from tests.eventlog.valkey.watched import Watched
from tests.listening import listening
from tests.waiting import until


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        yield Watched(tmp_path, stack)


async def test_a_fail_over_is_followed_and_each_change_is_made_once(watched: Watched) -> None:
    await watched.ready()
    async with connected(watched.url) as heard:
        number = 0

        async def change() -> None:
            nonlocal number
            last = str(number) if number else ""
            reply = await heard.connection.run(APPEND_ONCE, ["value", "changes"], last, str(number + 1))
            assert reply in (b"ok", b"again")
            number += 1

        for _ in range(10):
            await change()
        await until(lambda: watched.replica.command("GET", "value") == b"10")
        watched.primary.kill()
        began = time.monotonic()
        await change()
        pause = time.monotonic() - began
        for _ in range(10):
            await change()
        assert watched.replica.command("MGET", "value", "changes") == [b"21", b"21"]
        assert watched.replica.role() == "master"
        assert heard.connection.connects == 2
    assert pause < 15


async def test_a_cut_off_primary_that_wakes_is_not_gone_back_to(watched: Watched) -> None:
    await watched.ready()
    async with connected(watched.url) as heard:
        await heard.connection.call("SET", "a", 1)
        await until(lambda: watched.replica.command("GET", "a") == b"1")
        watched.primary.freeze()
        assert await heard.connection.call("SET", "a", 2) == b"OK"
        watched.primary.thaw()
        await until(lambda: watched.primary.role() == "slave")
        assert await heard.connection.call("GET", "a") == b"2"
        assert heard.connection.connects == 2


# What a sentinel says


def naming(host: bytes, epoch: int) -> bytes:
    fields = [b"ip", host, b"port", b"7000", b"config-epoch", b"%d" % epoch]
    return b"%0\r\n%3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in fields)


@contextlib.asynccontextmanager
async def sentinel(reply: bytes | None) -> AsyncIterator[str]:
    """A sentinel that says so, or nothing at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"folyam\r\n")
        if reply is not None:
            writer.write(reply)
        await reader.read()

    async with listening(serve) as address:
        yield str(address)


@contextlib.asynccontextmanager
async def sentinels(*replies: bytes | None) -> AsyncIterator[Address]:
    async with contextlib.AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(sentinel(reply)) for reply in replies]
        yield parse_address(f"valkey+sentinel://{','.join(hosts)}/folyam")


OLD, NEW = naming(b"10.0.0.1", 4), naming(b"10.0.0.2", 5)
UNKNOWN = b"%0\r\n-ERR No such master with that name\r\n"
IN_PAIRS = NEW.replace(b"%3", b"*6")
"""The form of RESP2"""


@pytest.mark.parametrize(
    "replies",
    [
        (NEW,),
        (OLD, NEW, OLD),
        (NEW, OLD, None),
        (None, NEW, NEW),
        (UNKNOWN, NEW, b"nonsense"),
        (b"%0\r\n_\r\n", NEW, b"%0\r\n*1\r\n$2\r\nip\r\n"),
        (IN_PAIRS, OLD),
    ],
)
async def test_the_latest_fail_over_that_a_sentinel_knows_is_believed(replies: tuple[bytes | None, ...]) -> None:
    async with sentinels(*replies) as address:
        assert await find_primary(address, None, "under-test") == Host("10.0.0.2", 7000)


async def test_a_majority_is_not_kept_waiting_by_a_sentinel_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 1000)
    monkeypatch.setattr(pipeline, "SILENCE_SECONDS", 1000)
    async with sentinels(NEW, None, NEW) as address:
        assert await find_primary(address, None, "under-test") == Host("10.0.0.2", 7000)


@pytest.mark.parametrize("reply", [UNKNOWN, b"%0\r\n_\r\n", b"", b"nonsense", b"-NOAUTH Authentication required.\r\n"])
async def test_sentinels_that_name_no_primary_are_unreachable(reply: bytes) -> None:
    async with sentinels(reply, reply) as address:
        with pytest.raises(UnreachableError, match="sentinels: "):
            await find_primary(address, None, "under-test")


async def test_no_connection_to_a_sentinel_is_left(watched: Watched) -> None:
    await watched.ready()
    async with connected(watched.url) as heard:
        await heard.connection.call("PING")
        for each in watched.sentinels:
            await until(lambda: "under-test" not in each.clients())  # noqa: B023
