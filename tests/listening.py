"""Servers of asyncio for tests, which leave no connection behind when they end."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

from deploy.local.ports import Address

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TURNS = 5
"""Turns of the loop from accepting a connection to the start of its handler, and some more."""


class Listener:
    """A server on 127.0.0.1 whose `close` ends all of its connections.

    `asyncio.Server.close` loses a connection that the loop has accepted and whose transport is not made yet. The
    ResourceWarning of the lost socket fails whichever test runs when it is collected: in 300 starts and ends with
    three connections each there were 2,500 of them.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = Address("127.0.0.1", 0)

    @classmethod
    async def start(cls, handle: Handle, port: int = 0, tls: ssl.SSLContext | None = None) -> Self:
        """Listen, and run `handle` for each connection, which is closed after it.

        `handle` may raise what a lost connection raises, and may leave its cancellation to the caller.
        """
        listener = cls(handle)
        listener._server = await asyncio.start_server(  # noqa: TID251 (this is what is used)
            listener._serve, "127.0.0.1", port, ssl=tls
        )
        listener.address = Address(*listener._server.sockets[0].getsockname())
        return listener

    async def close(self) -> None:
        """Accept no more connections, cancel the handlers, and abort the connections."""
        loop = asyncio.get_running_loop()
        for listening in self._server.sockets:
            loop.remove_reader(listening.fileno())
        await _turns()  # A connection that is accepted gets its handler, and can be ended like the others.
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await _turns()  # An aborted transport closes its socket one turn later.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._handle(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio would report them.
        finally:
            writer.transport.abort()


@asynccontextmanager
async def listening(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
    """Run `handle` for each connection to the address, until the end of the block."""
    listener = await Listener.start(handle, tls=tls)
    try:
        yield listener.address
    finally:
        await listener.close()


async def _turns() -> None:
    """Let the loop do what is ready, and what that makes ready."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
