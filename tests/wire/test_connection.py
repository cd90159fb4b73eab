"""A connection with responses that no server should send. tests/fuzz has further ones."""

from typing import Any, cast

import pytest

from service.upstream.connection import BrokenConnectionError, Connection, MalformedResponseError
from service.upstream.framing import HEAD_BYTES
from tests.fuzz.targets import SilentTransport


def connected() -> tuple[Connection, SilentTransport]:
    connection = Connection(lambda _: None, lambda _: None)
    transport = SilentTransport()
    connection.connection_made(cast("Any", transport))
    return connection, transport


@pytest.mark.parametrize("piece", [b"x" * 1000, b"X: y\r\n" * 100, b"\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n" * 20])
async def test_a_head_without_end_is_given_up(piece: bytes) -> None:
    connection, transport = connected()
    exchange = connection.send(b"")
    connection.data_received(b"HTTP/1.1 103 Early Hints\r\nX: ")
    taken = 0
    while not transport.closed:
        connection.data_received(piece)
        taken += len(piece)
        assert taken < 2 * HEAD_BYTES
    with pytest.raises(MalformedResponseError):
        await exchange.head()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 ok\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_BYTES + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (HEAD_BYTES + 1) + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["another protocol", "status", "header", "length", "many headers", "long header", "upgrade"],
)
async def test_a_head_that_is_no_http_is_malformed_and_its_connection_closed(data: bytes) -> None:
    connection, transport = connected()
    exchange = connection.send(b"")
    connection.data_received(data)
    connection.connection_lost(None)
    with pytest.raises(MalformedResponseError):
        await exchange.head()
    assert transport.closed


async def test_a_head_that_ends_too_soon_is_a_cut_and_not_malformed() -> None:
    connection, _ = connected()
    exchange = connection.send(b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-")
    connection.connection_lost(None)
    with pytest.raises(BrokenConnectionError) as broken:
        await exchange.head()
    assert not isinstance(broken.value, MalformedResponseError)


async def test_a_long_body_right_behind_its_head_is_none() -> None:
    connection, transport = connected()
    exchange = connection.send(b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
    await exchange.head()
    assert await exchange.read() == b"x" * 200_000
    assert not transport.closed


async def test_what_comes_behind_a_body_adds_to_no_header() -> None:
    connection, _ = connected()
    exchange = connection.send(b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 9\r\n\r\n")
    await exchange.head()
    assert exchange.headers == [(b"Transfer-Encoding", b"chunked")]
    assert await exchange.read() == b""


@pytest.mark.parametrize("status", [403, 407, 503])
async def test_a_connection_to_a_proxy_that_refuses_a_tunnel_is_never_free_for_a_request(status: int) -> None:
    # The next request would be sent to the proxy, in plain text, with the upstream's key.
    free: list[Connection] = []
    connection = Connection(free.append, lambda _: None)
    transport = SilentTransport()
    connection.connection_made(cast("Any", transport))
    exchange = connection.send_connect(b"")
    connection.data_received(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
    await exchange.head()
    assert exchange.status == status
    assert not free
    assert transport.closed
