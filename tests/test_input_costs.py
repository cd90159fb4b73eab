"""Any request takes little time of the event loop, which all requests share, and little memory."""

import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from service.app import create_app
from service.config import Settings
from tests.in_process import ask_raw, running
from tests.upstream.process import UpstreamProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_SECONDS = 0.1
MAX_MEMORY = 24
"""Bytes of memory for each of the body. One character beyond the BMP makes a text of ASCII four times as large."""
DEFAULT_BYTES = 1 << 20
RAISED_BYTES = 5_000_000
"""As an operator may set it. The time may grow with it, and no faster."""
NGINX_LINE = 32 << 10
NGINX_HEADERS = 3 * NGINX_LINE
"""nginx takes lines of 32 KiB, four of them with the request's own."""

Header = tuple[bytes, bytes]
Shape = Callable[[int], bytes]
JSON: Header = (b"content-type", b"application/json")
TURN = b'{"role":"user","content":"x"}'
UNKNOWN = "0" * 32


def repeated(head: bytes, piece: bytes, tail: bytes) -> Shape:
    """Bodies of any length that hold as many pieces as fit."""
    return lambda length: head + piece * ((length - len(head) - len(tail)) // len(piece)) + tail


def listed(head: bytes, item: bytes, tail: bytes) -> Shape:
    """The same with commas between the pieces."""
    return repeated(head, item + b",", item + tail)


def keyed(head: bytes, tail: bytes) -> Shape:
    """Bodies with as many different fields as fit."""

    def shape(length: int) -> bytes:
        names = (length - len(head) - len(tail)) // len(b'"00000":0,')
        return head + b",".join(b'"%05x":0' % number for number in range(names)) + tail

    return shape


def nested(head: bytes, opening: bytes, closing: bytes, tail: bytes) -> Shape:
    def shape(length: int) -> bytes:
        depth = (length - len(head) - len(tail)) // len(opening + closing)
        return head + opening * depth + closing * depth + tail

    return shape


ITEMS = (b"{}", b"[]", b"[[]]", b"[[[]]]", b'{"":{}}', b"0", b"1e9", b"1.5", b"null", b'""', b'"\\u00e9"', b"[0]", TURN)
FIELDS = (b"query", b"history", b"model", b"temperature", b"max_tokens", b"unknown")

HEADERS = (
    b"accept", b"authorization", b"content-type", b"cookie", b"host", b"last-event-id", b"origin", b"traceparent",
    b"x-forwarded-for", b"x-request-id",
)  # fmt: skip
RANGES = b",".join(b"%x/*;q=0" % number for number in range(NGINX_HEADERS // 13))

BODIES: dict[str, Shape] = {
    **{
        f"{field.decode()} is a list of {item.decode()}": listed(b'{"query":"x","%b":[' % field, item, b"]}")
        for field in FIELDS
        for item in ITEMS
    },
    "history of turns without words": listed(
        b'{"query":"x","history":[', b'{"role":"user","content":""}', b"]}"
    ),
    "history of turns, one of them wrong": listed(b'{"query":"x","history":[', TURN, b",{}]}"),
    "turn of lists": listed(b'{"query":"x","history":[{"role":"user","content":[', b"[]", b"]}]}"),
    "roles of lists": listed(b'{"query":"x","history":[{"content":"","role":[', b"[]", b"]}]}"),
    "unknown fields": keyed(b'{"query":"x",', b"}"),
    "unknown fields and no query": keyed(b"{", b"}"),
    "unknown fields of a turn": keyed(b'{"query":"x","history":[{"role":"user","content":"",', b"}]}"),
    "unknown fields of an unknown field": keyed(b'{"query":"x","unknown":{', b"}}"),
    "one field many times": listed(b'{"query":"x",', b'"model":"x"', b"}"),
    "one history many times": listed(b'{"query":"x",', b'"history":[%b]' % TURN, b"}"),
    "a long name": repeated(b'{"query":"x","', b"x", b'":1}'),
    "a long name of escapes": repeated(b'{"query":"x","', b"\\u00e9", b'":1}'),
    "a long name of what the decoder's messages hold": repeated(b'{"query":"x","', b"` - at `$.a", b'":1}'),
    "a long query": repeated(b'{"query":"', b"x", b'"}'),
    "a long query of escapes": repeated(b'{"query":"', b"\\n", b'"}'),
    "a long query of escaped letters": repeated(b'{"query":"', b"\\u00e9", b'"}'),
    "a long query of escaped pairs": repeated(b'{"query":"', b"\\ud83d\\ude00", b'"}'),
    "a long query of halves": repeated(b'{"query":"', b"\\ud83d", b'"}'),
    "a long query of other halves": repeated(b'{"query":"', b"\\ude00", b'"}'),
    "a long query of halves and letters": repeated(b'{"query":"', b"\\ud83dx", b'"}'),
    "a long query of pairs and a half": repeated(b'{"query":"', b"\\ud83d\\ude00", b'\\ud83d"}'),
    "a long query of backslashes and a half": repeated(b'{"query":"', b"\\\\", b'\\ud83d"}'),
    "a half and many turns": listed(
        b'{"query":"\\ud83d","history":[', b'{"role":"user","content":""}', b"]}"
    ),
    "a half for each turn": listed(b'{"query":"x","history":[', b'{"role":"user","content":"\\ud83d"}', b"]}"),
    "a turn with one wide character": repeated(
        '{"query":"x","history":[{"role":"user","content":"😀'.encode(), b"x", b'"}]}'
    ),
    "a turn of a control character": repeated(
        b'{"query":"x","history":[{"role":"user","content":"', b"\\u0000", b'"}]}'
    ),
    "a long model": repeated(b'{"query":"x","model":"', b"x", b'"}'),
    "a long role": repeated(b'{"query":"x","history":[{"content":"","role":"', b"x", b'"}]}'),
    "a long integer": repeated(b'{"query":"x","max_tokens":', b"9", b"}"),
    "a long negative integer": repeated(b'{"query":"x","max_tokens":-', b"9", b"}"),
    "a long fraction": repeated(b'{"query":"x","temperature":0.', b"9", b"}"),
    "a long exponent": repeated(b'{"query":"x","temperature":1e', b"9", b"}"),
    "many integers just short enough for Python": listed(b'{"query":"x","unknown":[', b"9" * 4300, b"]}"),
    "deep lists": nested(b'{"query":', b"[", b"]", b"}"),
    "deep objects": nested(b'{"query":', b'{"":', b"}", b"}"),
    "deep lists that never end": repeated(b"", b"[", b""),
    "many lists of some depth": listed(b'{"query":"x","unknown":[', b"[" * 500 + b"]" * 500, b"]}"),
    "a list": listed(b"[", b"{}", b"]"),
    "a text": repeated(b'"', b"x", b'"'),
    "a number": repeated(b"", b"9", b""),
    "blanks": repeated(b'{"query":"x"', b" ", b"}"),
    "blanks alone": repeated(b"", b" ", b""),
    "a bad end": listed(b'{"query":"x","history":[', TURN, b"]"),
    "a bad end behind what is wrong": listed(b'{"query":"x","history":[', b"{}", b"]} x"),
    "a byte-order mark": repeated(b'\xef\xbb\xbf{"query":"', b"x", b'"}'),
    "many byte-order marks": repeated(b"", b"\xef\xbb\xbf", b""),
    "bytes that are no text": repeated(b'{"query":"', b"\xff", b'"}'),
    "bytes": repeated(b"", bytes(range(256)), b""),
    "UTF-16": lambda length: ('{"query":"' + "x" * (length // 2 - 14) + '"}').encode("utf-16"),
}  # fmt: skip


REQUESTS: dict[str, tuple[str, str, bytes, list[Header]]] = {
    **{
        f"{method} {path} with {name}": (method, path, query(NGINX_HEADERS), [])
        for method, path in (("GET", "/generate"), ("GET", f"/answers/{UNKNOWN}"), ("DELETE", f"/answers/{UNKNOWN}"))
        for name, query in {
            "unknown parameters": lambda length: b"&".join(b"%05x=" % number for number in range(length // 7)),
            "one parameter many times": repeated(b"query=x&", b"a=&", b""),
            "escaped parameters": repeated(b"query=x&", b"%41=&", b""),
            "nothing but separators": repeated(b"", b"&", b""),
            "a long event id": repeated(b"last_event_id=", b"1", b""),
            "a long query of escapes": repeated(b"query=", b"%C3%A9", b""),
        }.items()
    },
    **{
        f"a header {name.decode()} of {piece.decode()}": ("POST", "/generate", b"", [(name, value), JSON])
        for name in HEADERS
        for piece in (
            b"a",
            b",",
            b"a,",
            b";",
            b"a=;",
            b"=",
            b"*/*,",
            b"*/*;q=0,",
            b"text/plain;q=0.1;",
            b'"',
            b"\\",
            b"-",
        )
        for value in [repeated(b"", piece, b"")(NGINX_HEADERS)]
    },
    **{
        f"many headers {name.decode()}": ("POST", "/generate", b"", [JSON, *[(name, b"a=b")] * (NGINX_HEADERS // 4)])
        for name in (*HEADERS, b"x")
    },
    "different ranges in Accept": ("POST", "/generate", b"", [JSON, (b"accept", RANGES)]),
    "a long path": ("GET", "/answers/" + "0" * NGINX_LINE, b"", []),
    "a path of slashes": ("GET", "/answers" + "/" * NGINX_LINE, b"", []),
    "a method that is not taken": ("PUT", "/generate", b"", []),
}


@dataclass
class InProcess:
    """The application as a worker runs it, without a server."""

    app: FastAPI

    async def seconds(self, *request: Any) -> float:  # noqa: ANN401 (as for `ask_raw`)
        """Return this thread's own time for a request. It is refused or answered, and never a failure of ours."""
        begun_at = time.thread_time()
        reply = await ask_raw(self.app, *request)
        taken = time.thread_time() - begun_at
        assert 200 <= reply.status < 500
        return taken

    async def memory(self, *request: Any) -> int:  # noqa: ANN401 (as for `ask_raw`)
        """Return the most bytes that Python held during a request, beyond those before it."""
        tracemalloc.start()
        try:
            await ask_raw(self.app, *request)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> AsyncIterator[InProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", upstream.base_url)
        patch.setenv("FOLYAM_LOG_URL", (tmp_path_factory.mktemp("input") / "answers").as_uri())
        patch.setenv("FOLYAM_MAX_BODY_BYTES", str(RAISED_BYTES))
        patch.setenv("FOLYAM_MAX_ANSWERS_PER_CLIENT", "400")
        app = create_app(Settings())
    # As service.main does: what was imported is no matter of the collector.
    gc.collect()
    gc.freeze()
    async with running(app):
        for method in ("GET", "POST", "PUT"):  # what is made once is made
            await ask_raw(app, method, "/generate", b"query=x", [JSON], b'{"query":"x"}')
        yield InProcess(app)
    gc.unfreeze()


@pytest.mark.parametrize("length", [DEFAULT_BYTES, RAISED_BYTES])
@pytest.mark.parametrize("shape", BODIES)
async def test_no_body_holds_the_event_loop(service: InProcess, shape: str, length: int) -> None:
    body = BODIES[shape](length)
    assert length * 0.98 < len(body) <= length
    most = MAX_SECONDS * length / DEFAULT_BYTES
    assert await service.seconds("POST", "/generate", b"", [JSON], body) < most


@pytest.mark.parametrize("shape", BODIES)
async def test_no_body_takes_much_memory(service: InProcess, shape: str) -> None:
    body = BODIES[shape](DEFAULT_BYTES)
    assert await service.memory("POST", "/generate", b"", [JSON], body) < MAX_MEMORY * len(body)


@pytest.mark.parametrize("content_type", [b"", b"text/plain", b"multipart/form-data; boundary=x", b"application/xml"])
async def test_a_body_of_another_type_is_not_looked_at(service: InProcess, content_type: bytes) -> None:
    body = BODIES["history is a list of {}"](RAISED_BYTES)
    assert await service.seconds("POST", "/generate", b"", [(b"content-type", content_type)], body) < MAX_SECONDS


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_address_or_header_holds_the_event_loop(service: InProcess, name: str) -> None:
    assert await service.seconds(*REQUESTS[name], b'{"query":"x"}') < MAX_SECONDS
