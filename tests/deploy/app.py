"""A minimal app for tests of gunicorn's configuration: it returns its worker's process id and metrics."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import Counter, Gauge

from service.telemetry import own_slot

if (stands_still := Path(os.environ.get("TRIAL_STANDS_STILL", ""))).is_file():
    stands_still.unlink()  # the next one does not
    os.kill(os.getpid(), signal.SIGSTOP)

own_slot.claim()

from service.telemetry.exposition import exposition  # noqa: E402 (with it come the first metrics)

requests = Counter("trial_requests", "Requests.")
live = Gauge("trial_live", "Workers that serve.", multiprocess_mode="livesum")

Message = MutableMapping[str, Any]
SLOW_SECONDS = 0.5
SLOW_TURNS = 16
"""Turns of the loop, each so slow, that a request for /slow takes."""


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer with the metrics, or else with the worker's process id."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            own_slot.serve()
            live.set(1)
            await send({"type": "lifespan.startup.complete"})
        own_slot.leave()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        for _ in range(SLOW_TURNS):
            time.sleep(SLOW_SECONDS)  # noqa: ASYNC251 (each turn of the loop is to take so long)
            await asyncio.sleep(0)
    if scope["path"] != "/metrics":
        requests.inc()
    body = exposition() if scope["path"] == "/metrics" else str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


app.state = SimpleNamespace()  # type: ignore[attr-defined]  # where the worker looks for what it should tell of its end
