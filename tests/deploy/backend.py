"""A stand-in for the service behind nginx: a raw socket server with responses from the test."""

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Request:
    """A received request."""

    line: str
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[socket.socket, Request], None]


def respond(status: str, body: bytes, *headers: str) -> Answer:
    """A response to send."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]

    def answer(connection: socket.socket, _request: Request) -> None:
        connection.sendall("\r\n".join(head).encode() + body)

    return answer


def chunk(data: bytes) -> bytes:
    """Frame a chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Backend:
    """Takes one request a connection and answers with `answer`."""

    def __init__(self) -> None:
        self.answer: Answer = respond("200 OK", b"ok")
        self.requests: list[Request] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        with connection, connection.makefile("rb") as reader:
            line = reader.readline().decode().rstrip()
            headers = {}
            while header := reader.readline().decode().rstrip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            reader.read(int(headers.get("content-length", "0")))
            request = Request(line, headers)
            self.requests.append(request)
            # The other side may have gone, which some tests want.
            with contextlib.suppress(OSError):
                self.answer(connection, request)
