"""A Durable Streams server: its writer's side asks the service for answers, its reader's side is the service's.

A PUT asks for an answer, whose upstream is this adapter, too. A POST is the upstream's next chunk, and its
Stream-Closed the upstream's end. GET, HEAD and OPTIONS go to `/v1/stream/<id>`: statuses, offsets, cursors, tags and
all other headers are the service's. Only the messages are unwrapped, because a suite reads back the bytes that it
wrote: an event of text holds bytes of the stream (as Latin-1), and events of other types are left out.
"""

import base64
import contextlib
import http.client
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deploy.local.ports import Address

NEXT_OFFSET = "Stream-Next-Offset"
CLOSED = "Stream-Closed"
JSON = "application/json"
UNKNOWN = "0" * 32
DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.002
NOT_PASSED_ON = ("content-length", "transfer-encoding", "connection", "content-type", "date", "server")


@dataclass
class Writer:
    """One stream as its writer knows it."""

    content_type: str
    answer: str = ""
    chunks: queue.Queue[str | None] = field(default_factory=queue.Queue)
    """What the upstream is to say next; None is the end."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_json(self) -> bool:
        return self.content_type.startswith(JSON)

    @property
    def is_binary(self) -> bool:
        return not self.is_json and not self.content_type.startswith("text/")

    def chunks_of(self, body: bytes) -> list[str]:
        """Return the body as texts, one for each message."""
        if not self.is_json:
            return [body.decode("latin-1")] if body else []
        given = json.loads(body) if body else []
        # A line each, because the service may merge neighbouring texts.
        return [json.dumps(value) + "\n" for value in (given if isinstance(given, list) else [given])]

    def content_of(self, events: list[dict[str, Any]]) -> bytes:
        """Return the bytes that were written as these events."""
        text = "".join(event["text"] for event in events if "text" in event)
        if self.is_json:
            return ("[" + ",".join(text.splitlines()) + "]").encode()
        return text.encode("latin-1")


class Adapter(ThreadingHTTPServer):
    """The server, in threads, until it is closed. Start the service with `base_url`, then set `service`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.base_url = f"{self.address}/upstream"
        self.service: Address
        self.writers: dict[str, Writer] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        for writer in self.writers.values():
            writer.chunks.put(None)
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Adapter

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    # The writer's side

    def do_PUT(self) -> None:
        body = self._body()
        writer = Writer(self.headers.get("Content-Type", "application/octet-stream"))
        self.server.writers[self._name] = writer
        connection = self._connection()
        question = json.dumps({"query": self._name})
        connection.request("POST", "/generate", question, {"Content-Type": JSON})
        writer.answer = str(connection.getresponse().headers["X-Answer-Id"])
        connection.close()
        self._respond(HTTPStatus.CREATED, {"Content-Type": writer.content_type} | self._write(writer, body))

    def do_POST(self) -> None:
        if self.path.startswith("/upstream/"):
            self._be_the_upstream()
            return
        body = self._body()
        writer = self.server.writers[self._name]
        self._respond(HTTPStatus.NO_CONTENT, self._write(writer, body))

    def do_DELETE(self) -> None:
        connection = self._connection()
        connection.request("DELETE", f"/answers/{self.server.writers[self._name].answer}")
        self._respond(connection.getresponse().status, {})

    def _write(self, writer: Writer, body: bytes) -> dict[str, str]:
        """Let the upstream say the body, and perhaps end; return the place behind it, once the service has it."""
        with writer.lock:
            place = self._place(writer)
            for chunk in writer.chunks_of(body):
                writer.chunks.put(chunk)
                before = place[NEXT_OFFSET]
                place = self._await(writer, lambda place, before=before: place[NEXT_OFFSET] > before)
            if self.headers.get(CLOSED):
                writer.chunks.put(None)
                place = self._await(writer, lambda place: CLOSED in place)
        return place

    def _await(self, writer: Writer, is_there: Any) -> dict[str, str]:  # noqa: ANN401 (of a place)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_there(place := self._place(writer)):
            assert time.monotonic() < deadline
            time.sleep(POLL_SECONDS)
        return place

    def _place(self, writer: Writer) -> dict[str, str]:
        connection = self._connection()
        connection.request("HEAD", f"/v1/stream/{writer.answer}")
        headers = connection.getresponse().headers
        connection.close()
        return {name: headers[name] for name in (NEXT_OFFSET, CLOSED) if name in headers}

    def _be_the_upstream(self) -> None:
        name = json.loads(self._body())["messages"][-1]["content"]
        chunks = self.server.writers[name].chunks
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            while (text := chunks.get()) is not None:
                self._say({"delta": {"content": text}, "finish_reason": None})
            self._say({"delta": {}, "finish_reason": "stop"})
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _say(self, choice: dict[str, Any]) -> None:
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x"}
        self.wfile.write(b"data: %b\n\n" % json.dumps({**chunk, "choices": [{"index": 0, **choice}]}).encode())

    # The reader's side

    def do_GET(self) -> None:
        writer = self.server.writers.get(self._name)
        answer = UNKNOWN if writer is None else writer.answer
        _, _, query = self.path.partition("?")
        connection = self._connection()
        passed_on = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection.request(self.command, f"/v1/stream/{answer}?{query}", headers=passed_on)
        response = connection.getresponse()
        headers = {name: value for name, value in response.headers.items() if name.lower() not in NOT_PASSED_ON}
        kind = response.headers.get("Content-Type", "")
        if writer is None or response.status != HTTPStatus.OK or self.command == "OPTIONS":
            self._respond(response.status, headers | {"Content-Type": kind}, response.read())
        elif kind == "text/event-stream":
            self._pass_on_events(writer, response, headers | {"Content-Type": kind})
        else:
            body = writer.content_of(json.loads(response.read())) if self.command == "GET" else b""
            self._respond(response.status, headers | {"Content-Type": writer.content_type}, body)
        connection.close()

    do_HEAD = do_GET  # noqa: N815 (the base class's name)
    do_OPTIONS = do_GET  # noqa: N815

    def _pass_on_events(self, writer: Writer, response: http.client.HTTPResponse, headers: dict[str, str]) -> None:
        if writer.is_binary:
            headers["Stream-SSE-Data-Encoding"] = "base64"
        self.send_response(response.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            for block in _blocks(response):
                self.wfile.write(_unwrapped(writer, block))

    # Both

    @property
    def _name(self) -> str:
        return self.path.partition("?")[0]

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _connection(self) -> http.client.HTTPConnection:
        service = self.server.service
        return http.client.HTTPConnection(service.host, service.port, timeout=60)

    def _respond(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(body)


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the messages of Server-Sent Events, and each comment, as they come."""
    lines: list[bytes] = []
    while line := response.readline():
        if line == b":\n":
            yield line
            continue
        lines.append(line)
        if line == b"\n":
            yield b"".join(lines)
            lines.clear()


def _unwrapped(writer: Writer, block: bytes) -> bytes:
    prefix = b"event: data\ndata:"
    if not block.startswith(prefix):
        return block
    events = json.loads(block.removeprefix(prefix))
    if not any("text" in event for event in events):
        return b""
    content = writer.content_of(events)
    if writer.is_binary:
        content = base64.b64encode(content)
    # CR ends a line, too.
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"event: data\n" + b"".join(b"data:%b\n" % line for line in lines) + b"\n"
