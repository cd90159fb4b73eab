"""A client that reads a response's raw bytes and can disconnect at any time."""

import http.client
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from deploy.local.ports import Address

TIMEOUT_SECONDS = 60.0

JSON_LINES = "application/json"
SSE = "text/event-stream"
TEXT = "text/plain"


def script(**commands: object) -> str:
    """Return a query with a script for the upstream."""
    return json.dumps(commands)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 (whatever it is)
        return json.loads(self.body)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a body of JSON lines."""
        return [json.loads(line) for line in self.body.split(b"\n") if line]


class Stream:
    """A response that is read as it arrives."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self.status = self._response.status
        self.headers = self._response.headers
        self.answer = self.headers.get("X-Answer-Id", "")

    def read(self) -> bytes:
        """Return the bytes that have come; empty at the end.

        Raises:
            http.client.IncompleteRead: the body was cut.
        """
        return self._response.read1(1 << 16)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines as they come, with heartbeats and without line ends."""
        tail = b""
        while data := self.read():
            *lines, tail = (tail + data).split(b"\n")
            yield from lines

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of JSON lines as they come."""
        for line in self.lines():
            if line:
                yield json.loads(line)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._response.close()

    def reset(self) -> None:
        """Reset the TCP connection."""
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client:
    """An HTTP client for one address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.url = f"http://{address}"

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPConnection:
        """Send a request and return the connection, without reading the response."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=TIMEOUT_SECONDS)
        connection.request(method, target, body, dict(headers or {}))
        return connection

    def open(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Stream:
        """Return the response when its headers have come."""
        return Stream(self.send(method, target, body, headers))

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Return the whole response."""
        connection = self.send(method, target, body, headers)
        try:
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def ask(self, query: str, accept: str = JSON_LINES, **fields: object) -> Stream:
        """POST /generate; return the response when its headers have come."""
        body, headers = question(query, accept, **fields)
        return self.open("POST", "/generate", body, headers)

    def generate(self, query: str, accept: str = JSON_LINES, **fields: object) -> Reply:
        """POST /generate; return the whole response."""
        body, headers = question(query, accept, **fields)
        return self.request("POST", "/generate", body, headers)

    def follow(self, answer: str, after: int = 0, accept: str = JSON_LINES) -> Reply:
        """GET /answers/<id> from an offset; return the whole response."""
        return self.request("GET", f"/answers/{answer}", headers=resume_headers(answer, after, accept))

    def read(self, answer: str) -> Any:  # noqa: ANN401 (JSON)
        """GET /answers/<id>?stream=false."""
        return self.request("GET", f"/answers/{answer}?stream=false").json

    def stop(self, answer: str) -> Reply:
        """POST /answers/<id>/stop."""
        return self.request("POST", f"/answers/{answer}/stop")

    def metrics(self) -> dict[str, float]:
        """Return /metrics: each sample's name and labels, as they are written, and its value."""
        text = self.request("GET", "/metrics").body.decode()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}


def question(query: str, accept: str = JSON_LINES, **fields: object) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of POST /generate."""
    body = json.dumps({"query": query, **fields}).encode()
    return body, {"Content-Type": "application/json", "Accept": accept}


def resume_headers(answer: str, after: int, accept: str = JSON_LINES) -> dict[str, str]:
    """Return the headers of a request that resumes behind the event `after`."""
    return {"Accept": accept, **({"Last-Event-ID": f"{answer}:{after}"} if after else {})}
