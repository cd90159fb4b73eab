import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.eventlog.files import records
from service.eventlog.files.records import last_line, offset_after, offset_before

contents = st.one_of(
    st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\0", "é".encode()]), max_size=40).map(b"".join),
    # Around the lengths in which the file is read
    st.lists(st.sampled_from([0, 1, 4094, 4095, 4096, 4097, 32_767, 32_768, 40_000]), max_size=4).flatmap(
        lambda lengths: st.sampled_from([b"", b"\n", b"torn"]).map(
            lambda rest: b"\n".join(b"x" * length for length in lengths) + rest
        )
    ),
)


def written(content: bytes) -> int:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by its descriptor's copy, below)
    with file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())


@contextmanager
def blocks_of(length: int) -> Iterator[None]:
    """Read so many bytes at once."""
    with mock.patch.object(records, "BLOCK", length), mock.patch.object(records, "FIRST_BLOCK", length):
        yield


@given(contents, st.integers(1, 20))
def test_every_offset_is_behind_so_many_line_ends(content: bytes, block: int) -> None:
    descriptor = written(content)
    ends = [place + 1 for place, byte in enumerate(content) if byte == 0x0A][:60]
    try:
        with blocks_of(block if len(content) < 200 else 1 << 14):
            found = [offset_after(descriptor, count) for count in range(len(ends) + 1)]
            beyond = offset_after(descriptor, content.count(b"\n") + 1)
    finally:
        os.close(descriptor)
    assert found == [0, *ends]
    assert beyond is None


@given(contents, st.integers(1, 20), st.binary(max_size=30))
def test_every_offset_is_before_so_many_line_ends_whatever_follows(content: bytes, block: int, behind: bytes) -> None:
    ends = [place + 1 for place, byte in enumerate(content) if byte == 0x0A][-60:]
    places = [0, *ends] if len(ends) == content.count(b"\n") else ends
    descriptor = written(content[: places[-1]] + behind)
    try:
        with blocks_of(block if len(content) < 200 else 1 << 14):
            found = [offset_before(descriptor, places[-1], count) for count in range(len(places))]
            beyond = offset_before(descriptor, places[-1], content.count(b"\n") + 1)
    finally:
        os.close(descriptor)
    assert found == places[::-1]
    assert beyond is None


def test_a_file_that_was_shortened_has_no_place_before_its_old_end() -> None:
    descriptor = written(b"one\ntwo\n")
    try:
        assert offset_before(descriptor, 12, 1) is None
    finally:
        os.close(descriptor)


@given(contents)
def test_the_last_line_is_the_last_that_has_an_end(content: bytes) -> None:
    *whole, _torn = content.split(b"\n")
    descriptor = written(content)
    try:
        assert last_line(descriptor) == (whole[-1] if whole else b"", content.rfind(b"\n") + 1)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("length", [0, 1, 1 << 18, 1 << 20])
def test_a_line_of_any_length_is_found(length: int) -> None:
    line = b"x" * length
    descriptor = written(b"first\n" + line + b"\ntorn")
    try:
        assert last_line(descriptor) == (line, 7 + length)
        assert offset_after(descriptor, 2) == 7 + length
        assert offset_after(descriptor, 3) is None
    finally:
        os.close(descriptor)
