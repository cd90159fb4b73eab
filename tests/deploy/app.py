"""A minimal app for tests of gunicorn's configuration: it returns its worker's process id and metrics."""

import os
import signal
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
    if scope["path"] != "/metrics":
        requests.inc()
    body = exposition() if scope["path"] == "/metrics" else str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


app.state = SimpleNamespace()  # type: ignore[attr-defined]  # where the worker looks for what it should tell of its end
