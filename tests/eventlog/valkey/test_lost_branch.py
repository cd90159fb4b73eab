"""What a worker has in memory of a log, and the server has no longer."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.eventlog import LeaseLostError, Retention
from service.eventlog.valkey.address import parse_address
from service.eventlog.valkey.log import ValkeyEventLog
from service.eventlog.valkey.store import READ_ENTRIES
from service.events import Delta, Event, Start, new_answer_id
from tests.valkey import ValkeyServer
from tests.waiting import until


@pytest.fixture
async def log(server: ValkeyServer) -> AsyncIterator[ValkeyEventLog]:
    log = ValkeyEventLog(parse_address(server.url), Retention())
    yield log
    await log.aclose()


async def test_readers_are_not_served_what_another_history_of_the_log_had(
    server: ValkeyServer, log: ValkeyEventLog
) -> None:
    answer = new_answer_id()
    key, kept = f"folyam:{{{answer}}}:log", READ_ENTRIES + 10
    said: list[Event] = [Start(1, answer, "model")]
    lease = await log.create(Start(1, answer, "model"))
    with contextlib.closing(await log.open(answer)) as first:
        while len(said) < kept + 20:
            said.append(Delta(lease.last_seq + 1, text="w "))
            await lease.append(said[-1:])
            await first.read()
        entries = server.command("XRANGE", key, "-", f"{kept}-0")
        server.command("DEL", key)
        for name, fields in entries:
            server.command("XADD", key, name, *(part for field in fields.items() for part in field))
        server.command("XADD", key, "1000-0", "c", "another.1.00000000")
        server.command("HSET", f"folyam:{{{answer}}}:lease", "owner", "another.1.00000000")
        with pytest.raises(LeaseLostError):
            await lease.append([Delta(lease.last_seq + 1, text="w ")])
        found: list[Event] = []
        with contextlib.closing(await log.open(answer)) as reader:
            while events := await reader.read():
                found += events
    assert found == said[:kept]


async def test_a_heartbeat_that_fails_is_not_the_last_one(
    server: ValkeyServer, log: ValkeyEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = log._store.workers
    failed: list[Any] = []

    def fail(counts: Any) -> set[str]:  # noqa: ANN401
        failed.append(counts)
        monkeypatch.undo()
        raise ValueError

    monkeypatch.setattr(workers, "look", fail)
    await until(lambda: failed)
    await until(lambda: int(server.command("HGET", "{folyam}:workers", workers.me) or 0) > 2)
