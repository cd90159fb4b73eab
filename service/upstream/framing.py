"""HTTP/1.1 responses on the wire: a response's head, and the framing of its body (RFC 9112). Pure, and bounded.

Parsing is lenient where the RFC asks it of a recipient, and where a server was seen to need it. A connection is not
reused after an odd framing, so nothing can be smuggled into the next response. httptools, which read responses before,
rejects blanks before a chunk extension, a bare LF in a chunked body and a repeated Content-Length.
"""

import re
from dataclasses import dataclass

HEAD_BYTES = 1 << 16
"""Limit on a response's head with all informational ones before it, and on the trailers.

An endless head would fill the memory, and is no silence that a timeout would end.
"""
CHUNK_LINE_BYTES = 1 << 12
"""Limit on the line with a chunk's size and extensions."""

_FIRST_FINAL_STATUS = 200
"""Statuses below it are informational: another one follows."""
_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)
_START = b"HTTP/"
_STATUS_LINE = re.compile(rb"HTTP/([0-9]\.[0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\n]*)?")
_ODD = (b"\n ", b"\n\t", b"\n:", b" :", b"\t:", b"\r")
_HTTP_1_1 = b"1.1"
_USUAL_LAST = b"\ntransfer-encoding: chunked"
_USUAL = _USUAL_LAST + b"\n"
_USUAL_CONNECTION = b"\nconnection: keep-alive\n"
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_IDLE_TIMEOUT = re.compile(rb"timeout[ \t]*=[ \t]*([0-9]{1,9})", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"0*+([0-9A-Fa-f]{0,15}+)[ \t]*+(?:;[^\n]*+)?\r?\n")
_START_OF_CHUNK_LINE = re.compile(rb"0*+[0-9A-Fa-f]{0,15}+[ \t]*+(?:;[^\n]*+)?\r?")
SIZES: dict[bytes, int] = {}
"""Sizes of chunks by their digits, as they were seen. Looking one up costs a third of parsing it."""
_SIZES_KEPT = 4096
_DIGITS = 16 + len(b"\r\n")
_LAST_CHUNK = b"0\r\n\r\n"
_LINE_END = re.compile(rb"\r?\n")
_PART_OF_LINE_END = (b"", b"\r")


class MalformedError(Exception):
    """The bytes are not an HTTP response, or exceed a limit."""


class Sized:
    """A body with a Content-Length, or without contents. All framings have these attributes and `feed`."""

    whole = False
    """Whether the body has ended."""
    malformed = False
    """Whether the rest cannot be read. What came before it can be used."""
    excess = False
    """Whether more bytes came than the body has."""
    between = False
    """Whether a chunk begins with the next byte."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.whole = not length

    def feed(self, data: bytes) -> bytes:
        """Return the contents in the data."""
        left = self._left
        if len(data) < left:
            self._left -= len(data)
            return data
        self.whole = True
        self.excess = len(data) > left
        self._left = 0
        return data[:left] if self.excess else data


class UntilClose:
    """A body that ends with the connection."""

    whole = malformed = excess = between = False

    def feed(self, data: bytes) -> bytes:
        """Return the data: all of it is contents."""
        return data


class Chunked:
    """A body in chunks (RFC 9112, 7.1). Extensions and trailers are read over."""

    whole = malformed = excess = False
    between = True

    def __init__(self) -> None:
        self._left = 0  # contents of the current chunk that have not come
        self._behind_contents = False  # the chunk's line end comes next
        self._trailers = False
        self._trailer_bytes = 0
        self._held = b""  # the start of a line

    def feed(self, data: bytes) -> bytes:
        """Return the contents in the data. `malformed` is set if they are followed by anything but a chunk."""
        contents: list[bytes] = []
        at = 0
        if self.between:
            if data == _LAST_CHUNK:
                self.whole = True
                self.between = False
                return b""
            # Whole chunks of sizes seen before, which is most of them.
            while (end := data.find(b"\r\n", at, at + _DIGITS)) > at and (size := SIZES.get(data[at:end])):
                stop = end + 2 + size
                if data[stop : stop + 2] != b"\r\n":
                    break
                contents.append(data[end + 2 : stop])
                at = stop + 2
        if at < len(data):
            self._feed(data, at, contents)
        return contents[0] if len(contents) == 1 else b"".join(contents)

    def _feed(self, data: bytes, at: int, contents: list[bytes]) -> None:
        """Add the contents from `at` on."""
        if self._held:
            data = self._held + data
            self._held = b""
        while at < len(data) and not (self.whole or self.malformed):
            if self._left:
                contents.append(data[at : at + self._left])
                at += len(contents[-1])
                self._left -= len(contents[-1])
                self._behind_contents = not self._left
            elif self._behind_contents:
                at = self._line_end(data, at)
            elif self._trailers:
                at = self._trailer(data, at)
            else:
                at = self._size(data, at)
        self.excess = self.whole and at < len(data)
        self.between = not (self._left or self._behind_contents or self._trailers or self._held or self.malformed)

    # Each reads from `at` and returns the position behind it, or holds the rest of the data if more has to come.

    def _size(self, data: bytes, at: int) -> int:
        match = _CHUNK_LINE.match(data, at)
        if match is None or match.end() - at > CHUNK_LINE_BYTES or not data[at : match.end(1)]:
            self.malformed = _START_OF_CHUNK_LINE.fullmatch(data, at) is None
            return self._hold(data, at)
        self._left = int(match[1] or b"0", 16)
        self._trailers = not self._left
        if self._left and len(SIZES) < _SIZES_KEPT and data[match.end(1) : match.end()] == b"\r\n":
            SIZES[data[at : match.end(1)]] = self._left
        return match.end()

    def _line_end(self, data: bytes, at: int) -> int:
        match = _LINE_END.match(data, at)
        if match is None:
            self.malformed = data[at:] not in _PART_OF_LINE_END
            return self._hold(data, at)
        self._behind_contents = False
        return match.end()

    def _trailer(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        if not end:
            return self._hold(data, at, HEAD_BYTES - self._trailer_bytes)
        self._trailer_bytes += end - at
        self.malformed = self._trailer_bytes > HEAD_BYTES
        self.whole = not self.malformed and data[at:end] in (b"\n", b"\r\n")
        return end

    def _hold(self, data: bytes, at: int, limit: int = CHUNK_LINE_BYTES) -> int:
        self._held = data[at:]
        self.malformed = self.malformed or len(self._held) > limit
        return len(data)


Framing = Sized | UntilClose | Chunked


@dataclass(slots=True)  # Freezing it would cost as much as parsing a header.
class Head:
    """The head of a final response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names as they came."""
    framing: Framing
    reusable: bool
    """Whether the connection can be reused after the body."""
    idle_seconds: float | None
    """The server's limit on an idle connection, if it names one."""


class HeadReader:
    """Collects a response's head, however it is cut. Informational responses are passed over."""

    def __init__(self) -> None:
        self._held = b""
        self._passed = 0

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the data behind it; None while it is incomplete. The next head may follow.

        Raises:
            MalformedError: the response is not HTTP, or its head exceeds HEAD_BYTES.
        """
        searched = max(len(self._held) - 2, 0)
        data = self._held + data
        while True:
            if data.startswith((b"\r", b"\n")):  # Empty lines before the status, as some servers send behind a body.
                length = len(data)
                data = data.lstrip(b"\r\n")
                self._passed += length - len(data)
                searched = 0
            if not data.startswith(_START) and data != _START[: len(data)]:
                raise MalformedError
            end = _BLANK_LINE.search(data, searched)
            if self._passed + (end.end() if end else len(data)) > HEAD_BYTES:
                raise MalformedError
            if end is None:
                self._held = data
                return None
            lines, data = data[: end.start()], data[end.end() :]
            if head := _parse(lines):
                self._held = b""
                self._passed = 0
                return head, data
            self._passed += end.end()
            searched = 0


def _parse(data: bytes) -> Head | None:
    """Return the head in these lines; None if it is informational."""
    data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
    lines = data.split(b"\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise MalformedError
    status = int(match[2])
    if status < _FIRST_FINAL_STATUS:
        if status == _SWITCHING_PROTOCOLS:  # never asked for
            raise MalformedError
        return None
    del lines[0]
    # `find` for each: a search for all with one expression costs six times as much. `in` would cost two thousand
    # instructions each, since it raises and drops an exception for each bytes object.
    is_odd = max(map(data.find, _ODD)) > 0
    if is_odd:
        lines = _unfolded(lines)
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise MalformedError
        headers.append((name, value.strip()))
    if is_odd:
        headers = _cleaned(headers)
    is_1_1 = match[1] >= _HTTP_1_1
    lower = data.lower()
    if (
        is_1_1
        and not is_odd  # A folded line may be a part of the coding.
        and status not in _WITHOUT_BODY
        and (lower.endswith(_USUAL_LAST) or lower.find(_USUAL) > 0)
        and lower.count(b"\ntransfer-encoding") == 1
        and lower.count(b"\nconnection") == lower.count(_USUAL_CONNECTION)
        and lower.find(b"\ncontent-length") < 0
        and lower.find(b"\nkeep-alive") < 0
    ):
        return Head(status, headers, Chunked(), reusable=True, idle_seconds=None)
    return _unusual(status, headers, is_1_1=is_1_1)


def _unfolded(lines: list[bytes]) -> list[bytes]:
    """Join each line that begins with a blank to the one above (obs-fold). Before the first field it means nothing."""
    fields: list[list[bytes]] = []
    for line in lines:
        if not line.startswith((b" ", b"\t")):
            fields.append([line])
        elif fields:
            fields[-1].append(line.strip())
    return [b" ".join(parts) for parts in fields]


def _cleaned(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers without blanks behind names, and with blanks for bare CRs (RFC 9112, 2.2 and 5.1)."""
    cleaned = [(name.rstrip(), value.replace(b"\r", b" ")) for name, value in headers]
    if not all(name for name, _ in cleaned):
        raise MalformedError
    return cleaned


def _unusual(status: int, headers: list[tuple[bytes, bytes]], *, is_1_1: bool) -> Head:
    fields: dict[bytes, bytes] = {}
    for name, value in headers:  # Later values of a name are joined to the first (RFC 9110, 5.3).
        key = name.lower()
        fields[key] = fields[key] + b"," + value if key in fields else value
    options = [option.strip().lower() for option in fields.get(b"connection", b"").split(b",")]
    persistent = b"close" not in options and (is_1_1 or b"keep-alive" in options)
    framing, is_plain = _framing(status, fields)
    if isinstance(framing, Chunked) and not is_1_1:
        is_plain = False  # HTTP/1.0 has no chunks: another recipient may have taken the length for something else.
    timeout = _IDLE_TIMEOUT.search(fields.get(b"keep-alive", b""))
    return Head(status, headers, framing, persistent and is_plain, float(timeout[1]) if timeout else None)


def _framing(status: int, fields: dict[bytes, bytes]) -> tuple[Framing, bool]:
    """Return the body's framing (RFC 9112, 6.3), and whether no other recipient could read it otherwise."""
    if status in _WITHOUT_BODY:
        return Sized(0), True
    codings = [coding.strip().lower() for coding in fields.get(b"transfer-encoding", b"").split(b",")]
    codings = [coding for coding in codings if coding not in (b"", b"identity")]
    lengths = fields.get(b"content-length")
    if codings and codings[-1] == b"chunked":
        # Some gateways send a Content-Length with it, or name the coding twice. The chunks count.
        return Chunked(), len(codings) == 1 and lengths is None
    if codings or lengths is None:
        return UntilClose(), False
    given = {int(length) if _LENGTH.fullmatch(length) else -1 for length in map(bytes.strip, lengths.split(b","))}
    if len(given) > 1 or -1 in given:
        raise MalformedError
    return Sized(given.pop()), True
