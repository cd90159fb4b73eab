"""The gunicorn worker: uvicorn's, with a drain that works.

The stock worker sends no heartbeat while it drains, so gunicorn kills it in the middle. It tells the application of the
shutdown only after the last response. This worker keeps the heartbeat, and tells the application at once. In a reload
it serves until its successors serve.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from service.listener import Listener
from service.succession import Place, Succession

NOTIFY_SECONDS = 1.0
"""Heartbeat interval. uvicorn's own takes half of gunicorn's timeout and ten turns of its loop, of which each waits
behind all other work: gunicorn killed a worker that was flooded and served."""
UNSENT_BYTES = 1 << 14
"""Write buffer per connection at which sending pauses, so that the rest stays in the log (default: 64 KiB)."""
LATE_SECONDS = 1.0
"""Time that connections accepted before the listeners closed have to send their first request."""
POLL_SECONDS = 0.02
"""Poll interval for the first requests of those connections."""
SUCCESSORS_SECONDS = 60.0
"""Minimum time a worker waits for its successors to serve. gunicorn ends a worker that takes that long to start."""
CANNOT_LOAD = int(Arbiter.APP_LOAD_ERROR)
"""On this exit status of a worker gunicorn ends the service."""
CANNOT_START = 1
"""On this exit status, as on most others, gunicorn starts another worker."""
RETRY_SECONDS = 5.0
"""Pause before a worker that cannot start ends and is replaced: each start takes seconds of CPU."""
AFTER_DRAIN_SECONDS = 5
"""Time that followers have after the drain to reach the end of their answers. Then their connections are closed."""

_logger = logging.getLogger("uvicorn.error")  # gunicorn's log


def _drain_seconds() -> float:
    return float(os.environ.get("FOLYAM_DRAIN_SECONDS", "").strip() or 30)


def _is_not_repeated(record: logging.LogRecord) -> bool:
    """Tell uvicorn's warning of a malformed request from `send_400_response`'s, which has the request's id."""
    return record.msg != "Invalid HTTP request received."


class ThriftyProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a smaller write buffer, which is the memory that a stalled reader costs.

    Bytes that are not HTTP get an error in the service's own form.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a new connection."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNSENT_BYTES)

    def send_400_response(self, msg: str) -> None:
        """Reject a request that the parser cannot read: an unknown method, a control character, raw bytes in the path.

        nginx forwards them. The application does not see them.
        """
        request_id = secrets.token_hex(8)  # The client's own id may follow the unreadable part.
        self.logger.warning("%s request_id=%s", msg, request_id)
        # `bad_request` of service/error_codes.py, again: the master imports this module, `listener` and
        # `succession` alone.
        error = {"code": "bad_request", "message": "The request could not be understood.", "request_id": request_id}
        body = json.dumps({"error": error}).encode()
        head = (
            "HTTP/1.1 400 Bad Request",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            f"X-Request-Id: {request_id}",
            "Connection: close",
        )
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()


class FolyamWorker(UvicornWorker):
    """Serve the application with uvloop and httptools."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": ThriftyProtocol,
        "lifespan": "on",
        "access_log": False,  # the application logs a line for each request
        "server_header": False,
        "date_header": False,
        "timeout_graceful_shutdown": int(_drain_seconds() + AFTER_DRAIN_SECONDS),
    }

    succession: ClassVar = Succession()  # created in the master, which imports this module before it starts a worker
    _server: "DrainingServer"

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 (gunicorn has no types)
        super().__init__(*arguments)
        # This runs in the master. During a reload gunicorn handles no signal until the old workers are gone or
        # graceful_timeout is over. Old workers wait that long for their successors, so that a stop still reaches them.
        seconds = max(SUCCESSORS_SECONDS, self.cfg.graceful_timeout)
        self.succession.start(self.age, self.cfg, self.cfg.workers)
        self._place = Place(self.succession, self.age, master=self.ppid, seconds=seconds)

    def init_process(self) -> None:
        """Start and serve. A worker that cannot start does not end the service if another worker has ever served."""
        _logger.addFilter(_is_not_repeated)
        try:
            super().init_process()
        except (Exception, SystemExit) as error:
            if not self._place.is_dispensable():
                raise
            if not isinstance(error, SystemExit):  # A SystemExit follows its own message.
                self.log.exception("Exception in worker process")
            self.log.error("This worker cannot start. Those that serve go on (pid: %s)", self.pid)  # noqa: TRY400
            time.sleep(RETRY_SECONDS)
            sys.exit(CANNOT_START)

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = self._server = DrainingServer(
            self.config, workers=self.cfg.workers, place=self._place, leave=self._leave, notify=self.notify
        )
        # gunicorn's master sends SIGQUIT when it gets SIGINT or SIGQUIT. uvicorn handles SIGTERM and SIGINT only.
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def callback_notify(self) -> None:
        """Send gunicorn the heartbeat, and end this worker if only a new one can serve, or if the master is dead.

        A confined worker cannot write to a directory that replaced the one of its start, and no probe of a platform
        restarts gunicorn for that. The worker that gunicorn starts instead creates the directory if it is missing.

        The kernel's signal at the master's death is lost if it comes before this worker handles signals. Four workers
        that were starting then held the port for 13 minutes.
        """
        await super().callback_notify()
        if self._server.should_exit:
            return
        answers = self._answers()
        if os.getppid() != self.ppid:
            reason = "The master is dead: leaving."
        elif answers is not None and answers.needs_replacing:
            reason = "The directory of the answers' logs was removed or replaced: leaving for a new worker."
        else:
            return
        self.log.error(reason)
        self._leave()
        self._server.should_exit = True

    def _leave(self) -> None:
        answers = self._answers()
        if answers is not None:
            answers.leave()

    def _answers(self) -> Any:  # noqa: ANN401 (a type of the application, which is not imported here)
        return getattr(self.wsgi.state, "answers", None)


class DrainingServer(Server):
    """uvicorn's server with listeners of our own and a gentle shutdown.

    `workers` share its sockets. It calls `leave` when the shutdown begins, and `notify` all the time.
    """

    def __init__(
        self, config: Config, *, workers: int, place: Place, leave: Callable[[], None], notify: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._workers = workers
        self._listeners: list[Listener] = []
        self._place = place
        self._leave = leave
        self._tell = notify
        self._told_to_end = False
        self._notifying: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen at the sockets, and record that this worker serves."""
        await super().startup([])
        for sock in sockets or []:
            listener = Listener(sock, self._protocol, workers=self._workers, tls=self.config.ssl)
            self.servers.append(await listener.start(self.config.backlog))
            self._listeners.append(listener)
        self._notifying = asyncio.create_task(self._notify())
        self._place.serve()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. In a reload, SIGTERM takes effect once the successors serve."""
        if sig == signal.SIGTERM and self._place.awaits_successors():
            self._told_to_end = True
        else:
            self._end(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: end once the successors serve, or continue to serve if they do not come."""
        if self._told_to_end and not self._place.awaits_successors():
            self._told_to_end = False
            if self._place.is_over():
                self._end(signal.SIGTERM, None)
            else:
                _logger.error("The new workers do not serve. This one goes on [%d]", os.getpid())
        return await super().on_tick(counter)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        self._leave()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, serve the connections that have been made, and end."""
        try:
            for listener in self._listeners:
                listener.stop()
            await self._hear_the_late()
            await super().shutdown(sockets)
        finally:
            if self._notifying is not None:
                self._notifying.cancel()

    def _protocol(self) -> asyncio.Protocol:
        # The same arguments as in uvicorn, which has no function for it.
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _hear_the_late(self) -> None:
        # uvicorn would close connections whose first request has not arrived, which is an error for the client.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_SECONDS):
                while self._are_some_silent():  # noqa: ASYNC110 (uvicorn has no event for it)
                    await asyncio.sleep(POLL_SECONDS)

    def _are_some_silent(self) -> bool:
        return any(listener.is_opening for listener in self._listeners) or any(
            getattr(connection, "cycle", None) is None for connection in self.server_state.connections
        )

    async def _notify(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(NOTIFY_SECONDS)
