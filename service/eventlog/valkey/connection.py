"""The one connection of a worker to Valkey. It lasts: it connects again, and sends again what has no reply yet.

Every command may be sent twice with the effect of once. So a command whose reply was lost is sent again over the next
connection, until the caller's patience is over.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from service.errors import Unavailable
from service.eventlog.valkey.address import Address
from service.eventlog.valkey.handshake import UnreachableError, hello, open_pipeline
from service.eventlog.valkey.pipeline import Command, ErrorReply, Part, Pipeline
from service.eventlog.valkey.script import Script
from service.eventlog.valkey.sentinel import find_primary
from service.eventlog.valkey.tls import context_for
from service.telemetry import metrics

PATIENCE_SECONDS = 15.0
"""Time from a call to `Unavailable`, over any number of connections."""
CLOSE_SECONDS = 2.0
"""Longest wait for replies when the connection is closed."""
LEAST_PAUSE_SECONDS = 0.05
MOST_PAUSE_SECONDS = 0.5
"""Limits of the pause before the next attempt to connect. It is random, so that workers do not come all at once."""
STABLE_SECONDS = 2.0
"""Age at which a connection counts as good, so that the pause after it is short."""
OLDEST_MAJOR = 7
"""Oldest version of Valkey or Redis: sharded pub/sub, and flags of scripts."""
LATER = frozenset({"MISCONF", "NOREPLICAS", "TRYAGAIN"})
"""Codes of error replies that end by themselves, while other commands go on: too few replicas, no disk to save on."""
LATER_SECONDS = 0.1
"""Time after which such a command is sent again."""
COMPLAINT_SECONDS = 1.0
"""Shortest time between two lines of the log about a server that cannot be reached."""


class Connection:
    """Connects in the background, from now on until `aclose`. Needs a running event loop.

    Args:
        address: Where the server or its sentinels are.
        name: The connection's name on the server (`CLIENT LIST`): no blanks.
        scripts: The scripts that `run` may be given. They are loaded on each connect.
        on_connect: Called in each turn in which a connection begins. What it calls is sent before what waits to be sent
            again, so a subscription that it renews misses nothing that comes later.
        on_push: Called with each push that confirms no subscription: `[kind, channel, message]`, in bytes.
        patience_seconds: Time from a call to `Unavailable`.

    Raises:
        UnusableLog: a certificate of the address cannot be used.
    """

    def __init__(
        self,
        address: Address,
        *,
        name: str,
        scripts: Sequence[Script],
        on_connect: Callable[[], None],
        on_push: Callable[[list[Any]], None],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.connected = False
        self.connects = 0
        """The number of connections so far."""
        self._address = address
        self._name = name
        self._scripts = scripts
        self._on_connect = on_connect
        self._on_push = on_push
        self._tls = None if address.tls is None else context_for(address.tls)
        self._patience_seconds = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._pipeline: Pipeline | None = None
        self._waiting: deque[Command] = deque()
        self._later: dict[Command, asyncio.TimerHandle] = {}
        self._patience: asyncio.TimerHandle | None = None
        self._complained_at = -COMPLAINT_SECONDS
        self._lost = asyncio.Event()
        self._lost_at: float | None = None
        self._closed = False
        self._keeper = self._loop.create_task(self._keep_connected())
        metrics.log_connection(up=False)

    def call(self, *command: Part) -> "asyncio.Future[Any]":
        """Send a command, and return its reply: bytes, int, float, bool, None, list, or dict for a map.

        A caller that is cancelled leaves the command on its way. A caller may drop the reply, whatever it is.
        SSUBSCRIBE and SUNSUBSCRIBE may name one channel.

        Raises:
            ErrorReply: (the future) the server refused the command. `READONLY` and others that another connection can
                mend are not raised: the command is sent again.
            Unavailable: (the future) there was no reply within the patience, or the connection is closed.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            reply.set_exception(Unavailable("log_unavailable"))
            reply.exception()  # A caller that drops the reply need not retrieve it.
            return reply
        self._submit(Command(command, reply, self._loop.time()))
        if self._patience is None:
            self._patience = self._loop.call_later(self._patience_seconds, self._expire)
        return reply

    def run(self, script: Script, keys: Sequence[Part], *arguments: Part) -> "asyncio.Future[Any]":
        """Run a script, which has been loaded. As `call`."""
        return self.call(b"EVALSHA", script.hash, len(keys), *keys, *arguments)

    @property
    def is_given_up(self) -> bool:
        """Whether there has been no connection for as long as a caller waits for a reply."""
        return self._lost_at is not None and self._loop.time() - self._lost_at >= self._patience_seconds

    def post(self, *command: Part) -> None:
        """Send a command whose reply is of no interest. Dropped without a connection, and lost with it."""
        if self._pipeline is not None:
            self._pipeline.send(Command(command, None, self._loop.time()))

    async def aclose(self) -> None:
        """Wait for the replies to all commands, for CLOSE_SECONDS at most, and close. May be called twice."""
        sent = () if self._pipeline is None else self._pipeline.queue
        if not self._closed and (sent or any(command.waits for command in (*self._waiting, *self._later))):
            with contextlib.suppress(Unavailable, ErrorReply, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    while self._later:  # noqa: ASYNC110 (a rare state, and no event for its end)
                        await asyncio.sleep(LATER_SECONDS)
                    await self.call(b"PING")  # Replies come in order, so this is the last one.
        self._closed = True
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        if self._pipeline is not None:
            self._pipeline.abort("aclose")
        for command in (*self._waiting, *self._later):
            command.fail(Unavailable("log_unavailable"))
        for timer in self._later.values():
            timer.cancel()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._waiting.clear()
        self._later.clear()
        metrics.log_connection(up=True)  # It is wanted no more.

    def _submit(self, command: Command) -> None:
        if self._pipeline is None:
            self._waiting.append(command)
        else:
            self._pipeline.send(command)

    async def _keep_connected(self) -> None:
        attempts = 0
        while True:
            began_at = self._loop.time()
            try:
                pipeline = await self._connect()
            except UnreachableError as error:
                self._complain(str(error))
            except Exception as error:  # noqa: BLE001 (this task must not end)
                self._loop.call_exception_handler({"message": "the connection was not made", "exception": error})
            else:
                self._lost.clear()
                self._begin(pipeline)
                await self._lost.wait()
                if self._loop.time() - began_at > STABLE_SECONDS:
                    attempts = 0
            attempts += 1
            most = min(MOST_PAUSE_SECONDS, LEAST_PAUSE_SECONDS * 2 ** min(attempts, 10))
            await asyncio.sleep(random.uniform(LEAST_PAUSE_SECONDS, most))  # noqa: S311 (not secret)

    async def _connect(self) -> Pipeline:
        address = self._address
        host = address.hosts[0] if address.primary is None else await find_primary(address, self._tls, self._name)
        select = [("SELECT", address.database)] if address.database else []
        loads = [("SCRIPT", "LOAD", script.text) for script in self._scripts]
        commands = [hello(address.credentials, self._name), *select, ("ROLE",), *loads]
        pipeline, replies = await open_pipeline(
            host, self._tls, commands, on_push=self._on_push, on_refused=self._send_later
        )
        if sentence := _unfit(replies[0], replies[1 + len(select)]):
            pipeline.abort("unfit")
            raise UnreachableError(sentence)
        pipeline.on_lost = self._lose
        return pipeline

    def _begin(self, pipeline: Pipeline) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._pipeline = pipeline
        self.connected = True
        self._lost_at = None
        self.connects += 1
        metrics.log_connection(up=True)
        if self.connects > 1:
            metrics.log_reconnected()
        structlog.get_logger().info("valkey_connected")
        try:
            self._on_connect()
        except Exception as error:  # noqa: BLE001 (this task must not end, and half a set-up must not stay)
            self._loop.call_exception_handler({"message": "the connection was not set up", "exception": error})
            pipeline.abort("set-up")
        for command in waiting:
            if command.waits:
                self._submit(command)

    def _lose(self, pipeline: Pipeline, reason: str) -> None:
        """Keep the commands that somebody waits for. The next connection begins in a turn to come."""
        self._pipeline = None
        self.connected = False
        self._lost_at = self._loop.time()
        self._waiting.extend(command for command in pipeline.queue if command.waits)
        pipeline.queue.clear()
        self._lost.set()
        if not self._closed:
            metrics.log_connection(up=False)
            structlog.get_logger().warning("valkey_lost", reason=reason)

    def _send_later(self, command: Command, code: str) -> bool:
        if code not in LATER:
            return False
        if command.waits:
            self._later[command] = self._loop.call_later(LATER_SECONDS, self._send_again, command)
        return True

    def _send_again(self, command: Command) -> None:
        del self._later[command]
        if command.waits:
            self._submit(command)

    def _expire(self) -> None:
        """Give up what has waited for too long. One timer, set for the next command that would."""
        self._patience = None
        sent = () if self._pipeline is None else self._pipeline.queue
        waiting = [command for each in (sent, self._waiting, self._later) for command in each if command.waits]
        now = self._loop.time()
        left = [command.asked_at + self._patience_seconds - now for command in waiting]
        for command, seconds in zip(waiting, left, strict=True):
            if seconds <= 0:
                command.fail(Unavailable("log_unavailable"))
        still = [seconds for seconds in left if seconds > 0]
        if still:
            self._patience = self._loop.call_later(min(still), self._expire)

    def _complain(self, reason: str) -> None:
        now = self._loop.time()
        if now - self._complained_at >= COMPLAINT_SECONDS:
            self._complained_at = now
            structlog.get_logger().warning("valkey_unreachable", reason=reason)


def _unfit(hello: Any, role: Any) -> str | None:  # noqa: ANN401 (from outside)
    """Return why this server cannot be used, by its replies to HELLO and ROLE; None if it can."""
    version = hello.get(b"version", b"") if isinstance(hello, dict) else b""
    major = version.partition(b".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        return f"HELLO has not version {OLDEST_MAJOR} or later"
    if hello.get(b"mode") == b"cluster":
        return "HELLO has mode cluster"
    # Sentinels, and names in DNS, may be late to tell of a fail-over.
    if not isinstance(role, list) or role[:1] != [b"master"]:
        return "ROLE is not master"
    return None
