"""The connection, over a real server and through a network that fails."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.eventlog.valkey import connection
from service.eventlog.valkey.connection import LEAST_PAUSE_SECONDS, Connection
from service.eventlog.valkey.pipeline import SILENCE_SECONDS, ErrorReply
from tests.e2e.cutter import Cutter
from tests.eventlog.valkey.connecting import ADD, APPEND_ONCE, Heard, connected
from tests.listening import listening
from tests.valkey import ValkeyServer
from tests.waiting import until


@pytest.fixture
def network(server: ValkeyServer) -> Iterator[Cutter]:
    """The network between the connection and the server."""
    with Cutter(server.address) as network:
        yield network


def url(network: Cutter) -> str:
    return f"valkey://{network.address}"


# Replies, pushes, errors


async def test_replies_come_to_their_callers_in_the_order_of_the_commands(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        replies = await asyncio.gather(
            *(heard.connection.call("ECHO", str(number)) for number in range(1000)),
            heard.connection.run(ADD, ["sum"], 5),
            heard.connection.call("HGETALL", "nothing"),
            heard.connection.call("GET", "nothing"),
            heard.connection.call("XRANGE", "nothing", "-", "+"),
        )
    assert replies == [b"%d" % number for number in range(1000)] + [5, {}, None, []]


async def test_the_commands_of_a_turn_leave_in_one_write(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        await heard.connection.call("PING")
        before = int(server.command("INFO", "stats")["total_reads_processed"])
        replies = [heard.connection.call("ECHO", "a text") for _ in range(50)]
        heard.connection.post("SET", "a", "b")
        await asyncio.gather(*replies)
        after = int(server.command("INFO", "stats")["total_reads_processed"])
    # The second INFO is sent by a connection that logs in with one read, and asks with another.
    assert after - before <= 1 + 4


async def test_pushes_come_between_replies_and_shift_none(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        confirmed = await heard.connection.call("SSUBSCRIBE", "channel")
        replies = []
        for number in range(200):
            heard.connection.post("SPUBLISH", "channel", number)
            replies.append(heard.connection.call("ECHO", number))
        assert await asyncio.gather(*replies) == [b"%d" % number for number in range(200)]
    assert confirmed == [b"ssubscribe", b"channel", 1]
    assert heard.pushes == [[b"smessage", b"channel", b"%d" % number] for number in range(200)]


@pytest.mark.parametrize("name", ["SSUBSCRIBE", b"SSUBSCRIBE", "ssubscribe", b"ssubscribe"])
async def test_a_subscription_takes_one_place_between_replies(server: ValkeyServer, name: str | bytes) -> None:
    async with connected(server.url) as heard:
        call = heard.connection.call
        replies = await asyncio.gather(
            call("ECHO", 1),
            call(name, "a"),
            call("ECHO", 2),
            call(name, "a"),
            call("SUNSUBSCRIBE", "a"),
            call("ECHO", 3),
        )
    subscribed = [b"ssubscribe", b"a", 1]
    assert list(replies) == [b"1", subscribed, b"2", subscribed, [b"sunsubscribe", b"a", 0], b"3"]


async def test_a_refused_subscription_takes_one_place_between_replies(server: ValkeyServer) -> None:
    server.command("ACL", "SETUSER", "limited", "on", ">secret", "resetchannels", "&mine*", "~*", "+@all")
    async with connected(f"valkey://limited:secret@{server.address}") as heard:
        call = heard.connection.call
        replies = await asyncio.gather(
            call("ECHO", 1),
            call("SSUBSCRIBE", "yours"),
            call("ECHO", 2),
            call("SSUBSCRIBE", "mine"),
            call("ECHO", 3),
            return_exceptions=True,
        )
    assert [str(reply) if isinstance(reply, ErrorReply) else reply for reply in replies] == [
        b"1", "NOPERM", b"2", [b"ssubscribe", b"mine", 1], b"3",
    ]  # fmt: skip


async def test_a_subscription_that_the_server_ends_takes_no_reply() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handshake(reader, writer)
        await reader.readuntil(b"mine\r\n")
        for channel in (b"$5\r\nyours", b"$4\r\nmine"):
            writer.write(b">3\r\n$12\r\nsunsubscribe\r\n%b\r\n:0\r\n" % channel)
        await reader.read()

    async with listening(serve) as address, connected(f"valkey://{address}") as heard:
        assert await heard.connection.call("SUNSUBSCRIBE", "mine") == [b"sunsubscribe", b"mine", 0]
        assert heard.pushes == [[b"sunsubscribe", b"yours", 0]]


async def handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Play the server of a connection's beginning."""
    await reader.readuntil(APPEND_ONCE.text.encode() + b"\r\n")
    writer.write(b"%1\r\n$7\r\nversion\r\n$3\r\n7.0\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
    for script in (ADD, APPEND_ONCE):
        writer.write(b"$40\r\n%b\r\n" % script.hash)


async def test_an_error_reply_is_an_exception_with_the_code_and_without_the_words(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        with pytest.raises(ErrorReply) as caught:
            await heard.connection.call("NOSUCHCOMMAND", "a text of a person")
    assert caught.value.code == "ERR"
    assert "person" not in repr(caught.value)


async def test_a_listener_that_fails_shifts_no_reply(server: ValkeyServer) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context["exception"]))
    async with connected(server.url) as heard:
        heard.connection._on_push = lambda push: push.remove(b"not in it")
        await heard.connection.call("SSUBSCRIBE", "channel")
        heard.connection._pipeline._on_push = heard.connection._on_push  # type: ignore[union-attr]
        heard.connection.post("SPUBLISH", "channel", "a")
        assert await heard.connection.call("ECHO", "1") == b"1"
        assert heard.connection.connects == 1
    assert [type(complaint) for complaint in complaints] == [ValueError]


async def test_a_cancelled_caller_leaves_its_place(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        call = heard.connection.call
        await call("PING")
        replies = [call("ECHO", number) for number in range(100)]
        for reply in replies[::3]:
            reply.cancel()
        kept = [reply for reply in replies if not reply.cancelled()]
        assert await asyncio.gather(*kept) == [b"%d" % number for number in range(100) if number % 3]
        assert heard.connection.connects == 1


async def test_a_hundred_thousand_pushes_leave_nothing_behind(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        count = 0

        def take(_push: list[bytes]) -> None:
            nonlocal count
            count += 1

        await heard.connection.call("SSUBSCRIBE", "channel")
        heard.connection._pipeline._on_push = take  # type: ignore[union-attr]

        async def push(number: int) -> None:
            for _ in range(number // 500):
                for _ in range(500):
                    heard.connection.post("SPUBLISH", "channel", b"x" * 100)
                await heard.connection.call("PING")

        await push(5_000)
        blocks, resident = sys.getallocatedblocks(), _resident_kilobytes()
        await push(100_000)
        assert count == 105_000
        # hiredis 3.4.1 kept two objects a push: 9.6 MB.
        assert sys.getallocatedblocks() - blocks < 20_000
        assert _resident_kilobytes() - resident < 4_000


def _resident_kilobytes() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


# Lost connections


async def test_a_connection_that_is_cut_is_made_again_and_what_waits_is_sent_again(network: Cutter) -> None:
    connects = []
    async with connected(url(network), lambda made: connects.append(made.connects)) as heard:
        assert await heard.connection.call("ECHO", 1) == b"1"
        network.hold()
        replies = [heard.connection.run(ADD, [f"sum-{number}"], number) for number in range(100)]
        await asyncio.sleep(0)
        network.cut()
        await until(lambda: not heard.connection.connected)
        network.heal()
        assert await asyncio.gather(*replies) == list(range(100))
        assert connects == [1, 2]


async def test_each_change_is_made_once_wherever_the_reply_is_cut(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LEAST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(connection, "MOST_PAUSE_SECONDS", 0.002)
    # Each connection is cut one byte later than the one before. The first ones do not survive the handshake.
    with Cutter(server.address, iter(range(1, 400))) as network:
        async with connected(url(network), patience_seconds=120) as heard:
            replies: list[bytes] = []
            while network.cuts < 399:
                previous = str(len(replies) - 1) if replies else ""
                replies.append(
                    await heard.connection.run(APPEND_ONCE, ["value", "changes"], previous, str(len(replies)))
                )
    assert set(replies) == {b"ok", b"again"}
    assert server.command("MGET", "value", "changes") == [b"%d" % (len(replies) - 1), b"%d" % len(replies)]


async def test_a_server_that_hangs_is_left_after_two_seconds(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        await heard.connection.call("PING")
        server.freeze()
        began = time.monotonic()
        reply = heard.connection.call("ECHO", 1)
        await until(lambda: not heard.connection.connected)
        assert SILENCE_SECONDS <= time.monotonic() - began < SILENCE_SECONDS + 8
        server.thaw()
        assert await reply == b"1"
        assert heard.connection.connects == 2


async def test_a_worker_that_hung_itself_reads_before_it_blames_the_server(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        await heard.connection.call("SET", "text", b"x" * 50_000)
        replies = [heard.connection.call("GET", "text") for _ in range(200)]
        await asyncio.sleep(0)
        time.sleep(SILENCE_SECONDS + 0.1)  # noqa: ASYNC251 (the hang)
        # One turn of the event loop reads five of them.
        await asyncio.gather(*replies)
        assert heard.connection.connects == 1


async def test_an_abort_ends_the_connection_in_its_turn(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        await heard.connection.call("PING")
        pipeline = heard.connection._pipeline
        assert pipeline is not None
        reply = heard.connection.call("ECHO", 1)
        pipeline.abort("test")
        assert not heard.connection.connected
        heard.connection.post("SET", "dropped", 1)
        assert await reply == b"1"
        assert heard.connection.connects == 2
    assert server.command("EXISTS", "dropped") == 0


async def test_a_server_that_comes_back_finds_the_callers_waiting(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        await heard.connection.call("SET", "a", 1)
        server.kill()
        await until(lambda: not heard.connection.connected)
        waiting = heard.connection.call("GET", "a")
        server.start()
        assert await waiting == b"1"


async def test_patience_ends_with_unavailable_over_all_connections(server: ValkeyServer) -> None:
    patience = 0.5
    loop = asyncio.get_running_loop()
    waited: list[float] = []

    def ask(heard: Heard) -> "asyncio.Future[object]":
        began, reply = loop.time(), heard.connection.call("PING")
        reply.add_done_callback(lambda _: waited.append(loop.time() - began))
        return reply

    async with connected(server.url, patience_seconds=patience) as heard:
        await heard.connection.call("PING")
        server.freeze()
        sent = ask(heard)
        await asyncio.sleep(0.2)
        later = ask(heard)
        with pytest.raises(Unavailable, match="log_unavailable"):
            await sent
        server.kill()
        await until(lambda: not heard.connection.connected)
        without = ask(heard)
        for reply in (later, without):
            with pytest.raises(Unavailable, match="log_unavailable"):
                await reply
        assert patience * 0.95 <= min(waited)
        assert max(waited) < patience + 8
        server.start()
        assert await heard.connection.call("PING") == b"PONG"


async def test_what_on_connect_calls_is_sent_first(server: ValkeyServer) -> None:
    def renew(made: Connection) -> None:
        made.call("SSUBSCRIBE", "channel")

    async with connected(server.url, renew) as heard:
        # Published before the connection began: it would be missed if the subscription came behind it.
        assert await heard.connection.call("SPUBLISH", "channel", "one") == 1
        heard.connection._pipeline.abort("test")  # type: ignore[union-attr]
        assert await heard.connection.call("SPUBLISH", "channel", "two") == 1
        assert [push[2] for push in heard.pushes] == [b"one", b"two"]


async def test_an_on_connect_that_fails_is_tried_again(server: ValkeyServer) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context["exception"]))

    def renew(made: Connection) -> None:
        if made.connects < 3:
            raise LookupError

    async with connected(server.url, renew) as heard:
        assert await heard.connection.call("PING") == b"PONG"
        assert heard.connection.connects == 3
    assert [type(complaint) for complaint in complaints] == [LookupError, LookupError]


async def test_scripts_that_the_server_lost_are_loaded_again(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        assert await heard.connection.run(ADD, ["sum"], 1) == 1
        server.command("SCRIPT", "FLUSH")
        assert await asyncio.gather(*(heard.connection.run(ADD, ["sum"], 1) for _ in range(3))) == [2, 3, 4]


async def test_a_primary_that_becomes_a_replica_is_left(server: ValkeyServer, tmp_path: Path) -> None:
    async with connected(server.url) as heard:
        await heard.connection.call("SET", "a", 1)
        with ValkeyServer(tmp_path / "other") as other:
            server.command("REPLICAOF", other.address.host, other.address.port)
            waiting = heard.connection.call("SET", "a", 2)
            await until(lambda: not heard.connection.connected)
            assert heard.connection.connects == 1
            await asyncio.sleep(5 * LEAST_PAUSE_SECONDS)  # some attempts, which end with its role
            assert heard.connection.connects == 1
            server.command("REPLICAOF", "NO", "ONE")
            assert await waiting == b"OK"


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (b"%1\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n", "HELLO has not version 7 or later"),
        (b"%1\r\n$7\r\nversion\r\n$0\r\n\r\n", "HELLO has not version 7 or later"),
        (b"%1\r\n$7\r\nversion\r\n:8\r\n", None),
        (b"+OK\r\n", "HELLO has not version 7 or later"),
        (b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'canary'\r\n", "HELLO ERR"),
        (b"-DENIED canary\r\n", "HELLO DENIED"),
        (b"HTTP/1.1 400 canary\r\n", "protocol"),
    ],
)
async def test_a_server_that_cannot_be_used_is_told_of_by_what_it_lacks(hello: bytes, reason: str | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(APPEND_ONCE.text.encode() + b"\r\n")
        writer.write(hello + b"*1\r\n$6\r\nmaster\r\n" + b"+OK\r\n+OK\r\n")
        await reader.read()

    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    with capture_logs() as lines:
        async with listening(serve) as address, connected(f"valkey://{address}", patience_seconds=0.2) as heard:
            with pytest.raises(Unavailable):
                await heard.connection.call("PING")
            assert heard.connection.connects == 0
    assert [line["reason"] for line in lines if "reason" in line] == ([reason] if reason else [])
    assert "canary" not in repr(lines)


async def test_a_cluster_is_refused(tmp_path: Path) -> None:
    with capture_logs() as lines, ValkeyServer(tmp_path / "node", options=["--cluster-enabled", "yes"]) as node:
        async with connected(node.url, patience_seconds=0.2) as heard:
            with pytest.raises(Unavailable):
                await heard.connection.call("PING")
    assert [line["reason"] for line in lines] == ["HELLO has mode cluster"]


async def test_too_few_replicas_are_waited_for_while_reads_go_on(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        server.command("CONFIG", "SET", "min-replicas-to-write", 1)
        write = heard.connection.call("SET", "a", 1)
        assert await heard.connection.call("GET", "a") is None
        await asyncio.sleep(0.25)
        assert not write.done()
        server.command("CONFIG", "SET", "min-replicas-to-write", 0)
        assert await write == b"OK"
        assert heard.connection.connects == 1


async def test_too_few_replicas_end_with_unavailable(server: ValkeyServer) -> None:
    server.command("CONFIG", "SET", "min-replicas-to-write", 1)
    async with connected(server.url, patience_seconds=0.5) as heard:
        with pytest.raises(Unavailable, match="log_unavailable"):
            await heard.connection.run(ADD, ["sum"], 1)
        assert heard.connection.connects == 1


async def test_attempts_are_apart_and_not_all_at_the_same_time() -> None:
    at: list[float] = []

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at.append(time.monotonic())
        writer.write(b"-ERR max number of clients reached\r\n")

    async with listening(refuse) as address, connected(f"valkey://{address}"):
        await until(lambda: len(at) > 8)
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert min(pauses) >= LEAST_PAUSE_SECONDS * 0.9  # a timer may be a millisecond early
    assert len({round(pause, 2) for pause in pauses}) > 3


async def test_a_network_that_is_away_for_a_moment_costs_no_connection(network: Cutter) -> None:
    async with connected(url(network)) as heard:
        await heard.connection.call("PING")
        network.hold()
        replies = [heard.connection.run(ADD, ["sum"], 1) for _ in range(10)]
        await asyncio.sleep(0.3)
        assert not any(reply.done() for reply in replies)
        network.heal()
        assert await asyncio.gather(*replies) == list(range(1, 11))
        assert heard.connection.connects == 1


async def test_a_network_that_loses_all_is_found_out_and_each_change_is_made_once(
    network: Cutter, server: ValkeyServer
) -> None:
    async with connected(url(network)) as heard:
        assert await heard.connection.run(APPEND_ONCE, ["value", "changes"], "", "1") == b"ok"
        network.swallow()
        reply = heard.connection.run(APPEND_ONCE, ["value", "changes"], "1", "2")
        await until(lambda: not heard.connection.connected)
        network.heal()
        assert await reply in (b"ok", b"again")
    assert server.command("MGET", "value", "changes") == [b"2", b"2"]


# The end


async def test_closing_waits_for_what_is_on_its_way(network: Cutter, server: ValkeyServer) -> None:
    network.delay_seconds = 0.05
    heard = Heard(url(network))
    reply = heard.connection.call("SET", "a", 1)
    heard.connection.post("SET", "b", 2)
    await until(lambda: heard.connection.connected)
    heard.connection.post("SET", "c", 3)
    await heard.connection.aclose()
    assert await reply == b"OK"
    assert server.command("MGET", "a", "b", "c") == [b"1", None, b"3"]
    with pytest.raises(Unavailable):
        await heard.connection.call("PING")


async def test_closing_waits_for_a_server_that_hangs_only_so_long(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.1)
    heard = Heard(server.url)
    await heard.connection.call("PING")
    server.freeze()
    reply = heard.connection.call("PING")
    await heard.connection.aclose()
    await heard.connection.aclose()
    assert heard.connection.connects == 1
    with pytest.raises(Unavailable):
        await reply


async def test_closing_does_not_wait_where_nothing_is_on_its_way(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 1000)
    heard = Heard(server.url)
    await heard.connection.call("PING")
    server.freeze()
    await heard.connection.aclose()
    server.kill()
    heard = Heard(server.url, patience_seconds=0.1)
    with pytest.raises(Unavailable):
        await heard.connection.call("PING")
    await heard.connection.aclose()


async def test_no_timer_and_no_task_is_left_behind(server: ValkeyServer) -> None:
    before = asyncio.all_tasks()
    heard = Heard(server.url)
    await heard.connection.call("PING")
    await heard.connection.aclose()
    assert asyncio.all_tasks() == before
    assert heard.connection._patience is None
