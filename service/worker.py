"""The gunicorn worker: uvicorn's, with a drain that works.

The stock worker forgets its heartbeat while it drains, so that gunicorn kills it in the middle, and tells the
application of the end only when the last response is over. This one keeps the heartbeat going and tells it at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from types import FrameType
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

NOTIFY_SECONDS = 1.0
"""How often gunicorn is told that this worker lives, while it drains."""
AFTER_DRAIN_SECONDS = 5
"""What followers have to reach the end of their answers after the drain, before their connections are closed."""


def _drain_seconds() -> float:
    return float(os.environ.get("FOLYAM_DRAIN_SECONDS") or 30)


class FolyamWorker(UvicornWorker):
    """Serves the application with uvloop and httptools."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "lifespan": "on",
        "access_log": False,  # the application writes its own line
        "server_header": False,
        "date_header": False,
        "timeout_graceful_shutdown": int(_drain_seconds() + AFTER_DRAIN_SECONDS),
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = _DrainingServer(self)
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, self.handle_exit, signal.SIGQUIT, None)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class _DrainingServer(Server):
    def __init__(self, worker: FolyamWorker) -> None:
        super().__init__(worker.config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        core = getattr(self._worker.wsgi.state, "core", None)
        if core is not None:
            core.leave()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notifying = asyncio.create_task(self._notify())
        try:
            await super().shutdown(sockets)
        finally:
            notifying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await notifying

    async def _notify(self) -> None:
        while True:
            self._worker.notify()
            await asyncio.sleep(NOTIFY_SECONDS)
