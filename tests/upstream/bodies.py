"""Raw responses of an upstream, put together from events."""

import json
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
DONE = b"data: [DONE]\n\n"


def chunk(delta: object = None, finish_reason: object = None, **fields: Any) -> str:  # noqa: ANN401 (any JSON)
    """A chunk's JSON, with further fields of its choice."""
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "choices": [
                {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish_reason, **fields}
            ],
        }
    )


def data(value: str) -> bytes:
    """An event with the value as its data."""
    return f"data: {value}\n\n".encode()


def say(content: object, finish_reason: object = None, **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
    """An event that says the content."""
    return data(chunk({"content": content}, finish_reason, **fields))


def end(finish_reason: object = "stop", **fields: Any) -> bytes:  # noqa: ANN401 (any JSON)
    """An event with the finish reason."""
    return data(chunk({}, finish_reason, **fields))


HELLO = say("Hello")
WORLD = say(" world")
PLAIN = HELLO + WORLD + end() + DONE


def response(body: bytes, *headers: str, content_type: str = "text/event-stream") -> bytes:
    """A response whose body ends with the connection, unless a header says otherwise."""
    head = ("HTTP/1.1 200 OK", f"Content-Type: {content_type}", "Connection: close", *headers, "", "")
    return "\r\n".join(head).encode() + body


def stream(*events: bytes) -> bytes:
    """A response with an event stream."""
    return response(b"".join(events))


def json_response(value: object) -> bytes:
    """A response with JSON of a known length."""
    body = json.dumps(value).encode()
    return response(body, f"Content-Length: {len(body)}", content_type="application/json")
