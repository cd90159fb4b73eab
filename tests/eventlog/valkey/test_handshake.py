"""The first commands of a connection, and a server that does not wait for them."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from service.eventlog.valkey import handshake
from service.eventlog.valkey.address import Host
from service.eventlog.valkey.handshake import UnreachableError, open_pipeline
from service.eventlog.valkey.pipeline import Pipeline
from tests.listening import listening
from tests.waiting import DEADLINE_SECONDS, until


async def test_a_connection_that_was_lost_before_the_first_command_is_told_of_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def deny(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-DENIED Valkey is running in protected mode\r\n")

    class SlowLoop:
        """A loop in which the reply comes, and the connection ends, before the caller goes on."""

        async def create_connection(self, make: Callable[[], Pipeline], *where: object, **options: object) -> None:
            _, pipeline = await asyncio.get_running_loop().create_connection(make, *where, **options)  # type: ignore[call-overload]
            await until(lambda: pipeline.lost is not None)

    timeless = SimpleNamespace(**{name: getattr(asyncio, name) for name in ("wait", "FIRST_EXCEPTION")})
    timeless.timeout = lambda _: asyncio.timeout(DEADLINE_SECONDS)
    timeless.get_running_loop = SlowLoop
    monkeypatch.setattr(handshake, "asyncio", timeless)
    async with listening(deny) as address:
        with pytest.raises(UnreachableError, match="DENIED"):
            await open_pipeline(Host(address.host, address.port), None, [("PING",)])
