"""A question with a key is asked once, wherever its request or response is cut, and however often it is repeated."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from deploy.local.ports import Address
from service.events import new_answer_id
from tests.e2e.client import TIMEOUT_SECONDS, script
from tests.e2e.cutter import reset
from tests.e2e.stack import Service
from tests.upstream.process import UpstreamProcess

AT_ONCE = 8
"""Questions that are under way at once."""


@dataclass(frozen=True)
class Workers:
    """Two services of one worker each that share a log directory."""

    addresses: tuple[Address, Address]
    upstream: UpstreamProcess


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Workers]:
    directory = tmp_path_factory.mktemp("workers")
    with (
        Service(directory / "one", directory / "answers", upstream.base_url, workers=1) as one,
        Service(directory / "two", directory / "answers", upstream.base_url, workers=1) as two,
    ):
        yield Workers((one.address, two.address), upstream)


def request_with(key: str) -> bytes:
    """A question whose answer has three words, as it is sent."""
    body = json.dumps({"query": script(key=key, text="ő ", chunks=3)}).encode()
    head = f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def exchange(address: Address, request: bytes, most: int | None = None) -> bytes:
    """Send the bytes; return the response, or so many bytes of it. The connection is then reset."""
    with socket.create_connection((address.host, address.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        response = b""
        while most is None or len(response) < most:
            data = connection.recv(1 << 16 if most is None else most - len(response))
            if not data:
                break
            response += data
        if most is not None:
            reset(connection)
    return response


def text_of(response: bytes) -> str:
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), response
    assert body.endswith(b"\r\n0\r\n\r\n"), "it has HTTP's end"
    lines = [line for line in body.split(b"\r\n") if line.startswith(b"{")]
    events = [json.loads(line) for chunk in lines for line in chunk.split(b"\n") if line]
    assert events[-1]["type"] == "done"
    return "".join(event.get("text", "") for event in events)


def cut_and_repeat(workers: Workers, *, sent: int | None, received: int) -> None:
    """Cut a question after so many bytes of the request, or of the response; then send it to both workers at once."""
    key = new_answer_id()
    request = request_with(key)
    exchange(workers.addresses[0], request[:sent], received)
    with ThreadPoolExecutor(2) as threads:
        responses = list(threads.map(lambda address: exchange(address, request), workers.addresses))
    assert [text_of(response) for response in responses] == 2 * ["ő ő ő "]
    assert len(workers.upstream.requests(key)) == 1, f"cut after {sent} bytes sent, {received} received"


def test_a_request_that_is_cut_at_any_byte_and_repeated_is_asked_once(workers: Workers) -> None:
    length = len(request_with(new_answer_id()))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda sent: cut_and_repeat(workers, sent=sent, received=0), range(length + 1)))


def test_a_response_that_is_cut_at_any_byte_and_repeated_is_asked_once(workers: Workers) -> None:
    length = len(exchange(workers.addresses[0], request_with(new_answer_id())))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda received: cut_and_repeat(workers, sent=None, received=received), range(1, length)))


def test_five_repeats_at_once_on_two_workers_are_asked_once(workers: Workers) -> None:
    for _ in range(20):
        key = new_answer_id()
        request = request_with(key)
        with ThreadPoolExecutor(6) as threads:
            responses = list(threads.map(exchange, 3 * workers.addresses, 6 * [request]))
        assert {text_of(response) for response in responses} == {"ő ő ő "}
        assert len(workers.upstream.requests(key)) == 1
