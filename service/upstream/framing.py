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
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\n]*)?")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_IDLE_TIMEOUT = re.compile(rb"timeout[ \t]*=[ \t]*([0-9]{1,9})", re.IGNORECASE)
_PLAIN_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_CHUNK_LINE = re.compile(rb"0*+([0-9A-Fa-f]{0,15}+)[ \t]*+(?:;[^\n]*+)?\r?\n")
_START_OF_CHUNK_LINE = re.compile(rb"0*+[0-9A-Fa-f]{0,15}+[ \t]*+(?:;[^\n]*+)?\r?")
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

    whole = malformed = excess = False

    def feed(self, data: bytes) -> bytes:
        """Return the data: all of it is contents."""
        return data


class Chunked:
    """A body in chunks (RFC 9112, 7.1). Extensions and trailers are read over."""

    whole = malformed = excess = False

    def __init__(self) -> None:
        self._left = 0  # contents of the current chunk that have not come
        self._behind_contents = False  # the chunk's line end comes next
        self._trailers = False
        self._trailer_bytes = 0
        self._held = b""  # the start of a line

    def feed(self, data: bytes) -> bytes:
        """Return the contents in the data. `malformed` is set if they are followed by anything but a chunk."""
        # Most reads are one chunk. Past this, each takes a thousand instructions more.
        if (
            not self._left
            and not self._held
            and not self._behind_contents
            and (match := _PLAIN_CHUNK.match(data))
            and (size := int(match[1], 16))
            and len(data) == (end := match.end() + size) + 2
            and data.endswith(b"\r\n")
        ):
            return data[match.end() : end]
        return self._feed(data)

    def _feed(self, data: bytes) -> bytes:
        if self._held:
            data = self._held + data
            self._held = b""
        contents = []
        at = 0
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
        return contents[0] if len(contents) == 1 else b"".join(contents)

    # Each reads from `at` and returns the position behind it, or holds the rest of the data if more has to come.

    def _size(self, data: bytes, at: int) -> int:
        match = _CHUNK_LINE.match(data, at)
        if match is None or match.end() - at > CHUNK_LINE_BYTES or not data[at : match.end(1)]:
            self.malformed = _START_OF_CHUNK_LINE.fullmatch(data, at) is None
            return self._hold(data, at)
        self._left = int(match[1] or b"0", 16)
        self._trailers = not self._left
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


@dataclass(frozen=True, slots=True)
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
        self._held = bytearray()
        self._passed = 0

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the data behind it; None while it is incomplete.

        Raises:
            MalformedError: the response is not HTTP, or its head exceeds HEAD_BYTES.
        """
        held = self._held
        searched = max(len(held) - 2, 0)
        held += data
        while True:
            if held.startswith((b"\r", b"\n")):  # Empty lines before the status, as some servers send behind a body.
                self._pass(len(held) - len(held.lstrip(b"\r\n")))
                searched = 0
            if held[: len(_START)] != _START[: len(held)]:
                raise MalformedError
            end = _BLANK_LINE.search(held, searched)
            if self._passed + (end.end() if end else len(held)) > HEAD_BYTES:
                raise MalformedError
            if end is None:
                return None
            lines = bytes(held[: end.start()])
            self._pass(end.end())
            if head := _parse(lines):
                return head, bytes(held)
            searched = 0

    def _pass(self, size: int) -> None:
        self._passed += size
        del self._held[:size]


def _parse(data: bytes) -> Head | None:
    """Return the head in these lines; None if it is informational."""
    status_line, *lines = data.split(b"\n")
    match = _STATUS_LINE.fullmatch(status_line.rstrip(b"\r"))
    if match is None:
        raise MalformedError
    status = int(match[3])
    if status < _FIRST_FINAL_STATUS:
        if status == _SWITCHING_PROTOCOLS:  # never asked for
            raise MalformedError
        return None
    headers = _headers(lines)
    persistent_by_default = (match[1], match[2]) >= (b"1", b"1")
    # Later values of a name are joined to the first, as RFC 9110, 5.3, says.
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        key = name.lower()
        fields[key] = fields[key] + b"," + value if key in fields else value
    options = [option.strip().lower() for option in fields.get(b"connection", b"").split(b",")]
    persistent = b"close" not in options and (persistent_by_default or b"keep-alive" in options)
    framing, is_plain = _framing(status, fields)
    if isinstance(framing, Chunked) and not persistent_by_default:
        is_plain = False  # HTTP/1.0 has no chunks: somebody on the way may have taken the length for something else.
    timeout = _IDLE_TIMEOUT.search(fields.get(b"keep-alive", b""))
    return Head(status, headers, framing, persistent and is_plain, float(timeout[1]) if timeout else None)


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):  # The line above goes on (obs-fold). Before the first one it means nothing.
            if headers:
                name, value = headers[-1]
                headers[-1] = name, b"%b %b" % (value, _value(line))
            continue
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if not colon or not name:
            raise MalformedError
        headers.append((name, _value(value)))
    return headers


def _value(text: bytes) -> bytes:
    return text.strip(b" \t\r").replace(b"\r", b" ")


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
