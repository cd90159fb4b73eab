"""Names on a Valkey server, where a worker may be held up between a name and its log."""

from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from service.errors import UnknownAnswer
from service.eventlog import NameTakenError, Retention, open_event_log
from service.eventlog.valkey import names
from service.eventlog.valkey.log import ValkeyEventLog
from service.events import Done, Start, Timing, new_answer_id
from service.names import Naming
from tests.valkey import ValkeyServer

NAME = "n" * 64


@pytest.fixture
async def logs(server: ValkeyServer) -> AsyncIterator[Sequence[ValkeyEventLog]]:
    logs = [cast("ValkeyEventLog", open_event_log(server.url, Retention())) for _ in range(2)]
    yield logs
    for log in logs:
        await log.aclose()


def start() -> Start:
    return Start(1, new_answer_id(), "model", names=(NAME,))


async def test_a_worker_that_was_held_up_does_not_begin_an_answer_whose_name_is_anothers(
    logs: Sequence[ValkeyEventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "PENDING_SECONDS", 0.0)
    slow, fast = logs
    late, naming = start(), [Naming(NAME, "digest", "only")]
    await slow._names.take(late.answer, naming)
    other = start()
    await fast.create(other, naming)

    async def taken_before(*_: object) -> None:
        pass

    monkeypatch.setattr(slow._names, "take", taken_before)
    with pytest.raises(NameTakenError):
        await slow.create(late, naming)
    with pytest.raises(UnknownAnswer):
        await fast.last(late.answer)
    assert [named.answer for named in await slow.named(NAME)] == [other.answer]


@pytest.mark.parametrize("how", ["by its first producer", "after a take-over"])
async def test_a_name_expires_with_the_log_of_an_answer_that_has_ended(
    logs: Sequence[ValkeyEventLog], how: str
) -> None:
    log = logs[0]
    began = start()
    lease = await log.create(began, [Naming(NAME, "digest", "only")])
    key, call = log._store.keys.name(NAME), log._store.connection.call
    milliseconds = log._keep_milliseconds
    assert await call("PTTL", key) > milliseconds
    if how == "after a take-over":
        lease.release()
        claimed = await log.claim(began.answer)
        assert claimed is not None
        lease = claimed
    await lease.append([Done(lease.last_seq + 1, "stop", None, Timing(0.1, 0.2))])
    lease.release()
    await log.named(NAME)
    await log.named(NAME)
    assert milliseconds - 60_000 < await call("PTTL", key) <= milliseconds
