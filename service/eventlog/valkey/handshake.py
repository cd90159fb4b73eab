"""Open a pipeline: connect, log in, and send the first commands in the same write."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from service.eventlog.valkey.address import Credentials, Host
from service.eventlog.valkey.pipeline import Command, Part, Pipeline

CONNECT_SECONDS = 2.0
"""Timeout from the look-up of the name to the last reply of the handshake."""


class UnreachableError(Exception):
    """The server cannot be used. The text is a code for the service's log, without an address or a password."""


def hello(credentials: Credentials | None, name: str) -> tuple[Part, ...]:
    """Return the command that changes to RESP3, logs in, and names the connection."""
    login = () if credentials is None else ("AUTH", credentials.user, credentials.password)
    return ("HELLO", 3, *login, "SETNAME", name)


async def open_pipeline(
    host: Host,
    tls: ssl.SSLContext | None,
    commands: Sequence[tuple[Part, ...]],
    *,
    on_push: Callable[[list[Any]], None] = lambda _push: None,
    on_refused: Callable[[Command, str], bool] = lambda _command, _code: False,
) -> tuple[Pipeline, list[Any]]:
    """Return a pipeline to the host, and the replies to the commands. Set its `on_lost` before the next turn.

    Raises:
        UnreachableError: it does not connect, or a command is refused.
    """
    pipeline = Pipeline(on_push, on_refused, _fail)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().create_connection(
                lambda: pipeline, host.name, host.port, ssl=tls, server_hostname=host.name if tls else None
            )
            asked = [pipeline.ask(*command) for command in commands]
            await asyncio.wait(asked, return_when=asyncio.FIRST_EXCEPTION)
    except (OSError, ValueError) as failure:  # TimeoutError and ssl.SSLError are OSErrors.
        pipeline.abort("unreachable")
        raise UnreachableError(type(failure).__name__) from None
    except BaseException:
        pipeline.abort("cancelled")
        raise
    refusals = [reply.exception() if reply.done() and not reply.cancelled() else None for reply in asked]
    for command, refusal in zip(commands, refusals, strict=True):
        if refusal is not None:
            pipeline.abort("refused")
            raise UnreachableError(f"{command[0]!s} {refusal}")
    if pipeline.lost is not None:  # maybe in the turn after the last reply
        raise UnreachableError(pipeline.lost)
    return pipeline, [reply.result() for reply in asked]


def _fail(pipeline: Pipeline, _reason: str) -> None:
    for command in pipeline.queue:
        if command.reply is not None:
            command.reply.cancel()
