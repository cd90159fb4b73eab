"""What is measured of the connection, of what the server forgot, and of its memory."""

from pathlib import Path

from prometheus_client import REGISTRY

from service.eventlog import Retention, open_event_log
from service.events import Delta, Done, Start, Timing, new_answer_id
from tests.eventlog.another import tended
from tests.eventlog.valkey.connecting import connected
from tests.valkey import ValkeyServer
from tests.waiting import until

MEBIBYTE = 1 << 20


def value(name: str) -> float:
    found = REGISTRY.get_sample_value(f"folyam_log_{name}")
    assert found is not None
    return found


async def test_a_worker_without_its_connection_is_counted_until_it_has_one_again(server: ValkeyServer) -> None:
    async with connected(server.url) as heard:
        assert value("disconnected") == 1
        await heard.connection.call("PING")
        assert value("disconnected") == 0
        before = value("reconnects_total")
        server.kill()
        await until(lambda: value("disconnected") == 1)
        server.start()
        await heard.connection.call("PING")
        assert (value("disconnected"), value("reconnects_total") - before) == (0, 1)
        server.kill()
        await until(lambda: value("disconnected") == 1)
    assert value("disconnected") == 0, "it is wanted no more"


async def test_each_append_that_is_put_back_is_counted(server: ValkeyServer) -> None:
    log = open_event_log(server.url, Retention())
    lease = await log.create(Start(1, new_answer_id(), "model"))
    for seq in range(2, 5):
        await lease.append([Delta(seq, text="word ")])
    before = value("entries_put_back_total")
    # One byte less is one command less: the last append.
    server.forget(1)
    await until(lambda: value("entries_put_back_total") > before)
    await lease.append([Done(5, "stop", None, Timing(0.1, 0.2))])
    await log.aclose()
    assert value("entries_put_back_total") - before == 1


async def test_the_workers_the_answers_and_the_servers_memory_are_measured(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey", options=["--maxmemory", "64mb"]) as server:
        logs = [open_event_log(server.url, Retention()) for _ in range(3)]
        for log in logs:
            lease = await log.create(Start(1, new_answer_id(), "model"))
        await lease.append([Done(2, "stop", None, Timing(0.1, 0.2))])
        await until(lambda: value("workers") == 3)
        await tended(logs[0])
        await until(lambda: value("memory_limit_bytes") == 64 * MEBIBYTE)
        assert 0 < value("memory_used_bytes") < 64 * MEBIBYTE
        await tended(logs[0])
        assert value("answers") == 3
        assert value("bytes") > 0
        for log in logs:
            await log.aclose()
