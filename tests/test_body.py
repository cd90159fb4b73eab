"""The body of a door: its limits, and what reading it costs."""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from service.errors import BadInput, FolyamError, Unavailable
from service.routes.body import MOST_OTHER_BYTES, Bodies, keep, read_fields
from service.routes.counted import MOST_OBJECTS
from service.routes.door import check_messages

PIECE = 1 << 16
LONGEST = 32 << 20
MAX_SECONDS = 0.25
"""CPU time. Measured are 13 to 99 ms; without the limit on small fields, 1.7 s."""
ROOMY = 1 << 40
SETTINGS: Any = SimpleNamespace(allows_system=True)


def request(body: bytes, *, whole: bool = True) -> Any:  # noqa: ANN401 (as much of a request as is used)
    pieces = iter([body[start : start + PIECE] for start in range(0, len(body), PIECE)] or [b""])
    left = len(body)

    async def receive() -> dict[str, Any]:
        nonlocal left
        await asyncio.sleep(0)  # as from a network
        if (piece := next(pieces, None)) is None:
            return {"type": "http.disconnect"}
        left -= len(piece)
        return {"type": "http.request", "body": piece, "more_body": left > 0 or not whole}

    return SimpleNamespace(receive=receive)


async def read(body: bytes, bodies: Bodies | None = None) -> dict[str, msgspec.Raw]:
    fields = await read_fields(request(body), bodies or Bodies(ROOMY))
    assert fields is not None
    return fields


async def test_each_field_is_raw_and_on_one_line() -> None:
    fields = await read(b'\xef\xbb\xbf{"model":\r\n "m",\n"x": {"a":\n [1e400, "\\ud800x"]}}'.replace(b"\\ud800", b""))
    assert bytes(fields["model"]) == b'"m"'
    assert b"\n" not in bytes(fields["x"])
    assert msgspec.json.decode(bytes(fields["x"]).replace(b"1e400", b"1")) == {"a": [1, "x"]}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"a":"\xc3', "invalid_json"),
        (b'{"a":"\\ud800"}', "invalid_json"),
        (b'{"a":' + b"[" * 100_000, "invalid_json"),
        (b"[]", "invalid_input"),
        (b"null", "invalid_input"),
        (b"x" * 2 * PIECE * 16, "invalid_json"),
        (b"[" + b"1," * PIECE * 16 + b"1]", "invalid_input"),
    ],
)
async def test_what_is_no_json_object_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        await read(body)
    assert caught.value.code == code


async def test_a_character_may_be_split_between_two_pieces() -> None:
    body = json.dumps({"a": "x" * (PIECE - 8) + "é" * 9}, ensure_ascii=False).encode()
    assert body[PIECE - 1 : PIECE + 1] == "é".encode()
    assert bytes((await read(body))["a"]) in body


async def test_a_client_that_leaves_has_no_body() -> None:
    assert await read_fields(request(b'{"a":1}', whole=False), Bodies(ROOMY)) is None


async def test_a_body_counts_until_nothing_refers_to_it() -> None:
    bodies = Bodies(100)
    fields = await read(b'{"a":"' + b"x" * 80 + b'"}', bodies)
    held = fields["a"]
    del fields
    with pytest.raises(Unavailable) as caught:
        await read(b'{"a":"' + b"x" * 80 + b'"}', bodies)
    assert caught.value.code == "too_many_bodies"
    gc.collect()
    assert bodies.bytes == 88
    del held, caught
    gc.collect()
    assert bodies.bytes == 0


def many(item: bytes, around: bytes = b'{"messages":[%b]}') -> bytes:
    """As many of the item as fit into the longest body."""
    return around % b",".join([item] * (LONGEST // (len(item) + 1) - 2))


def names() -> Iterator[bytes]:
    for number in range(LONGEST // 13):
        yield b'"%08d":1' % number


COSTLY: dict[str, Callable[[], bytes]] = {
    "a text": lambda: many(b'{"role":"user","content":"' + b"x, y " * 1_000_000 + b'"}'),
    "numbers": lambda: many(b"1"),
    "objects": lambda: many(b"{}"),
    "messages": lambda: many(b'{"role":"user"}'),
    "a picture": lambda: many(b'{"role":"user","content":[{"url":"' + b"A" * (16 << 20) + b'"}]}'),
    "values of a tool": lambda: many(b"[1]", b'{"messages":[],"tools":[%b]}'),
    "fields": lambda: b"{" + b",".join(names()) + b"}",
    "one field again and again": lambda: many(b'"":1', b"{%b}"),
}


@pytest.mark.parametrize("case", COSTLY)
async def test_the_longest_body_holds_the_loop_for_no_longer_than_that(case: str) -> None:
    body = COSTLY[case]()
    longest = 0.0

    async def watched(work: Any) -> None:  # noqa: ANN401 (a coroutine)
        """Run the work turn by turn."""
        nonlocal longest
        while True:
            begun_at = time.thread_time()
            try:
                work.send(None)
            except StopIteration:
                return
            finally:
                longest = max(longest, time.thread_time() - begun_at)
            await asyncio.sleep(0)

    async def serve() -> None:
        try:
            fields = await read(body)
            await asyncio.sleep(0)
            check_messages(fields["messages"], SETTINGS)
        except FolyamError:
            pass

    fastest = float("inf")
    for _ in range(3):  # Another process may have the caches in between.
        longest = 0.0
        await watched(serve())
        fastest = min(fastest, longest)
    assert fastest < MAX_SECONDS, fastest


async def test_small_fields_of_a_long_body_are_limited_and_large_ones_are_not() -> None:
    body = b'{"messages":"' + b"x" * (2 << 20) + b'","user":"' + b"x" * MOST_OTHER_BYTES + b'"}'
    with pytest.raises(BadInput) as caught:
        await read(body)
    assert (caught.value.status, caught.value.code) == (413, "fields_too_large")
    assert set(await read(body.replace(b"user", b"tools"))) == {"messages", "tools"}


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        (b"1", "messages"),
        (b"[]", "messages"),
        (b"null", "messages"),
        (b"[1]", "messages.0"),
        (b'[{"role":"user"},{}]', "messages.1"),
        (b'[{"role":"user"},{"role":"robot"}]', "messages.1.role"),
        (b'[{"role":"user","content":"x"},{"role":5}]', "messages.1.role"),
    ],
)
def test_messages_without_a_known_role_are_refused_by_their_number(messages: bytes, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_messages(msgspec.Raw(messages), SETTINGS)
    assert (caught.value.code, caught.value.field) == ("invalid_input", field)


def test_messages_are_limited_in_number() -> None:
    one = b'{"\\u0072ole":"user"}'
    assert len(check_messages(msgspec.Raw(b"[" + b",".join([one] * MOST_OBJECTS) + b"]"), SETTINGS)) == MOST_OBJECTS
    with pytest.raises(BadInput) as caught:
        check_messages(msgspec.Raw(b"[" + b",".join([one] * (MOST_OBJECTS + 1)) + b"]"), SETTINGS)
    assert caught.value.code == "too_many_messages"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_are_refused_where_the_service_allows_none(role: str) -> None:
    messages = msgspec.Raw(json.dumps([{"role": "user"}, {"role": role, "content": "x"}]).encode())
    assert len(check_messages(messages, SETTINGS)) == 2
    with pytest.raises(BadInput) as caught:
        check_messages(messages, SimpleNamespace(allows_system=False))  # type: ignore[arg-type]
    assert caught.value.field == "messages.1.role"


def test_kept_values_are_one_more_body_until_the_last_of_them_is_gone() -> None:
    bodies = Bodies(8)
    kept = keep([msgspec.Raw(b"[1]"), msgspec.Raw(b'"ab"')], bodies)
    assert [bytes(value) for value in kept] == [b"[1]", b'"ab"']
    assert bodies.bytes == 7
    with pytest.raises(Unavailable):
        keep([msgspec.Raw(b"10")], bodies)
    kept.pop()
    gc.collect()
    assert bodies.bytes == 7
    kept.clear()
    gc.collect()
    assert bodies.bytes == 0
