"""Responses that come while the request's body is still on its way. The server reads no more of it."""

import asyncio

import pytest

from service.errors import UpstreamError
from service.question import to_request
from service.upstream.endpoint import Endpoint, TimeOuts
from service.upstream.pool import start_of_body
from service.upstream.stream import Upstream
from tests.wire.certificates import Authority
from tests.wire.servers import CHUNKED, END, HELLO, TIMEOUT_SECONDS, Sender, request_on, server, whole
from tests.wire.test_faults import reset

LONG = "A question. " * 500_000
"""More than the sockets' buffers hold."""


def refusal(status: int, *headers: bytes) -> bytes:
    body = b'{"error": {"message": "no"}}'
    head = [b"HTTP/1.1 %d No" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*head, b"", body])


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(413, "upstream_too_long"), (401, "upstream_credentials"), (429, "upstream_rate_limited")],
)
async def test_a_refusal_of_a_question_that_is_still_being_sent_is_told_as_it_is(
    trusting: Sender, authority: Authority, scheme: str, status: int, code: str, end: str
) -> None:
    del trusting  # It sets the authority.

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal(status, b"Connection: close", b"Retry-After: 7"))
        await writer.drain()
        if end == "reset":
            reset(writer)  # With a mere close, the kernel resets because of what was not read.

    async with server(serve, authority.server if scheme == "https" else None) as port:
        endpoint = Endpoint(f"{scheme}://localhost:{port}/v1", "sk-secret")
        upstream = Upstream([endpoint], TimeOuts(10, 10, 10, 10), retries=0)
        with pytest.raises(UpstreamError) as refused:
            await upstream.stream(to_request(LONG, model="m"), last_seq=1).read()
        await upstream.aclose()
    assert (refused.value.code, refused.value.upstream_status) == (code, status)
    assert refused.value.retry_after == ("7" if status == 429 else None)


async def test_a_connection_on_which_a_request_is_still_being_sent_is_not_used_again(sender: Sender) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(refusal(413))
            await asyncio.sleep(TIMEOUT_SECONDS)  # It reads no more, and does not close either.
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)

    async with server(serve) as port:
        pool = sender.to(f"http://127.0.0.1:{port}/v1")
        exchange = await pool.send(LONG.encode())
        assert (exchange.status, await start_of_body(exchange)) == (413, b'{"error": {"message": "no"}}')
        async with asyncio.timeout(TIMEOUT_SECONDS / 2):
            assert await whole(await pool.send(b'{"question": 1}')) == b"hello"
    assert connections == 2
