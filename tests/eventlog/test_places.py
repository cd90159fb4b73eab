"""Finding an event's place in a log's file."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.eventlog import AheadOfLogError, DamagedLogError, Retention, open_event_log
from service.eventlog.files.logfile import first_event, place
from service.events import Delta, Done, Event, Start, Timing, encode_lines, new_answer_id
from tests.eventlog.another import AnotherWorker
from tests.eventlog.test_every_backend import deltas, follow

COUNT = 40_000


def lines_of(events: list[Event]) -> list[bytes]:
    return encode_lines(events).splitlines(keepends=True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each read of a file."""
    read: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        block = pread(descriptor, length, offset)
        read.append(len(block))
        return block

    monkeypatch.setattr(os, "pread", counted)
    return read


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


ANSWER = new_answer_id()
START = Start(1, ANSWER, "model")
END = Done(COUNT, "stop", None, Timing(0.1, 0.2))


def test_what_is_read_to_find_a_place_depends_on_the_nearer_end_and_not_on_the_length(
    file: int, read: list[int]
) -> None:
    lines = lines_of([START, *deltas(2, COUNT - 2), END])
    os.write(file, b"".join(lines))
    for missed in (0, 1, 10):
        offset = sum(map(len, lines[: COUNT - missed]))
        assert place(file, COUNT - missed) == (offset, not missed)
        assert sum(read) < 1 << 15, "of more than a mebibyte"
        read.clear()
    assert place(file, 10) == (sum(map(len, lines[:10])), False)
    assert first_event(file) == START
    assert sum(read) < 1 << 15
    read.clear()
    for after in range(COUNT // 8, COUNT, COUNT // 8):
        assert place(file, after) == (sum(map(len, lines[:after])), False)
        nearer = min(sum(map(len, lines[:after])), sum(map(len, lines[after:])))
        assert sum(read) < nearer + (1 << 19)
        read.clear()


def test_behind_a_long_event_a_place_is_found_as_well(file: int) -> None:
    for length in (1 << 12, 1 << 15, 1 << 18, 1 << 20):
        os.ftruncate(file, 0)
        lines = lines_of([START, *deltas(2, 8), Delta(10, text="x" * length), *deltas(11, 3)])
        os.write(file, b"".join([*lines, b'{"type":"delta","seq":14,"te']))
        for after in range(1, 14):
            assert place(file, after) == (sum(map(len, lines[:after])), False)
        with pytest.raises(AheadOfLogError):
            place(file, 14)


def test_a_log_that_lost_lines_has_places_on_both_sides_of_the_loss_and_none_within(file: int) -> None:
    lines = lines_of([START, *deltas(2, 99)])
    for lost in (range(10, 20), range(40, 60), range(80, 95)):
        os.ftruncate(file, 0)
        kept = [line for seq, line in enumerate(lines, 1) if seq not in lost]
        os.write(file, b"".join(kept))
        for after in range(1, 101):
            if after in lost:
                with pytest.raises(DamagedLogError):
                    place(file, after)
            else:
                behind = after if after < lost.start else after - len(lost)
                offset, at_end = place(file, after)
                assert (offset, at_end) == (sum(map(len, kept[:behind])), False)


@pytest.mark.parametrize("last", [b"\n", b'{"type":"delta","seq":"x"}\n', b"[" * 100_000 + b"\n"])
def test_behind_an_unreadable_last_line_the_others_have_their_places(file: int, last: bytes) -> None:
    lines = lines_of([START, *deltas(2, 9)])
    os.write(file, b"".join([*lines, last]))
    for after in range(1, 11):
        assert place(file, after) == (sum(map(len, lines[:after])), False)
    for after in (11, 12):
        with pytest.raises(DamagedLogError):
            place(file, after)


async def test_a_reader_of_a_log_that_lost_whole_lines_is_told(tmp_path: Path) -> None:
    log = open_event_log(tmp_path.as_uri(), Retention())
    lease = await log.create(START)
    await lease.append(deltas(2, 8))
    path = tmp_path / f"{ANSWER}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in ([*lines[:4], *lines[6:]], [b"\n"]):
        path.write_bytes(b"".join(kept))
        reader = await log.open(ANSWER)
        with pytest.raises(DamagedLogError):
            await reader.read()
        reader.close()
    await log.aclose()


async def test_an_offset_is_found_while_another_worker_appends(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/answers"
    log = open_event_log(url, Retention())
    with AnotherWorker(url) as another:
        await another.ask("create", answer=ANSWER)

        async def write() -> None:
            for seq in range(2, 2000, 20):
                await another.append(ANSWER, deltas(seq, 20))
            await another.append(ANSWER, [Done(2002, "stop", None, Timing(0.1, 0.2))])

        writing = asyncio.create_task(write())
        last = 1
        while not writing.done():
            for after in {max(1, last - 3), max(1, last // 2), last}:
                reader = await log.open(ANSWER, after)
                events = await reader.read()
                assert [event.seq for event in events] == list(range(after + 1, after + 1 + len(events)))
                reader.close()
            reader = await log.open(ANSWER, last)
            while events := await reader.read():
                last = events[-1].seq
            reader.close()
            await asyncio.sleep(0)
        await writing
        reader = await log.open(ANSWER, 1990)
        assert [event.seq for event in await follow(reader)] == list(range(1991, 2003))
        reader.close()
    await log.aclose()
