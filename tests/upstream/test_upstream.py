"""Each misbehaviour of the upstream, seen from a raw socket."""

import base64
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI, RateLimitError

from tests.upstream.process import UpstreamProcess
from tests.upstream.script import NotAScript, command, from_query
from tests.upstream.stamp import stamps

DEADLINE_SECONDS = 5.0
FOREVER = 3600.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamProcess]:
    with UpstreamProcess.start() as process:
        yield process


@dataclass
class Reply:
    """Return the bytes received until the socket's end."""

    status: int
    headers: dict[str, str]
    writes: list[bytes]
    """The body, HTTP chunk by HTTP chunk."""
    whole: bool
    """The body came to its proper end."""
    reset: bool
    """The connection was reset."""

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    @property
    def events(self) -> list[Any]:
        lines = self.body.decode().splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    @property
    def text(self) -> str:
        return "".join(
            choice["delta"].get("content", "") for event in self.events for choice in event.get("choices", ())
        )


def connect(upstream: UpstreamProcess) -> socket.socket:
    address = urlsplit(upstream.address)
    assert address.hostname
    assert address.port
    return socket.create_connection((address.hostname, address.port), timeout=DEADLINE_SECONDS)


def send(connection: socket.socket, query: str, given: str = "", version: str = "1.1", **more: object) -> None:
    messages = [{"role": "user", "content": query}]
    if given:
        messages.append({"role": "assistant", "content": given})
    body = json.dumps({"model": "test-model", "stream": True, "messages": messages, **more}).encode()
    head = f"POST /v1/chat/completions HTTP/{version}\r\nHost: test\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Authorization: Bearer secret\r\n\r\n".encode() + body)


def receive(connection: socket.socket) -> Reply:
    """Read one response to its end."""
    file = connection.makefile("rb")
    with file:
        status = int(file.readline().split()[1])
        headers = {}
        while field := file.readline().strip().decode():
            name, value = field.split(": ", 1)
            headers[name.lower()] = value
        reply = Reply(status, headers, writes=[], whole=False, reset=False)
        try:
            if "content-length" in headers:
                reply.writes.append(file.read(int(headers["content-length"])))
                reply.whole = True
            elif "transfer-encoding" in headers:
                while line := file.readline():
                    chunk = file.read(int(line, 16))
                    file.readline()
                    if not chunk:
                        reply.whole = True
                        break
                    reply.writes.append(chunk)
            else:
                reply.writes.append(file.read())
        except ConnectionResetError:
            reply.reset = True
        return reply


def ask(upstream: UpstreamProcess, query: str, given: str = "", version: str = "1.1", **more: object) -> Reply:
    with connect(upstream) as connection:
        send(connection, query, given, version, **more)
        return receive(connection)


def test_any_text_gets_a_plain_answer(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, "What is a river?")
    assert (reply.status, reply.whole) == (200, True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text == "w1 w2 w3 w4 w5 w6 w7 w8 "
    assert reply.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert reply.events[-1]["choices"][0]["finish_reason"] == "stop"
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_the_official_client_reads_it(upstream: UpstreamProcess) -> None:
    async with AsyncOpenAI(base_url=upstream.base_url, api_key="k") as client:
        stream = await client.chat.completions.create(
            model="test-model",
            messages=[{"role": "user", "content": command(chunks=3)}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "w1 w2 w3 "
        assert chunks[-1].usage
        assert chunks[-1].usage.completion_tokens == 3
        assert [model.id async for model in client.models.list()] == ["test-model"]
        with pytest.raises(RateLimitError):
            await client.with_options(max_retries=0).chat.completions.create(
                model="test-model", messages=[{"role": "user", "content": command(status=429)}]
            )


def test_the_usage_comes_last_and_only_when_asked_for(upstream: UpstreamProcess) -> None:
    asked = {"include_usage": True}
    last = ask(upstream, command(chunks=3), stream_options=asked).events[-1]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)
    for reply in (ask(upstream, command()), ask(upstream, command(usage=False), stream_options=asked)):
        assert all(event.get("usage") is None for event in reply.events)


def test_what_is_said_can_be_chosen(upstream: UpstreamProcess) -> None:
    assert ask(upstream, command(texts=["a", "\r\n\n", "é😀\x00"])).text == "a\r\n\né😀\x00"
    assert ask(upstream, command(chunks=2, text="[{n}]")).text == "[1][2]"
    assert ask(upstream, command(chunks=0, role=False)).text == ""


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_comes_before_the_text_in_a_field_of_its_own(upstream: UpstreamProcess, name: str) -> None:
    events = ask(upstream, command(reasoning=["hm ", "so "], reasoning_field=name, chunks=1)).events
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[1:4] == [{name: "hm "}, {name: "so "}, {"content": "w1 "}]


def test_refusal_and_choices(upstream: UpstreamProcess) -> None:
    deltas = [event["choices"][0] for event in ask(upstream, command(chunks=0, refusal="No.")).events]
    assert deltas[1]["delta"] == {"refusal": "No."}
    events = ask(upstream, command(chunks=2, choices=2)).events
    assert [event["choices"][0]["index"] for event in events[1:-1]] == [0, 1, 0, 1]


CALLS = [{"name": "weather", "arguments": ['{"city":', '"Győr"}']}, {"arguments": ['{"a":1}'], "id": "c"}]


def called(upstream: UpstreamProcess, *style: str) -> tuple[list[Any], str]:
    events = ask(upstream, command(chunks=0, role=False, tool_calls=CALLS, tool_style=style)).events
    *choices, end = [event["choices"][0] for event in events]
    return [choice["delta"]["tool_calls"] for choice in choices], end["finish_reason"]


def test_tools_are_called_piece_by_piece(upstream: UpstreamProcess) -> None:
    calls, reason = called(upstream)
    assert reason == "tool_calls"
    assert calls == [
        [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"city":'}}],
        [{"index": 0, "function": {"arguments": '"Győr"}'}}],
        [{"index": 1, "id": "c", "type": "function", "function": {"name": "look_up", "arguments": ""}}],
        [{"index": 1, "function": {"arguments": '{"a":1}'}}],
    ]


def test_tools_are_called_in_the_ways_of_other_servers(upstream: UpstreamProcess) -> None:
    assert [call["index"] for [call] in called(upstream, "zero")[0]] == [0, 0, 0, 0, 0]
    assert [call["index"] for [call] in called(upstream, "interleaved")[0]] == [0, 1, 0, 1, 0]
    assert [call["id"] for [call] in called(upstream, "repeated", "glued")[0]] == ["call_1", "call_1", "c"]
    assert called(upstream, "nulls")[0][1] == [
        {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '{"city":'}}
    ]
    [both] = called(upstream, "whole", "objects", "no_id", "no_index")[0]
    assert both[0] == {"type": "function", "function": {"name": "weather", "arguments": {"city": "Győr"}}}
    query = command(chunks=0, role=False, tool_calls=CALLS, tool_style=["function_call"])
    events = ask(upstream, query).events
    assert events[0]["choices"][0]["delta"] == {"function_call": {"name": "weather", "arguments": ""}}
    whole = json.loads(ask(upstream, query, stream=False).body)["choices"][0]["message"]
    assert whole["function_call"] == {"name": "weather", "arguments": '{"city":"Győr"}'}


def test_a_whole_message_has_all_voices(upstream: UpstreamProcess) -> None:
    query = command(chunks=0, tool_calls=CALLS, reasoning=["hm ", "so"], refusal="No.")
    choice = json.loads(ask(upstream, query, stream=False).body)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["content"], message["reasoning_content"], message["refusal"]) == (None, "hm so", "No.")
    assert message["tool_calls"][1] == {
        "id": "c",
        "type": "function",
        "function": {"name": "look_up", "arguments": '{"a":1}'},
    }


def test_the_results_of_tools_are_answered(upstream: UpstreamProcess) -> None:
    query = command(chunks=0, tool_calls=CALLS, after_tools={"texts": ["It is {results}."], "chunks": 1})
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": query},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    reply = ask(upstream, query, messages=messages)
    assert reply.text == "It is sunny."
    assert reply.events[-1]["choices"][0]["finish_reason"] == "stop"
    again = [*messages, {"role": "user", "content": query}]
    assert ask(upstream, query, messages=again).events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_end_may_lack_the_finish_and_the_sentinel(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(finish_reason=None, no_done=True, chunks=2))
    assert reply.whole
    assert b"DONE" not in reply.body
    assert all(event["choices"][0]["finish_reason"] is None for event in reply.events)


def test_an_error_status_has_its_headers_and_body(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(status=429, headers={"Retry-After": "7"}, error={"message": "slow down"}))
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    assert json.loads(reply.body) == {"error": {"message": "slow down"}}


def test_parameters_and_roles_are_refused_where_the_script_says_so(upstream: UpstreamProcess) -> None:
    query = command(refuses={"stream_options": {"message": "no"}, "system": {"message": "no such role"}})
    refused = ask(upstream, query, stream_options={"include_usage": True})
    assert (refused.status, json.loads(refused.body)) == (400, {"error": {"message": "no"}})
    assert ask(upstream, query).status == 200
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": query}]
    assert json.loads(ask(upstream, query, messages=messages).body) == {"error": {"message": "no such role"}}
    query = command(refuses={"user": {}}, refuses_with=422)
    assert ask(upstream, query).status == 422


def test_a_status_or_a_first_chunk_may_never_come(upstream: UpstreamProcess) -> None:
    for script, seen in (({"status_delay": FOREVER}, 0), ({"first_chunk_delay": FOREVER}, 1)):
        key = f"never-{seen}"
        with connect(upstream) as connection:
            send(connection, command(key=key, **script))
            upstream.wait_opened(key)
            if seen:
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        [record] = upstream.wait_closed(key)
        assert (record["closed_by"], record["finished"], record["first_chunk_at"]) == ("client", False, None)
        assert (record["status_sent_at"] is not None) == bool(seen)


def test_delays_are_kept(upstream: UpstreamProcess) -> None:
    query = command(key="slow", status_delay=0.05, first_chunk_delay=0.1, pace=0.03, chunks=3)
    ask(upstream, query)
    [record] = upstream.wait_closed("slow")
    assert record["status_sent_at"] - record["opened_at"] >= 0.05
    assert record["first_chunk_at"] - record["status_sent_at"] >= 0.1
    assert record["closed_at"] - record["first_chunk_at"] >= 0.09


def test_chunks_keep_their_pace_and_tell_their_send_time(upstream: UpstreamProcess) -> None:
    sent = list(stamps(ask(upstream, command(chunks=6, pace=0.02, stamp=True)).body))
    assert len(sent) == 6
    assert 95_000 <= sent[-1] - sent[0] < 500_000
    assert all(later > earlier for earlier, later in pairwise(sent))
    assert 0 < time.monotonic() - sent[-1] / 1e6 < DEADLINE_SECONDS


def test_silence_in_the_middle_lasts_until_the_client_leaves(upstream: UpstreamProcess) -> None:
    with connect(upstream) as connection:
        send(connection, command(key="stall", stall_after=2))
        [record] = upstream.wait_until(lambda records: bool(records) and records[0]["chunks_sent"] == 2, "stall")
        assert record["closed_at"] is None
    [record] = upstream.wait_closed("stall")
    assert (record["closed_by"], record["finished"], record["chunks_sent"]) == ("client", False, 2)


def test_pings_fill_the_silence(upstream: UpstreamProcess) -> None:
    with connect(upstream) as connection:
        send(connection, command(first_chunk_delay=FOREVER, ping_every=0.02))
        seen = b""
        while seen.count(b": ping\n\n") < 3:
            seen += connection.recv(1 << 16)
        assert b"data:" not in seen


@pytest.mark.parametrize("cut", ["rst", "fin"])
def test_a_connection_can_be_cut(upstream: UpstreamProcess, cut: str) -> None:
    key = f"cut-{cut}"
    reply = ask(upstream, command(key=key, cut_after=2, cut=cut, pace=0.01))
    assert not reply.whole
    assert reply.reset == (cut == "rst")
    assert reply.text == "w1 w2 "
    [record] = upstream.wait_closed(key)
    assert (record["closed_by"], record["finished"]) == ("server", False)


def test_a_body_can_end_cleanly_in_the_middle_of_an_event(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(truncate_after=1))
    assert reply.whole
    assert not reply.body.endswith(b"\n")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        assert reply.events


def test_garbage_in_the_middle_is_sent_as_it_is(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(garbage_after=1, garbage="\x00\xff\xfe", chunks=2))
    assert reply.writes[2] == b"\x00\xff\xfe"
    assert b"w2 " in reply.writes[3]
    assert reply.whole


def test_an_error_in_mid_stream_is_an_event(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(error_after=1, error={"message": "overloaded", "code": 503}))
    assert reply.events[-1] == {"error": {"message": "overloaded", "code": 503}}
    assert reply.text == "w1 "
    assert b"DONE" not in reply.body


def test_a_huge_line_has_no_end(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(huge_after=0, huge=100_000, role=False))
    assert len(reply.body) == 100_000
    assert b"\n" not in reply.body


@pytest.mark.parametrize("split", ["bytes", [1, 7, 400]])
def test_the_same_bytes_can_come_in_other_writes(upstream: UpstreamProcess, split: str | list[int]) -> None:
    whole = ask(upstream, command(chunks=2, texts=["é😀", "b"])).body
    reply = ask(upstream, command(chunks=2, texts=["é😀", "b"], split=split))
    assert len(reply.body) == len(whole)
    assert reply.text == "é😀b"
    wanted = [1] * len(whole) if split == "bytes" else [1, 6, 393, len(whole) - 400]
    assert [len(write) for write in reply.writes] == wanted


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_endings_and_comments(upstream: UpstreamProcess, newline: str) -> None:
    reply = ask(upstream, command(newline=newline, comments=True, chunks=2))
    assert reply.body.count(f": ping{2 * newline}data: ".encode()) == 2
    assert reply.body.endswith(f"data: [DONE]{2 * newline}".encode())
    assert b"\n" not in reply.body.replace(newline.encode(), b"")
    assert reply.text == "w1 w2 "


def test_a_body_can_be_given_verbatim(upstream: UpstreamProcess) -> None:
    raw = base64.b64encode(b"<html>Bad \xff gateway").decode()
    reply = ask(upstream, command(status=502, raw=raw, content_type="text/html"))
    assert (reply.status, reply.body, reply.headers["content-type"]) == (502, b"<html>Bad \xff gateway", "text/html")


def test_an_endless_answer_ends_with_its_reader_and_waits_for_it(upstream: UpstreamProcess) -> None:
    with connect(upstream) as connection:
        send(connection, command(key="endless", endless=True))
        before = -1
        deadline = time.monotonic() + DEADLINE_SECONDS
        # It fills the buffers on the way, and then stops making more.
        while (now := upstream.wait_opened("endless")[0]["chunks_sent"]) != before or not now:
            assert time.monotonic() < deadline
            before = now
            time.sleep(0.05)
        for _ in range(1000):
            connection.recv(1 << 16)
        upstream.wait_until(lambda records: records[0]["chunks_sent"] > before, "endless")
    assert upstream.wait_closed("endless")[0]["closed_by"] == "client"


@pytest.mark.parametrize("given", ["", "w1 w2 w3 "])
def test_an_endless_answer_can_be_told_to_end(upstream: UpstreamProcess, given: str) -> None:
    key = f"told after {len(given)}"
    with connect(upstream) as connection:
        send(connection, command(key=key, endless=True, pace=0.01), given)
        upstream.wait_until(lambda records: bool(records) and records[0]["chunks_sent"] > 1, key)
        upstream.end(key)
        reply = receive(connection)
    said = upstream.said(key)
    assert given + reply.text == "".join(f"w{number} " for number in range(1, said + 1))
    assert reply.events[-1]["choices"][0]["finish_reason"] == "stop"
    assert upstream.requests(key)[0]["finished"]


def test_an_answer_that_ends_before_its_first_chunk_has_the_words_that_were_given(upstream: UpstreamProcess) -> None:
    key = "told before it was asked"
    upstream.end(key)
    with connect(upstream) as connection:
        send(connection, command(key=key, endless=True, pace=0.01), "w1 w2 w3")
        assert receive(connection).text == ""
    assert upstream.said(key) == 3


def test_each_step_can_wait_for_its_demand(upstream: UpstreamProcess) -> None:
    key = "on demand"
    upstream.step(key)  # before it is asked for
    with connect(upstream) as connection:
        send(connection, command(key=key, chunks=2, on_demand=True))
        upstream.wait_until(lambda records: bool(records) and records[0]["chunks_sent"] == 1, key)
        upstream.step(key)
        upstream.wait_until(lambda records: records[0]["chunks_sent"] == 2, key)
        assert upstream.requests(key)[0]["closed_at"] is None
        upstream.step(key)
        assert upstream.requests(key)[0]["closed_at"] is None
        upstream.step(key)
        reply = receive(connection)
    assert (reply.text, reply.whole) == ("w1 w2 ", True)


def test_several_chunks_can_share_a_write(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(chunks=10, batch=4, role=False))
    assert [write.count(b'"content":"w') for write in reply.writes] == [4, 4, 2, 0, 0]


@pytest.mark.parametrize(("given", "rest"), [("w1 w2 ", "w3 w4 "), ("w1 w", "2 w3 w4 "), ("w1 w2 w3 w4 ", "")])
def test_a_given_text_is_continued(upstream: UpstreamProcess, given: str, rest: str) -> None:
    reply = ask(upstream, command(chunks=4, reasoning=["hm"]), given=given)
    assert reply.text == rest
    assert b"hm" not in reply.body


def test_a_continuation_passes_the_place_where_the_first_was_cut(upstream: UpstreamProcess) -> None:
    query = command(chunks=4, cut_after=2)
    first = ask(upstream, query)
    assert not first.whole
    rest = ask(upstream, command(chunks=4, cut_after=3), given=first.text)
    assert rest.whole
    assert first.text + rest.text == "w1 w2 w3 w4 "


def test_a_text_that_is_not_the_answers_beginning_is_not_continued(upstream: UpstreamProcess) -> None:
    assert ask(upstream, command(), given="w1 w1").status == 400


def test_the_first_requests_of_a_key_can_differ(upstream: UpstreamProcess) -> None:
    query = command(key="flaky", first=[{"status": 503}, {"cut_after": 0}], chunks=1)
    replies = [ask(upstream, query) for _ in range(3)]
    assert [reply.status for reply in replies] == [503, 200, 200]
    assert [reply.whole for reply in replies] == [True, False, True]
    assert replies[2].text == "w1 "


def test_a_connection_is_kept_and_old_clients_are_served(upstream: UpstreamProcess) -> None:
    with connect(upstream) as connection:
        for _ in range(2):
            send(connection, command(key="kept"))
            assert receive(connection).whole
    assert len({record["connection"] for record in upstream.requests("kept")}) == 1
    old = ask(upstream, command(chunks=2), version="1.0")
    assert "transfer-encoding" not in old.headers
    assert old.text == "w1 w2 "


def test_a_request_that_does_not_stream_gets_one_object(upstream: UpstreamProcess) -> None:
    reply = ask(upstream, command(chunks=2), stream=False)
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "w1 w2 "


def test_requests_are_recorded_and_can_be_forgotten(upstream: UpstreamProcess) -> None:
    ask(upstream, command(key="seen", chunks=2), temperature=0.5)
    [record] = upstream.wait_closed("seen")
    assert record["messages"] == [{"role": "user", "content": record["query"]}]
    assert record["body"] == {"model": "test-model", "stream": True, "temperature": 0.5}
    assert record["headers"]["authorization"] == "(hidden)"
    assert (record["closed_by"], record["finished"], record["chunks_sent"]) == ("server", True, 2)
    assert record["opened_at"] <= record["status_sent_at"] <= record["first_chunk_at"] <= record["closed_at"]
    assert upstream.requests(query=record["query"]) == [record]
    upstream.forget("seen")
    assert upstream.requests("seen") == []


def test_a_command_that_does_not_exist_is_refused(upstream: UpstreamProcess) -> None:
    with pytest.raises(NotAScript, match="no such field: chunk"):
        command(chunk=3)
    with pytest.raises(NotAScript, match="Expected `int`"):
        from_query('{"chunks": "3"}')
    reply = ask(upstream, '{"chunk": 3}')
    assert reply.status == 400
    assert b"no such field" in reply.body


def test_a_stopped_upstream_refuses_connections() -> None:
    with UpstreamProcess.start() as process:
        pass
    with pytest.raises(ConnectionRefusedError):
        connect(process)
