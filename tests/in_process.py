"""The application without a server: requests as ASGI scopes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

REQUEST_ID = "a-request-of-a-test"


@dataclass(frozen=True)
class Reply:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


async def ask(
    app: FastAPI, method: str, target: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
) -> Reply:
    """Send a request and return the whole response."""
    path, _, query = target.partition("?")
    given = [("x-request-id", REQUEST_ID), *headers]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in given]
    return await ask_raw(app, method, path, query.encode(), encoded, body)


async def ask_raw(
    app: FastAPI, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> Reply:
    """Send a request with exactly these headers and a Host. Return the whole response."""
    messages: list[MutableMapping[str, Any]] = []
    pieces = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        if (piece := next(pieces, None)) is None:
            await asyncio.get_running_loop().create_future()
        assert piece is not None
        return piece

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"x"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, send)
    start, *rest = messages
    return Reply(
        start["status"],
        {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[FastAPI]:
    """Run the application's lifespan around the block."""
    async with app.router.lifespan_context(app):
        yield app
