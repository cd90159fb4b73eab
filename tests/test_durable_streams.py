"""`/v1/stream/<id>` in one process, for answers that another worker produces."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.config import Settings
from service.eventlog import Lease, Retention
from service.eventlog.files.log import FileEventLog
from service.events import Attempt, Delta, Done, Event, Restart, Start, Timing, encode, new_answer_id, public_events
from service.follower import PORTION_READS
from service.question import to_request
from service.renderings.durable_streams import offset_of
from tests.in_process import Reply, ask, running
from tests.renderings.event_stream import parse
from tests.waiting import DEADLINE_SECONDS, first, until

LONG_SECONDS = 600.0
BLOCK_BYTES = 10_000


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[FileEventLog]:
    """The log of another worker."""
    log = FileEventLog(str(tmp_path / "log"), Retention())
    yield log
    await log.aclose()


def app_with(directory: Path, heartbeat_seconds: float, **more: Any) -> FastAPI:  # noqa: ANN401 (settings)
    settings = Settings(
        openai_base_url="http://127.0.0.1:9/v1",
        model="model",
        log_url=(directory / "log").as_uri(),
        heartbeat_seconds=heartbeat_seconds,
        drain_seconds=0,
        max_followers=2,
        **more,
    )
    return create_app(settings)


@pytest.fixture
async def app(log: FileEventLog, tmp_path: Path) -> AsyncIterator[FastAPI]:  # noqa: ARG001 (makes the directory)
    async with running(app_with(tmp_path, LONG_SECONDS)) as app:
        yield app


@pytest.fixture
async def impatient(log: FileEventLog, tmp_path: Path) -> AsyncIterator[FastAPI]:  # noqa: ARG001 (the same)
    """A service that lets nobody wait for long."""
    async with running(app_with(tmp_path, 0.1)) as app:
        yield app


async def begun(log: FileEventLog, *texts: str) -> Lease:
    lease = await log.create(Start.asking(new_answer_id(), to_request("words", model="model"), at=1.5))
    await say(lease, *texts)
    return lease


async def say(lease: Lease, *texts: str) -> None:
    await lease.append([Delta(lease.last_seq + each, text=text) for each, text in enumerate(texts, 1)])


async def end(lease: Lease) -> None:
    await lease.append([Done(lease.last_seq + 1, "stop", None, Timing(0.1, 0.2))])
    lease.release()


async def get(app: FastAPI, lease: Lease, query: str = "", tag: str | None = None) -> Reply:
    headers = [] if tag is None else [("if-none-match", tag)]
    return await asyncio.wait_for(
        ask(app, "GET", f"/v1/stream/{lease.answer_id}{query}", headers=headers), DEADLINE_SECONDS
    )


def stream_headers(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("stream-")}


def text_of(reply: Reply) -> str:
    return "".join(event.get("text", "") for event in json.loads(reply.body))


async def test_a_get_has_what_there_is_as_one_array(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "á", "b")
    reply = await get(app, lease)
    assert reply.status == 200
    assert json.loads(reply.body) == [
        {"type": "start", "seq": 1, "answer": lease.answer_id, "model": "model"},
        {"type": "delta", "seq": 3, "text": "áb"},
    ]
    cursor = reply.headers["stream-cursor"]
    assert stream_headers(reply) == {
        "stream-next-offset": offset_of(3),
        "stream-up-to-date": "true",
        "stream-cursor": cursor,
    }
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "private, no-cache"
    assert reply.headers["x-answer-id"] == lease.answer_id
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert (await get(app, lease, "?offset=-1&an=other")).body == reply.body
    await end(lease)


async def test_from_each_offset_it_has_what_comes_behind_and_nothing_else(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a", "b", "c")
    await end(lease)
    for seq, text in enumerate(["abc", "abc", "bc", "c", "", ""]):
        reply = await get(app, lease, f"?offset={offset_of(seq)}")
        assert (reply.status, text_of(reply)) == (200, text)
        assert reply.headers["stream-next-offset"] == offset_of(5)
        assert reply.headers["stream-closed"] == "true"


async def test_a_long_answer_comes_in_portions_that_are_the_whole_together(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, *(f"{n} " + "x" * BLOCK_BYTES for n in range(4 * PORTION_READS)))
    await end(lease)
    offset, text, portions = "-1", "", 0
    while True:
        reply = await get(app, lease, f"?offset={offset}")
        text += text_of(reply)
        offset = reply.headers["stream-next-offset"]
        portions += 1
        if "stream-up-to-date" in reply.headers:
            break
        assert "stream-closed" not in reply.headers
    assert portions > 1
    assert reply.headers["stream-closed"] == "true"
    assert text == "".join(f"{n} " + "x" * BLOCK_BYTES for n in range(4 * PORTION_READS))


async def test_a_portion_is_not_sent_again_to_whom_has_it(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a")
    reply = await get(app, lease)
    tag = reply.headers["etag"]
    for known in (tag, f'"other", {tag}', "*"):
        again = await get(app, lease, tag=known)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == tag
        assert stream_headers(again) == stream_headers(reply) | {"stream-cursor": again.headers["stream-cursor"]}
        assert "content-length" not in again.headers
    assert (await get(app, lease, tag='"other"')).status == 200
    assert (await get(app, lease, f"?offset={offset_of(1)}", tag=tag)).status == 200
    await say(lease, "b")
    assert (await get(app, lease, tag=tag)).status == 200
    lease.release()
    await log.erase(lease.answer_id)
    assert (await get(app, lease, tag=tag)).status == 404


async def test_now_is_the_place_behind_the_last_event(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a")
    reply = await get(app, lease, "?offset=now")
    assert (reply.status, reply.body) == (200, b"[]")
    assert reply.headers["stream-next-offset"] == offset_of(2)
    assert reply.headers["cache-control"] == "no-store"
    assert "etag" not in reply.headers
    await end(lease)
    assert (await get(app, lease, "?offset=now")).headers["stream-closed"] == "true"


async def test_head_tells_how_far_the_answer_is(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a")

    async def head() -> Reply:
        return await ask(app, "HEAD", f"/v1/stream/{lease.answer_id}")

    reply = await head()
    assert (reply.status, reply.body) == (200, b"")
    assert stream_headers(reply) == {"stream-next-offset": offset_of(2)}
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"
    assert "content-length" not in reply.headers
    await end(lease)
    assert stream_headers(await head()) == {
        "stream-next-offset": offset_of(3),
        "stream-up-to-date": "true",
        "stream-closed": "true",
    }


async def test_a_long_poll_waits_for_the_next_event_and_keeps_the_answer_watched(
    app: FastAPI, log: FileEventLog
) -> None:
    lease = await begun(log, "a")
    waiting = asyncio.create_task(get(app, lease, f"?offset={offset_of(2)}&live=long-poll"))
    await until(lease.watched)
    await lease.append([Delta(3, attempt=Attempt(1))])  # private: it is none of the client's events
    assert not waiting.done()
    await lease.append([Delta(4, text="b")])
    reply = await waiting
    assert (reply.status, text_of(reply)) == (200, "b")
    assert reply.headers["stream-next-offset"] == offset_of(4)
    assert reply.headers["stream-up-to-date"] == "true"
    assert reply.headers["cache-control"] == "no-store"
    await until(lambda: not lease.watched())
    await end(lease)


async def test_a_long_poll_in_vain_ends_after_a_heartbeats_time(impatient: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a")
    for offset in (offset_of(2), "now"):
        reply = await get(impatient, lease, f"?offset={offset}&live=long-poll&cursor=7000000000")
        assert (reply.status, reply.body) == (204, b"")
        assert stream_headers(reply) == {
            "stream-next-offset": offset_of(2),
            "stream-up-to-date": "true",
            "stream-cursor": "7000000001",
        }
    await end(lease)


@pytest.mark.parametrize("offset", [offset_of(3), "now"])
async def test_at_the_end_of_an_answer_nobody_waits(app: FastAPI, log: FileEventLog, offset: str) -> None:
    lease = await begun(log, "a")
    await end(lease)
    reply = await get(app, lease, f"?offset={offset}&live=long-poll")
    assert reply.status == 204
    assert reply.headers["stream-closed"] == "true"
    followed = await get(app, lease, f"?offset={offset}&live=sse")
    assert followed.status == 200
    assert controls(followed) == [{"streamNextOffset": offset_of(3), "streamClosed": True}]


async def test_a_client_that_leaves_a_long_poll_does_not_follow_any_more(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a")
    messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/stream/{lease.answer_id}",
        "raw_path": b"",
        "root_path": "",
        "query_string": f"offset={offset_of(2)}&live=long-poll".encode(),
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }

    async def send(_: MutableMapping[str, Any]) -> None:
        """Send nothing: the client is gone."""

    serving = asyncio.create_task(app(scope, messages.get, send))
    await until(lease.watched)
    messages.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(serving, DEADLINE_SECONDS)
    await until(lambda: not lease.watched())
    await end(lease)


async def test_long_polls_count_as_followers(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a")
    waiting = [asyncio.create_task(get(app, lease, "?offset=now&live=long-poll")) for _ in range(2)]

    async def is_refused() -> bool:
        return (await get(app, lease)).status == 503

    await first(is_refused)
    await end(lease)
    assert {(await each).status for each in waiting} == {200}
    assert (await get(app, lease)).status == 200


def controls(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(message.data) for message in parse(reply.body).messages if message.event == "control"]


async def test_server_sent_events_have_the_same_messages(app: FastAPI, log: FileEventLog) -> None:
    lease = await begun(log, "a", "b")
    following = asyncio.create_task(get(app, lease, "?offset=-1&live=sse"))
    await until(lease.watched)
    await say(lease, "c")
    await lease.append([Restart(5)])
    await say(lease, "d")
    await end(lease)
    reply = await following
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache, no-store"
    seen = [
        event for message in parse(reply.body).messages if message.event == "data" for event in json.loads(message.data)
    ]
    reader = await log.open(lease.answer_id, watch=False)
    events: list[Event] = list(await reader.read())
    reader.close()
    assert [event["type"] for event in seen if event["type"] != "delta"] == ["start", "restart", "done"]
    assert seen[-1] == json.loads(encode(public_events(events[-1:])[0]))
    assert "".join(event.get("text", "") for event in seen) == "abcd"
    assert controls(reply)[-1] == {"streamNextOffset": offset_of(7), "streamClosed": True}
    assert [control["streamNextOffset"] for control in controls(reply)] == sorted(
        {control["streamNextOffset"] for control in controls(reply)}
    )


async def test_where_a_worker_leaves_the_body_ends_without_a_cut(
    app: FastAPI, log: FileEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut is an error to the protocol's clients. They ask again where a body ends and the stream is not closed."""
    monkeypatch.setattr("service.answers.LATE_FOLLOWER_SECONDS", 0)
    lease = await begun(log, "a")
    following = asyncio.create_task(get(app, lease, "?offset=-1&live=sse"))
    polling = asyncio.create_task(get(app, lease, "?offset=now&live=long-poll"))
    await until(lease.watched)
    app.state.answers.leave()
    reply = await following
    assert controls(reply)[-1]["streamNextOffset"] == offset_of(2)
    assert not any("streamClosed" in control for control in controls(reply))
    assert (await polling).status == 204
    await end(lease)


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
async def test_an_offset_ahead_of_the_answer_is_refused(app: FastAPI, log: FileEventLog, live: str) -> None:
    lease = await begun(log, "a")
    reply = await get(app, lease, f"?offset={offset_of(3)}{live}")
    assert reply.status == 400
    error = json.loads(reply.body)["error"]
    assert (error["code"], error["field"]) == ("invalid_input", "offset")
    await end(lease)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nobody_writes(app: FastAPI, log: FileEventLog, method: str) -> None:
    lease = await begun(log, "a")
    reply = await ask(app, method, f"/v1/stream/{lease.answer_id}")
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, HEAD"
    await end(lease)


async def test_a_service_without_the_door_has_nothing_there(log: FileEventLog, tmp_path: Path) -> None:
    lease = await begun(log, "a")
    await end(lease)
    async with running(app_with(tmp_path, LONG_SECONDS, apis=("chat",))) as app:
        reply = await get(app, lease)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "unknown_url")
