"""One TCP connection to a server that speaks RESP3: commands out, replies in the order of the commands, pushes between.

https://valkey.io/topics/protocol/. This module alone knows hiredis, which packs the commands and reads the replies.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

Part = bytes | str | int
"""A part of a command. Text is sent in UTF-8, a number in decimal."""

SILENCE_SECONDS = 2.0
"""Longest time for which the oldest command may go unanswered. A longer one means a server or a network that hangs."""
GRACE_SECONDS = 0.2
"""Time to read what has come, before a server is said to hang. A worker that was stopped itself wakes with more in its
socket than one turn of the event loop reads, and with its timers due."""
RECONNECT = frozenset({"LOADING", "MASTERDOWN", "NOSCRIPT", "READONLY", "BUSY"})
"""Codes of error replies after which another connection, or a later one, can do what this one cannot: the server is
starting, has become a replica, lost its scripts, or is held up by a script."""
CONFIRMED_BY_PUSH: dict[object, bytes] = {
    name: kind
    for kind in (b"ssubscribe", b"sunsubscribe")
    for name in (kind, kind.upper(), kind.decode(), kind.decode().upper())
}
"""Commands whose reply is a push, and its kind. They may name one channel: each channel would get a push."""

_PARTIAL = object()


class ErrorReply(Exception):
    """The server refused a command. Only the code is kept: the server's sentence may quote a password or a text."""

    def __init__(self, sentence: str) -> None:
        self.code = sentence.partition(" ")[0]
        super().__init__(self.code)


class Command:
    """A command and the place for its reply."""

    __slots__ = ("asked_at", "confirmation", "packed", "reply", "sent_at")

    def __init__(self, parts: Sequence[Part], reply: "asyncio.Future[Any] | None", asked_at: float) -> None:
        self.packed: bytes = hiredis.pack_command(tuple(parts))  # type: ignore[arg-type]
        self.reply = reply
        self.asked_at = asked_at
        self.sent_at = 0.0
        kind = CONFIRMED_BY_PUSH.get(parts[0])
        self.confirmation = None if kind is None else [kind, _bytes(parts[1])]

    @property
    def waits(self) -> bool:
        """Whether somebody still waits for the reply."""
        return self.reply is not None and not self.reply.done()

    def fail(self, error: Exception) -> None:
        """Give the error to whoever waits. A caller may be gone: asyncio does not log that it was not retrieved."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(error)
            self.reply.exception()


class Pipeline(asyncio.Protocol):
    """Sends commands, all of a turn of the event loop in one write, and gives each its reply.

    A caller that is cancelled leaves its command in the queue, and the reply is dropped. A subscription is confirmed by
    a push and refused by an error. Either takes the command off the queue.

    Args:
        on_push: Called with each push that confirms nothing: `[kind, channel, message]`.
        on_refused: Called with a command and the code of its error reply. Returns whether it takes care of the command.
        on_lost: Called once, with the reason, in the turn in which the connection is lost or aborted. The commands that
            have no reply are in `queue`.
    """

    def __init__(
        self,
        on_push: Callable[[list[Any]], None],
        on_refused: Callable[[Command, str], bool],
        on_lost: Callable[["Pipeline", str], None],
    ) -> None:
        self.queue: deque[Command] = deque()
        self.lost: str | None = None
        """The reason, once the connection is lost."""
        self._on_push = on_push
        self._on_refused = on_refused
        self.on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=_PARTIAL)
        self._transport: asyncio.Transport | None = None
        self._unwritten: list[bytes] = []
        self._watchdog: asyncio.TimerHandle | None = None
        self._suspect: Command | None = None

    def send(self, command: Command) -> None:
        """Send the command at the end of this turn of the event loop."""
        if self.lost is not None:
            return
        command.sent_at = self._loop.time()
        self.queue.append(command)
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append(command.packed)
        if self._watchdog is None:
            self._watch_in(SILENCE_SECONDS)

    def ask(self, *parts: Part) -> "asyncio.Future[Any]":
        """Send the command, and return its reply. It is cancelled if the connection is lost already."""
        reply = self._loop.create_future()
        if self.lost is not None:
            reply.cancel()
        self.send(Command(parts, reply, self._loop.time()))
        return reply

    def abort(self, reason: str) -> None:
        """Close at once, with what is unwritten. `on_lost` is called before this returns."""
        if self.lost is not None:
            return
        self.lost = reason
        self._unwritten.clear()
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._transport is not None:
            # asyncio tells of it in the next turn. Until then, each call would find a connection that is none.
            self._transport.abort()
        self.on_lost(self, reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        if self.lost is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.abort("closed" if error is None else type(error).__name__)

    def data_received(self, data: bytes) -> None:
        """Take all whole replies out of the bytes."""
        self._reader.feed(data)
        while self.lost is None:
            try:
                reply = self._reader.gets()
            except hiredis.ProtocolError:
                self.abort("protocol")
                return
            if reply is _PARTIAL:
                return
            if type(reply) is hiredis.PushNotification:
                self._take_push(reply)
            elif not self.queue:
                # Servers say so before they close a connection that they do not want: too many clients, protected mode.
                self.abort(reply.code if isinstance(reply, ErrorReply) else "protocol")
            elif type(reply) is ErrorReply:
                self._take_error(reply)
            else:
                self._answer(self.queue.popleft(), reply)

    def _take_push(self, push: list[Any]) -> None:
        # A server may also end a subscription by itself. That push is not the reply to the oldest command.
        if self.queue and self.queue[0].confirmation == push[:2]:
            self._answer(self.queue.popleft(), push)
            return
        try:
            self._on_push(push)
        except Exception as error:  # noqa: BLE001 (a defect of one listener must not shift the replies of the others)
            self._loop.call_exception_handler({"message": "a push was not taken", "exception": error})

    def _take_error(self, error: ErrorReply) -> None:
        if error.code in RECONNECT:
            self.abort(error.code)  # The command stays in the queue.
            return
        command = self.queue.popleft()
        if not self._on_refused(command, error.code):
            command.fail(error)

    def _answer(self, command: Command, reply: Any) -> None:  # noqa: ANN401 (any type of RESP3)
        future = command.reply
        if future is not None and not future.done():
            future.set_result(reply)

    def _write(self) -> None:
        if self._unwritten and self._transport is not None:
            self._transport.write(b"".join(self._unwritten))
            self._unwritten.clear()

    def _watch_in(self, seconds: float) -> None:
        self._watchdog = self._loop.call_later(seconds, self._watch)

    def _watch(self) -> None:
        """Abort if the oldest command is too old. One timer a connection: one a command costs more than the command."""
        self._watchdog = None
        if not self.queue:
            return
        oldest = self.queue[0]
        left = oldest.sent_at + SILENCE_SECONDS - self._loop.time()
        if left > 0:
            self._watch_in(left)
        elif self._suspect is not oldest:
            self._suspect = oldest
            self._watch_in(GRACE_SECONDS)
        else:
            self.abort("hangs")


def _bytes(part: Part) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
