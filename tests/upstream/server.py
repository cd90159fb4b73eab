"""The upstream's sockets: raw HTTP/1.1, so that a script controls every byte and its time."""

import asyncio
import http.client
import json
import os
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import count
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httptools

from tests.upstream.body import Beat, Body, End, continues, whole_message
from tests.upstream.pacer import Pacer
from tests.upstream.records import Record, Records
from tests.upstream.script import NotAScript, Script, from_query

MODEL = "test-model"
BEATS_A_TURN = 64
"""Unpaced streams take turns after so many beats."""


class Upstream:
    """The shared state of one server's connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pacer = Pacer(loop)
        self.records = Records()
        self.ending: set[str] = set()
        """The keys of answers that have been told to come to their end."""
        self._numbers = count(1)
        self._demands: Counter[str] = Counter()
        self._held: dict[str, Callable[[], None]] = {}

    def connection(self) -> "Connection":
        """The protocol of one more connection."""
        return Connection(self, next(self._numbers))

    def demand(self, key: str) -> None:
        """Let the answer of this key take one more step, now or when it comes to it."""
        self._demands[key] += 1
        if go_on := self._held.pop(key, None):
            go_on()

    def may_step(self, key: str, go_on: Callable[[], None]) -> bool:
        """Return whether a step is demanded, and take the demand; otherwise call `go_on` at the next demand."""
        if self._demands[key]:
            self._demands[key] -= 1
            return True
        self._held[key] = go_on
        return False

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Begin to accept."""
        return await self.loop.create_server(self.connection, host, port, backlog=1024)

    async def listen_at(self, listening: socket.socket) -> asyncio.Server:
        """Begin to accept at a socket that other processes share."""
        return await self.loop.create_server(self.connection, sock=listening, backlog=1024)


class Connection(asyncio.Protocol):
    """One client's connection: parses requests, answers them one after the other."""

    def __init__(self, upstream: Upstream, number: int) -> None:
        self.upstream = upstream
        self.number = number
        self.transport: asyncio.Transport
        self.writable = True
        self._parser = httptools.HttpRequestParser(self)
        self._answer: Answer | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = b""

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._answer is not None:
            self._answer.lost()
            self._answer = None

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self._answer is not None:
            self._answer.resume()

    # From the parser

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.decode("latin-1").lower()
        self._headers[lower] = "(hidden)" if lower == "authorization" else value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._answer is not None:  # a second request before the first response, which no client sends
            self.transport.abort()
            return
        method = self._parser.get_method().decode()
        url = urlsplit(self._url.decode("latin-1"))
        wanted = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match method, url.path:
            case "POST", "/v1/chat/completions":
                self._complete()
            case "GET", "/v1/models":
                models = [{"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "test"}]
                self.reply(200, {"object": "list", "data": models})
            case "GET", "/health":  # as vLLM and SGLang have it; routers wait for it
                self.reply(200, {})
            case "GET", "/requests":
                self.reply(200, self.upstream.records.select(wanted.get("key"), wanted.get("query")))
            case "POST", "/end":
                self.upstream.ending.add(wanted["key"])
                self.reply(200, {})
            case "POST", "/next":
                self.upstream.demand(wanted["key"])
                self.reply(200, {})
            case "DELETE", "/requests":
                self.upstream.records.forget(wanted.get("key"), wanted.get("query"))
                self.reply(200, {})
            case _:
                self.reply(404, {"error": {"message": "no such page", "type": "invalid_request_error"}})

    # Responses

    @property
    def keeps_alive(self) -> bool:
        """Whether the client can use the connection again."""
        return self.chunked and self._parser.should_keep_alive()

    @property
    def chunked(self) -> bool:
        """Whether the client understands chunks: HTTP/1.0, which some proxies speak, does not."""
        return self._parser.get_http_version() != "1.0"

    def reply(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        """A whole JSON response."""
        body = json.dumps(value).encode()
        fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        self.send_head(status, fields)
        self.transport.write(body)
        self.answered()

    def send_head(self, status: int, fields: dict[str, str]) -> None:
        """The status and the headers."""
        reason = http.client.responses.get(status, "")
        connection = "keep-alive" if self.keeps_alive else "close"
        lines = [f"HTTP/1.1 {status} {reason}", f"connection: {connection}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def answered(self) -> None:
        """The response is whole."""
        self._answer = None
        if not self.keeps_alive:
            self.transport.close()

    def _complete(self) -> None:
        try:
            request = json.loads(self._body)
            messages = request["messages"]
            query = next((_text(message) for message in reversed(messages) if message["role"] == "user"), "")
            script = from_query(query)
            script = script.for_request(self.upstream.records.count(script.key)) if script.key else script
            script = script.behind_tools(_results(messages))
            given, reasoning = _given(messages[-1]) if script.continues else ("", "")
            if reasoning and not script.accept_reasoning:
                raise NotAScript("Assistant response prefill is incompatible with enable_thinking.")
            if not continues(script, given):
                raise NotAScript("the text to continue is not how this script's answer begins")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            message = str(error) or type(error).__name__
            self.reply(400, {"error": {"message": message, "type": "invalid_request_error"}})
            return
        record = self.upstream.records.add(
            key=script.key,
            query=query,
            messages=messages,
            model=str(request.get("model")),
            body={name: value for name, value in request.items() if name != "messages"},
            headers=dict(self._headers),
            connection=self.number,
            peer=self.transport.get_extra_info("peername", ("",))[0],
        )
        self._answer = Answer(self, script, request, (given, reasoning), record)
        self._answer.begin()


class Answer:
    """One response, played as its script says."""

    def __init__(
        self, connection: Connection, script: Script, request: dict[str, Any], said: tuple[str, str], record: Record
    ) -> None:
        given, reasoning = said
        self._connection = connection
        self._transport = connection.transport
        self._upstream = connection.upstream
        self._script = script
        self._request = request
        self._given = given
        self._record = record
        self._chunked = connection.chunked
        options = request.get("stream_options") or {}
        self._body = Body(
            script,
            model=record.model,
            given=given,
            given_reasoning=reasoning,
            include_usage=bool(options.get("include_usage")),
            prompt_tokens=sum(len(_text(message).split()) for message in record.messages),
            told_to_end=lambda: script.key in connection.upstream.ending,
        )
        self._beats: Iterator[Beat | End] = iter(self._body)
        self._due = 0.0
        self._waiting = False
        self._over = False
        self._wrote_at = 0.0

    def begin(self) -> None:
        """Send the status, now or when it is time."""
        self._after(self._script.status_delay, self._send_status)

    def lost(self) -> None:
        """The connection is gone."""
        self._over = True
        self._record.close("client")

    def resume(self) -> None:
        """The reader takes more."""
        if self._waiting:
            self._waiting = False
            self._due = self._upstream.loop.time()
            self._step()

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if seconds > 0:
            self._upstream.pacer.at(self._upstream.loop.time() + seconds, call)
        else:
            call()

    def _send_status(self) -> None:
        if self._over:
            return
        script = self._script
        self._record.status_sent_at = time.monotonic()
        given = {*self._request, *(message["role"] for message in self._record.messages)}
        refused = next((error for name, error in script.refuses.items() if name in given), None)
        if refused is not None:
            self._whole(script.refuses_with, {"error": refused})
        elif script.status != HTTPStatus.OK and script.raw is None:
            self._whole(script.status, {"error": script.error})
        elif not self._request.get("stream"):
            self._whole(200, self._completion())
        else:
            framing = {"transfer-encoding": "chunked"} if self._chunked else {}
            self._connection.send_head(
                script.status,
                {"content-type": script.content_type, "cache-control": "no-cache", **framing, **script.headers},
            )
            self._wrote_at = self._upstream.loop.time()
            if script.ping_every:
                self._after(script.ping_every, self._ping)
            self._due = self._upstream.loop.time() + script.first_chunk_delay
            self._after(script.first_chunk_delay, self._step)

    def _whole(self, status: int, value: object) -> None:
        self._over = True
        self._record.close("server", finished=True)
        self._connection.reply(status, value, self._script.headers)

    def _completion(self) -> dict[str, object]:
        message = whole_message(self._script, self._given)
        return {
            "id": "chatcmpl-test",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._record.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self._script.ends_with}],
        }

    def _step(self) -> None:
        """Send the due writes, then schedule the next."""
        script = self._script
        # Bytes that are to arrive apart must leave apart.
        beats = 1 if script.split is not None else BEATS_A_TURN
        while not self._over:
            if not self._connection.writable:
                self._waiting = True
                return
            if script.on_demand and not self._upstream.may_step(script.key, self._step):
                return
            beat = next(self._beats)
            if isinstance(beat, End):
                self._end(beat)
                return
            for data in beat:
                self._write(data)
            self._record.chunks_sent = self._body.chunks_sent
            if self._record.first_chunk_at is None:
                self._record.first_chunk_at = time.monotonic()
            if script.pace > 0:
                self._due += script.pace
                self._upstream.pacer.at(self._due, self._step)
                return
            beats -= 1
            if not beats:
                self._upstream.loop.call_soon(self._step)
                return

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._script.ping_every:
            self._wrote_at = self._upstream.loop.time()

    def _ping(self) -> None:
        if self._over:
            return
        if self._upstream.loop.time() - self._wrote_at >= self._script.ping_every * 0.9:
            self._write(b": ping" + 2 * self._script.newline.encode())
        self._after(self._script.ping_every, self._ping)

    def _end(self, end: End) -> None:
        if end is End.SILENT:
            return
        self._over = True
        self._record.close("server", finished=end is End.CLEAN)
        if end is End.CLEAN:
            if self._chunked:
                self._transport.write(b"0\r\n\r\n")
            self._connection.answered()
        elif end is End.CLOSED:
            self._transport.close()
        elif end is End.DEAD:
            # After a moment: uvloop hands the bytes before to the kernel at the end of the loop's turn.
            self._upstream.loop.call_later(0.01, os.kill, os.getpid(), signal.SIGKILL)
        else:
            self._reset()

    def _reset(self) -> None:
        """Send RST instead of FIN, as a crashed peer or a middlebox does."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _given(message: dict[str, Any]) -> tuple[str, str]:
    """Return the text and the reasoning that the message gives to be continued, in any of their forms."""
    if message["role"] != "assistant":
        return "", ""
    text = _text(message)
    reasoning = message.get("reasoning_content") or _thinking(message)
    if text.startswith("<think>\n"):
        reasoning, _, text = text.removeprefix("<think>\n").partition("\n</think>\n\n")
    return text, reasoning


def _thinking(message: dict[str, Any]) -> str:
    parts = content if isinstance(content := message.get("content"), list) else []
    return "".join(each["text"] for part in parts if part["type"] == "thinking" for each in part["thinking"])


def _results(messages: list[dict[str, Any]]) -> list[str]:
    """Return what the tools returned that were called behind the last user message."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return [_text(message) for message in messages[last + 1 :] if message["role"] in ("tool", "function")]


def _text(message: dict[str, Any]) -> str:
    """A message's text, whether it is given whole or in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or () if part["type"] == "text")
