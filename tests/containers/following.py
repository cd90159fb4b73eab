"""A model client: it resumes behind its last event after any failure of its connection."""

import http.client
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus

from tests.e2e.client import Client, Stream, question, resume_headers
from tests.e2e.logfile import Event

ENDS = ("done", "stopped", "failed")
NOT_THERE = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
"""nginx's and the service's statuses while a service is replaced."""
TIMEOUT_SECONDS = 150.0
AGAIN_SECONDS = 0.5
"""Pause between two tries. The page waits a second or two."""


def try_to_open(
    client: Client, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Stream | None:
    """Return the response, or None while no server responds."""
    try:
        connection = client.send(method, target, body, headers)
    except OSError:
        return None
    try:
        stream = Stream(connection)
    except (http.client.HTTPException, OSError):
        connection.close()
        return None
    if stream.status == HTTPStatus.OK:
        return stream
    with stream:
        assert stream.status in NOT_THERE, stream.read()
    return None


def follow_to_the_end(
    client: Client, query: str, begun: threading.Barrier | None = None
) -> tuple[str, list[list[Event]]]:
    """Ask, and resume until the terminal event. Return the answer's id and the events of each response."""
    stream = try_to_open(client, "POST", "/generate", *question(query))
    assert stream is not None
    answer = stream.answer
    pieces = [read(stream, begun)]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while pieces[-1][-1]["type"] not in ENDS:
        assert time.monotonic() < deadline, f"{answer} has not come to an end"
        headers = resume_headers(answer, pieces[-1][-1]["seq"])
        if (stream := try_to_open(client, "GET", f"/answers/{answer}", None, headers)) is None:
            time.sleep(AGAIN_SECONDS)
        elif piece := read(stream):
            pieces.append(piece)
    return answer, pieces


def read(stream: Stream, begun: threading.Barrier | None = None) -> list[Event]:
    """Return the events of a response, to its end or its cut."""
    events: list[Event] = []
    with stream:
        try:
            for event in stream.events():
                events.append(event)
                if begun is not None and len(events) == 1:
                    begun.wait()
        except (http.client.HTTPException, OSError):
            pass  # Cut: what came whole counts.
    return events
