"""The rights of the documented user: everything works with them, and each one is needed."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import cast

import pytest
from valkey import Valkey
from valkey.exceptions import ResponseError, ValkeyError

from service.errors import Unavailable
from service.eventlog import EventLog, NameTakenError, Retention, open_event_log
from service.eventlog.valkey.log import ValkeyEventLog
from service.events import Delta, Done, Event, Restart, Start, Timing, new_answer_id
from service.names import Naming
from service.request import Request
from tests.eventlog.another import tended
from tests.eventlog.valkey.rights import FILE, RIGHTS, USER
from tests.valkey import ValkeyServer
from tests.waiting import first, until

PASSWORD = "a-password-of-the-tests"  # noqa: S105 (the server's is on loopback)
LOOK_SECONDS = 0.2
"""Interval at which walks without a right that have missed it are ended."""


COMMANDS = [rule for rule in RIGHTS if rule.startswith("+")]
PLACES = [rule for rule in RIGHTS if rule[0] in "~&"]


@pytest.fixture
def limited(server: ValkeyServer) -> ValkeyServer:
    """A server that has the documented user, and notes all that it denies."""
    server.command("CONFIG", "SET", "acllog-max-len", "100000")
    server.command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", *RIGHTS)
    return server


def start(answer: str) -> Start:
    return Start(1, answer, "model")


def deltas(first_seq: int, count: int) -> list[Event]:
    return [Delta(seq, text=f"w{seq} ") for seq in range(first_seq, first_seq + count)]


async def walk(url: str) -> None:
    """Use all that the log can do, with two workers, and a third one that dies."""
    one, another, dying = (cast("ValkeyEventLog", open_event_log(url, Retention(answers=2))) for _ in range(3))
    try:
        await first(lambda: reachable(one))
        await first(lambda: reachable(another))
        await first(lambda: reachable(dying))
        await follow_and_end(one, another)
        await stop_and_hand_over(one, another)
        await forget(one, another)
        await name_a_large_request(one, another)
        await keep_two(one)
        await die(dying, one)
    finally:
        await asyncio.gather(one.aclose(), another.aclose(), dying.aclose())


async def reachable(log: EventLog) -> bool:
    with contextlib.suppress(Unavailable):
        await log.check()
        return True
    return False


async def name_a_large_request(one: EventLog, another: EventLog) -> None:
    messages = ({"role": "user", "content": "x" * 40_000},)
    name = "n" * 64
    asked = Start.asking(new_answer_id(), Request("model", messages), at=1.0, names=(name,))
    lease = await one.create(asked, [Naming(name, "digest", "only")])
    with pytest.raises(NameTakenError):
        await another.create(start(new_answer_id()), [Naming(name, "digest", "only")])
    one.mark_delivered(name, asked.answer)
    [named] = await another.named(name)
    assert named.answer == asked.answer
    await another.followed(asked.answer)
    without = Start(1, asked.answer, "model", request_bytes=40_100)
    await another.with_request(without)
    await lease.append([Done(2, "stop", None, Timing(0.1, 0.2))])
    lease.release()
    await one.erase(asked.answer)


async def follow_and_end(one: EventLog, another: EventLog) -> None:
    answer = new_answer_id()
    lease = await one.create(start(answer))
    await lease.append(deltas(2, 3))
    reader = await another.open(answer)
    assert len(await reader.read()) == 4
    await until(lease.watched)
    await lease.append([Done(5, "stop", None, Timing(0.1, 0.2))])
    await first(reader.read)
    assert await another.last(answer) == Done(5, "stop", None, Timing(0.1, 0.2))
    reader.close()
    lease.release()
    await another.erase(answer)


async def stop_and_hand_over(one: EventLog, another: EventLog) -> None:
    answer = new_answer_id()
    lease = await one.create(start(answer))
    lease.mark_unwatched(5)
    assert await lease.still_unwatched()
    lease.clear_unwatched()
    await another.request_stop(answer, "user")
    assert await first(lambda: asyncio.sleep(0.01, lease.stop_requested())) == "user"
    lease.hand_over()
    claimed = await first(lambda: another.claim(answer))
    claimed.grew()
    await claimed.append([Delta(claimed.last_seq + 1, text="on")])
    await claimed.renew()
    again = claimed.last_seq + 1
    await claimed.append([Restart(again, again=True), Delta(again + 1, text="again")], anew=True)
    await claimed.append([Done(again + 2, "stop", None, Timing(0.1, 0.2))])
    claimed.release()


async def forget(one: EventLog, another: EventLog) -> None:
    """A worker connects again and asks whether the log is as it wrote it."""
    lease = await one.create(start(new_answer_id()))
    reader = await another.open(lease.answer_id)
    for log in (one, another):
        store = cast("ValkeyEventLog", log)._store
        pipeline = store.connection._pipeline
        assert pipeline is not None
        pipeline.abort("cut")
        await first(lambda log=log: reachable(log))  # type: ignore[misc]
    await lease.append([Done(2, "stop", None, Timing(0.1, 0.2))])
    await first(reader.read)
    reader.close()


async def keep_two(one: EventLog) -> None:
    """The oldest ended answers are erased."""
    ended = []
    for _ in range(3):
        lease = await one.create(start(new_answer_id()))
        await lease.append([Done(2, "stop", None, Timing(0.1, 0.2))])
        ended.append(lease.answer_id)
    await tended(one)
    await tended(one)


async def die(dying: ValkeyEventLog, one: EventLog) -> None:
    """A worker dies with an answer. Another one finds it, and takes it over."""
    lease = await dying.create(start(new_answer_id()))
    await dying._heartbeat.aclose()

    async def found() -> bool:
        return lease.answer_id in await tended(one)

    await first(found)
    claimed = await first(lambda: one.claim(lease.answer_id))
    await claimed.append([Done(claimed.last_seq + 1, "stop", None, Timing(0.1, 0.2))])
    await tended(one)


def denied(server: ValkeyServer) -> dict[str, set[str]]:
    """Return what was denied, by user."""
    found: dict[str, set[str]] = {}
    for flat in server.command("ACL", "LOG", 100_000):
        entry = dict(zip(flat[::2], flat[1::2], strict=True))
        found.setdefault(entry[b"username"].decode(), set()).add(entry[b"object"].decode())
    return found


async def test_everything_works_with_the_documented_rights(limited: ValkeyServer) -> None:
    limited.command("CONFIG", "RESETSTAT")
    await walk(f"valkey://{USER}:{PASSWORD}@{limited.address}/1")
    assert denied(limited) == {}
    # The walk has used each command.
    used = {name.removeprefix("cmdstat_") for name in limited.command("INFO", "commandstats")}
    assert {command.removeprefix("+") for command in COMMANDS} <= used


async def test_each_documented_right_is_needed(limited: ValkeyServer) -> None:
    """As many users as rights, each without one of them, with keys of its own."""
    walks: dict[str, asyncio.Task[None]] = {}
    tried: dict[str, str] = {}
    for number, right in enumerate([*COMMANDS, *PLACES]):
        user = f"without-{number}"
        rules = [rule for rule in RIGHTS if rule != right]
        mine = [re.sub(r"([~&{]{1,2})folyam", rf"\1{user}", rule) for rule in rules]
        limited.command("ACL", "SETUSER", user, "on", f">{PASSWORD}", *mine)
        walks[user] = asyncio.create_task(walk(f"valkey://{user}:{PASSWORD}@{limited.address}/1?prefix={user}"))
        tried[user] = right
    while running := [each for each in walks.values() if not each.done()]:
        await asyncio.wait(running, timeout=LOOK_SECONDS)
        for user in denied(limited):
            walks[user].cancel()  # Requests that are refused again and again would make it wait.
    await asyncio.gather(*walks.values(), return_exceptions=True)
    refused = denied(limited)
    assert {right for user, right in tried.items() if user not in refused} == set()
    assert all(refused[user] == {right.removeprefix("+")} for user, right in tried.items() if right in COMMANDS)


def test_the_file_of_users_is_one_that_a_server_takes(tmp_path: Path) -> None:
    text = FILE.read_text()
    (tmp_path / "users.acl").write_text(text.replace("PASSWORD", PASSWORD))
    options = ["--aclfile", str(tmp_path / "users.acl")]
    server = ValkeyServer(tmp_path / "valkey", options=options)
    server.launch()
    try:
        with Valkey(server.address.host, server.address.port, username=USER, password=PASSWORD, protocol=2) as client:

            def serves() -> bool:
                with contextlib.suppress(ValkeyError):
                    return bool(client.ping())
                return False

            asyncio.run(until(serves))
            with pytest.raises(ResponseError, match=r"(?i)no permissions"):
                client.get("another:key")
            with pytest.raises(ResponseError, match=r"(?i)no permissions"):
                client.flushall()
        with (
            Valkey(server.address.host, server.address.port, protocol=2) as nobody,
            pytest.raises(ValkeyError, match="Authentication required"),
        ):
            nobody.ping()
    finally:
        server.kill()
