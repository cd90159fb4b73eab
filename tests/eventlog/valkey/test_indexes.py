"""The indexes of answers by their owners, which are apart from the leases."""

from service.eventlog import Retention, open_event_log
from service.events import Start, new_answer_id
from tests.valkey import ValkeyServer
from tests.waiting import until


async def test_an_answer_that_is_among_those_of_nobody_before_its_lease_is_gets_a_producer(
    server: ValkeyServer,
) -> None:
    first, second = (open_event_log(server.url, Retention()) for _ in range(2))
    answer = new_answer_id()
    await first.create(Start(1, answer, "model"))
    [[owner]] = [server.command("HMGET", f"folyam:{{{answer}}}:lease", "owner")]
    theirs, nobodys = f"{{folyam}}:leases:{owner.decode()}", "{folyam}:leases:-"
    found: list[str] = []

    def is_owner_known() -> bool:
        return bool(second._store.workers.is_alive(owner.decode()))  # type: ignore[attr-defined]

    await until(is_owner_known)
    server.command("SMOVE", theirs, nobodys, answer)
    await second.tend(found.append)
    assert found == [answer]
    assert await second.claim(answer) is None
    await until(lambda: server.command("SISMEMBER", theirs, answer))
    assert not server.command("SISMEMBER", nobodys, answer)
    await first.aclose()
    await second.aclose()
