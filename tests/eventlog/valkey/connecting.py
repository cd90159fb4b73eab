"""Connections of tests, with what they heard."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from service.eventlog.valkey.address import Address, parse_address
from service.eventlog.valkey.connection import PATIENCE_SECONDS, Connection
from service.eventlog.valkey.script import Script

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
APPEND_ONCE = Script(
    """
    if redis.call('GET', KEYS[1]) == ARGV[2] then return 'again' end
    if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 'other' end
    redis.call('SET', KEYS[1], ARGV[2])
    redis.call('INCR', KEYS[2])
    return 'ok'
    """
)
"""Changes a value only if it is the one before, as an append does, and counts the changes."""

OnConnect = Callable[[Connection], None]


class Heard:
    """A connection, and the pushes that came over it."""

    def __init__(
        self,
        address: str | Address,
        on_connect: OnConnect = lambda _: None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.pushes: list[list[Any]] = []
        if isinstance(address, str):
            address = parse_address(address)
        self.connection = Connection(
            address,
            name="under-test",
            scripts=[ADD, APPEND_ONCE],
            on_connect=lambda: on_connect(self.connection),
            on_push=self.pushes.append,
            patience_seconds=patience_seconds,
        )


@asynccontextmanager
async def connected(
    address: str | Address,
    on_connect: OnConnect = lambda _: None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[Heard]:
    """Connect, or begin to, and close at the end."""
    heard = Heard(address, on_connect, patience_seconds)
    try:
        yield heard
    finally:
        await heard.connection.aclose()
