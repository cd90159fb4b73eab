"""Users, passwords and rights: a connection without them is told of by code, and never by value."""

import asyncio
import gc
import time
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.eventlog.valkey.connection import COMPLAINT_SECONDS
from service.eventlog.valkey.pipeline import ErrorReply
from tests.eventlog.valkey.connecting import ADD, connected
from tests.eventlog.valkey.rights import RIGHTS
from tests.valkey import ValkeyServer
from tests.waiting import until


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ("", "HELLO NOAUTH"),
        (":wrong-canary@", "HELLO WRONGPASS"),
        ("nobody:secret-canary@", "HELLO WRONGPASS"),
        ("unready:secret-canary@", "SCRIPT NOPERM"),
    ],
)
async def test_a_login_that_fails_is_told_once_a_second_without_the_password(
    server: ValkeyServer, login: str, reason: str
) -> None:
    server.command("ACL", "SETUSER", "unready", "on", ">secret-canary", "+hello", "+client|setname", "+role")
    server.require("secret")
    began = time.monotonic()
    with capture_logs() as lines:
        async with connected(f"valkey://{login}{server.address}", patience_seconds=0.3) as heard:
            with pytest.raises(Unavailable):
                await heard.connection.call("PING")
            await until(lambda: len(lines) > 1)
        seconds = time.monotonic() - began
        assert not heard.connection.connects
    assert {line["event"] for line in lines} == {"valkey_unreachable"}
    assert {line["reason"] for line in lines} == {reason}
    assert len(lines) <= 1 + seconds / COMPLAINT_SECONDS
    assert "canary" not in repr(lines) + repr(heard.connection._address)


async def test_a_password_may_have_any_characters(server: ValkeyServer) -> None:
    odd = "p@ss:/w%rd?#ü"
    server.command("ACL", "SETUSER", "a-user", "on", f">{odd}", "~*", "+@all")
    async with connected(f"valkey://a-user:{quote(odd, safe='')}@{server.address}") as heard:
        assert await heard.connection.call("ACL", "WHOAMI") == b"a-user"


async def test_a_password_alone_is_the_default_users(server: ValkeyServer) -> None:
    server.require("secret")
    for login in (":secret@", "secret@", "default:secret@"):
        async with connected(f"valkey://{login}{server.address}") as heard:
            assert await heard.connection.call("ACL", "WHOAMI") == b"default"


async def test_the_documented_rights_are_enough_and_others_are_refused(server: ValkeyServer) -> None:
    server.command("ACL", "SETUSER", "limited", "on", ">secret", *RIGHTS)
    async with connected(f"valkey://limited:secret@{server.address}") as heard:
        call = heard.connection.call
        # The script uses INCRBY, and keys of another prefix are refused in it, too.
        assert await heard.connection.run(ADD, ["folyam:sum"], 2) == 2
        assert await call("SSUBSCRIBE", "folyam:channel") == [b"ssubscribe", b"folyam:channel", 1]
        for refused in (("SET", "folyam:a", 1), ("GET", "other"), ("SSUBSCRIBE", "other"), ("CONFIG", "GET", "*")):
            with pytest.raises(ErrorReply, match="NOPERM"):
                await call(*refused)
        with pytest.raises(ErrorReply):
            await heard.connection.run(ADD, ["other"], 2)
        assert heard.connection.connects == 1


async def test_a_connection_has_its_name_and_its_database(server: ValkeyServer) -> None:
    async with connected(f"{server.url}/3") as heard:
        await heard.connection.call("SET", "a", 1)
        assert "under-test" in server.clients()
    assert server.command("GET", "a") is None
    async with connected(f"{server.url}/3") as heard:
        assert await heard.connection.call("GET", "a") == b"1"
    async with connected(f"{server.url}/9999", patience_seconds=0.2) as heard:
        with pytest.raises(Unavailable):
            await heard.connection.call("GET", "a")


async def test_a_password_that_is_changed_back_is_accepted(server: ValkeyServer) -> None:
    server.require("other")
    async with connected(f"valkey://:secret@{server.address}") as heard:
        waiting = heard.connection.call("PING")
        await asyncio.sleep(0.2)
        assert not waiting.done()
        server.require("secret")
        assert await waiting == b"PONG"


async def test_a_refusal_that_nobody_waits_for_is_not_logged_by_asyncio(server: ValkeyServer) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with connected(server.url) as heard:
        heard.connection.call("NOSUCHCOMMAND")
        await heard.connection.call("PING")
        with pytest.raises(ErrorReply):
            await heard.connection.call("NOSUCHCOMMAND")
    heard.connection.call("PING")  # It is closed.
    gc.collect()
    assert not complaints
