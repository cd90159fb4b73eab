"""Accept all connections that wait at a listening socket in one turn of the event loop.

libuv, which is under uvloop, accepts one connection in each turn. nginx.conf opens a connection for each request, so in
a worker that was busy with 400 streams a new answer waited for a second before its first chunk.

libuv still accepts the first connection of a turn, and this module the others. A connection that libuv accepts takes a
third of the instructions of one that Python accepts, and in a worker that is not busy there are no others.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

CONNECTIONS_A_TURN = 64
"""Connections that all workers of a service together accept in one turn of each. A worker takes its share, and leaves
the rest to workers that are less busy: an answer stays with the worker that has accepted its connection."""

_GONE = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
"""Errors of a connection that has failed while it waited. Linux reports them at its accept(2)."""

_logger = logging.getLogger("uvicorn.error")  # gunicorn's log

MakeProtocol = Callable[[], asyncio.Protocol]
_Opening = Coroutine[Any, Any, tuple[asyncio.Transport, asyncio.Protocol]]


class Listener:
    """A listening socket, which workers may share. Each of its connections gets a protocol from `make_protocol`."""

    def __init__(
        self, listening: socket.socket, make_protocol: MakeProtocol, *, workers: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._others_a_turn = CONNECTIONS_A_TURN // workers - 1
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._opening: set[_Opening] = set()

    async def start(self, backlog: int) -> asyncio.Server:
        """Accept connections from here on. Return the loop's server."""
        self._listening.setblocking(False)  # noqa: FBT003 (the standard library's own)
        self._server = await self._loop.create_server(
            self._accepted, sock=self._listening, ssl=self._tls, backlog=backlog
        )
        return self._server

    def stop(self) -> None:
        """Accept the connections that wait, because there may be no other worker to accept them, and stop listening."""
        # Before the close: closing a socket's last descriptor would reset the connections in its backlog.
        while connection := _accept(self._listening):
            self._open(connection)
        if self._server is not None:
            self._server.close()

    @property
    def is_opening(self) -> bool:
        """Whether accepted connections have not reached their protocols yet."""
        return bool(self._opening)

    def _accepted(self) -> asyncio.Protocol:
        # libuv has accepted a connection and needs a protocol for it.
        for _ in range(self._others_a_turn):
            connection = _accept(self._listening)
            if connection is None:
                break
            self._open(connection)
        return self._make_protocol()

    def _open(self, connection: socket.socket) -> None:
        opening = self._loop.connect_accepted_socket(self._make_protocol, connection, ssl=self._tls)
        try:
            # Not in a task, which would begin in the next turn, and would cost a seventh more.
            self._await(opening, opening.send(None))
        except Exception:  # libuv would listen no more, and a drain would end.
            _logger.exception("A connection was not accepted")
            connection.close()

    def _await(self, opening: _Opening, future: asyncio.Future[None]) -> None:
        self._opening.add(opening)
        future.add_done_callback(partial(self._continue, opening))

    def _continue(self, opening: _Opening, _: asyncio.Future[None]) -> None:
        self._opening.discard(opening)
        # The errors: a failed handshake; a connection that the client has closed.
        with contextlib.suppress(StopIteration, OSError, RuntimeError):
            self._await(opening, opening.send(None))


def _accept(listening: socket.socket) -> socket.socket | None:
    """Accept a connection. None if none waits, or if the process has no descriptor or memory for it.

    In the second case libuv decides in the next turn. Without a descriptor it closes the connections that wait.
    """
    while True:
        try:
            return listening.accept()[0]
        except OSError as error:
            if error.errno not in _GONE:
                return None
