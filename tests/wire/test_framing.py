"""HTTP/1.1 responses, cut at every byte: RFC 9112's forms by section, and those that servers were seen to send."""

import pytest

from service.upstream.framing import (
    CHUNK_LINE_BYTES,
    HEAD_BYTES,
    Chunked,
    Framing,
    Head,
    HeadReader,
    MalformedError,
    Sized,
    UntilClose,
)

CHUNKED = b"Transfer-Encoding: chunked\r\n"


def head_of(data: bytes) -> tuple[Head, bytes]:
    result = HeadReader().feed(data)
    assert result is not None
    return result


def read(framing: Framing, *pieces: bytes) -> bytes:
    contents = b"".join(map(framing.feed, pieces))
    assert not (framing.whole and framing.malformed)
    return contents


def response(*lines: bytes, end: bytes = b"\r\n") -> bytes:
    return b"".join(line + end for line in (b"HTTP/1.1 200 OK", *lines, b""))


@pytest.mark.parametrize(
    ("data", "status", "headers"),
    [
        (response(b"A: b"), 200, [(b"A", b"b")]),
        (response(b"A: b", b"C:d", end=b"\n"), 200, [(b"A", b"b"), (b"C", b"d")]),  # 2.2: a bare LF
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", 200, [(b"A", b"b")]),
        (b"HTTP/1.1 200 OK\nA: b\r\n\n", 200, [(b"A", b"b")]),
        (response(b"A: b\rc"), 200, [(b"A", b"b c")]),  # 2.2: a bare CR
        (response(b" A: b", b"C: d"), 200, [(b"C", b"d")]),  # 2.2: white space before the first field
        (b"HTTP/1.1 200\r\n\r\n", 200, []),  # 4: no reason phrase, nor its blank
        (b"HTTP/1.1 \t 404  Not \xff\r\n\r\n", 404, []),
        (b"HTTP/1.0 999 x\r\n\r\n", 999, []),
        (response(b"A : b", b"C\t:\t d \t"), 200, [(b"A", b"b"), (b"C", b"d")]),  # 5.1: blanks around
        (response(b"A: b", b" c", b"\t d", b"E: f"), 200, [(b"A", b"b c d"), (b"E", b"f")]),  # 5.2: obs-fold
        (response(b"A:", b"B: \x00\xff"), 200, [(b"A", b""), (b"B", b"\x00\xff")]),
        (b"\r\n\n" + response(b"A: b"), 200, [(b"A", b"b")]),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\nLink: y\n\n" + response(b"A: b"), 200, [(b"A", b"b")]),
    ],
)
def test_a_head_is_read_in_each_of_its_forms_however_it_is_cut(
    data: bytes, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    for cut in range(len(data) + 1):
        reader = HeadReader()
        result = reader.feed(data[:cut])
        if cut < len(data):
            assert result is None
            result = reader.feed(data[cut:] + b"rest")
        else:
            assert result is not None
            result = result[0], result[1] + b"rest"
        assert result is not None
        head, rest = result
        assert (head.status, head.headers, rest) == (status, headers, b"rest")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"H2",
        b"HTTP/1.1 ok\r\n\r\n",
        b"HTTP/1.1 20 x\r\n\r\n",
        b"HTTP/1.1200 x\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        response(b"no field"),
        response(b": b"),
        response(b"Content-Length: many"),
        response(b"Content-Length: -1"),
        response(b"Content-Length: +5"),
        response(b"Content-Length: 5", b"Content-Length: 6"),
        response(b"Content-Length: 5,"),
        response(b"Content-Length: "),
        response(b"Content-Length: " + b"9" * 19),
        response(b"A: " + b"b" * HEAD_BYTES),
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * HEAD_BYTES,
        b"\r\n" * HEAD_BYTES,
        b"HTTP/1.1 103 x\r\n\r\n" * HEAD_BYTES + response(),
    ],
)
def test_a_head_that_is_none_or_has_no_end_is_malformed_however_it_is_cut(data: bytes) -> None:
    with pytest.raises(MalformedError):
        HeadReader().feed(data)
    reader = HeadReader()
    with pytest.raises(MalformedError):
        [reader.feed(data[at : at + 1]) for at in range(len(data))]


@pytest.mark.parametrize(
    ("lines", "framing", "reusable"),
    [
        ((), UntilClose, False),
        ((b"Content-Length: 5",), Sized, True),
        ((b"Content-Length: 5", b"content-length: 05"), Sized, True),  # 6.3: a repeated one
        ((b"Content-Length: 5, 5",), Sized, True),
        ((CHUNKED.strip(),), Chunked, True),
        ((b"transfer-encoding:  Chunked ",), Chunked, True),
        ((CHUNKED.strip(), b"Content-Length: 10"), Chunked, False),  # 6.1: both
        ((b"Content-Length: nonsense", CHUNKED.strip()), Chunked, False),
        ((CHUNKED.strip(), CHUNKED.strip()), Chunked, False),
        ((b"Transfer-Encoding: gzip, chunked",), Chunked, False),
        ((b"Transfer-Encoding: gzip", b"Content-Length: 5"), UntilClose, False),  # 6.3: not chunked last
        ((b"Transfer-Encoding: chunked, gzip",), UntilClose, False),
        ((CHUNKED.strip(), b" , gzip"), UntilClose, False),
        ((CHUNKED.strip(), b"\tgzip", b"X: y"), UntilClose, False),
        ((CHUNKED.strip(), b"X: y", b" z"), Chunked, True),
        ((b"Transfer-Encoding: identity", b"Content-Length: 5"), Sized, True),
        ((b"Content-Length: 5", b"Connection: Close"), Sized, False),
        ((b"Content-Length: 5", b"Connection: keep-alive, x", b"Connection: close"), Sized, False),
        ((b"Connection: keep-alive", CHUNKED.strip()), Chunked, True),
        ((b"Connection: Keep-Alive", b"Connection: close", CHUNKED.strip()), Chunked, False),
        ((b"Connection: close", b"Connection: keep-alive", CHUNKED.strip()), Chunked, False),
        ((b"Connection: keep-alive, close", CHUNKED.strip()), Chunked, False),
        ((b"Connection: keep-alive", b"Connection:close", CHUNKED.strip()), Chunked, False),
    ],
)
def test_the_framing_is_the_one_that_rfc_9112_says(
    lines: tuple[bytes, ...], framing: type[Framing], *, reusable: bool
) -> None:
    head, _ = head_of(response(*lines))
    assert (type(head.framing), head.reusable) == (framing, reusable)


@pytest.mark.parametrize(
    ("lines", "reusable"),
    [
        ((b"Content-Length: 5",), False),
        ((b"Content-Length: 5", b"Connection: Keep-Alive"), True),
        ((CHUNKED.strip(), b"Connection: keep-alive"), False),  # 6.1: a faulty framing
    ],
)
def test_http_1_0_keeps_a_connection_only_if_it_says_so(lines: tuple[bytes, ...], *, reusable: bool) -> None:
    head, _ = head_of(response(*lines).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert head.reusable == reusable


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_some_statuses_have_no_body_whatever_their_headers_say(status: bytes) -> None:
    head, rest = head_of(b"HTTP/1.1 %b x\r\nContent-Length: 5\r\n\r\n" % status)
    assert (head.framing.whole, head.reusable, rest) == (True, True, b"")


@pytest.mark.parametrize(
    ("line", "seconds"),
    [(b"Keep-Alive: timeout=5, max=100", 5), (b"keep-alive: max=9,Timeout = 0", 0), (b"Keep-Alive: 300", None)],
)
def test_a_server_may_name_its_limit_on_idle_connections(line: bytes, seconds: float | None) -> None:
    assert head_of(response(line))[0].idle_seconds == seconds


@pytest.mark.parametrize(
    "data",
    [
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"005\r\nhello\r\n00000000000000000000000006\r\n world\r\n000\r\n\r\n",
        b"b\r\nhello world\r\n0\r\n\r\n",
        b"B\r\nhello world\r\n0\r\n\r\n",
        b"5  \r\nhello\r\n6\t\r\n world\r\n0 \t \r\n\r\n",  # padded sizes
        b'5;a=b\r\nhello\r\n6;a;b="c;d"\r\n world\r\n0;x\r\n\r\n',  # 7.1.1: extensions
        b"5 ; a = b\r\nhello\r\n6\t;\r\n world\r\n0 ;x\r\n\r\n",  # 7.1.1: blanks around them
        b"5\r\nhello\r\n6\r\n world\r\n0\r\nExpires: now\r\nB: c\r\n\r\n",  # 7.1.2: trailers
        b"5\nhello\n6\n world\n0\n\n",  # bare line ends
        b"5;a\nhello\r\n6\r\n world\n0\r\nA: b\n\r\n",
    ],
)
def test_a_chunked_body_is_read_in_each_of_its_forms_however_it_is_cut(data: bytes) -> None:
    for cut in range(len(data) + 1):
        framing = Chunked()
        assert read(framing, data[:cut], data[cut:]) == b"hello world"
        assert framing.whole
        assert not framing.excess
    framing = Chunked()
    assert read(framing, *(data[at : at + 1] for at in range(len(data)))) == b"hello world"
    assert framing.whole
    framing = Chunked()
    assert read(framing, data + b"x") == b"hello world"
    assert framing.excess, "the connection cannot be reused"


@pytest.mark.parametrize(
    "data",
    [
        b"not a chunk\r\n",
        b"\r\n",
        b"5 hello\r\n",
        b"garbage without a line end",
        b"5\rhello",
        b"-1\r\n",
        b"+5\r\n",
        b"5_0\r\n",
        b"0x5\r\n",
        b"1" * 16 + b"\r\n",
        b"5\r\nhellothere",
        b"5\r\nhello\rx",
        b"5;" + b"a" * CHUNK_LINE_BYTES,
        b"5;" + b"a" * CHUNK_LINE_BYTES + b"\r\n",
        b"0" * (CHUNK_LINE_BYTES + 1),
        b"0\r\nA: " + b"b" * HEAD_BYTES,
        b"0\r\n" + b"A: b\r\n" * HEAD_BYTES,
    ],
)
def test_what_is_no_chunk_is_malformed_and_the_contents_before_it_are_kept(data: bytes) -> None:
    contents = b"abc" + (b"hello" if data.startswith(b"5\r\nhello") else b"")
    framing = Chunked()
    assert read(framing, b"3\r\nabc\r\n" + data) == contents
    assert framing.malformed
    for cut in range(0, len(data), len(data) // 16 + 1):
        framing = Chunked()
        got = [framing.feed(b"3\r\nabc\r\n" + data[:cut])]
        if not framing.malformed:
            got.append(framing.feed(data[cut:]))
        assert (b"".join(got), framing.malformed, framing.whole) == (contents, True, False)


def test_an_endless_body_of_bytes_that_are_no_contents_is_held_in_bounds() -> None:
    framing = Chunked()
    for _ in range(1000):
        assert framing.feed(b"1;" + b"x" * (CHUNK_LINE_BYTES - 4) + b"\r\n.\r\n") == b"."
        assert len(framing._held) <= CHUNK_LINE_BYTES
    assert not framing.malformed


def test_a_sized_body_ends_with_its_last_byte() -> None:
    framing = Sized(5)
    assert read(framing, b"hel", b"lo") == b"hello"
    assert (framing.whole, framing.excess) == (True, False)
    framing = Sized(5)
    assert read(framing, b"hel", b"lo, ") == b"hello"
    assert (framing.whole, framing.excess) == (True, True)
    assert Sized(0).whole
