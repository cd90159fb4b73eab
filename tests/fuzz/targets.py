"""The targets: each creates cases, and checks its parser with them."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from service.events import decode, encode, parse_event_id
from service.renderings import MEDIA_TYPES
from service.renderings.accept import quality, ranges
from service.upstream.chunks import ChunkDecoder
from service.upstream.connection import BrokenConnectionError, Connection
from service.upstream.event_stream import EventStreamDecoder
from service.upstream.responses_events import ResponsesDecoder
from tests.fuzz.mutation import cut, mutated
from tests.upstream.body import Body, End
from tests.upstream.script import Script
from tests.upstream.tools import Call

WAITS = "waits for more"
"""The result of an incomplete response."""


@dataclass(frozen=True)
class Target:
    """A parser with its cases and its check."""

    case: Callable[[Random], bytes]
    """Creates a case."""
    check: Callable[[Random, bytes], None]
    """Raises AssertionError, or another exception, if the parser fails with the case."""


CALL = Call("look_up", ('{"a"', ":1}"))


def _body(**script: Any) -> bytes:  # noqa: ANN401 (the fields of Script)
    beats = Body(Script(**script), model="test-model", include_usage=True)
    return b"".join(b"".join(beat) for beat in beats if not isinstance(beat, End))


STREAMS = (
    _body(chunks=3),
    _body(chunks=2, newline="\r\n", comments=True),
    _body(chunks=2, newline="\r"),
    _body(texts=("árvíztűrő", "😀", '\u2028\x00\\"'), reasoning=("hm", "!"), refusal="no"),
    _body(chunks=2, reasoning=("hm",), reasoning_field="reasoning", choices=2, tool_calls=(CALL, CALL)),
    _body(chunks=1, error_after=1),
    (
        b'\xef\xbb\xbfdata: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n'
    ),
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\ndata: [DONE]\n\n',
    (
        b'event: ping\ndata: now\n\ndata: {"choices":[{"index":"0","delta":[],"error":null}]}\n\n'
        b'data: {"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},'
        b'"x"]}}]}\n\n'
        b'data: {"choices":[{"message":{"content":"\xf0\x9f"},"finish_reason":{"type":"stop"}}]}\n\n'
        b'data: junk\n\nevent: error\ndata: {"object":"error"}\n\n'
    ),
)
STREAM_WORDS = (
    b"data:", b"data: ", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b": ping\n\n", b"[DONE]", b"event: error\n",
    b"id: x\n", b"\xef\xbb\xbf", b"\\ud83d", b"\\ude00", b"\xed\xa0\xbd", b"\xff", b"\x00", b"null", b"true", b"{",
    b"}", b"[", b"]", b'"', b"\\", b",", b"-1", b"1e999", b"9" * 400, b"NaN", b'"content":', b'"choices":',
    b'"delta":', b'"error":{}', b'"usage":', b'"finish_reason":"stop"', b'"index":',
    b'{"choices":[{"delta":{"content":"x"}}]}', b'{"a":', b"\\u0000",
)  # fmt: skip


EVENTS = (
    (
        b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1"}}\n\n'
        b'data: {"type":"response.output_text.delta","sequence_number":1,"delta":"A \\ud83d"}\n\n'
        b'data: {"type":"response.output_text.delta","sequence_number":2,"delta":"\\ude00"}\n\n'
        b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}\n\n'
    ),
    (
        b'event: response.reasoning_summary_part.added\ndata: {"summary_index":1}\n\n'
        b'data: {"type":"response.reasoning_text.delta","delta":[{"text":"hm"}]}\r\n\r\n'
        b'data: {"type":"response.output_item.added","item":{"type":"function_call"}}\n'
        b'data: {"type":"response.refusal.delta","delta":"\xf0\x9f"}\n\ndata: [DONE]\n\n'
    ),
    b'{"object":"response","status":"incomplete","incomplete_details":{"reason":"x"},"output":[{"content":[{"text":"A"}]}]}',
    b'data: {"type":"response.failed","response":{"error":{"code":"\\ud83d"},"usage":{"input_tokens":1e999}}}\n\n',
    b'event: error\ndata: {"type":"error","error":{"code":"overloaded"}}\n\n',
)
EVENT_WORDS = (
    *STREAM_WORDS, b'"type":', b'"response.output_text.delta"', b'"response.completed"', b'"response":', b'"status":',
    b'"output":', b'"sequence_number":', b'"summary_index":', b'"item":', b'"id":', b"event: response.created\n",
)  # fmt: skip


def _decoded(decoder: EventStreamDecoder, pieces: Sequence[bytes]) -> tuple[Any, ...]:
    deltas = []
    for piece in pieces:
        deltas += decoder.feed(piece)
        if decoder.done or decoder.failure is not None:
            break
    deltas += decoder.finish()
    failure = decoder.failure
    return deltas, decoder.finish_reason, decoder.usage, decoder.done, failure and (failure.code, failure.message)


def _check_chunks(rng: Random, data: bytes) -> None:
    _check_decoder(ChunkDecoder, rng, data)


def _check_events(rng: Random, data: bytes) -> None:
    _check_decoder(lambda last_seq: ResponsesDecoder(last_seq, "http://upstream/v1"), rng, data)


def _check_decoder(decoder: Callable[[int], EventStreamDecoder], rng: Random, data: bytes) -> None:
    result = _decoded(decoder(0), [data])
    assert _decoded(decoder(0), cut(rng, data)) == result, "it depends on how the bytes are cut"
    assert [delta.seq for delta in result[0]] == list(range(1, len(result[0]) + 1))
    for delta in result[0]:  # A log can hold any of them.
        assert decode(encode(delta)) == delta


RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\n\r\nto the end",
    b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello",
    (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}"
    ),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nrest",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;name=value\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200\nX: y\n z\nContent-Length: 9\nTransfer-Encoding: chunked\n\n003  \nabc\n2 ;a\nde\n0\n\n",
    b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc",
)
RESPONSE_WORDS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ", b":", b" ", b"\t", b"HTTP/1.1 ", b"HTTP/9.9", b"200", b"000", b"999",
    b"100 x", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n", b"-1", b"Upgrade: websocket\r\n", b"0\r\n\r\n", b"0", b"ffffffffffffffffff\r\n",
    b"5\r\n", b"\x00", b"\xff", b";", b"9" * 30,
)  # fmt: skip


class SilentTransport:
    """A transport that ignores a connection's calls."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 (whatever it returns)
    """Run the coroutine until it first waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    except BrokenConnectionError:
        return BrokenConnectionError
    coroutine.close()
    return WAITS


def _received(pieces: Sequence[bytes]) -> tuple[Any, ...]:
    connection = Connection(lambda _: None, lambda _: None)
    transport = SilentTransport()
    connection.connection_made(cast("Any", transport))
    exchange = connection.send(b"")
    for piece in pieces:
        if transport.closed:
            break
        connection.data_received(piece)
    connection.connection_lost(None)
    head = _at_once(exchange.head())
    body = []
    while isinstance(data := _at_once(exchange.read()), bytes) and data:
        body.append(data)
    assert data is not WAITS, "nothing comes any more, and still it waits"
    return (head,) if head is BrokenConnectionError else (head, exchange.status, exchange.headers, b"".join(body), data)


def _check_response(rng: Random, data: bytes) -> None:
    assert _received(cut(rng, data)) == _received([data]), "it depends on how the bytes are cut"


ANSWER = b"0123456789abcdef0123456789abcdef"
EVENT_IDS = (ANSWER + b":0", ANSWER + b":1", ANSWER + b":9007199254740991", ANSWER)
EVENT_ID_WORDS = (
    b":", b"0", b"-", b"+", b" ", b"\n", b"\r", b"\x00", b"_", b"1_000", b"9" * 20, b"A", b"g", b"\xef\xbc\x91",
    b"\xd9\xa1", b"\xff", b"../", b"%00", b"1e3", b".5", b"\xe2\x80\xa8",
)  # fmt: skip


def _check_event_id(_rng: Random, data: bytes) -> None:
    text = data.decode("latin-1")  # as a header's bytes are read
    for each in (text, data.decode(errors="replace")):
        parsed = parse_event_id(each)
        if parsed is not None:
            answer, seq = parsed
            assert f"{answer}:{seq}" == each, "an event id has one form"
            assert len(answer) == len(ANSWER)


ACCEPTS = (b"text/event-stream", b"text/plain;q=0.5, */*;q=0.1", b'application/json;v="1,2";q=1.000', b"*/*;q=0")
ACCEPT_WORDS = (b",", b";", b"q=", b"q=1.", b"0.999", b"*/*", b"text/*", b"/", b'"', b"\\", b" ", b"\t", b"\xff", b"=")


def _check_accept(_rng: Random, data: bytes) -> None:
    liked = ranges(data.decode("latin-1"))
    for media_type in MEDIA_TYPES:
        assert 0 <= quality(liked, media_type) <= 1


def _from(corpus: Sequence[bytes], words: Sequence[bytes]) -> Callable[[Random], bytes]:
    return lambda rng: mutated(rng, corpus, words)


TARGETS = {
    "chunks": Target(_from(STREAMS, STREAM_WORDS), _check_chunks),
    "events": Target(_from(EVENTS, EVENT_WORDS), _check_events),
    "responses": Target(_from(RESPONSES, RESPONSE_WORDS), _check_response),
    "event-ids": Target(_from(EVENT_IDS, EVENT_ID_WORDS), _check_event_id),
    "accepts": Target(_from(ACCEPTS, ACCEPT_WORDS), _check_accept),
}
